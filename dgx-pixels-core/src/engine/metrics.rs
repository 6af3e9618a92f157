//! The measurements of an engine, for Prometheus.
//!
//! The names, labels and help texts are those of [`METRICS`](crate::metrics::METRICS). A metric
//! with a label of few values has a series for each value from the start, so that rates begin at 0.

use std::time::Duration;

use prometheus::{
    GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use crate::metrics::Meter;
use crate::submission::Priority;

/// Seconds, from 1 ms to 10 min, about three a decade.
const SECONDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0,
    600.0,
];

/// Rows of a forward pass.
const ROWS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Predicted over measured memory, less 1.
const ERRORS: [f64; 9] = [-0.1, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1, 0.2, 0.5];

/// All metrics of one engine, in a registry of its own.
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    /// `dgx_pixels_jobs_total{outcome, kind}`.
    jobs: IntCounterVec,
    /// `dgx_pixels_jobs_submitted_total{priority}`.
    submitted: IntCounterVec,
    /// `dgx_pixels_jobs_rejected_total{kind}`.
    rejected: IntCounterVec,
    /// `dgx_pixels_queue_jobs{priority}`.
    queue_jobs: IntGaugeVec,
    /// `dgx_pixels_queue_oldest_seconds{priority}`.
    queue_oldest: GaugeVec,
    /// `dgx_pixels_queue_clients`.
    pub(crate) queue_clients: IntGauge,
    /// `dgx_pixels_queue_largest_client_jobs`: a label for each client would have no bound.
    pub(crate) queue_largest_client: IntGauge,
    /// `dgx_pixels_queue_capacity_jobs`.
    pub(crate) queue_capacity: IntGauge,
    /// `dgx_pixels_job_stage_seconds{stage}`.
    stages: HistogramVec,
    /// `dgx_pixels_step_seconds`.
    pub(crate) step_seconds: Histogram,
    /// `dgx_pixels_batch_rows`.
    pub(crate) batch_rows: Histogram,
    /// `dgx_pixels_steps_total`: a step of each picture counts.
    pub(crate) steps: IntCounter,
    /// `dgx_pixels_images_total`.
    pub(crate) images: IntCounter,
    /// `dgx_pixels_redraws_total`.
    pub(crate) redraws: IntCounter,
    /// `dgx_pixels_running_jobs{device}`.
    pub(crate) running: IntGaugeVec,
    /// `dgx_pixels_device_up{device}`.
    pub(crate) device_up: IntGaugeVec,
    /// `dgx_pixels_memory_budget_bytes{device}`.
    pub(crate) budget: IntGaugeVec,
    /// `dgx_pixels_memory_used_bytes{device}`.
    pub(crate) used: IntGaugeVec,
    /// `dgx_pixels_memory_predicted_peak_bytes{device}`: of the last call.
    pub(crate) predicted: IntGaugeVec,
    /// `dgx_pixels_memory_peak_bytes{device}`: of the last call.
    pub(crate) peak: IntGaugeVec,
    /// `dgx_pixels_memory_prediction_error_ratio`: predicted over measured, less 1.
    pub(crate) prediction_error: Histogram,
    /// `dgx_pixels_model_loads_total{model}`.
    pub(crate) loads: IntCounterVec,
    /// `dgx_pixels_model_load_seconds`.
    pub(crate) load_seconds: Histogram,
    /// `dgx_pixels_model_evictions_total{model}`.
    pub(crate) evictions: IntCounterVec,
    /// `dgx_pixels_models_loaded{device}`.
    pub(crate) models_loaded: IntGaugeVec,
    /// `dgx_pixels_out_of_memory_recoveries_total{device}`.
    pub(crate) oom_recoveries: IntCounterVec,
    /// `dgx_pixels_backend_panics_total{device}`.
    pub(crate) panics: IntCounterVec,
    /// `dgx_pixels_device_hangs_total{device}`.
    pub(crate) hangs: IntCounterVec,
    /// `dgx_pixels_jobs_recovered_total`.
    pub(crate) recovered: IntCounter,
    /// `dgx_pixels_journal_errors_total{operation}`.
    pub(crate) journal_errors: IntCounterVec,
    /// `dgx_pixels_build_info{version}`.
    _build: IntGaugeVec,
}

/// The stages of [`Metrics::stage`].
pub(crate) const STAGES: [&str; 6] = ["waiting", "encoding", "denoising", "decoding", "pixel", "total"];

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let meter = Meter(&registry);
        let metrics = Metrics {
            jobs: meter.counters("jobs_total"),
            submitted: meter.counters("jobs_submitted_total"),
            rejected: meter.counters("jobs_rejected_total"),
            queue_jobs: meter.gauges("queue_jobs"),
            queue_oldest: meter.float_gauges("queue_oldest_seconds"),
            queue_clients: meter.gauge("queue_clients"),
            queue_largest_client: meter.gauge("queue_largest_client_jobs"),
            queue_capacity: meter.gauge("queue_capacity_jobs"),
            stages: meter.histograms("job_stage_seconds", &SECONDS),
            step_seconds: meter.histogram("step_seconds", &SECONDS),
            batch_rows: meter.histogram("batch_rows", &ROWS),
            steps: meter.counter("steps_total"),
            images: meter.counter("images_total"),
            redraws: meter.counter("redraws_total"),
            running: meter.gauges("running_jobs"),
            device_up: meter.gauges("device_up"),
            budget: meter.gauges("memory_budget_bytes"),
            used: meter.gauges("memory_used_bytes"),
            predicted: meter.gauges("memory_predicted_peak_bytes"),
            peak: meter.gauges("memory_peak_bytes"),
            prediction_error: meter.histogram("memory_prediction_error_ratio", &ERRORS),
            loads: meter.counters("model_loads_total"),
            load_seconds: meter.histogram("model_load_seconds", &SECONDS),
            evictions: meter.counters("model_evictions_total"),
            models_loaded: meter.gauges("models_loaded"),
            oom_recoveries: meter.counters("out_of_memory_recoveries_total"),
            panics: meter.counters("backend_panics_total"),
            hangs: meter.counters("device_hangs_total"),
            recovered: meter.counter("jobs_recovered_total"),
            journal_errors: meter.counters("journal_errors_total"),
            _build: {
                let build = meter.gauges("build_info");
                build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
                build
            },
            registry: registry.clone(),
        };
        // A series that begins at its first event hides that event from `increase()`.
        for priority in Priority::ALL {
            metrics.submitted.with_label_values(&[priority.as_str()]);
            metrics.queue_jobs.with_label_values(&[priority.as_str()]);
        }
        for operation in super::journal::OPERATIONS {
            metrics.journal_errors.with_label_values(&[operation]);
        }
        metrics.jobs.with_label_values(&["finished", ""]);
        metrics.jobs.with_label_values(&["cancelled", "cancelled"]);
        STAGES.iter().for_each(|stage| drop(metrics.stages.with_label_values(&[*stage])));
        metrics
    }

    /// Begins the series of a device.
    pub(crate) fn opened(&self, device: &str) {
        self.device_up.with_label_values(&[device]).set(1);
        for faults in [&self.oom_recoveries, &self.panics, &self.hangs] {
            faults.with_label_values(&[device]);
        }
    }

    pub(crate) fn submitted(&self, priority: Priority) {
        self.submitted.with_label_values(&[priority.as_str()]).inc();
    }

    pub(crate) fn rejected(&self, kind: &str) {
        self.rejected.with_label_values(&[kind]).inc();
    }

    /// `outcome` is `finished`, `failed` or `cancelled`.
    pub(crate) fn ended(&self, outcome: &str, kind: &str) {
        self.jobs.with_label_values(&[outcome, kind]).inc();
    }

    pub(crate) fn stage(&self, stage: &'static str, time: Duration) {
        self.stages.with_label_values(&[stage]).observe(time.as_secs_f64());
    }

    pub(crate) fn queue(&self, priority: Priority, jobs: usize, oldest: Duration) {
        self.queue_jobs.with_label_values(&[priority.as_str()]).set(jobs as i64);
        self.queue_oldest.with_label_values(&[priority.as_str()]).set(oldest.as_secs_f64());
    }
}
