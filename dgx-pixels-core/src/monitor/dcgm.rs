//! Readings from NVIDIA's dcgm-exporter, by its `/metrics`.
//!
//! It reads the exporter's `/metrics` over HTTP, at most 16 MiB within 5 s. Fields that the
//! exporter is not configured to report stay `None`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::reading::GpuReading;

/// The most bytes of an answer: some 1,000 series for each of 16 GPUs.
const MAX_ANSWER_BYTES: u64 = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Dcgm {
    address: String,
    agent: ureq::Agent,
}

impl Dcgm {
    pub(super) fn new(address: &str) -> Dcgm {
        let config =
            ureq::Agent::config_builder().proxy(None).max_redirects(0).timeout_global(Some(PATIENCE));
        Dcgm { address: address.into(), agent: config.build().into() }
    }

    pub(super) fn read(&self) -> Result<Vec<GpuReading>, String> {
        let fault = |error| format!("dcgm-exporter does not answer at {}: {error}", self.address);
        let mut answer = self.agent.get(&self.address).call().map_err(fault)?;
        let text = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string().map_err(fault)?;
        let readings = parse(&text);
        if readings.is_empty() {
            return Err(format!("{} has no metric of a GPU (`DCGM_FI_DEV_…`)", self.address));
        }
        Ok(readings)
    }
}

/// Reads Prometheus' text format, as far as dcgm-exporter uses it.
fn parse(text: &str) -> Vec<GpuReading> {
    let mut readings: BTreeMap<String, GpuReading> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("DCGM_FI_DEV_")) {
        let Some((name, labels, value)) = series(line) else { continue };
        let Some(uuid) = labels.get("UUID") else { continue };
        let reading = readings.entry(uuid.clone()).or_insert_with(|| GpuReading {
            index: labels.get("gpu").and_then(|gpu| gpu.parse().ok()).unwrap_or_default(),
            uuid: uuid.clone(),
            name: labels.get("modelName").cloned().unwrap_or_default(),
            driver_version: labels.get("DCGM_FI_DRIVER_VERSION").cloned().unwrap_or_default(),
            ..Default::default()
        });
        take(reading, name, value);
    }
    let mut readings: Vec<_> = readings.into_values().collect();
    readings.sort_by_key(|reading| reading.index);
    readings.iter_mut().for_each(GpuReading::take_unified_memory);
    readings
}

fn take(reading: &mut GpuReading, name: &str, value: f64) {
    const MEBIBYTE: f64 = 1_048_576.0;
    const MEGAHERTZ: f64 = 1e6;
    let field = match name {
        "DCGM_FI_DEV_GPU_UTIL" => (&mut reading.utilization, 0.01),
        "DCGM_FI_DEV_FB_USED" => {
            // All is what is used, free and reserved.
            *reading.memory_total_bytes.get_or_insert(0.0) += value * MEBIBYTE;
            (&mut reading.memory_used_bytes, MEBIBYTE)
        }
        "DCGM_FI_DEV_FB_FREE" | "DCGM_FI_DEV_FB_RESERVED" => {
            *reading.memory_total_bytes.get_or_insert(0.0) += value * MEBIBYTE;
            return;
        }
        "DCGM_FI_DEV_POWER_USAGE" => (&mut reading.power_watts, 1.0),
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION" => (&mut reading.energy_joules, 1e-3),
        "DCGM_FI_DEV_GPU_TEMP" => (&mut reading.temperature_celsius, 1.0),
        "DCGM_FI_DEV_SM_CLOCK" => (&mut reading.sm_clock_hertz, MEGAHERTZ),
        "DCGM_FI_DEV_MEM_CLOCK" => (&mut reading.memory_clock_hertz, MEGAHERTZ),
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL" => {
            reading.ecc_errors.insert("corrected", value);
            return;
        }
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL" => {
            reading.ecc_errors.insert("uncorrected", value);
            return;
        }
        _ => return,
    };
    *field.0 = Some(value * field.1);
}

/// The name, the labels and the value of one line.
fn series(line: &str) -> Option<(&str, BTreeMap<String, String>, f64)> {
    let (name, rest) = line.split_once('{')?;
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            let value: f64 = after.split_whitespace().next()?.parse().ok()?;
            // DCGM's words for no value are numbers near the ends of their ranges.
            return (value.is_finite() && value < 9e18).then_some((name, labels, value));
        }
        let (label, after) = rest.split_once("=\"")?;
        let end = after.char_indices().scan(false, |escaped, (at, letter)| {
            let ends = letter == '"' && !*escaped;
            *escaped = letter == '\\' && !*escaped;
            Some((at, ends))
        });
        let end = end.into_iter().find_map(|(at, ends)| ends.then_some(at))?;
        labels.insert(label.to_owned(), after[..end].replace("\\\"", "\"").replace("\\\\", "\\"));
        rest = &after[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape of dcgm-exporter 4.5 on an H100, by its documentation: it was not recorded here.
    const H100: &str = r#"# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-a",pci_bus_id="00000000:1B:00.0",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="box",DCGM_FI_DRIVER_VERSION="580.95.05"} 1980
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",modelName="NVIDIA H100 80GB HBM3"} 99
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-a",modelName="NVIDIA H100 80GB HBM3"} 70000
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a",modelName="NVIDIA H100 80GB HBM3"} 11000
DCGM_FI_DEV_FB_RESERVED{gpu="0",UUID="GPU-a",modelName="NVIDIA H100 80GB HBM3"} 559
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-a",modelName="NVIDIA H100 80GB HBM3"} 5000
DCGM_FI_DEV_POWER_USAGE{gpu="1",UUID="GPU-b",modelName="a \"b\" \\c"} 9223372036854775794
DCGM_FI_DEV_GPU_TEMP{gpu="1",UUID="GPU-b",modelName="a \"b\" \\c"} 41
DCGM_FI_DEV_GPU_TEMP{gpu="2",UUID="GPU-c" 41
"#;

    #[test]
    fn each_gpu_has_what_the_exporter_has_of_it() {
        let [first, second] = &parse(H100)[..] else { panic!() };
        assert_eq!((first.index, first.driver_version.as_str()), (0, "580.95.05"));
        assert_eq!(first.memory_total_bytes, Some((70_000.0 + 11_000.0 + 559.0) * 1_048_576.0));
        assert_eq!((first.sm_clock_hertz, first.utilization), (Some(1.98e9), Some(0.99)));
        assert_eq!((first.energy_joules, first.power_watts), (Some(5.0), None));
        assert_eq!(second.name, r#"a "b" \c"#);
        assert_eq!((second.power_watts, second.temperature_celsius), (None, Some(41.0)));
        assert_eq!(second.memory_total_bytes, None);
    }

    #[test]
    fn an_exporter_that_is_away_is_named() {
        let error = Dcgm::new("http://127.0.0.1:1/metrics").read().unwrap_err();
        assert!(
            error.starts_with("dcgm-exporter does not answer at http://127.0.0.1:1/metrics: "),
            "{error}"
        );
    }
}
