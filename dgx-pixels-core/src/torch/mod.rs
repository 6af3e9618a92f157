//! SDXL on libtorch: feature `torch`.
//!
//! [`Sdxl`] is the [`Backend`](crate::backend::Backend). The modules beside it mirror the checkpoint: a field carries
//! the word of its key, and loading walks the same tree.

mod attention;
mod canvas;
mod checkpoints;
mod clip;
mod cuda;
mod device;
mod embeddings;
mod flops;
mod layers;
mod memory;
#[cfg(test)]
mod parity;
mod passes;
mod preview;
mod prompts;
mod rate;
mod recent;
mod resnet;
mod sdxl;
mod threads;
mod tokenizer;
mod unet;
mod vae;
mod weights;

pub use canvas::{Latents, SdxlCanvas};
pub use checkpoints::Checkpoints;
pub use device::{Gpu, gpus, libtorch_version};
pub use memory::{
    MemoryStats, count_cpu_memory, devices, empty_cache, limit_memory, memory_stats, reset_peak,
};
pub use rate::matrix_rate;
pub use sdxl::{Options, Sdxl};
pub use threads::share_processors;

use tch::TchError;

pub use crate::device::{Device, Dtype, Mode};
use crate::error::Error;

/// Which of this library's kernels a GPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompiledKernels {
    /// Those for Hopper alone: linear layers with their GEGLU, convolutions, and products of 8-bit floats. Elsewhere these are cuBLASLt's and
    /// cuDNN's.
    pub hopper: bool,
    /// Whether [`Mode::Fp8`] is more than [`Mode::Fast`].
    pub fp8: bool,
}

/// Compiles this library's kernels for a GPU, or finds them in this user's cache.
///
/// # Errors
/// Why libtorch's are taken in their place.
pub fn compile_kernels(device: Device) -> Result<CompiledKernels, String> {
    device.resolve().map_err(|error| error.to_string())?;
    let kernels = cuda::Kernels::load(device, Dtype::Bf16, Mode::Fp8)?;
    Ok(CompiledKernels { hopper: kernels.hopper(), fp8: kernels.is_fp8() })
}

/// libtorch's refusal as one of our errors.
fn failed(error: TchError, device: Device, doing: &'static str) -> Error {
    let text = error.to_string();
    if text.contains("out of memory") || text.contains("can't allocate memory") {
        return Error::OutOfMemory { device: device.to_string(), doing };
    }
    let message = text.lines().next().unwrap_or_default().to_owned();
    Error::Internal { doing, message }
}

fn failed_to_build(error: TchError) -> Error {
    failed(error, Device::Cpu, "loading weights")
}
