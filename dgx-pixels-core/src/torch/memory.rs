//! The memory that tensors take of a device, the amount that the device has, and a limit.

use std::ffi::c_char;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use super::device::checked;
use super::process::is_owned;
use crate::backend::{DeviceMemory, Memory};
use crate::device::Device;
use crate::error::{Error, one_line};
use crate::gpu::{Gpu, gpus};

/// Bytes of tensors on one device: of all in this process after
/// [`own_process`](super::own_process), otherwise of those that threads which have drawn allocate.
///
/// `reserved_bytes - allocated_bytes` is what the allocator keeps for later;
/// [`empty_cache`] gives most of it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// The bytes in tensors now.
    pub allocated_bytes: u64,
    /// The most bytes that were in tensors since the start or [`reset_peak`].
    pub peak_bytes: u64,
    /// The bytes taken from the device, in use or kept for later.
    pub reserved_bytes: u64,
}

/// Returns the bytes of `device`'s memory that libtorch holds.
///
/// # Errors
/// [`Error::Device`] if the device is not there; [`Error::Internal`] if libtorch refuses.
///
/// # Example
/// ```
/// use dgx_pixels_core::torch::{Device, memory_stats};
/// let stats = memory_stats(Device::Cpu)?;
/// assert!(stats.peak_bytes >= stats.allocated_bytes);
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
pub fn memory_stats(device: Device) -> Result<MemoryStats, Error> {
    let (mut allocated, mut peak, mut reserved) = (0, 0, 0);
    let device = device.resolve()?;
    match device {
        _ if !is_owned() => {
            // SAFETY: the two places outlive the call.
            unsafe { dgx_thread_stats(counter(device), &mut allocated, &mut peak) };
            reserved = allocated;
        }
        Device::Cuda(index) => {
            // SAFETY: CUDA is loaded and `index` exists; the three places outlive the call.
            let failed = unsafe { dgx_cuda_stats(index as i8, &mut allocated, &mut peak, &mut reserved) };
            checked(failed, "reading memory statistics")?;
        }
        _ => {
            // SAFETY: the three places outlive the call.
            unsafe { dgx_cpu_stats(&mut allocated, &mut peak, &mut reserved) };
        }
    }
    let [allocated_bytes, peak_bytes, reserved_bytes] =
        [allocated, peak, reserved].map(|bytes| bytes.max(0) as u64);
    Ok(MemoryStats { allocated_bytes, peak_bytes, reserved_bytes })
}

/// Bytes that recorded passes keep on each GPU, which its allocator counts as free.
static HELD: [AtomicI64; MOST_GPUS] = [const { AtomicI64::new(0) }; MOST_GPUS];
const MOST_GPUS: usize = 128;

/// Recorded passes on `device` keep so many bytes more, or fewer.
pub(super) fn hold(device: Device, bytes: i64) {
    if let Device::Cuda(index) = device
        && let Some(held) = HELD.get(index)
    {
        held.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The place of a device's counter.
fn counter(device: Device) -> i32 {
    match device {
        Device::Cuda(index) => index as i32 + 1,
        _ => 0,
    }
}

fn held_bytes(device: Device) -> u64 {
    let held = match device {
        Device::Cuda(index) => HELD.get(index).map_or(0, |held| held.load(Ordering::Relaxed)),
        _ => 0,
    };
    held.max(0) as u64
}

/// Begins a new [`MemoryStats::peak_bytes`] on `device`.
///
/// # Errors
/// As [`memory_stats`].
pub fn reset_peak(device: Device) -> Result<(), Error> {
    let device = device.resolve()?;
    match device {
        _ if !is_owned() => {
            // SAFETY: sets a number.
            unsafe { dgx_thread_reset_peak(counter(device)) };
            Ok(())
        }
        Device::Cuda(index) => {
            // SAFETY: CUDA is loaded and `index` exists.
            checked(unsafe { dgx_cuda_reset_peak(index as i8) }, "resetting memory statistics")
        }
        _ => {
            // SAFETY: sets a number.
            unsafe { dgx_cpu_reset_peak() };
            Ok(())
        }
    }
}

/// Gives memory that is kept for later back: to all GPUs where `device` is one, or to the system.
///
/// # Errors
/// As [`memory_stats`].
pub fn empty_cache(device: Device) -> Result<(), Error> {
    match device.resolve()? {
        // SAFETY: CUDA is loaded.
        Device::Cuda(_) => checked(unsafe { dgx_cuda_empty_cache() }, "emptying the memory cache"),
        _ if !is_owned() => Ok(()),
        _ => {
            // SAFETY: may be called at any time.
            unsafe { dgx_cpu_empty_cache() };
            Ok(())
        }
    }
}

/// Refuses tensors on `device` past `bytes`: what would exceed them fails with
/// [`Error::OutOfMemory`].
///
/// It does nothing in a process that is not [owned](super::own_process): the limit would be
/// everybody's.
///
/// On the CPU it holds for what is counted, at once, and may be changed. On a GPU it holds for what
/// libtorch takes of the device, its cache included, is one share for all GPUs, and must be set
/// before the first tensor on any: libtorch 2.11 reads `per_process_memory_fraction` once, when
/// `NativeCachingAllocator::init` makes the allocator of each GPU.
///
/// # Errors
/// As [`memory_stats`]; [`Error::Internal`] if there are tensors on a GPU already.
pub fn limit_memory(device: Device, bytes: u64) -> Result<(), Error> {
    match device.resolve()? {
        _ if !is_owned() => Ok(()),
        Device::Cuda(index) => {
            const DOING: &str = "limiting memory";
            let (_, total) = cuda_memory(index)?;
            // SAFETY: CUDA is loaded.
            checked(unsafe { dgx_cuda_limit((bytes as f64 / total.max(1) as f64).min(1.0)) }, DOING)
        }
        _ => {
            // SAFETY: sets a number.
            unsafe { dgx_cpu_limit(i64::try_from(bytes).unwrap_or(i64::MAX)) };
            Ok(())
        }
    }
}

/// The devices of these names, `auto` made concrete, as an engine runs on them.
///
/// # Errors
/// [`Error::Device`] for one that is not there, or that is named twice.
///
/// # Example
/// ```
/// use dgx_pixels_core::backend::DeviceMemory as _;
/// use dgx_pixels_core::torch::{Device, devices};
/// let cpu = devices(&[Device::Cpu])?.remove(0);
/// let memory = cpu.memory().expect("the CPU's memory is counted");
/// assert_eq!(cpu.name(), "cpu");
/// assert!(memory.available_bytes <= memory.total_bytes);
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
pub fn devices(which: &[Device]) -> Result<Vec<Box<dyn DeviceMemory>>, Error> {
    let mut devices: Vec<Box<dyn DeviceMemory>> = Vec::new();
    for device in which {
        let device = device.resolve()?;
        let name = device.to_string();
        let fault = |reason: String| Error::device(device.to_string(), reason);
        if devices.iter().any(|known| known.name() == name) {
            return Err(fault("it is named twice; expected each device once".into()));
        }
        let gpu = match device {
            Device::Cuda(index) => gpus().map_err(fault)?.into_iter().find(|gpu| gpu.index == index),
            _ => None,
        };
        devices.push(Box::new(Metered { name, device, gpu }));
    }
    Ok(devices)
}

/// What each thread of the CPU keeps beside tensors: scratch of matrix products, small blocks that
/// were freed.
const BESIDE_BYTES: u64 = 2 << 20;

/// The most that is resident on the CPU when tensors take `peak_bytes`: with the blocks that
/// `device.cpp` keeps for later, and what is not counted. Above 50 MB it is 2 to 9 % more than what
/// the system sees: `tests/memory.rs`.
fn resident_peak(peak_bytes: u64, threads: u64) -> u64 {
    peak_bytes + peak_bytes / 16 + (16 << 20) + threads * BESIDE_BYTES
}

/// A device whose memory libtorch counts.
struct Metered {
    name: String,
    device: Device,
    gpu: Option<Gpu>,
}

impl DeviceMemory for Metered {
    fn name(&self) -> &str {
        &self.name
    }

    fn hardware(&self) -> String {
        match &self.gpu {
            Some(gpu) => gpu.name.clone(),
            None => {
                let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
                let model = cpu_model(&cpus).unwrap_or(std::env::consts::ARCH);
                // What threads keep for themselves is memory too.
                format!("{model}, {} threads", tch::get_num_threads())
            }
        }
    }

    fn memory(&self) -> Option<Memory> {
        let stats = memory_stats(self.device).ok()?;
        let held = held_bytes(self.device);
        let (used_bytes, mut peak_bytes) = (stats.allocated_bytes + held, stats.peak_bytes + held);
        let (free, total_bytes) = match &self.gpu {
            None => {
                peak_bytes = resident_peak(peak_bytes, tch::get_num_threads().max(1) as u64);
                cpu_memory()?
            }
            Some(gpu) => {
                let (free, total) = cuda_memory(gpu.index).ok()?;
                // CUDA's number leaves out the page cache, which is given back on demand.
                (if gpu.integrated { machine_memory()?.0 } else { free }, total)
            }
        };
        // What the allocator keeps serves the next tensor.
        let kept = stats.reserved_bytes.saturating_sub(used_bytes);
        let available_bytes = (free + kept).min(total_bytes);
        Some(Memory { total_bytes, available_bytes, used_bytes, peak_bytes })
    }

    // A device that fails at these fails at the next step too, and there it is told.
    fn reset_peak(&mut self) {
        let _ = reset_peak(self.device);
    }

    fn empty_cache(&mut self) {
        let _ = empty_cache(self.device);
    }

    fn limit(&mut self, bytes: u64) {
        if let Err(error) = limit_memory(self.device, bytes) {
            tracing::warn!(
                device = self.name,
                error = one_line(&error),
                "the budget is kept without a limit behind it"
            );
        }
    }
}

/// Free and total bytes of a GPU, as its driver counts them.
fn cuda_memory(index: usize) -> Result<(u64, u64), Error> {
    let (mut free, mut total) = (0, 0);
    // SAFETY: the caller has resolved `index`; both places outlive the call.
    checked(unsafe { dgx_cuda_memory(index as i8, &mut free, &mut total) }, "reading the memory's size")?;
    Ok((free, total))
}

/// Available and total bytes of the machine.
fn machine_memory() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    Some((field(&text, "MemAvailable:")? << 10, field(&text, "MemTotal:")? << 10))
}

/// Available and total bytes for this process on the CPU: the machine's, or those of the tightest
/// control group.
fn cpu_memory() -> Option<(u64, u64)> {
    let (mut available, mut total) = machine_memory()?;
    let root = Path::new("/sys/fs/cgroup");
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // In a container the path is the host's, and the group is mounted at the root.
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    for group in root.join(own).ancestors().take_while(|group| group.starts_with(root)) {
        let read = |name| fs::read_to_string(group.join(name)).unwrap_or_default();
        if let Some((free, most)) =
            group_memory(&read("memory.max"), &read("memory.current"), &read("memory.stat"))
        {
            (available, total) = (available.min(free), total.min(most));
        }
    }
    Some((available, total))
}

/// Available and total bytes of a control group that has a limit. Cached files that nobody touches
/// are given back on demand.
fn group_memory(max: &str, current: &str, stat: &str) -> Option<(u64, u64)> {
    let most: u64 = max.trim().parse().ok()?;
    let used: u64 = current.trim().parse().ok()?;
    let cached = field(stat, "inactive_file ").unwrap_or(0);
    Some((most.saturating_sub(used.saturating_sub(cached)), most))
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn cpu_model(cpus: &str) -> Option<&str> {
    let line = cpus.lines().find_map(|line| line.strip_prefix("model name"))?;
    line.trim_start().strip_prefix(':').map(str::trim)
}

unsafe extern "C" {
    fn dgx_thread_stats(counter: i32, allocated: *mut i64, peak: *mut i64);
    fn dgx_thread_reset_peak(counter: i32);
    fn dgx_cpu_stats(allocated: *mut i64, peak: *mut i64, reserved: *mut i64);
    fn dgx_cpu_empty_cache();
    fn dgx_cpu_reset_peak();
    fn dgx_cpu_limit(bytes: i64);
    fn dgx_cuda_stats(index: i8, allocated: *mut i64, peak: *mut i64, reserved: *mut i64) -> *mut c_char;
    fn dgx_cuda_reset_peak(index: i8) -> *mut c_char;
    fn dgx_cuda_empty_cache() -> *mut c_char;
    fn dgx_cuda_memory(index: i8, free: *mut u64, total: *mut u64) -> *mut c_char;
    fn dgx_cuda_limit(share: f64) -> *mut c_char;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_groups_limit_counts_less_what_it_caches() {
        let stat = "anon 5\ninactive_file 300\nactive_file 7\n";
        assert_eq!(group_memory("1000\n", "900\n", stat), Some((400, 1000)));
        assert_eq!(group_memory("max\n", "900\n", stat), None);
        assert_eq!(group_memory("", "", ""), None);
    }

    #[test]
    fn a_cpu_is_called_as_its_maker_calls_it() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Cortex A1\n"), Some("Cortex A1"));
        assert_eq!(cpu_model("processor\t: 0\nCPU part\t: 0xd85\n"), None);
    }

    #[test]
    fn a_device_named_twice_is_refused() {
        let error = devices(&[Device::Cpu, Device::Cpu]).err().unwrap();
        let expected = "device `cpu` is not available: it is named twice; expected each device once";
        assert_eq!(error.to_string(), expected);
    }
}
