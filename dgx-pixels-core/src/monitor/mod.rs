//! GPUs and this process as Prometheus sees them.
//!
//! A [`Monitor`] looks at the GPUs each time that it is asked, through one of several
//! [sources](SourceName). What a GPU does not report is absent, never zero. The names stand in
//! [`metrics`](crate::metrics).
//!
//! # Example
//! ```
//! use dgx_pixels_core::monitor::{Monitor, SourceName};
//! let monitor = Monitor::open(SourceName::Demo)?;
//! let families = monitor.gather();
//! assert!(families.iter().any(|family| family.name() == "dgx_pixels_gpu_temperature_celsius"));
//! # Ok::<(), dgx_pixels_core::Error>(())
//! ```

mod dcgm;
mod demo;
mod host_memory;
mod nvidia_smi;
mod nvml;
mod reading;
mod source;
mod table;

use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;

pub use self::reading::{GpuReading, MemoryType};
use self::source::Source;
pub use self::source::SourceName;
use crate::error::Error;

/// Looks at the GPUs of this machine, and at this process.
///
/// # Example
/// ```
/// use dgx_pixels_core::monitor::{Monitor, SourceName};
/// let monitor = Monitor::open(SourceName::Demo)?;
/// assert_eq!(monitor.source(), Some("demo"));
/// let text = monitor.text();
/// assert!(text.contains("dgx_pixels_gpu_utilization_ratio{") && text.contains("process_"));
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
pub struct Monitor {
    state: Mutex<State>,
    process: ProcessCollector,
}

struct State {
    source: Source,
    last_success: Option<f64>,
    told: bool,
}

impl Monitor {
    /// Opens a source. With [`SourceName::Auto`] that is the first that works; a machine without a
    /// GPU has none, and its monitor reports this process alone.
    ///
    /// # Errors
    /// [`Error::Device`] if a source that was named does not work.
    pub fn open(name: SourceName) -> Result<Monitor, Error> {
        let source = Source::open(name)?;
        let state = State { source, last_success: None, told: false };
        Ok(Monitor { state: Mutex::new(state), process: ProcessCollector::for_self() })
    }

    /// The source that is in use; `None` where there is no GPU.
    pub fn source(&self) -> Option<&'static str> {
        self.lock().source.name()
    }

    /// Looks, and returns all metrics of the GPUs and of this process. A look that fails is
    /// reported by `dgx_pixels_gpu_collector_up`.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::monitor::{Monitor, SourceName};
    /// let families = Monitor::open(SourceName::Demo)?.gather();
    /// let temperature = families.iter().find(|family| family.name() == "dgx_pixels_gpu_temperature_celsius");
    /// // The demo has two GPUs.
    /// assert_eq!(temperature.unwrap().get_metric().len(), 2);
    /// # Ok::<(), dgx_pixels_core::Error>(())
    /// ```
    pub fn gather(&self) -> Vec<MetricFamily> {
        let mut families = self.process.collect();
        let mut state = self.lock();
        let Some(source) = state.source.name() else { return families };
        let started = Instant::now();
        let answer = state.source.read();
        let duration = started.elapsed();
        match &answer {
            Ok(_) => (state.last_success, state.told) = (Some(now()), false),
            Err(fault) if !state.told => {
                // Said once, and not at each scrape.
                tracing::warn!(source, fault, "the GPUs cannot be looked at");
                state.told = true;
            }
            Err(_) => {}
        }
        families.extend(table::collector(source, answer.is_ok(), state.last_success, duration));
        families.extend(table::families(&answer.unwrap_or_default()));
        families
    }

    /// Returns the same in Prometheus' text format.
    pub fn text(&self) -> String {
        prometheus::TextEncoder::new().encode_to_string(&self.gather()).unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demo_has_every_metric_of_a_gpu_and_of_the_process() {
        let text = Monitor::open(SourceName::Demo).unwrap().text();
        let of_gpus = crate::metrics::METRICS.iter().filter(|metric| metric.name.starts_with("gpu_"));
        for metric in of_gpus {
            assert!(text.contains(&format!("\ndgx_pixels_{}{{", metric.name)), "{} is missing", metric.name);
        }
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
            assert!(text.contains(&format!("\n{name} ")), "{name}");
        }
    }

    #[test]
    fn a_machine_without_a_gpu_reports_the_process_alone() {
        if crate::gpu::gpus().is_ok_and(|gpus| !gpus.is_empty()) {
            return;
        }
        let monitor = Monitor::open(SourceName::Auto).unwrap();
        assert_eq!(monitor.source(), None);
        let text = monitor.text();
        assert!(text.contains("process_start_time_seconds") && !text.contains("gpu"), "{text}");
        let error = Monitor::open(SourceName::Nvml).err().unwrap().to_string();
        assert!(error.starts_with("device `nvml` is not available: "), "{error}");
    }
}
