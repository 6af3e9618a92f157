//! Readings from NVIDIA's management library, which is loaded at run time.
//!
//! NVML reports milliwatts, megahertz, percent and millijoules, which become watts, hertz, shares
//! and joules here. XID faults come as events of the driver, so only those since the start of this
//! process are counted.

use std::collections::{BTreeMap, HashMap};

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, EventSet, Nvml};

use super::now;
use super::reading::GpuReading;

/// Reasons for lowered clocks that are worth an alert or a look.
const REASONS: [(&str, ThrottleReasons); 5] = [
    ("power_cap", ThrottleReasons::SW_POWER_CAP),
    ("power_brake", ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN),
    ("thermal_software", ThrottleReasons::SW_THERMAL_SLOWDOWN),
    ("thermal_hardware", ThrottleReasons::HW_THERMAL_SLOWDOWN),
    ("hardware", ThrottleReasons::HW_SLOWDOWN),
];

const MEGAHERTZ: f64 = 1e6;

pub(super) struct NvmlSource {
    /// It is never closed: the events borrow it, and a process has one.
    nvml: &'static Nvml,
    driver_version: String,
    /// `None` where the driver reports no faults, as in some containers.
    events: Option<EventSet<'static>>,
    /// The faults by UUID and XID: their number and the time of the last.
    xids: HashMap<String, BTreeMap<u64, (f64, f64)>>,
}

impl NvmlSource {
    /// # Errors
    /// The reason why the library cannot be used.
    pub(super) fn open() -> Result<NvmlSource, String> {
        let nvml = Nvml::init().map_err(|error| words(&error))?;
        let nvml: &'static Nvml = Box::leak(Box::new(nvml));
        let driver_version = nvml.sys_driver_version().map_err(|error| words(&error))?;
        let count = nvml.device_count().map_err(|error| words(&error))?;
        if count == 0 {
            return Err("NVML finds no GPU".into());
        }
        let events = nvml.create_event_set().ok().and_then(|set| {
            (0..count).try_fold(set, |set, index| {
                let device = nvml.device_by_index(index).ok()?;
                device.register_events(EventTypes::CRITICAL_XID_ERROR, set).ok()
            })
        });
        Ok(NvmlSource { nvml, driver_version, events, xids: HashMap::new() })
    }

    pub(super) fn read(&mut self) -> Result<Vec<GpuReading>, String> {
        self.take_events();
        let count = self.nvml.device_count().map_err(|error| words(&error))?;
        let read = |index| self.reading(index, &self.nvml.device_by_index(index)?);
        // One that is lost, for example off the bus, is absent. An operator needs the others then.
        let (readings, lost): (Vec<_>, Vec<_>) = (0..count).map(read).partition(Result::is_ok);
        match lost.into_iter().find_map(Result::err) {
            Some(error) if readings.is_empty() => Err(words(&error)),
            _ => Ok(readings.into_iter().flatten().collect()),
        }
    }

    /// Takes the faults that the driver has reported since the last reading.
    fn take_events(&mut self) {
        let Some(events) = &self.events else { return };
        while let Ok(event) = events.wait(0) {
            let (Ok(uuid), Some(data)) = (event.device.uuid(), event.event_data) else { continue };
            let XidError::Value(xid) = data else { continue };
            let counted = self.xids.entry(uuid).or_default().entry(xid).or_default();
            *counted = (counted.0 + 1.0, now());
        }
    }

    /// # Errors
    /// The GPU does not answer at all, for example because it has fallen off the bus.
    fn reading(&self, index: u32, device: &Device<'_>) -> Result<GpuReading, NvmlError> {
        // Every GPU has these; without them it is lost.
        let uuid = device.uuid()?;
        let name = device.name()?;
        let memory = device.memory_info().ok();
        let pid = std::process::id();
        let own = device.running_compute_processes().ok().and_then(|processes| {
            let own = processes.into_iter().find(|process| process.pid == pid)?;
            match own.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes as f64),
                UsedGpuMemory::Unavailable => None,
            }
        });
        let clock = |clock| device.clock_info(clock).ok().map(|clock| f64::from(clock) * MEGAHERTZ);
        let ecc = |kind| device.total_ecc_errors(kind, EccCounter::Volatile).ok();
        let counted =
            [("corrected", ecc(MemoryError::Corrected)), ("uncorrected", ecc(MemoryError::Uncorrected))];
        let throttling = device.current_throttle_reasons().ok();
        let limit = TemperatureThreshold::Slowdown;
        let mut reading = GpuReading {
            index,
            name,
            driver_version: self.driver_version.clone(),
            utilization: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0),
            memory_used_bytes: memory.as_ref().map(|memory| memory.used as f64),
            memory_total_bytes: memory.as_ref().map(|memory| memory.total as f64),
            process_memory_bytes: own,
            power_watts: device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1e3),
            power_limit_watts: device.enforced_power_limit().ok().map(|it| f64::from(it) / 1e3),
            energy_joules: device.total_energy_consumption().ok().map(|it| it as f64 / 1e3),
            temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
            temperature_limit_celsius: device.temperature_threshold(limit).ok().map(f64::from),
            sm_clock_hertz: clock(Clock::SM),
            sm_clock_max_hertz: device.max_clock_info(Clock::SM).ok().map(|it| f64::from(it) * MEGAHERTZ),
            memory_clock_hertz: clock(Clock::Memory),
            throttling: throttling
                .map(|now| REASONS.map(|(reason, bit)| (reason, now.contains(bit))).into())
                .unwrap_or_default(),
            ecc_errors: counted.into_iter().filter_map(|(kind, count)| Some((kind, count? as f64))).collect(),
            xids: self.xids.get(&uuid).cloned().unwrap_or_default(),
            uuid,
            ..Default::default()
        };
        reading.take_unified_memory();
        Ok(reading)
    }
}

fn words(error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(_) => {
            "the NVIDIA management library (`libnvidia-ml.so.1`) is not found; in a container it takes the driver \
             capability `utility`"
                .into()
        }
        error => format!("NVML answers: {error}"),
    }
}
