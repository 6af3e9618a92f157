//! A device of the loaded libtorch. It is named at once, and opened when the first job comes.

use super::{Libtorch, text};
use crate::abi;
use crate::backend::{DeviceMemory, Memory};
use crate::device::Device;
use crate::error::{Error, one_line};

/// A device of the loaded libtorch. libtorch is loaded when it is opened.
pub struct LoadedDevice {
    name: String,
    owns_process: bool,
    opened: Option<Handle>,
}

struct Handle {
    libtorch: Libtorch,
    device: *mut abi::Device,
}

// SAFETY: a device is used by one thread at a time, whichever it is: all of `DeviceMemory` is
// behind `&mut` or by one owner.
unsafe impl Send for Handle {}

impl LoadedDevice {
    /// `device` is not [`Device::Auto`]. See [`Libtorch::load`] for `owns_process`.
    pub fn new(device: Device, owns_process: bool) -> LoadedDevice {
        LoadedDevice { name: device.to_string(), owns_process, opened: None }
    }
}

impl Handle {
    fn open(name: &str, owns_process: bool) -> Result<Handle, Error> {
        let libtorch = Libtorch::load(owns_process)?;
        let mut device = std::ptr::null_mut();
        // SAFETY: the name and the place for the device outlive the call.
        libtorch
            .call(|answer| unsafe { (libtorch.functions.device_open)(text(name), &mut device, answer) })?;
        Ok(Handle { libtorch, device })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: `device` was opened by `open` and is closed once.
        unsafe { (self.libtorch.functions.device_close)(self.device) }
    }
}

impl DeviceMemory for LoadedDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&mut self) -> Result<(), Error> {
        if self.opened.is_none() {
            self.opened = Some(Handle::open(&self.name, self.owns_process)?);
        }
        Ok(())
    }

    fn hardware(&self) -> String {
        let Some(Handle { libtorch, device }) = &self.opened else { return self.name.clone() };
        // SAFETY: the device is open.
        let words = libtorch.call(|answer| unsafe { (libtorch.functions.device_hardware)(*device, answer) });
        words.unwrap_or_else(|_| self.name.clone())
    }

    fn memory(&self) -> Option<Memory> {
        let Handle { libtorch, device } = self.opened.as_ref()?;
        let mut memory = abi::DeviceMemory::default();
        // SAFETY: the device is open; the place for the memory outlives the call.
        libtorch
            .call(|answer| unsafe { (libtorch.functions.device_memory)(*device, &mut memory, answer) })
            .ok()?;
        let abi::DeviceMemory { total_bytes, available_bytes, used_bytes, peak_bytes } = memory;
        Some(Memory { total_bytes, available_bytes, used_bytes, peak_bytes })
    }

    // A device that fails at these fails at the next step too, and there it is reported.
    fn reset_peak(&mut self) {
        if let Some(Handle { libtorch, device }) = &self.opened {
            // SAFETY: the device is open.
            let _ =
                libtorch.call(|answer| unsafe { (libtorch.functions.device_reset_peak)(*device, answer) });
        }
    }

    fn empty_cache(&mut self) {
        if let Some(Handle { libtorch, device }) = &self.opened {
            // SAFETY: the device is open.
            let _ =
                libtorch.call(|answer| unsafe { (libtorch.functions.device_empty_cache)(*device, answer) });
        }
    }

    fn limit(&mut self, bytes: u64) {
        if let Some(Handle { libtorch, device }) = &self.opened {
            // SAFETY: the device is open.
            let limited =
                libtorch.call(|answer| unsafe { (libtorch.functions.device_limit)(*device, bytes, answer) });
            if let Err(error) = limited {
                tracing::warn!(
                    device = self.name,
                    error = one_line(&error),
                    "the budget is kept without a limit behind it"
                );
            }
        }
    }
}
