//! Readings of two GPUs that are made up: they breathe, so that dashboards show something.

use std::time::Instant;

use super::now;
use super::reading::GpuReading;

pub(super) struct Demo {
    began: Instant,
    began_at: f64,
}

impl Demo {
    pub(super) fn new() -> Demo {
        Demo { began: Instant::now(), began_at: now() }
    }

    pub(super) fn read(&self) -> Vec<GpuReading> {
        let seconds = self.began.elapsed().as_secs_f64();
        let gpu = |index: u32, name: &str, limit: f64, gibibytes: f64| {
            let load = 0.55 + 0.4 * (seconds / 40.0 + f64::from(index)).sin();
            let total = gibibytes * f64::from(1 << 30);
            let reasons = ["power_cap", "power_brake", "thermal_software", "thermal_hardware", "hardware"];
            GpuReading {
                index,
                uuid: format!("GPU-demo-{index}"),
                name: name.into(),
                driver_version: "demo".into(),
                utilization: Some(load.clamp(0.0, 1.0)),
                memory_used_bytes: Some(total * (0.3 + 0.2 * load)),
                memory_total_bytes: Some(total),
                process_memory_bytes: Some(total * 0.2),
                power_watts: Some(limit * (0.2 + 0.75 * load)),
                power_limit_watts: Some(limit),
                energy_joules: Some(limit * (0.6 * seconds + 1.0)),
                temperature_celsius: Some(38.0 + 40.0 * load),
                temperature_limit_celsius: Some(87.0),
                sm_clock_hertz: Some(1.98e9 - 2e8 * load),
                sm_clock_max_hertz: Some(1.98e9),
                memory_clock_hertz: Some(3.2e9),
                throttling: reasons.map(|reason| (reason, reason == "power_cap" && load > 0.9)).into(),
                ecc_errors: [("corrected", 3.0), ("uncorrected", 0.0)].into(),
                xids: [(13, (1.0, self.began_at - 86_400.0))].into(),
                ..Default::default()
            }
        };
        vec![gpu(0, "Demo H200", 700.0, 141.0), gpu(1, "Demo L4", 72.0, 24.0)]
    }
}
