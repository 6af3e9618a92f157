//! Readings as metrics.

use std::time::Duration;

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec};

use super::reading::GpuReading;
use crate::metrics::{Metric, MetricKind};

/// The value of a metric in a reading; `None` where the GPU does not report it.
type Value = fn(&GpuReading) -> Option<f64>;

/// The gauges that have one value for each GPU.
const GAUGES: [(&str, Value); 12] = [
    ("gpu_utilization_ratio", |gpu| gpu.utilization),
    ("gpu_memory_used_bytes", |gpu| gpu.memory_used_bytes),
    ("gpu_memory_total_bytes", |gpu| gpu.memory_total_bytes),
    ("gpu_process_memory_bytes", |gpu| gpu.process_memory_bytes),
    ("gpu_power_watts", |gpu| gpu.power_watts),
    ("gpu_power_limit_watts", |gpu| gpu.power_limit_watts),
    ("gpu_temperature_celsius", |gpu| gpu.temperature_celsius),
    ("gpu_temperature_limit_celsius", |gpu| gpu.temperature_limit_celsius),
    ("gpu_sm_clock_hertz", |gpu| gpu.sm_clock_hertz),
    ("gpu_sm_clock_max_hertz", |gpu| gpu.sm_clock_max_hertz),
    ("gpu_memory_clock_hertz", |gpu| gpu.memory_clock_hertz),
    ("gpu_info", |_| Some(1.0)),
];

/// Returns the metrics of all GPUs. A family without a value is left out.
pub(super) fn families(readings: &[GpuReading]) -> Vec<MetricFamily> {
    let mut families = vec![];
    for (name, value) in GAUGES {
        let gauge = gauge(name);
        for gpu in readings {
            let Some(value) = value(gpu) else { continue };
            let index = gpu.index.to_string();
            let own = [index.as_str(), &gpu.uuid];
            let about = [&gpu.name, &gpu.driver_version, gpu.memory_type.as_str()];
            let labels = if name == "gpu_info" { [&own[..], &about].concat() } else { own.to_vec() };
            gauge.with_label_values(&labels).set(value);
        }
        families.extend(gauge.collect());
    }
    families.extend(counted("gpu_energy_joules_total", readings, |gpu| {
        gpu.energy_joules.map(|joules| (None, joules)).into_iter().collect()
    }));
    families.extend(counted("gpu_ecc_errors_total", readings, |gpu| {
        gpu.ecc_errors.iter().map(|(kind, count)| (Some((*kind).to_owned()), *count)).collect()
    }));
    families.extend(counted("gpu_xid_errors_total", readings, |gpu| {
        gpu.xids.iter().map(|(xid, (count, _))| (Some(xid.to_string()), *count)).collect()
    }));
    let (throttling, last_xid) = (gauge("gpu_throttle_active"), gauge("gpu_xid_last_timestamp_seconds"));
    for gpu in readings {
        let index = gpu.index.to_string();
        for (reason, holds) in &gpu.throttling {
            throttling.with_label_values(&[&index, &gpu.uuid, *reason]).set(f64::from(u8::from(*holds)));
        }
        for (xid, (_, last)) in &gpu.xids {
            last_xid.with_label_values(&[&index, &gpu.uuid, &xid.to_string()]).set(*last);
        }
    }
    families.extend(throttling.collect().into_iter().chain(last_xid.collect()));
    families.retain(|family| !family.get_metric().is_empty());
    families
}

/// Returns the metrics of a look at the GPUs.
pub(super) fn collector(
    source: &str,
    is_up: bool,
    last_success: Option<f64>,
    duration: Duration,
) -> Vec<MetricFamily> {
    let values = [
        ("gpu_collector_up", Some(f64::from(u8::from(is_up)))),
        ("gpu_collector_last_success_timestamp_seconds", last_success),
        ("gpu_collector_duration_seconds", Some(duration.as_secs_f64())),
    ];
    let known = values.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let family = |(name, value)| {
        let gauge = gauge(name);
        gauge.with_label_values(&[source]).set(value);
        gauge.collect()
    };
    known.flat_map(family).collect()
}

fn gauge(name: &str) -> GaugeVec {
    let metric = Metric::named(name, MetricKind::Gauge);
    GaugeVec::new(metric.opts(), metric.labels).expect("the table's names are valid; this is a bug")
}

/// A counter whose values a device counts, each with its third label if it has one.
fn counted(
    name: &str,
    readings: &[GpuReading],
    values: impl Fn(&GpuReading) -> Vec<(Option<String>, f64)>,
) -> Vec<MetricFamily> {
    let metric = Metric::named(name, MetricKind::Counter);
    let counter =
        CounterVec::new(metric.opts(), metric.labels).expect("the table's names are valid; this is a bug");
    for gpu in readings {
        let index = gpu.index.to_string();
        for (label, value) in values(gpu) {
            let labels: Vec<&str> = [index.as_str(), &gpu.uuid].into_iter().chain(label.as_deref()).collect();
            counter.with_label_values(&labels).inc_by(value);
        }
    }
    counter.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gpu_does_not_report_is_absent() {
        let bare = GpuReading { uuid: "GPU-a".into(), utilization: Some(0.0), ..Default::default() };
        let names: Vec<_> = families(&[bare]).iter().map(|family| family.name().to_owned()).collect();
        assert_eq!(names, ["dgx_pixels_gpu_utilization_ratio", "dgx_pixels_gpu_info"]);
        assert!(families(&[]).is_empty());
    }
}
