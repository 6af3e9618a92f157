"""Writes the three Grafana dashboards, `deploy/grafana/dashboards/*.json`.

    python tools/monitoring/dashboards.py            # write the files
    python tools/monitoring/dashboards.py --check    # exit with 1 if a file is not what would be written

A dashboard is a list of rows of panels. The first three rows, 22 of Grafana's units high, fill a screen
of 1920x1080 pixels; what is below them is for a closer look.
"""

import json
import sys
from itertools import count
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "deploy/grafana/dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
TAG = "dgx-pixels"

# The heights of a row of single values and of a row of graphs, and the width of the screen.
STAT_HEIGHT, GRAPH_HEIGHT, WIDTH = 4, 9, 24

GPU = 'instance=~"$instance", gpu=~"$gpu"'
SERVER = 'instance=~"$instance"'
NODE = 'job="node", instance=~"$node"'
THERMAL = 'reason=~"thermal_.*|power_brake|hardware"'

GREEN, YELLOW, RED, BLUE = "green", "#EAB839", "red", "blue"


def q(expr, legend="", **more):
    """A query. `legend` names its series, with labels in double braces."""
    return {"expr": expr, "legendFormat": legend, **more}


def steps(*pairs):
    """Thresholds: a color, then pairs of a value and the color from it upward."""
    first, *rest = pairs
    return {
        "mode": "absolute",
        "steps": [{"color": first, "value": None}, *({"color": color, "value": value} for value, color in rest)],
    }


def panel(kind, title, about, queries, unit, *, thresholds=None, overrides=(), options=None, **defaults):
    """What all panels have. `about` is the text behind the panel's (i)."""
    custom = defaults.pop("custom", {})
    fields = {"unit": unit, "thresholds": thresholds or steps(GREEN), "custom": custom, **defaults}
    if kind == "timeseries":
        fields["color"] = {"mode": "palette-classic"}
    targets = [
        {"datasource": SOURCE, "refId": chr(ord("A") + i), "editorMode": "code", "range": True, **query}
        for i, query in enumerate(queries)
    ]
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": fields, "overrides": list(overrides)},
        "options": options or {},
    }


def stat(title, about, expr, unit, thresholds=None, **defaults):
    """One value, large, with its course behind it."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "center",
        "textMode": "value",
    }
    return panel("stat", title, about, [q(expr)], unit, thresholds=thresholds, options=options, **defaults)


def graph(title, about, queries, unit, *, stacked=False, overrides=(), **defaults):
    """Lines over time; `stacked` fills and sums them."""
    custom = {
        "lineWidth": 1 if stacked else 2,
        "fillOpacity": 60 if stacked else 8,
        "showPoints": "never",
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "spanNulls": False,
    }
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    defaults = {"min": 0} | defaults
    return panel(
        "timeseries", title, about, queries, unit, overrides=overrides, options=options, custom=custom, **defaults
    )


def heatmap(title, about, expr, unit):
    """The distribution of a histogram over time."""
    options = {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Turbo", "steps": 64, "reverse": False},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "unit": unit},
        "rowsFrame": {"layout": "auto"},
    }
    return panel("heatmap", title, about, [q(expr, "{{le}}", format="heatmap")], unit, options=options)


def states(title, about, queries, texts, **defaults):
    """A bar for each series, colored by its value; `texts` maps a value to a text and a color."""
    mapping = {
        "type": "value",
        "options": {
            str(value): {"text": text, "color": color, "index": i} for i, (value, text, color) in enumerate(texts)
        },
    }
    options = {
        "showValue": "never",
        "mergeValues": True,
        "alignValue": "left",
        "rowHeight": 0.85,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single"},
    }
    custom = {"fillOpacity": 80, "lineWidth": 0}
    return panel(
        "state-timeline", title, about, queries, "none", options=options, mappings=[mapping], custom=custom, **defaults
    )


def table(title, about, expr, columns):
    """The labels of series, one row each. `columns` maps a label to the head of its column."""
    made = panel(
        "table",
        title,
        about,
        [q(expr, format="table", instant=True, range=False)],
        "none",
        options={"showHeader": True, "cellHeight": "sm"},
        custom={"align": "left", "cellOptions": {"type": "auto"}},
    )
    made["transformations"] = [
        {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}},
        {
            "id": "organize",
            "options": {
                "indexByName": {name: i for i, name in enumerate(columns)},
                "renameByName": columns,
                "excludeByName": {},
            },
        },
    ]
    return made


def limit(name):
    """Draws series with this word in their name as a dashed red line."""
    return {
        "matcher": {"id": "byRegexp", "options": f".*{name}.*"},
        "properties": [
            {"id": "color", "value": {"mode": "fixed", "fixedColor": RED}},
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
            {"id": "custom.fillOpacity", "value": 0},
            {"id": "custom.stacking", "value": {"mode": "none", "group": "A"}},
        ],
    }


def right(name, unit):
    """Gives series with this word in their name an axis of their own, on the right."""
    return {
        "matcher": {"id": "byRegexp", "options": f".*{name}.*"},
        "properties": [
            {"id": "custom.axisPlacement", "value": "right"},
            {"id": "unit", "value": unit},
            {"id": "custom.fillOpacity", "value": 0},
        ],
    }


def variable(name, label, query):
    """A choice of label values at the top of the dashboard. Default: all."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard(name, title, about, variables, component, rows):
    """Puts the panels of each row side by side, at equal widths, and numbers them."""
    numbers, panels, top = count(1), [], 0
    for row in rows:
        height = STAT_HEIGHT if all(p["type"] == "stat" for p in row) else GRAPH_HEIGHT
        width, rest = divmod(WIDTH, len(row))
        if rest:
            raise ValueError(f"{title}: {len(row)} panels do not divide a row of {WIDTH}")
        for i, made in enumerate(row):
            place = {"x": i * width, "y": top, "w": width, "h": height}
            panels.append({"id": next(numbers), **made, "gridPos": place})
        top += height
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "current": {"text": "DGX-Pixels Prometheus", "value": "dgx-pixels-prometheus"},
    }
    alerts = {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "expr": f'ALERTS{{alertstate="firing", component="{component}"}}',
        "iconColor": RED,
        "titleFormat": "{{alertname}}",
        "textFormat": "{{instance}} {{gpu}}",
    }
    links = {
        "type": "dashboards",
        "title": "DGX-Pixels",
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
    }
    return {
        "uid": f"dgx-pixels-{name}",
        "title": title,
        "description": about,
        "tags": [TAG],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source, *variables]},
        "annotations": {"list": [alerts]},
        "links": [links],
        "panels": panels,
    }


def share(over, under):
    """A ratio that is empty while there is nothing to divide by."""
    return f"{over} / ({under} > 0)"


def mean(histogram, labels, by=""):
    """The mean of a histogram's values, of each value of the label `by`."""
    group = f" by ({by})" if by else ""
    rate = f"sum{group} (rate({histogram}_%s{{{labels}}}[$__rate_interval]))"
    return share(rate % "sum", rate % "count")


def quantile(at, histogram, labels, by="le"):
    return f"histogram_quantile({at}, sum by ({by}) (rate({histogram}_bucket{{{labels}}}[$__rate_interval])))"


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


def engine():
    instance = variable("instance", "Instance", "label_values(dgx_pixels_queue_capacity_jobs, instance)")
    return dashboard(
        "engine",
        "DGX-Pixels Engine",
        "The engine: images, the queue, the time of a job, device memory and failures.",
        [instance],
        "engine",
        [
            [
                stat(
                    "Images per minute",
                    "Images that were decoded.",
                    f"60 * sum(rate(dgx_pixels_images_total{{{SERVER}}}[$__rate_interval]))",
                    "none",
                    steps(BLUE),
                    decimals=1,
                ),
                stat(
                    "Steps per second",
                    "Denoising steps. A step of each image counts.",
                    f"sum(rate(dgx_pixels_steps_total{{{SERVER}}}[$__rate_interval]))",
                    "none",
                    steps(BLUE),
                    decimals=1,
                ),
                stat(
                    "On a device",
                    "Jobs that are being drawn.",
                    f"sum(dgx_pixels_running_jobs{{{SERVER}}})",
                    "none",
                    steps(BLUE),
                ),
                stat(
                    "Waiting",
                    "Jobs in the queue.",
                    f"sum(instance:dgx_pixels_queue_jobs:sum{{{SERVER}}})",
                    "none",
                    steps(BLUE),
                ),
                stat(
                    "Queue in use",
                    "The share of the places that are taken. At 100 % the server refuses jobs.",
                    f"max(instance:dgx_pixels_queue:fill_ratio{{{SERVER}}})",
                    "percentunit",
                    steps(GREEN, (0.8, YELLOW), (1, RED)),
                    min=0,
                    max=1,
                ),
                stat(
                    "Job time, p95",
                    "19 jobs in 20 took at most this long in the last 15 minutes, from submission to file.",
                    f"max(instance:dgx_pixels_job_seconds:p95_15m{{{SERVER}}})",
                    "s",
                    steps(GREEN, (60, YELLOW)),
                    noValue="no jobs",
                ),
                stat(
                    "Jobs that fail",
                    "The share of the jobs that ended in the last 15 minutes. Cancelled jobs do not count.",
                    f"max(instance:dgx_pixels_job_failures:ratio15m{{{SERVER}}})",
                    "percentunit",
                    steps(GREEN, (0.05, YELLOW), (0.5, RED)),
                    noValue="no jobs",
                ),
                stat(
                    "Devices that answer",
                    "Devices in use. A device that hangs is given up and no longer counts.",
                    f"sum(dgx_pixels_device_up{{{SERVER}}})",
                    "none",
                    steps(RED, (1, GREEN)),
                ),
            ],
            [
                graph(
                    "Images and steps",
                    "Images per second on the left, denoising steps per second on the right.",
                    [
                        q(
                            f"sum by (instance) (rate(dgx_pixels_images_total{{{SERVER}}}[$__rate_interval]))",
                            "{{instance}} images",
                        ),
                        q(
                            f"sum by (instance) (rate(dgx_pixels_steps_total{{{SERVER}}}[$__rate_interval]))",
                            "{{instance}} steps",
                        ),
                    ],
                    "suffix: /s",
                    overrides=[right("steps", "suffix: /s")],
                ),
                graph(
                    "Jobs waiting and on a device",
                    "Waiting jobs by priority, and those that are being drawn.",
                    [
                        q(f"sum by (priority) (dgx_pixels_queue_jobs{{{SERVER}}})", "{{priority}}"),
                        q(f"sum(dgx_pixels_running_jobs{{{SERVER}}})", "on a device"),
                    ],
                    "none",
                    stacked=True,
                ),
                graph(
                    "Time of a job by stage",
                    "The mean time that a job spent in each stage. The stages of one job follow each other, so their sum is the job's time.",
                    [q(mean("dgx_pixels_job_stage_seconds", f'{SERVER}, stage!="total"', "stage"), "{{stage}}")],
                    "s",
                    stacked=True,
                ),
            ],
            [
                graph(
                    "Time of a forward pass",
                    "Half of the forward passes take at most p50, and 19 in 20 at most p95.",
                    [
                        q(quantile(0.5, "dgx_pixels_step_seconds", SERVER), "p50"),
                        q(quantile(0.95, "dgx_pixels_step_seconds", SERVER), "p95"),
                        q(mean("dgx_pixels_step_seconds", SERVER), "mean"),
                    ],
                    "s",
                ),
                heatmap(
                    "Rows of a forward pass",
                    "How many rows go through the UNet together. More rows use the GPU better; guidance takes two rows for each image.",
                    f"sum by (le) (increase(dgx_pixels_batch_rows_bucket{{{SERVER}}}[$__rate_interval]))",
                    "none",
                ),
                graph(
                    "Device memory of the engine",
                    "Memory in tensors, the predicted and the measured peak of the last call, and the budget. Devices that do not count their memory, such as the CPU, have none of these.",
                    [
                        q(f"sum by (instance, device) (dgx_pixels_memory_used_bytes{{{SERVER}}})", "{{device}} in use"),
                        q(f"sum by (instance, device) (dgx_pixels_memory_peak_bytes{{{SERVER}}})", "{{device}} peak"),
                        q(
                            f"sum by (instance, device) (dgx_pixels_memory_predicted_peak_bytes{{{SERVER}}})",
                            "{{device}} predicted peak",
                        ),
                        q(
                            f"sum by (instance, device) (dgx_pixels_memory_budget_bytes{{{SERVER}}})",
                            "{{device}} budget",
                        ),
                    ],
                    "bytes",
                    overrides=[limit("budget")],
                ),
            ],
            [
                graph(
                    "Oldest job",
                    "How long the oldest job of each priority has waited.",
                    [q(f"max by (priority) (dgx_pixels_queue_oldest_seconds{{{SERVER}}})", "{{priority}}")],
                    "s",
                ),
                graph(
                    "Clients",
                    "Clients with waiting jobs, and the jobs of the client that has the most. Each client has its turn, so one cannot keep the others waiting.",
                    [
                        q(f"sum(dgx_pixels_queue_clients{{{SERVER}}})", "clients"),
                        q(f"max(dgx_pixels_queue_largest_client_jobs{{{SERVER}}})", "jobs of the largest"),
                    ],
                    "none",
                ),
                graph(
                    "Jobs by outcome",
                    "Jobs per minute that were accepted, and that ended.",
                    [
                        q(f"60 * sum(rate(dgx_pixels_jobs_submitted_total{{{SERVER}}}[$__rate_interval]))", "accepted"),
                        q(
                            f"60 * sum by (outcome) (rate(dgx_pixels_jobs_total{{{SERVER}}}[$__rate_interval]))",
                            "{{outcome}}",
                        ),
                        q(
                            f"60 * sum(rate(dgx_pixels_jobs_recovered_total{{{SERVER}}}[$__rate_interval]))",
                            "taken up after a restart",
                        ),
                        q(f"60 * sum(rate(dgx_pixels_redraws_total{{{SERVER}}}[$__rate_interval]))", "drawn again"),
                    ],
                    "suffix: /min",
                ),
            ],
            [
                graph(
                    "Failures by kind",
                    "Jobs that failed within 5 minutes, by the kind of the error.",
                    [
                        q(
                            f'sum by (kind) (increase(dgx_pixels_jobs_total{{{SERVER}, outcome="failed"}}[5m]))',
                            "{{kind}}",
                        )
                    ],
                    "none",
                    stacked=True,
                    noValue="none",
                ),
                graph(
                    "Refusals by kind",
                    "Submissions that were refused within 5 minutes, by the kind of the error.",
                    [q(f"sum by (kind) (instance_kind:dgx_pixels_jobs_rejected:increase5m{{{SERVER}}})", "{{kind}}")],
                    "none",
                    stacked=True,
                    noValue="none",
                ),
                graph(
                    "Faults",
                    "Since the server started: calls that ran out of memory and were made again, panics of a backend, calls that did not come back, and changes that the journal could not write.",
                    [
                        q(f"sum(dgx_pixels_out_of_memory_recoveries_total{{{SERVER}}})", "out-of-memory recoveries"),
                        q(f"sum(dgx_pixels_backend_panics_total{{{SERVER}}})", "panics"),
                        q(f"sum(dgx_pixels_device_hangs_total{{{SERVER}}})", "hangs"),
                        q(f"sum(dgx_pixels_journal_errors_total{{{SERVER}}})", "journal errors"),
                    ],
                    "none",
                    noValue="none",
                ),
            ],
            [
                heatmap(
                    "Error of the prediction",
                    "Predicted peak of device memory over the measured one, less 1. Below 0 the prediction was too low, and the call might have run out of memory.",
                    f"sum by (le) (increase(dgx_pixels_memory_prediction_error_ratio_bucket{{{SERVER}}}[$__rate_interval]))",
                    "percentunit",
                ),
                graph(
                    "Models",
                    "Models that are loaded, and those loaded and dropped since the server started.",
                    [
                        q(f"sum by (device) (dgx_pixels_models_loaded{{{SERVER}}})", "{{device}} loaded now"),
                        q(f"sum by (model) (dgx_pixels_model_loads_total{{{SERVER}}})", "{{model}} loads"),
                        q(
                            f"sum by (model) (dgx_pixels_model_evictions_total{{{SERVER}}})",
                            "{{model}} dropped for another",
                        ),
                    ],
                    "none",
                ),
                graph(
                    "Time to load a model",
                    "The mean time of all loads since the server started.",
                    [
                        q(
                            share(
                                f"sum by (instance) (dgx_pixels_model_load_seconds_sum{{{SERVER}}})",
                                f"sum by (instance) (dgx_pixels_model_load_seconds_count{{{SERVER}}})",
                            ),
                            "{{instance}}",
                        )
                    ],
                    "s",
                    noValue="no loads",
                ),
            ],
        ],
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


def written():
    """The files and their texts."""
    made = {"gpu": gpu(), "engine": engine(), "service": service()}
    return {
        FOLDER / f"{name}.json": json.dumps(text, indent=2, ensure_ascii=False) + "\n" for name, text in made.items()
    }


def main():
    old = [path for path, text in written().items() if not path.is_file() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in old:
            print(f"{path} is not what {Path(__file__).name} writes")
        sys.exit(bool(old))
    for path, text in written().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
