"""The dashboard of the service."""

from panels import (
    BLUE,
    GREEN,
    NODE,
    RED,
    SERVER,
    YELLOW,
    dashboard,
    graph,
    limit,
    q,
    quantile,
    share,
    stat,
    states,
    steps,
    table,
    variable,
)


def service():
    instance = variable("instance", "Instance", "label_values(dgx_pixels_build_info, instance)")
    node = variable("node", "Machine", "label_values(node_uname_info, instance)")
    process = f'job="dgx-pixels", {SERVER}'
    disks = f'{NODE}, fstype!~"tmpfs|ramfs|devtmpfs|squashfs|iso9660|fuse.*|nsfs"'
    calls = f"rate(dgx_pixels_mcp_tool_calls_total{{{SERVER}%s}}[$__rate_interval])"
    return dashboard(
        "service",
        "DGX-Pixels Service",
        "The MCP server, its process, its machine, and the monitoring itself.",
        [instance, node],
        "service",
        [
            [
                stat(
                    "Servers that answer",
                    "The share of the servers whose /metrics Prometheus can read.",
                    f'avg(up{{job="dgx-pixels", {SERVER}}})',
                    "percentunit",
                    steps(RED, (1, GREEN)),
                ),
                stat(
                    "Time since the start",
                    "The server that was started last.",
                    f"min(time() - process_start_time_seconds{{{process}}})",
                    "dtdurations",
                    steps(YELLOW, (300, GREEN)),
                ),
                stat(
                    "Tool calls per minute",
                    "Calls of all tools.",
                    f"60 * sum({calls % ''})",
                    "none",
                    steps(BLUE),
                    decimals=1,
                    noValue="0",
                ),
                stat(
                    "Calls that fail",
                    "The share of the calls that were answered with an error. Wrong arguments count.",
                    share(f"""sum({calls % ', outcome="error"'})""", f"sum({calls % ''})"),
                    "percentunit",
                    steps(GREEN, (0.1, YELLOW), (0.5, RED)),
                    noValue="none",
                ),
                stat(
                    "Memory of the server",
                    "Resident memory of the largest server. Device memory does not count, also on DGX Spark.",
                    f"max(process_resident_memory_bytes{{{process}}})",
                    "bytes",
                    steps(BLUE),
                ),
                stat(
                    "Free memory of the machine",
                    "The share that programs can still have, of the machine with the least.",
                    f"min(node_memory_MemAvailable_bytes{{{NODE}}} / node_memory_MemTotal_bytes{{{NODE}}})",
                    "percentunit",
                    steps(RED, (0.05, YELLOW), (0.1, GREEN)),
                ),
                stat(
                    "Free disk space",
                    "The fullest file system.",
                    f"min(instance:node_filesystem:avail_ratio{{{NODE}}})",
                    "percentunit",
                    steps(RED, (0.05, YELLOW), (0.15, GREEN)),
                ),
                stat(
                    "Alerts",
                    "Alerts that fire now, without the watchdog.",
                    'count(ALERTS{alertstate="firing", severity!="none"}) or vector(0)',
                    "none",
                    steps(GREEN, (1, RED)),
                ),
            ],
            [
                graph(
                    "Calls by tool",
                    "Calls per minute.",
                    [q(f"60 * sum by (tool) ({calls % ''})", "{{tool}}")],
                    "suffix: /min",
                    stacked=True,
                ),
                graph(
                    "Time of a call by tool, p95",
                    "19 calls in 20 take at most this long. A tool that draws waits up to 45 s and then answers with a job.",
                    [q(quantile(0.95, "dgx_pixels_mcp_tool_seconds", SERVER, "le, tool"), "{{tool}}")],
                    "s",
                ),
                graph(
                    "Errors of calls by kind",
                    "Calls per minute that were answered with an error. `invalid_request` and `not_found` are the client's.",
                    [q(f"""60 * sum by (kind) ({calls % ', outcome="error"'})""", "{{kind}}")],
                    "suffix: /min",
                    stacked=True,
                    noValue="none",
                ),
            ],
            [
                graph(
                    "Processor",
                    "Cores in use, by the server and by the whole machine, and all cores of the machine.",
                    [
                        q(f"sum(rate(process_cpu_seconds_total{{{process}}}[$__rate_interval]))", "the server"),
                        q(
                            f'sum(rate(node_cpu_seconds_total{{{NODE}, mode!~"idle|iowait"}}[$__rate_interval]))',
                            "the machine",
                        ),
                        q(f'count(node_cpu_seconds_total{{{NODE}, mode="idle"}})', "limit"),
                    ],
                    "none",
                    overrides=[limit("limit")],
                ),
                graph(
                    "Memory",
                    "Resident memory of the server, and the machine's memory.",
                    [
                        q(f"sum(process_resident_memory_bytes{{{process}}})", "the server"),
                        q(
                            f"sum(node_memory_MemTotal_bytes{{{NODE}}} - node_memory_MemAvailable_bytes{{{NODE}}})",
                            "the machine",
                        ),
                        q(f"sum(node_memory_MemTotal_bytes{{{NODE}}})", "limit"),
                    ],
                    "bytes",
                    overrides=[limit("limit")],
                ),
                graph(
                    "Free disk space",
                    "The free share of each file system.",
                    [
                        q(
                            f"min by (instance, mountpoint) (instance:node_filesystem:avail_ratio{{{NODE}}})",
                            "{{instance}} {{mountpoint}}",
                        )
                    ],
                    "percentunit",
                    max=1,
                ),
            ],
            [
                states(
                    "Targets",
                    "Whether Prometheus can read each target.",
                    [q("min by (job, instance) (up)", "{{job}} {{instance}}")],
                    [(0, "down", RED), (1, "up", GREEN)],
                ),
                table(
                    "Alerts that fire",
                    "docs/runbook.md has a heading for each.",
                    'ALERTS{alertstate="firing"}',
                    {
                        "alertname": "Alert",
                        "severity": "Severity",
                        "instance": "Instance",
                        "gpu": "GPU",
                        "device": "Device",
                    },
                ),
                table(
                    "Servers",
                    "The version of each server.",
                    f"dgx_pixels_build_info{{{SERVER}}}",
                    {"instance": "Instance", "version": "Version"},
                ),
            ],
            [
                graph(
                    "Open files of the server",
                    "Open files and connections, as a share of the most that the process may have.",
                    [q(f"process_open_fds{{{process}}} / process_max_fds{{{process}}}", "{{instance}}")],
                    "percentunit",
                    max=1,
                ),
                graph(
                    "Threads of the server",
                    "Threads of the process.",
                    [q(f"max(process_threads{{{process}}})", "threads")],
                    "none",
                ),
                graph(
                    "Disk traffic",
                    "Bytes per second that the machine's disks read and write.",
                    [
                        q(f"sum(rate(node_disk_read_bytes_total{{{NODE}}}[$__rate_interval]))", "read"),
                        q(f"sum(rate(node_disk_written_bytes_total{{{NODE}}}[$__rate_interval]))", "written"),
                    ],
                    "Bps",
                ),
            ],
            [
                graph(
                    "Disk space that a server may fill",
                    "Free bytes of each file system.",
                    [
                        q(
                            f"min by (instance, mountpoint) (node_filesystem_avail_bytes{{{disks}}})",
                            "{{instance}} {{mountpoint}}",
                        )
                    ],
                    "bytes",
                ),
                graph(
                    "Library of assets",
                    "Bytes of all pictures, and the most that the library may hold (--quota).",
                    [
                        q(f"sum by (instance) (dgx_pixels_library_bytes{{{SERVER}}})", "{{instance}}"),
                        q(f"max(dgx_pixels_library_quota_bytes{{{SERVER}}} > 0)", "limit"),
                    ],
                    "bytes",
                    overrides=[limit("limit")],
                ),
                graph(
                    "Time to read the targets",
                    "The time that Prometheus takes to read each target.",
                    [q("max by (job, instance) (scrape_duration_seconds)", "{{job}} {{instance}}")],
                    "s",
                ),
                graph(
                    "Series in Prometheus",
                    "Series that Prometheus holds in memory. A server has about 300.",
                    [q('sum by (instance) (prometheus_tsdb_head_series{job="prometheus"})', "{{instance}}")],
                    "none",
                ),
            ],
        ],
    )
