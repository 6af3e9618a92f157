//! SDXL on libtorch: feature `torch`.
//!
//! [`Sdxl`] is the [`Backend`](crate::backend::Backend). The modules beside it mirror the
//! checkpoint: a field carries the word of its key, and loading walks the same tree.

mod attention;
mod blocks;
mod canvas;
mod checkpoints;
mod clip;
mod control;
#[cfg(test)]
mod control_tests;
mod controls;
mod cuda;
mod device;
mod down_path;
mod edges;
mod embeddings;
mod flops;
mod guidance;
mod image;
mod inputs;
mod inversions;
mod layers;
mod lora;
mod memory;
mod norms;
#[cfg(test)]
mod parity;
mod passes;
mod preview;
mod process;
mod prompts;
mod rate;
mod recent;
mod resnet;
mod rows;
mod sdxl;
mod threads;
mod tokenizer;
mod unet;
mod vae;
mod weights;

pub use canvas::SdxlCanvas;
pub use checkpoints::Checkpoints;
pub use device::libtorch_version;
pub use memory::{MemoryStats, devices, empty_cache, limit_memory, memory_stats, reset_peak};
pub use process::own_process;
pub use rate::matrix_rate;
pub use sdxl::Sdxl;

use tch::TchError;

pub use crate::device::{Device, Dtype, Mode};
use crate::error::{Cause, Error};
pub use crate::model::Options;

/// The kernels of this library that a GPU has.
///
/// NVRTC compiles them for the GPU at hand, and the binaries are kept in this user's cache. A GPU
/// of compute capability 9.0 is a Hopper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompiledKernels {
    /// `true` if the GPU has the kernels for Hopper alone: linear layers with their GEGLU,
    /// convolutions, and products of 8-bit floats. Elsewhere these are cuBLASLt's and cuDNN's.
    pub hopper: bool,
    /// `true` if [`Mode::Fp8`] is more than [`Mode::Fast`].
    pub fp8: bool,
}

/// Compiles this library's kernels for a GPU, or finds them in this user's cache.
///
/// # Errors
/// [`Error::Device`] if the device is not there; [`Error::Internal`] with the reason why libtorch's
/// kernels are used instead.
pub fn compile_kernels(device: Device) -> std::result::Result<CompiledKernels, Error> {
    device.resolve()?;
    let kernels = cuda::Kernels::load(device, Dtype::Bf16, Mode::Fp8)
        .map_err(|reason| Error::internal("compiling kernels", reason))?;
    Ok(CompiledKernels { hopper: kernels.hopper(), fp8: kernels.is_fp8() })
}

/// The result of a call of libtorch.
type Result<T> = std::result::Result<T, TchError>;

/// libtorch's refusal as one of our errors.
fn failed(error: TchError, device: Device, doing: &'static str) -> Error {
    match is_out_of_memory(&error) {
        true => Error::OutOfMemory { device: device.to_string(), doing: doing.into() },
        false => Error::internal(doing, Cause::from(first_line(error))),
    }
}

/// Without the C++ stack that follows.
fn first_line(error: TchError) -> TchError {
    match error {
        TchError::Torch(text) => TchError::Torch(text.lines().next().unwrap_or_default().into()),
        error => error,
    }
}

/// `true` for an error because a device has too little memory. The type of libtorch's exception
/// decides, which `device.cpp` notes: tch hands over only a text.
fn is_out_of_memory(error: &TchError) -> bool {
    matches!(error, TchError::Torch(_)) && device::ran_out_of_memory()
}

fn failed_to_build(error: TchError) -> Error {
    failed(error, Device::Cpu, "loading weights")
}

#[cfg(test)]
mod tests {
    use tch::{Kind, Tensor};

    use super::device::InferenceMode;
    use super::*;

    const CPU: tch::Device = tch::Device::Cpu;

    fn too_large() -> TchError {
        // More than a process can address.
        Tensor::f_zeros([1 << 50], (Kind::Float, CPU)).unwrap_err()
    }

    #[test]
    fn lack_of_memory_is_known_by_its_type_until_the_next_call_of_a_backend() {
        let _guard = InferenceMode::enter();
        let error = failed(too_large(), Device::Cpu, "testing");
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        let _guard = InferenceMode::enter();
        assert!(!device::ran_out_of_memory());
    }

    #[test]
    fn the_words_of_an_error_decide_nothing() {
        let _guard = InferenceMode::enter();
        let error = Tensor::load("out of memory").unwrap_err();
        assert!(error.to_string().contains("out of memory"), "{error}");
        let error = failed(error, Device::Cpu, "testing");
        assert!(matches!(error, Error::Internal { .. }), "{error}");
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<TchError>());
        assert!(matches!(cause, Some(TchError::Torch(text)) if !text.contains('\n')), "{cause:?}");
    }

    #[test]
    fn each_thread_has_its_own_memory_of_it() {
        let _guard = InferenceMode::enter();
        let other = std::thread::spawn(|| {
            let _guard = InferenceMode::enter();
            is_out_of_memory(&too_large())
        });
        assert!(other.join().unwrap());
        let shapes = Tensor::f_zeros([2], (Kind::Float, CPU)).unwrap();
        let error = shapes.f_add(&Tensor::f_zeros([3], (Kind::Float, CPU)).unwrap()).unwrap_err();
        assert!(!is_out_of_memory(&error), "{error}");
    }
}
