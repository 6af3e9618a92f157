//! Readings from the program `nvidia-smi`.
//!
//! The program is run once for each reading, with one line for each GPU. It reports neither energy
//! nor XID faults, so these metrics are absent.

use std::process::{Command, Stdio};

use super::reading::GpuReading;

/// The columns that are asked for, in the order of [`parse_line`].
const COLUMNS: [&str; 16] = [
    "index",
    "uuid",
    "name",
    "driver_version",
    "utilization.gpu",
    "memory.used",
    "memory.total",
    "power.draw",
    "enforced.power.limit",
    "temperature.gpu",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "ecc.errors.corrected.volatile.total",
    "ecc.errors.uncorrected.volatile.total",
    "clocks_throttle_reasons.active",
];

/// Reasons for lowered clocks by their bit in the column.
const REASONS: [(&str, u64); 5] = [
    ("power_cap", 0x4),
    ("hardware", 0x8),
    ("thermal_software", 0x20),
    ("thermal_hardware", 0x40),
    ("power_brake", 0x80),
];

pub(super) struct NvidiaSmi;

impl NvidiaSmi {
    /// # Errors
    /// The reason why the program cannot be used.
    pub(super) fn open() -> Result<NvidiaSmi, String> {
        NvidiaSmi.read().map(|_| NvidiaSmi)
    }

    pub(super) fn read(&self) -> Result<Vec<GpuReading>, String> {
        let query = format!("--query-gpu={}", COLUMNS.join(","));
        let mut smi = Command::new("nvidia-smi");
        smi.args([&query, "--format=csv,noheader,nounits"]).stdin(Stdio::null());
        let output = smi.output().map_err(|error| format!("`nvidia-smi` cannot be started: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let first = text.lines().next().unwrap_or("nothing").to_owned();
            return Err(format!("`nvidia-smi` ends with {}: {first}", output.status));
        }
        parse(&text)
    }
}

fn parse(text: &str) -> Result<Vec<GpuReading>, String> {
    let mut readings = vec![];
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut reading = parse_line(line)
            .ok_or_else(|| format!("`nvidia-smi` writes a line that is not understood: {line}"))?;
        reading.take_unified_memory();
        readings.push(reading);
    }
    Ok(readings)
}

fn parse_line(line: &str) -> Option<GpuReading> {
    let columns: Vec<&str> = line.split(',').map(str::trim).collect();
    let [index, uuid, name, driver, rest @ ..] = columns.as_slice() else { return None };
    if rest.len() != COLUMNS.len() - 4 {
        return None;
    }
    // `[N/A]`, `[Not Supported]` and `[Unknown Error]` are no numbers.
    let number = |i: usize| rest[i].parse::<f64>().ok().filter(|number| number.is_finite());
    let scaled = |i: usize, factor: f64| number(i).map(|number| number * factor);
    const MEBIBYTE: f64 = 1_048_576.0;
    const MEGAHERTZ: f64 = 1e6;
    let throttling = rest[11].strip_prefix("0x").and_then(|bits| u64::from_str_radix(bits, 16).ok());
    let counted = [("corrected", number(9)), ("uncorrected", number(10))];
    Some(GpuReading {
        index: index.parse().ok()?,
        uuid: (*uuid).to_owned(),
        name: (*name).to_owned(),
        driver_version: (*driver).to_owned(),
        utilization: scaled(0, 0.01),
        memory_used_bytes: scaled(1, MEBIBYTE),
        memory_total_bytes: scaled(2, MEBIBYTE),
        power_watts: number(3),
        power_limit_watts: number(4),
        temperature_celsius: number(5),
        sm_clock_hertz: scaled(6, MEGAHERTZ),
        sm_clock_max_hertz: scaled(7, MEGAHERTZ),
        memory_clock_hertz: scaled(8, MEGAHERTZ),
        ecc_errors: counted.into_iter().filter_map(|(kind, count)| Some((kind, count?))).collect(),
        throttling: throttling
            .map(|bits| REASONS.map(|(reason, bit)| (reason, bits & bit != 0)).into())
            .unwrap_or_default(),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::MemoryType;

    /// A line of an H200, recorded with driver 580 on a machine with one.
    const H200: &str = include_str!("fixtures/nvidia_smi_h200.csv");
    /// A line of GB10, by reports of owners: it was not recorded here.
    const GB10: &str = "0, GPU-5d1c0000-0000-0000-0000-000000000000, NVIDIA GB10, 580.95.05, 96, [N/A], [N/A], 42.61, [N/A], 71, 2418, 3003, [N/A], [N/A], [N/A], 0x0000000000000020\n";

    #[test]
    fn an_h200_reports_everything() {
        let [reading] = &parse(H200).unwrap()[..] else { panic!() };
        assert_eq!((reading.name.as_str(), reading.memory_type), ("NVIDIA H200", MemoryType::Dedicated));
        assert_eq!(reading.memory_total_bytes, Some(143_771.0 * 1_048_576.0));
        assert_eq!(reading.ecc_errors.len(), 2);
        assert_eq!(reading.throttling.len(), REASONS.len());
        assert!(reading.power_limit_watts.is_some_and(|limit| limit > 100.0));
        assert!(reading.utilization.is_some_and(|share| (0.0..=1.0).contains(&share)));
    }

    #[test]
    fn what_gb10_does_not_report_is_absent_and_its_memory_is_the_machines() {
        let [reading] = &parse(GB10).unwrap()[..] else { panic!() };
        assert_eq!(reading.memory_type, MemoryType::Unified);
        assert_eq!((reading.power_limit_watts, reading.memory_clock_hertz), (None, None));
        assert!(reading.ecc_errors.is_empty());
        assert_eq!((reading.utilization, reading.power_watts), (Some(0.96), Some(42.61)));
        assert!(reading.throttling["thermal_software"] && !reading.throttling["power_cap"]);
        assert_eq!(reading.memory_total_bytes, crate::monitor::host_memory::read().map(|(total, _)| total));
    }

    #[test]
    fn a_line_of_another_program_is_refused() {
        for line in ["No devices were found", "0, a, b", "x, u, n, d, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x0"]
        {
            assert!(parse(line).unwrap_err().contains(line));
        }
        assert_eq!(parse("\n"), Ok(vec![]));
    }
}
