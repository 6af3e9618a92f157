//! The library libtorch behind one loadable object: models that are computed by
//! `libdgx_pixels_torch.so`.
//!
//! A program that stands on this module needs no libtorch to be built, to start, or to do what
//! draws nothing. The object is found and loaded when the first job is drawn, once for the process;
//! [`report`] says what would be loaded, or what is missing, without loading it.
//!
//! # Example
//! ```
//! use dgx_pixels_core::loaded::report;
//! // What a program would load now. Nothing is loaded for this.
//! match report().object {
//!     Ok((path, origin)) => println!("`{}`, {origin:?}", path.display()),
//!     Err(fault) => assert!(fault.contains("libdgx_pixels_torch.so")),
//! }
//! ```
//!
//! With the feature `torch` a program is linked to libtorch instead, and [`local`](crate::local)
//! uses that.

mod device;
mod elf;
mod find;
mod model;
mod models;
mod open;

use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::de::DeserializeOwned;

pub use self::device::LoadedDevice;
pub use self::find::{Origin, Report, report, setup_folder};
pub use self::model::{LoadedCanvas, LoadedModel};
pub use self::models::{LoadedModels, resolve};
use crate::abi::{self, Fault, Functions, Sink, Text};
use crate::device::{Device, Dtype};
use crate::error::Error;

/// The loaded object. It stays loaded until the process ends.
#[derive(Clone, Copy)]
pub struct Libtorch {
    functions: &'static Functions,
}

impl Libtorch {
    /// Loads the object and libtorch, unless they are loaded already.
    ///
    /// With `owns_process` libtorch may set what is global in this process: its allocator of CPU
    /// memory, its threads, its switches and its limit of GPU memory. This is for programs. Without
    /// it, nothing global is touched, and memory is counted on the threads that draw; this is for
    /// libraries in other people's processes. The first call decides.
    ///
    /// # Errors
    /// [`Error::Libtorch`] with what is missing or wrong, and the next step.
    pub fn load(owns_process: bool) -> Result<Libtorch, Error> {
        static LOADED: Mutex<Option<Libtorch>> = Mutex::new(None);
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(libtorch) = *loaded {
            return Ok(libtorch);
        }
        let libtorch = Libtorch { functions: open::open()? };
        let start = json(&abi::Start { owns_process });
        // SAFETY: the object is loaded and its version is ours; `start` outlives the call.
        libtorch
            .call(|answer| unsafe { (libtorch.functions.start)(text(&start), Some(open::log), answer) })?;
        Ok(*loaded.insert(libtorch))
    }

    /// Compiles our kernels for a GPU, or finds them in this user's cache.
    ///
    /// # Errors
    /// [`Error::Device`] if the device is not there; otherwise the reason why libtorch's kernels
    /// are used instead.
    pub fn kernels(&self, device: Device) -> Result<abi::Kernels, Error> {
        let device = device.to_string();
        // SAFETY: `device` outlives the call.
        self.ask(|answer| unsafe { (self.functions.kernels)(text(&device), answer) })
    }

    /// Measures the operations a second, multiplications and additions together, of a product of
    /// two large random matrices: the median of several.
    ///
    /// # Errors
    /// [`Error::Device`]; [`Error::OutOfMemory`].
    pub fn matrix_rate(&self, device: Device, dtype: Dtype) -> Result<f64, Error> {
        let (device, dtype) = (device.to_string(), dtype.to_string());
        let mut rate = 0.0;
        // SAFETY: the texts and the place for the rate outlive the call.
        self.call(|answer| unsafe {
            (self.functions.matrix_rate)(text(&device), text(&dtype), &mut rate, answer)
        })?;
        Ok(rate)
    }

    /// Calls the object; the text that it wrote.
    ///
    /// # Panics
    /// If the object's code panicked, so that a caller who guards against panics of a backend meets
    /// this one too.
    fn call(&self, call: impl FnOnce(Sink) -> i32) -> Result<String, Error> {
        let mut answer = Vec::new();
        let status = call(Sink { context: (&raw mut answer).cast(), write });
        let answer = String::from_utf8_lossy(&answer).into_owned();
        match status {
            abi::OK => Ok(answer),
            abi::FAILED => Err(serde_json::from_str::<Fault>(&answer)
                .map(Error::from)
                .unwrap_or_else(|error| Error::internal("reading an error of libtorch", error))),
            _ => panic!("{answer}"),
        }
    }

    /// Calls the object; the message that it wrote.
    fn ask<T: DeserializeOwned>(&self, call: impl FnOnce(Sink) -> i32) -> Result<T, Error> {
        let answer = self.call(call)?;
        serde_json::from_str(&answer).map_err(|error| Error::internal("reading an answer of libtorch", error))
    }
}

/// The sink of [`Libtorch::call`].
unsafe extern "C" fn write(context: *mut c_void, text: Text) {
    // SAFETY: `context` is the buffer of the call that is under way, on this thread; the text lives
    // until we return.
    unsafe {
        let answer = &mut *context.cast::<Vec<u8>>();
        answer.extend_from_slice(std::slice::from_raw_parts(text.data, text.len));
    }
}

fn text(words: &str) -> Text {
    Text { data: words.as_ptr(), len: words.len() }
}

fn json(message: &impl serde::Serialize) -> String {
    serde_json::to_string(message).expect("a message of the border is JSON; this is a bug")
}

/// The folder, if it holds libtorch.
fn has_libtorch(folder: PathBuf) -> Option<PathBuf> {
    folder.join("libtorch_cpu.so").is_file().then_some(folder)
}
