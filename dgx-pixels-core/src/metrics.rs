//! Every metric of this project: its name, kind, unit, labels and help. No other file names one.
//!
//! The engine, the MCP server and the monitor of GPUs make their metrics from this
//! table. A metric of a process (`process_*`) is that of the crate `prometheus`, and has its names.

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// A metric of Prometheus.
///
/// # Example
/// ```
/// use dgx_pixels_core::metrics::{Metric, MetricKind};
/// let metric = Metric::named("queue_jobs", MetricKind::Gauge);
/// assert_eq!((metric.unit, metric.labels), ("jobs", ["priority"].as_slice()));
/// assert!(metric.help.ends_with('.'));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name after `dgx_pixels_`.
    pub name: &'static str,
    /// The kind.
    pub kind: MetricKind,
    /// The unit of its value.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// A sentence about it.
    pub help: &'static str,
}

/// The kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A sum that only grows.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// The first part of every name.
pub(crate) const NAMESPACE: &str = "dgx_pixels";

/// All metrics.
///
/// # Example
/// ```
/// use dgx_pixels_core::metrics::METRICS;
/// // Each name is used once, and each time is in seconds.
/// let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
/// names.sort_unstable();
/// names.dedup();
/// assert_eq!(names.len(), METRICS.len());
/// assert!(METRICS.iter().filter(|metric| metric.name.ends_with("_seconds")).all(|metric| metric.unit.ends_with("seconds")));
/// ```
pub const METRICS: &[Metric] = &[
    counter(
        "jobs_total",
        "jobs",
        &["outcome", "kind"],
        "Jobs that ended, by outcome (`finished`, `failed`, `cancelled`) and the kind of the error.",
    ),
    counter("jobs_submitted_total", "jobs", &["priority"], "Jobs that were accepted."),
    counter(
        "jobs_rejected_total",
        "submissions",
        &["kind"],
        "Submissions that were refused, by the kind of the error.",
    ),
    counter("jobs_recovered_total", "jobs", &[], "Jobs of an earlier run that were taken up again."),
    gauge("queue_jobs", "jobs", &["priority"], "Jobs that wait."),
    gauge("queue_oldest_seconds", "seconds", &["priority"], "The time that the oldest job has waited."),
    gauge("queue_clients", "clients", &[], "Clients that have jobs waiting."),
    gauge("queue_largest_client_jobs", "jobs", &[], "Jobs that wait, of the client that has the most."),
    gauge("queue_capacity_jobs", "jobs", &[], "The most jobs that may wait."),
    histogram(
        "job_stage_seconds",
        "seconds",
        &["stage"],
        "Time of one job by stage: `waiting`, `encoding`, `denoising`, `decoding`, `pixel`, `total`.",
    ),
    histogram("step_seconds", "seconds", &[], "Time of one forward pass."),
    histogram("batch_rows", "rows", &[], "Rows of one forward pass."),
    counter("steps_total", "steps", &[], "Denoising steps; a step of each image counts."),
    counter("images_total", "images", &[], "Images that were decoded."),
    counter("redraws_total", "images", &[], "Sprites without a visible pixel that were drawn again."),
    gauge("running_jobs", "jobs", &["device"], "Jobs that are on a device."),
    gauge("device_up", "0 or 1", &["device"], "1 while the device answers, 0 after it hung."),
    counter("device_hangs_total", "calls", &["device"], "Calls that did not come back in time."),
    counter("backend_panics_total", "panics", &["device"], "Panics of a backend."),
    gauge("memory_budget_bytes", "bytes", &["device"], "Device memory that may be used."),
    gauge("memory_used_bytes", "bytes", &["device"], "Device memory in tensors of this process."),
    gauge(
        "memory_predicted_peak_bytes",
        "bytes",
        &["device"],
        "Predicted peak of the last call, everything in use included.",
    ),
    gauge("memory_peak_bytes", "bytes", &["device"], "Measured peak of the last call."),
    histogram("memory_prediction_error_ratio", "ratio", &[], "Predicted peak over the measured one, less 1."),
    counter(
        "out_of_memory_recoveries_total",
        "calls",
        &["device"],
        "Calls that ran out of memory and were made again, smaller.",
    ),
    counter("model_loads_total", "loads", &["model"], "Models that were loaded."),
    histogram("model_load_seconds", "seconds", &[], "Time of loading a model."),
    counter(
        "model_evictions_total",
        "models",
        &["model"],
        "Models that were dropped to make room for another.",
    ),
    gauge("models_loaded", "models", &["device"], "Models that are loaded."),
    counter(
        "journal_errors_total",
        "changes",
        &["operation"],
        "Changes that the journal of jobs could not write: `accept`, `begin`, `rest`, `write`, `finish`, `fail`.",
    ),
    gauge("build_info", "1", &["version"], "1, with the version of this library."),
    counter(
        "mcp_tool_calls_total",
        "calls",
        &["tool", "outcome", "kind"],
        "Calls of MCP tools, by outcome (`ok`, `error`) and the kind of the error.",
    ),
    histogram("mcp_tool_seconds", "seconds", &["tool"], "Time of one call of an MCP tool."),
    gauge("library_bytes", "bytes", &[], "Bytes of all pictures in the library of assets."),
    gauge(
        "library_quota_bytes",
        "bytes",
        &[],
        "The most bytes that the library of assets may hold; 0 is no limit.",
    ),
    gauge(
        "gpu_info",
        "1",
        &["gpu", "uuid", "name", "driver_version", "memory_type"],
        "1, with what a GPU is; `memory_type` is `dedicated` or `unified`.",
    ),
    gauge(
        "gpu_utilization_ratio",
        "0 to 1",
        &["gpu", "uuid"],
        "Share of the last sample period in which a kernel ran.",
    ),
    gauge(
        "gpu_memory_used_bytes",
        "bytes",
        &["gpu", "uuid"],
        "Memory in use; of a unified GPU, the machine's that is not available.",
    ),
    gauge(
        "gpu_memory_total_bytes",
        "bytes",
        &["gpu", "uuid"],
        "All memory; of a unified GPU, the machine's.",
    ),
    gauge("gpu_process_memory_bytes", "bytes", &["gpu", "uuid"], "GPU memory of this process."),
    gauge("gpu_power_watts", "watts", &["gpu", "uuid"], "Power draw."),
    gauge("gpu_power_limit_watts", "watts", &["gpu", "uuid"], "Power draw at which the GPU throttles."),
    counter(
        "gpu_energy_joules_total",
        "joules",
        &["gpu", "uuid"],
        "Energy used since the driver was loaded.",
    ),
    gauge("gpu_temperature_celsius", "degrees Celsius", &["gpu", "uuid"], "Temperature of the GPU."),
    gauge(
        "gpu_temperature_limit_celsius",
        "degrees Celsius",
        &["gpu", "uuid"],
        "Temperature at which the GPU slows down.",
    ),
    gauge("gpu_sm_clock_hertz", "hertz", &["gpu", "uuid"], "Clock of the multiprocessors."),
    gauge("gpu_sm_clock_max_hertz", "hertz", &["gpu", "uuid"], "Highest clock of the multiprocessors."),
    gauge("gpu_memory_clock_hertz", "hertz", &["gpu", "uuid"], "Clock of the memory."),
    gauge(
        "gpu_throttle_active",
        "0 or 1",
        &["gpu", "uuid", "reason"],
        "1 while the clocks are lowered for this reason.",
    ),
    counter(
        "gpu_ecc_errors_total",
        "errors",
        &["gpu", "uuid", "kind"],
        "Memory errors since the driver was loaded, `corrected` and `uncorrected`.",
    ),
    counter(
        "gpu_xid_errors_total",
        "errors",
        &["gpu", "uuid", "xid"],
        "Faults that the driver has reported to this process, by XID.",
    ),
    gauge(
        "gpu_xid_last_timestamp_seconds",
        "Unix seconds",
        &["gpu", "uuid", "xid"],
        "Time of the last fault with this XID.",
    ),
    gauge("gpu_collector_up", "0 or 1", &["source"], "1 if the last look at the GPUs succeeded."),
    gauge(
        "gpu_collector_last_success_timestamp_seconds",
        "Unix seconds",
        &["source"],
        "Time of the last look at the GPUs that succeeded.",
    ),
    gauge(
        "gpu_collector_duration_seconds",
        "seconds",
        &["source"],
        "Time that the last look at the GPUs took.",
    ),
];

const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: MetricKind::Counter, unit, labels, help }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: MetricKind::Gauge, unit, labels, help }
}

const fn histogram(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: MetricKind::Histogram, unit, labels, help }
}

impl Metric {
    /// Returns the metric of this name.
    ///
    /// # Panics
    /// If there is none, or it is of another kind: both are bugs of the caller.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::metrics::{Metric, MetricKind};
    /// let jobs = Metric::named("jobs_total", MetricKind::Counter);
    /// assert_eq!(jobs.labels, ["outcome", "kind"]);
    /// ```
    pub fn named(name: &str, kind: MetricKind) -> &'static Metric {
        METRICS
            .iter()
            .find(|metric| metric.name == name && metric.kind == kind)
            .unwrap_or_else(|| panic!("there is no {kind:?} `{name}` in the table; this is a bug"))
    }

    /// Returns the options of a counter or a gauge.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::metrics::{Metric, MetricKind};
    /// let options = Metric::named("queue_jobs", MetricKind::Gauge).opts();
    /// assert_eq!(options.fq_name(), "dgx_pixels_queue_jobs");
    /// ```
    pub fn opts(&self) -> Opts {
        Opts::new(self.name, self.help).namespace(NAMESPACE)
    }

    /// Returns the options of a histogram with these buckets.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::metrics::{Metric, MetricKind};
    /// use prometheus::HistogramVec;
    /// let metric = Metric::named("job_stage_seconds", MetricKind::Histogram);
    /// assert!(HistogramVec::new(metric.histogram_opts(&[0.1, 1.0, 10.0]), metric.labels).is_ok());
    /// ```
    pub fn histogram_opts(&self, buckets: &[f64]) -> HistogramOpts {
        HistogramOpts::new(self.name, self.help).namespace(NAMESPACE).buckets(buckets.to_vec())
    }
}

/// Makes metrics of [`METRICS`] by their names, in a registry.
///
/// A method panics for a name that is not in the table, that is of another kind, or that the
/// registry has already: names are constants, so each is a bug of the caller.
///
/// # Example
/// ```
/// use dgx_pixels_core::metrics::Meter;
/// use prometheus::Registry;
///
/// let registry = Registry::new();
/// let submitted = Meter(&registry).counters("jobs_submitted_total");
/// submitted.with_label_values(&["normal"]).inc();
/// assert_eq!(registry.gather()[0].name(), "dgx_pixels_jobs_submitted_total");
/// ```
pub struct Meter<'a>(pub &'a Registry);

impl Meter<'_> {
    /// A counter without labels.
    pub fn counter(&self, name: &str) -> IntCounter {
        self.keep(IntCounter::with_opts(Metric::named(name, MetricKind::Counter).opts()))
    }

    /// A counter for each combination of labels.
    pub fn counters(&self, name: &str) -> IntCounterVec {
        let metric = Metric::named(name, MetricKind::Counter);
        self.keep(IntCounterVec::new(metric.opts(), metric.labels))
    }

    /// A gauge of whole numbers without labels.
    pub fn gauge(&self, name: &str) -> IntGauge {
        self.keep(IntGauge::with_opts(Metric::named(name, MetricKind::Gauge).opts()))
    }

    /// A gauge of whole numbers for each combination of labels.
    pub fn gauges(&self, name: &str) -> IntGaugeVec {
        let metric = Metric::named(name, MetricKind::Gauge);
        self.keep(IntGaugeVec::new(metric.opts(), metric.labels))
    }

    /// A gauge of floating-point numbers for each combination of labels.
    pub fn float_gauges(&self, name: &str) -> GaugeVec {
        let metric = Metric::named(name, MetricKind::Gauge);
        self.keep(GaugeVec::new(metric.opts(), metric.labels))
    }

    /// A histogram without labels. `buckets` are the upper bounds, in the metric's unit.
    pub fn histogram(&self, name: &str, buckets: &[f64]) -> Histogram {
        let metric = Metric::named(name, MetricKind::Histogram);
        self.keep(Histogram::with_opts(metric.histogram_opts(buckets)))
    }

    /// A histogram for each combination of labels. `buckets` are the upper bounds, in the metric's
    /// unit.
    pub fn histograms(&self, name: &str, buckets: &[f64]) -> HistogramVec {
        let metric = Metric::named(name, MetricKind::Histogram);
        self.keep(HistogramVec::new(metric.histogram_opts(buckets), metric.labels))
    }

    fn keep<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let made = made.expect("names are constants; this is a bug");
        self.0.register(Box::new(made.clone())).expect("each name stands once; this is a bug");
        made
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_keep_to_the_rules_of_prometheus() {
        let mut seen = HashSet::new();
        for Metric { name, kind, unit, help, .. } in METRICS.iter().copied() {
            assert!(seen.insert(name), "{name} stands twice");
            assert_eq!(name.ends_with("_total"), kind == MetricKind::Counter, "{name}");
            assert!(help.ends_with('.'), "{name}: {help}");
            let base = name.trim_end_matches("_total");
            let is_named_after_its_unit = match unit {
                "seconds" | "bytes" | "watts" | "joules" | "hertz" | "ratio" => base.ends_with(unit),
                "degrees Celsius" => base.ends_with("celsius"),
                "0 to 1" => base.ends_with("ratio"),
                "Unix seconds" => base.ends_with("timestamp_seconds"),
                _ => true,
            };
            assert!(is_named_after_its_unit, "{name} is in {unit}");
        }
    }
}
