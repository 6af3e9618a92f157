//! Devices and their memory.

use dgx_pixels_core::Error;
use dgx_pixels_core::abi::{Device as Handle, DeviceMemory as State, Sink, Text};
use dgx_pixels_core::backend::{DeviceMemory, Memory};
use dgx_pixels_core::torch;

use crate::border::{answered, answered_in_words, parsed, quietly};

type Opened = Box<dyn DeviceMemory>;

pub(crate) unsafe extern "C" fn open(name: Text, device: *mut *mut Handle, answer: Sink) -> i32 {
    answered(answer, || {
        // SAFETY: the caller's text and its place for the handle live until we return.
        unsafe {
            let opened: Opened = torch::devices(&[parsed(name)?])?.remove(0);
            *device = Box::into_raw(Box::new(opened)).cast();
        }
        Ok(())
    })
}

/// # Safety
/// `device` came from [`open`], and nobody else uses it meanwhile.
unsafe fn opened<'a>(device: *mut Handle) -> &'a mut Opened {
    // SAFETY: by the contract of this function.
    unsafe { &mut *device.cast::<Opened>() }
}

pub(crate) unsafe extern "C" fn hardware(device: *const Handle, answer: Sink) -> i32 {
    // SAFETY: the caller's handle is open.
    answered_in_words(answer, || Ok(unsafe { opened(device.cast_mut()) }.hardware()))
}

pub(crate) unsafe extern "C" fn memory(device: *const Handle, memory: *mut State, answer: Sink) -> i32 {
    answered(answer, || {
        // SAFETY: the caller's handle is open, and its place for the memory lives until we return.
        unsafe {
            let read = opened(device.cast_mut()).memory();
            let unknown = || Error::internal("reading the memory", "the device does not tell it");
            let Memory { total_bytes, available_bytes, used_bytes, peak_bytes } = read.ok_or_else(unknown)?;
            *memory = State { total_bytes, available_bytes, used_bytes, peak_bytes };
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn reset_peak(device: *mut Handle, answer: Sink) -> i32 {
    answered(answer, || {
        // SAFETY: the caller's handle is open.
        unsafe { opened(device) }.reset_peak();
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn empty_cache(device: *mut Handle, answer: Sink) -> i32 {
    answered(answer, || {
        // SAFETY: the caller's handle is open.
        unsafe { opened(device) }.empty_cache();
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn limit(device: *mut Handle, bytes: u64, answer: Sink) -> i32 {
    answered(answer, || {
        // SAFETY: the caller's handle is open.
        unsafe { opened(device) }.limit(bytes);
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn close(device: *mut Handle) {
    // SAFETY: the caller's handle came from `open`, and is closed once.
    quietly(|| drop(unsafe { Box::from_raw(device.cast::<Opened>()) }));
}
