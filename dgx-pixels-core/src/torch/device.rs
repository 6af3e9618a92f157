//! Devices that are there, and our few calls of libtorch that tch lacks (`device.cpp`).

use std::ffi::{CStr, c_char, c_void};
use std::path::PathBuf;
use std::sync::OnceLock;

use safetensors::Dtype as StoredDtype;
use tch::{Kind, TchError, Tensor};

use super::cuda::nvrtc_is_installed;
use super::process::is_owned;
use crate::device::{Device, Dtype};
use crate::error::Error;
use crate::gpu::{self, Driver};

impl Device {
    /// Makes `auto` concrete and checks that the device is there.
    ///
    /// # Errors
    /// [`Error::Device`], saying which devices there are, or why CUDA is not available.
    pub fn resolve(self) -> Result<Device, Error> {
        let unavailable = |reason: String| Error::device(self.to_string(), reason);
        match self {
            Device::Cpu => Ok(Device::Cpu),
            Device::Auto => Ok(if load_cuda().is_ok() { Device::Cuda(0) } else { Device::Cpu }),
            Device::Cuda(index) => {
                let count = load_cuda().map_err(unavailable)?;
                if index < count {
                    return Ok(self);
                }
                Err(unavailable(gpu::range(count)))
            }
        }
    }

    /// The concrete device in tch's words. Call [`resolve`](Device::resolve) first.
    pub(super) fn tch(self) -> tch::Device {
        match self {
            Device::Cuda(index) => tch::Device::Cuda(index),
            Device::Cpu | Device::Auto => tch::Device::Cpu,
        }
    }
}

impl Dtype {
    pub(super) fn kind(self) -> Kind {
        match self {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::Bf16 => Kind::BFloat16,
        }
    }
}

/// The kind of a float that a file has; `None` for other numbers.
pub(super) fn stored_kind(dtype: StoredDtype) -> Option<Kind> {
    match dtype {
        StoredDtype::F64 => Some(Kind::Double),
        StoredDtype::F32 => Some(Kind::Float),
        StoredDtype::F16 => Some(Kind::Half),
        StoredDtype::BF16 => Some(Kind::BFloat16),
        StoredDtype::F8_E4M3 => Some(Kind::Float8e4m3fn),
        StoredDtype::F8_E5M2 => Some(Kind::Float8e5m2),
        _ => None,
    }
}

/// The version of the libtorch this library was built with, as `2.11.0`.
pub fn libtorch_version() -> String {
    // SAFETY: a string constant.
    unsafe { CStr::from_ptr(dgx_libtorch_version()) }.to_string_lossy().into_owned()
}

/// A source of noise equal to `torch.Generator("cpu").manual_seed(seed)`, one for each request.
#[derive(Debug)]
pub(super) struct Generator(*mut c_void);

// SAFETY: the C++ object is reference counted with atomics and has a lock of its own.
unsafe impl Send for Generator {}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        // SAFETY: makes a C++ object that `drop` frees.
        Generator(unsafe { dgx_generator_new(seed) })
    }

    /// Normal noise on the CPU, drawn in `kind` itself: halves are not rounded floats in PyTorch.
    pub(super) fn randn(&mut self, shape: &[i64], kind: Kind) -> Result<Tensor, TchError> {
        let mut out = std::ptr::null_mut();
        // SAFETY: `self.0` lives; shape and length agree; `out` is set when no error is returned.
        unsafe {
            let kind = kind_code(kind);
            returned(dgx_randn(self.0, shape.as_ptr(), shape.len(), kind, &mut out), out)
        }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe { dgx_generator_free(self.0) }
    }
}

/// `tensor` with channels last in memory; the same tensor if it is so already.
pub(super) fn channels_last(tensor: &Tensor) -> Result<Tensor, TchError> {
    let mut out = std::ptr::null_mut();
    // SAFETY: `tensor` lives; `out` is set when no error is returned.
    unsafe { returned(dgx_channels_last(tensor.as_ptr().cast(), &mut out), out) }
}

/// `tensor` of the CPU on `device`; a GPU is not waited for.
pub(super) fn place(tensor: &Tensor, device: tch::Device) -> Result<Tensor, TchError> {
    let tch::Device::Cuda(index) = device else { return Ok(tensor.shallow_clone()) };
    let mut out = std::ptr::null_mut();
    // SAFETY: `tensor` lives; `out` is set when no error is returned.
    unsafe { returned(dgx_place(tensor.as_ptr().cast(), index as i8, &mut out), out) }
}

/// `tensor` on the CPU, once the device has come there: it is not waited for.
pub(super) fn fetch(tensor: &Tensor) -> Result<Tensor, TchError> {
    tensor.f_to_device_(tch::Device::Cpu, tensor.kind(), true, false)
}

/// `true` if libtorch had too little memory for a call of this thread since it last entered
/// [`InferenceMode`].
pub(super) fn ran_out_of_memory() -> bool {
    // SAFETY: reads a flag of this thread.
    unsafe { dgx_ran_out_of_memory() }
}

/// While it lives, this thread's operations keep nothing for gradients.
#[derive(Debug)]
pub(super) struct InferenceMode(*mut c_void);

impl InferenceMode {
    pub(super) fn enter() -> Self {
        // SAFETY: makes a guard that `drop` frees, on this thread: the type is not `Send`.
        InferenceMode(unsafe { dgx_inference_mode_new() })
    }
}

impl Drop for InferenceMode {
    fn drop(&mut self) {
        // SAFETY: made by `enter`, freed once, on the same thread.
        unsafe { dgx_inference_mode_free(self.0) }
    }
}

/// Loads `libtorch_cuda.so` from beside the libtorch in use, once. The number of GPUs, at least 1.
///
/// Linking it instead would tie the program to CUDA's libraries (2 GB) on machines without a GPU.
pub(super) fn load_cuda() -> Result<usize, String> {
    static CUDA: OnceLock<Result<usize, String>> = OnceLock::new();
    CUDA.get_or_init(|| {
        Driver::open()?;
        let library = libtorch_folder()?.join("libtorch_cuda.so");
        if !library.exists() {
            return Err(format!(
                "this libtorch is built without CUDA: `{}` does not exist",
                library.display()
            ));
        }
        // SAFETY: its initialisers register CUDA's kernels with the libtorch that is already
        // loaded.
        let loaded = unsafe {
            libloading::os::unix::Library::open(
                Some(&library),
                libloading::os::unix::RTLD_NOW | libloading::os::unix::RTLD_GLOBAL,
            )
        };
        match loaded {
            // It registered itself and cannot be unloaded.
            Ok(library) => std::mem::forget(library),
            Err(error) => return Err(format!("CUDA's libraries are not installed: {error}")),
        }
        if let Err(reason) = nvrtc_is_installed() {
            if is_owned() {
                tracing::warn!("attention is not cuDNN's, which has it compiled: {reason}");
                // SAFETY: it takes nothing, and sets a flag that is read at each call.
                unsafe { dgx_without_cudnn_attention() };
            } else {
                tracing::warn!("cuDNN's attention may fail: {reason}");
            }
        }
        match tch::Cuda::device_count() {
            count @ 1.. => Ok(count as usize),
            _ => Err("the driver serves no GPU, or is too old for CUDA 13.0 (it needs 580 or newer)".into()),
        }
    })
    .clone()
}

pub(super) fn libtorch_folder() -> Result<PathBuf, String> {
    // SAFETY: `dladdr` only fills `info`; the path it names lives as long as the library.
    let path = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        // `at::get_num_threads()`: a symbol of libtorch_cpu itself; tch's wrappers are part of this
        // program.
        let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"_ZN2at15get_num_threadsEv".as_ptr());
        if symbol.is_null() || libc::dladdr(symbol, &mut info) == 0 {
            return Err("cannot tell where libtorch was loaded from".into());
        }
        PathBuf::from(CStr::from_ptr(info.dli_fname).to_string_lossy().into_owned())
    };
    path.parent().map(PathBuf::from).ok_or_else(|| format!("`{}` has no folder", path.display()))
}

fn kind_code(kind: Kind) -> i8 {
    match kind {
        Kind::Half => 5,
        Kind::BFloat16 => 15,
        _ => 6,
    }
}

unsafe fn returned(failed: *mut c_char, out: *mut c_void) -> Result<Tensor, TchError> {
    match message(failed) {
        // SAFETY: without an error `out` is a new tensor that nobody else frees.
        None => Ok(unsafe { Tensor::from_ptr(out.cast()) }),
        Some(message) => Err(TchError::Torch(message)),
    }
}

pub(super) fn checked(failed: *mut c_char, doing: &'static str) -> Result<(), Error> {
    message(failed).map_or(Ok(()), |message| Err(Error::internal(doing, message)))
}

pub(super) fn message(failed: *mut c_char) -> Option<String> {
    if failed.is_null() {
        return None;
    }
    // SAFETY: `device.cpp` made it with `strdup` and gave it to us.
    unsafe {
        let text = CStr::from_ptr(failed).to_string_lossy().into_owned();
        libc::free(failed.cast());
        Some(text)
    }
}

unsafe extern "C" {
    fn dgx_libtorch_version() -> *const c_char;
    fn dgx_generator_new(seed: u64) -> *mut c_void;
    fn dgx_generator_free(generator: *mut c_void);
    fn dgx_randn(
        generator: *mut c_void,
        shape: *const i64,
        rank: usize,
        kind: i8,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    fn dgx_channels_last(tensor: *const c_void, out: *mut *mut c_void) -> *mut c_char;
    fn dgx_place(tensor: *const c_void, index: i8, out: *mut *mut c_void) -> *mut c_char;
    fn dgx_ran_out_of_memory() -> bool;
    fn dgx_inference_mode_new() -> *mut c_void;
    fn dgx_inference_mode_free(guard: *mut c_void);
    fn dgx_without_cudnn_attention();
}
