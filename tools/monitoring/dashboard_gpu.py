"""The dashboard of the GPUs."""

from panels import (
    BLUE,
    GPU,
    GREEN,
    RED,
    SERVER,
    THERMAL,
    YELLOW,
    dashboard,
    graph,
    limit,
    q,
    right,
    share,
    stat,
    states,
    steps,
    table,
    variable,
)


def gpu():
    instance = variable("instance", "Instance", "label_values(dgx_pixels_gpu_info, instance)")
    number = variable("gpu", "GPU", 'label_values(dgx_pixels_gpu_info{instance=~"$instance"}, gpu)')
    each = "{{instance}} GPU {{gpu}}"
    return dashboard(
        "gpu",
        "DGX-Pixels GPU",
        "The GPUs: load, memory, power, temperature, clocks and faults.",
        [instance, number],
        "gpu",
        [
            [
                stat("GPUs", "GPUs that are reported now.", f"count(dgx_pixels_gpu_info{{{GPU}}})", "none"),
                stat(
                    "Utilization",
                    "The share of time in which a kernel ran, the mean of all GPUs. It says nothing about how much of the GPU the kernel used.",
                    f"avg(dgx_pixels_gpu_utilization_ratio{{{GPU}}})",
                    "percentunit",
                    steps(BLUE),
                    min=0,
                    max=1,
                ),
                stat(
                    "Memory in use",
                    "The fullest GPU. On a GPU with unified memory, the machine's memory.",
                    f"max(gpu:dgx_pixels_gpu_memory:used_ratio{{{GPU}}})",
                    "percentunit",
                    steps(GREEN, (0.9, YELLOW), (0.95, RED)),
                    min=0,
                    max=1,
                ),
                stat(
                    "Power",
                    "The power draw of all GPUs together.",
                    f"sum(dgx_pixels_gpu_power_watts{{{GPU}}})",
                    "watt",
                    steps(BLUE),
                ),
                stat(
                    "Headroom",
                    "Degrees until the hottest GPU slows down. A GPU that does not report its limit is held to 90 °C.",
                    f"min(gpu:dgx_pixels_gpu_temperature_headroom:celsius{{{GPU}}})",
                    "celsius",
                    steps(RED, (1, YELLOW), (5, GREEN)),
                ),
                stat(
                    "Throttled",
                    "GPUs whose clocks are lowered for heat or for a power brake. The power limit does not count.",
                    f"sum(max by (instance, gpu) (dgx_pixels_gpu_throttle_active{{{GPU}, {THERMAL}}}))",
                    "none",
                    steps(GREEN, (1, RED)),
                    noValue="not reported",
                ),
                stat(
                    "Energy per image",
                    "Energy of the selected GPUs, divided by the images that the selected instances decoded. Empty while no image is drawn.",
                    share(
                        f"sum(rate(dgx_pixels_gpu_energy_joules_total{{{GPU}}}[$__rate_interval]))",
                        f"sum(rate(dgx_pixels_images_total{{{SERVER}}}[$__rate_interval]))",
                    ),
                    "joule",
                    steps(BLUE),
                    noValue="no images",
                ),
                stat(
                    "Memory errors, 24 h",
                    "Errors that the GPU's error correction could not repair. A GPU without error correction reports none.",
                    f'sum(increase(dgx_pixels_gpu_ecc_errors_total{{{GPU}, kind="uncorrected"}}[24h]))',
                    "none",
                    steps(GREEN, (1, RED)),
                    noValue="not reported",
                    decimals=0,
                ),
            ],
            [
                graph(
                    "Utilization",
                    "The share of time in which a kernel ran.",
                    [q(f"dgx_pixels_gpu_utilization_ratio{{{GPU}}}", each)],
                    "percentunit",
                    max=1,
                ),
                graph(
                    "Memory",
                    "Memory in use, by all programs and by the server, and all there is. On a unified GPU, the machine's.",
                    [
                        q(f"dgx_pixels_gpu_memory_used_bytes{{{GPU}}}", f"{each} in use"),
                        q(f"dgx_pixels_gpu_process_memory_bytes{{{GPU}}}", f"{each} the server"),
                        q(f"dgx_pixels_gpu_memory_total_bytes{{{GPU}}}", f"{each} limit"),
                    ],
                    "bytes",
                    overrides=[limit("limit")],
                ),
                graph(
                    "Power",
                    "Power draw, and the draw at which the GPU lowers its clocks. GB10 reports no limit.",
                    [
                        q(f"dgx_pixels_gpu_power_watts{{{GPU}}}", each),
                        q(f"dgx_pixels_gpu_power_limit_watts{{{GPU}}}", f"{each} limit"),
                    ],
                    "watt",
                    overrides=[limit("limit")],
                ),
            ],
            [
                graph(
                    "Temperature",
                    "Temperature, and the temperature at which the GPU slows down.",
                    [
                        q(f"dgx_pixels_gpu_temperature_celsius{{{GPU}}}", each),
                        q(f"dgx_pixels_gpu_temperature_limit_celsius{{{GPU}}}", f"{each} limit"),
                    ],
                    "celsius",
                    overrides=[limit("limit")],
                ),
                graph(
                    "Clocks",
                    "The clocks of the multiprocessors and of the memory. A busy GPU far below its highest clock is held back; see Reasons for lower clocks.",
                    [
                        q(f"dgx_pixels_gpu_sm_clock_hertz{{{GPU}}}", each),
                        q(f"dgx_pixels_gpu_memory_clock_hertz{{{GPU}}}", f"{each} memory"),
                        q(f"dgx_pixels_gpu_sm_clock_max_hertz{{{GPU}}}", f"{each} limit"),
                    ],
                    "hertz",
                    overrides=[limit("limit")],
                ),
                states(
                    "Reasons for lower clocks",
                    "The reasons that held within the chosen time, and when. The power cap is normal under full load.",
                    [
                        q(
                            f"max by (instance, gpu, reason) (dgx_pixels_gpu_throttle_active{{{GPU}}}) and "
                            f"max by (instance, gpu, reason) (max_over_time(dgx_pixels_gpu_throttle_active{{{GPU}}}[$__range])) > 0",
                            f"{each} {{{{reason}}}}",
                        )
                    ],
                    [(0, "no", "transparent"), (1, "yes", "orange")],
                    noValue="none",
                ),
            ],
            [
                graph(
                    "Energy per image",
                    "Energy of the selected GPUs, divided by the images that the selected instances decoded.",
                    [
                        q(
                            share(
                                f"sum(rate(dgx_pixels_gpu_energy_joules_total{{{GPU}}}[$__rate_interval]))",
                                f"sum(rate(dgx_pixels_images_total{{{SERVER}}}[$__rate_interval]))",
                            ),
                            "joules per image",
                        )
                    ],
                    "joule",
                ),
                graph(
                    "Memory errors",
                    "Errors in an hour, by kind. Corrected ones are no fault as long as they are few.",
                    [q(f"increase(dgx_pixels_gpu_ecc_errors_total{{{GPU}}}[1h])", "GPU {{gpu}} {{kind}}")],
                    "none",
                ),
                graph(
                    "Faults by XID",
                    "Faults that the driver reported in an hour, by NVIDIA's number. Empty on a healthy GPU.",
                    [q(f"increase(dgx_pixels_gpu_xid_errors_total{{{GPU}}}[1h])", "GPU {{gpu}} XID {{xid}}")],
                    "none",
                    noValue="none",
                ),
            ],
            [
                table(
                    "Devices",
                    "What the GPUs are.",
                    f"dgx_pixels_gpu_info{{{GPU}}}",
                    {
                        "instance": "Instance",
                        "gpu": "GPU",
                        "name": "Name",
                        "memory_type": "Memory",
                        "driver_version": "Driver",
                        "uuid": "UUID",
                    },
                ),
                states(
                    "Collector",
                    "Whether the exporter could read the GPUs, by source.",
                    [q(f"dgx_pixels_gpu_collector_up{{{SERVER}}}", "{{instance}} {{source}}")],
                    [(0, "fails", RED), (1, "works", GREEN)],
                ),
                graph(
                    "Time to read the GPUs",
                    "The time that one look at all GPUs takes, by source, and how old the last one is.",
                    [
                        q(f"dgx_pixels_gpu_collector_duration_seconds{{{SERVER}}}", "{{instance}} {{source}}"),
                        q(
                            f"time() - dgx_pixels_gpu_collector_last_success_timestamp_seconds{{{SERVER}}}",
                            "{{instance}} age",
                        ),
                    ],
                    "s",
                    overrides=[right("age", "s")],
                ),
            ],
        ],
    )
