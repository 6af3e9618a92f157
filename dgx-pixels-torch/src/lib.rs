//! `libdgx_pixels_torch.so`: the models of DGX-Pixels on libtorch, behind the C border that
//! [`dgx_pixels_core::abi`] describes.
//!
//! Every function here turns its arguments into Rust, calls [`dgx_pixels_core::torch`], and turns
//! the result into C. A panic ends at the border, as a status; libtorch's exceptions end before it,
//! in the bindings.

mod border;
mod devices;
mod log;
mod models;

use dgx_pixels_core::abi::{Functions, Kernels, Log, Sink, Start, Text};
use dgx_pixels_core::device::{Device, Dtype};
use dgx_pixels_core::torch;

use self::border::{answered, answered_with, message, parsed};

/// The object's one symbol. Returns its functions, which live as long as the process.
#[unsafe(no_mangle)]
pub extern "C" fn dgx_pixels_torch_4() -> *const Functions {
    static FUNCTIONS: Functions = Functions {
        start,
        kernels,
        matrix_rate,
        device_open: devices::open,
        device_hardware: devices::hardware,
        device_memory: devices::memory,
        device_reset_peak: devices::reset_peak,
        device_empty_cache: devices::empty_cache,
        device_limit: devices::limit,
        device_close: devices::close,
        model_load: models::load,
        model_begin: models::begin,
        model_step: models::step,
        model_finish: models::finish,
        model_preview: models::preview,
        model_latents: models::latents,
        model_flops: models::flops,
        model_free: models::free,
        canvas_state: models::canvas_state,
        canvas_free: models::canvas_free,
        decoding_wait: models::decoding_wait,
        decoding_free: models::decoding_free,
    };
    &FUNCTIONS
}

unsafe extern "C" fn start(start: Text, log: Option<Log>, answer: Sink) -> i32 {
    answered(answer, || {
        // SAFETY: the caller's text lives until we return.
        let Start { owns_process } = unsafe { message(start) }?;
        if let Some(log) = log {
            log::forward(log);
        }
        if owns_process { torch::own_process() } else { Ok(()) }
    })
}

unsafe extern "C" fn kernels(device: Text, answer: Sink) -> i32 {
    answered_with(answer, || {
        // SAFETY: the caller's text lives until we return.
        let device: Device = unsafe { parsed(device) }?;
        let torch::CompiledKernels { hopper, fp8 } = torch::compile_kernels(device)?;
        Ok(Kernels { hopper, fp8 })
    })
}

unsafe extern "C" fn matrix_rate(device: Text, dtype: Text, rate: *mut f64, answer: Sink) -> i32 {
    answered(answer, || {
        // SAFETY: the caller's texts and its place for the rate live until we return.
        unsafe {
            let device: Device = parsed(device)?;
            let dtype: Dtype = parsed(dtype)?;
            *rate = torch::matrix_rate(device, dtype)?;
        }
        Ok(())
    })
}
