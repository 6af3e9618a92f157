//! What is measured of the server; the engine measures itself.

use std::time::Duration;

use dgx_pixels_core::ErrorKind;
use dgx_pixels_core::metrics::{Metric, MetricKind};
use prometheus::{HistogramVec, IntCounterVec, Registry};

/// From answers out of memory to pictures that take minutes.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 45.0, 120.0];

pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    /// `dgx_pixels_mcp_tool_calls_total{tool,outcome,kind}`.
    calls: IntCounterVec,
    /// `dgx_pixels_mcp_tool_seconds{tool}`.
    seconds: HistogramVec,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        const NAMED: &str = "names are constants and each is taken once; this is a bug";
        let metric = Metric::named("mcp_tool_calls_total", MetricKind::Counter);
        let calls = IntCounterVec::new(metric.opts(), metric.labels).expect(NAMED);
        let metric = Metric::named("mcp_tool_seconds", MetricKind::Histogram);
        let seconds = HistogramVec::new(metric.histogram_opts(&SECONDS), metric.labels).expect(NAMED);
        let registry = Registry::new();
        registry.register(Box::new(calls.clone())).expect(NAMED);
        registry.register(Box::new(seconds.clone())).expect(NAMED);
        Metrics { registry, calls, seconds }
    }

    /// Counts a call; `kind` is that of its error.
    pub(crate) fn called(&self, tool: &str, kind: Option<ErrorKind>, time: Duration) {
        let labels = match kind {
            None => [tool, "ok", ""],
            Some(kind) => [tool, "error", kind.as_str()],
        };
        self.calls.with_label_values(&labels).inc();
        self.seconds.with_label_values(&[tool]).observe(time.as_secs_f64());
    }
}
