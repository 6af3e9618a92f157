//! The measured values of one GPU at one moment.

use std::collections::BTreeMap;

/// One GPU at one moment. A value that the GPU or its driver does not report is `None`.
///
/// Units are those of Prometheus: bytes, seconds, watts, joules, hertz, and shares from 0 to 1. A
/// source converts what its driver reports, such as milliwatts and percent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuReading {
    /// The N of `cuda:N`, as the driver counts.
    pub index: u32,
    /// The driver's name for it that no other GPU has.
    pub uuid: String,
    /// The maker's name, for example `NVIDIA H200`.
    pub name: String,
    /// The driver's version.
    pub driver_version: String,
    /// The owner of its memory.
    pub memory_type: MemoryType,
    /// Share of the last sample period in which a kernel ran, 0 to 1.
    pub utilization: Option<f64>,
    /// Bytes in use.
    pub memory_used_bytes: Option<f64>,
    /// Bytes in all.
    pub memory_total_bytes: Option<f64>,
    /// Bytes of this process.
    pub process_memory_bytes: Option<f64>,
    /// Power draw in watts.
    pub power_watts: Option<f64>,
    /// Power limit in watts.
    pub power_limit_watts: Option<f64>,
    /// Energy in joules since the driver was loaded.
    pub energy_joules: Option<f64>,
    /// Temperature in degrees Celsius.
    pub temperature_celsius: Option<f64>,
    /// Temperature at which it slows down, in degrees Celsius.
    pub temperature_limit_celsius: Option<f64>,
    /// Clock of the multiprocessors in hertz.
    pub sm_clock_hertz: Option<f64>,
    /// Highest clock of the multiprocessors in hertz.
    pub sm_clock_max_hertz: Option<f64>,
    /// Clock of the memory in hertz.
    pub memory_clock_hertz: Option<f64>,
    /// Reasons for lowered clocks, and whether each holds; empty where they are not reported.
    pub throttling: BTreeMap<&'static str, bool>,
    /// Memory errors by `corrected` and `uncorrected`; empty where they are not counted.
    pub ecc_errors: BTreeMap<&'static str, f64>,
    /// Faults that the driver reported to this process, by XID: how many, and when the last one
    /// came, in seconds since 1970.
    pub xids: BTreeMap<u64, (f64, f64)>,
}

/// The owner of a GPU's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryType {
    /// The GPU has memory of its own.
    #[default]
    Dedicated,
    /// The GPU shares the machine's memory, as GB10 in DGX Spark does.
    Unified,
}

impl MemoryType {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            MemoryType::Dedicated => "dedicated",
            MemoryType::Unified => "unified",
        }
    }
}

impl GpuReading {
    /// Takes the memory of a GPU that reports none and shares the machine's, by its name. What a
    /// driver reports of such a GPU is not asked again.
    pub(super) fn take_unified_memory(&mut self) {
        // Other GPUs may report no memory for a while, for example the parent of MIG instances.
        let is_unified = ["GB10", "Thor", "Orin"].iter().any(|name| self.name.contains(name));
        if !is_unified {
            return;
        }
        self.memory_type = MemoryType::Unified;
        if self.memory_total_bytes.is_none()
            && let Some((total, available)) = super::host_memory::read()
        {
            self.memory_total_bytes = Some(total);
            self.memory_used_bytes = Some(total - available);
        }
    }
}
