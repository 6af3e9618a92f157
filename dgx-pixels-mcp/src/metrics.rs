//! The metrics of the server; the engine measures itself.

use std::time::Duration;

use dgx_pixels_core::ErrorKind;
use dgx_pixels_core::library::Library;
use dgx_pixels_core::metrics::Meter;
use prometheus::{HistogramVec, IntCounterVec, IntGauge, Registry};

/// The bounds of histograms in seconds: from answers out of memory to images that take minutes.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 45.0, 120.0];

pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    /// `dgx_pixels_mcp_tool_calls_total{tool,outcome,kind}`.
    calls: IntCounterVec,
    /// `dgx_pixels_mcp_tool_seconds{tool}`.
    seconds: HistogramVec,
    /// `dgx_pixels_library_bytes`.
    library_bytes: IntGauge,
    /// `dgx_pixels_library_quota_bytes`: 0 where there is none.
    library_quota: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let registry = Registry::new();
        let meter = Meter(&registry);
        Metrics {
            calls: meter.counters("mcp_tool_calls_total"),
            seconds: meter.histograms("mcp_tool_seconds", &SECONDS),
            library_bytes: meter.gauge("library_bytes"),
            library_quota: meter.gauge("library_quota_bytes"),
            registry,
        }
    }

    /// Measures the library. One that cannot be read keeps its last values.
    pub(crate) fn measure(&self, library: &Library) {
        self.library_quota.set(as_i64(library.quota().max_bytes.unwrap_or(0)));
        if let Ok(usage) = library.usage() {
            self.library_bytes.set(as_i64(usage.bytes));
        }
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

fn as_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
