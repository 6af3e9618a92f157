"""The dashboard of the engine."""

from panels import (
    BLUE,
    GREEN,
    RED,
    SERVER,
    YELLOW,
    dashboard,
    graph,
    heatmap,
    limit,
    mean,
    q,
    quantile,
    right,
    share,
    stat,
    steps,
    variable,
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
