//! The C border between programs and `libdgx_pixels_torch.so`, the one object that needs libtorch.
//!
//! `dgx-pixels-torch/include/dgx_pixels_torch.h` describes the border for other languages; the
//! types here have the same layout. [`loaded`](crate::loaded) calls it, and the crate
//! `dgx-pixels-torch` answers.
//!
//! Only plain C crosses: numbers, pointers to memory that its owner keeps, and texts in JSON. No
//! Rust type, panic or allocation does. A caller that wants to be answered passes a [`Sink`], which
//! the object writes to during the call.

use std::borrow::Cow;
use std::ffi::c_void;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, one_line};
use crate::model::lora::LoraUse;
use crate::model::{ControlUse, Options};

/// The version of the border. It changes with every change of a type, a function or a message in
/// this file.
pub const VERSION: u32 = 4;
/// The name of the object's file.
pub const FILE_NAME: &str = "libdgx_pixels_torch.so";
/// The one symbol of the object, a function that returns [`Functions`]. It ends with [`VERSION`],
/// so that the version is read before the object is loaded.
pub const ENTRY: &str = "dgx_pixels_torch_4";
/// [`ENTRY`] without the version.
pub const ENTRY_STEM: &str = "dgx_pixels_torch_";
/// The version of libtorch that every object computes with.
pub const LIBTORCH_VERSION: &str = "2.11.0";

/// The call did what it should.
pub const OK: i32 = 0;
/// The call failed, and its sink was given a [`Fault`] in JSON.
pub const FAILED: i32 = 1;
/// The object's code panicked, and its sink was given the message.
pub const PANICKED: i32 = 2;

/// A text in UTF-8 that the caller keeps.
///
/// It is not terminated by a zero, and may hold one.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Text {
    /// The first byte.
    pub data: *const u8,
    /// The number of bytes.
    pub len: usize,
}

/// The place for an answer in UTF-8. It is written to at most once in a call.
///
/// The caller's function copies the text before it returns, so the object may free its own.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sink {
    /// Passed to `write`.
    pub context: *mut c_void,
    /// Takes a copy of the text.
    pub write: unsafe extern "C" fn(context: *mut c_void, text: Text),
}

/// The place for images, one call an image, in order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ImageSink {
    /// Passed to `write`.
    pub context: *mut c_void,
    /// Takes a copy of `width * height * 3` bytes: red, green and blue, row by row.
    pub write: unsafe extern "C" fn(context: *mut c_void, width: u32, height: u32, rgb: *const u8),
}

/// The place for latents.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LatentSink {
    /// Passed to `write`.
    pub context: *mut c_void,
    /// Takes a copy of `channels * height * width` numbers, row by row.
    pub write: unsafe extern "C" fn(
        context: *mut c_void,
        channels: u32,
        height: u32,
        width: u32,
        values: *const f32,
    ),
}

/// The listener to the progress of a model that is loaded.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ByteSink {
    /// Passed to `write`.
    pub context: *mut c_void,
    /// Hears of the bytes of weights on the device so far.
    pub write: unsafe extern "C" fn(context: *mut c_void, bytes: u64),
}

/// The listener to the object's log, from any thread, as long as the process runs.
pub type Log = unsafe extern "C" fn(level: i32, text: Text);

/// The progress of a canvas.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CanvasState {
    /// UNet evaluations done.
    pub steps_done: u64,
    /// UNet evaluations in all.
    pub steps: u64,
    /// Rows of the coming forward pass.
    pub rows: u64,
}

/// The memory of a device, as [`Memory`](crate::backend::Memory).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceMemory {
    /// All that the device has.
    pub total_bytes: u64,
    /// The bytes that no process uses, or that can be reclaimed at once.
    pub available_bytes: u64,
    /// The bytes in tensors of this process.
    pub used_bytes: u64,
    /// The most bytes in tensors since the last reset.
    pub peak_bytes: u64,
}

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $($(#[$doc])*
        #[repr(C)]
        pub struct $name {
            _private: [u8; 0],
        })*
    };
}

handles! {
    /// A loaded model. One thread at a time.
    Model,
    /// An image on its way. It belongs to the model that began it, and may outlive it.
    Canvas,
    /// Images that the device may still be at work on. Any thread.
    Decoding,
    /// A device and its memory.
    Device,
}

/// The functions of the object.
///
/// A function that returns a number answers [`OK`], or [`FAILED`] with a [`Fault`] as JSON in its
/// `answer`, or [`PANICKED`] with the panic's message. Pointers to results are written only for
/// [`OK`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Functions {
    /// Begins: takes a [`Start`], and the listener to the log. Called once, before any other
    /// function.
    pub start: unsafe extern "C" fn(start: Text, log: Option<Log>, answer: Sink) -> i32,
    /// Compiles our kernels for a device and answers with [`Kernels`].
    pub kernels: unsafe extern "C" fn(device: Text, answer: Sink) -> i32,
    /// Measures how fast a device multiplies matrices; takes a device and a precision, writes
    /// operations a second.
    pub matrix_rate: unsafe extern "C" fn(device: Text, dtype: Text, rate: *mut f64, answer: Sink) -> i32,

    /// Opens a device by its concrete name, for example `cuda:0`.
    pub device_open: unsafe extern "C" fn(name: Text, device: *mut *mut Device, answer: Sink) -> i32,
    /// Answers with the words under which measured costs are kept.
    pub device_hardware: unsafe extern "C" fn(device: *const Device, answer: Sink) -> i32,
    /// Reads the memory.
    pub device_memory:
        unsafe extern "C" fn(device: *const Device, memory: *mut DeviceMemory, answer: Sink) -> i32,
    /// Begins a new peak.
    pub device_reset_peak: unsafe extern "C" fn(device: *mut Device, answer: Sink) -> i32,
    /// Gives memory that is kept for later back.
    pub device_empty_cache: unsafe extern "C" fn(device: *mut Device, answer: Sink) -> i32,
    /// Has allocations past `bytes` refused.
    pub device_limit: unsafe extern "C" fn(device: *mut Device, bytes: u64, answer: Sink) -> i32,
    /// Frees a device.
    pub device_close: unsafe extern "C" fn(device: *mut Device),

    /// Loads a model; takes a [`Load`].
    pub model_load:
        unsafe extern "C" fn(load: Text, progress: ByteSink, model: *mut *mut Model, answer: Sink) -> i32,
    /// Begins a canvas for each of the resolved requests, a JSON array of `count`; answers with
    /// [`Begun`].
    pub model_begin: unsafe extern "C" fn(
        model: *mut Model,
        requests: Text,
        count: usize,
        canvases: *mut *mut Canvas,
        answer: Sink,
    ) -> i32,
    /// Advances every canvas by one step. If it fails, none has moved.
    pub model_step: unsafe extern "C" fn(
        model: *mut Model,
        canvases: *const *mut Canvas,
        count: usize,
        answer: Sink,
    ) -> i32,
    /// Begins to decode finished canvases.
    pub model_finish: unsafe extern "C" fn(
        model: *mut Model,
        canvases: *const *mut Canvas,
        count: usize,
        decoding: *mut *mut Decoding,
        answer: Sink,
    ) -> i32,
    /// Writes a coarse image of a canvas as it is now.
    pub model_preview:
        unsafe extern "C" fn(model: *mut Model, canvas: *const Canvas, image: ImageSink, answer: Sink) -> i32,
    /// Writes the latents of a canvas as they are now.
    pub model_latents: unsafe extern "C" fn(
        model: *mut Model,
        canvas: *const Canvas,
        latents: LatentSink,
        answer: Sink,
    ) -> i32,
    /// Returns the multiplications and additions of the UNet in the last step.
    pub model_flops: unsafe extern "C" fn(model: *const Model) -> u64,
    /// Frees a model.
    pub model_free: unsafe extern "C" fn(model: *mut Model),

    /// Reads how far a canvas has come.
    pub canvas_state: unsafe extern "C" fn(canvas: *const Canvas, state: *mut CanvasState),
    /// Frees a canvas.
    pub canvas_free: unsafe extern "C" fn(canvas: *mut Canvas),

    /// Waits for the images and writes them, in the order of the canvases. Frees the decoding, also
    /// where it fails.
    pub decoding_wait: unsafe extern "C" fn(decoding: *mut Decoding, images: ImageSink, answer: Sink) -> i32,
    /// Frees a decoding whose images are not wanted.
    pub decoding_free: unsafe extern "C" fn(decoding: *mut Decoding),
}

/// The way the object behaves in this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// `true` if libtorch's allocator, threads, switches and limits may be set for the whole
    /// process.
    pub owns_process: bool,
}

/// Our kernels on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernels {
    /// `true` if those for Hopper are among them.
    pub hopper: bool,
    /// `true` if the mode `fp8` differs from `fast`.
    pub fp8: bool,
}

/// The model to load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// The model's folder or file.
    pub path: PathBuf,
    /// The model that supplies what the file lacks.
    pub base: Option<PathBuf>,
    /// The LoRAs that change the weights.
    pub loras: Vec<LoraUse>,
    /// The VAE in place of the model's own, a folder or a file.
    pub vae: Option<PathBuf>,
    /// The control nets beside the model.
    pub controls: Vec<ControlUse>,
    /// The way it is computed.
    pub options: Options,
    /// SDXL base at its full size with weights drawn from this seed, and of the folder the
    /// tokenizers alone.
    pub random_seed: Option<u64>,
}

/// A canvas that was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begun {
    /// Words of the prompts that did not fit the tokenizers' length.
    pub dropped_words: Option<String>,
}

/// An error on its way across.
///
/// The library turns it into the [`Error`] that a linked libtorch would give, so that
/// callers need not know which way is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The kind of the error.
    pub kind: ErrorKind,
    /// The name of the field at fault.
    pub field: Option<String>,
    /// The text of the error, causes included.
    pub message: String,
    /// The device and the stage, if the device refused an allocation: the engine makes room and
    /// tries again.
    pub out_of_memory: Option<(String, String)>,
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Fault {
        Fault {
            kind: error.kind(),
            field: error.field().map(str::to_owned),
            message: one_line(error),
            out_of_memory: match error {
                Error::OutOfMemory { device, doing } => Some((device.clone(), doing.to_string())),
                _ => None,
            },
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        let Fault { kind, field, message, out_of_memory } = fault;
        match out_of_memory {
            Some((device, doing)) => Error::OutOfMemory { device, doing: Cow::Owned(doing) },
            None => Error::Reported { kind, field, message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GenerateRequest;
    use crate::backend::{Backend as _, Sketch};
    use crate::device::{Device, Dtype};

    #[test]
    fn the_symbol_names_the_version() {
        assert_eq!(ENTRY, format!("{ENTRY_STEM}{VERSION}"));
    }

    /// If this fails, the messages have changed: raise `VERSION`, and rename `ENTRY` after it.
    #[test]
    fn the_messages_of_version_4_stay_as_they_are() {
        let request = GenerateRequest { prompt: "a key".into(), ..Default::default() };
        let options = Options { device: Device::Cuda(1), dtype: Some(Dtype::F16), ..Default::default() };
        let lora = LoraUse {
            name: "pixel".into(),
            path: "loras/pixel.safetensors".into(),
            hash: "0a".into(),
            weight: 1.0,
            text_weight: 0.5,
        };
        let load = Load {
            path: "models/tiny".into(),
            base: None,
            loras: vec![lora],
            vae: Some("vae/thin".into()),
            controls: vec![ControlUse { name: "canny".into(), path: "nets/canny".into(), hash: "0b".into() }],
            options,
            random_seed: None,
        };
        let fault = Fault::from(&Error::OutOfMemory { device: "cpu".into(), doing: "denoising".into() });
        let messages = [
            serde_json::to_string(&Start { owns_process: true }),
            serde_json::to_string(&Kernels { hopper: true, fp8: false }),
            serde_json::to_string(&load),
            serde_json::to_string(&Begun { dropped_words: None }),
            serde_json::to_string(&fault),
            serde_json::to_string(&request.resolve(&Sketch.defaults()).unwrap()),
        ];
        let expected = [
            r#"{"owns_process":true}"#,
            r#"{"hopper":true,"fp8":false}"#,
            r#"{"path":"models/tiny","base":null,"loras":[{"name":"pixel","path":"loras/pixel.safetensors","hash":"0a","weight":1.0,"text_weight":0.5}],"vae":"vae/thin","controls":[{"name":"canny","path":"nets/canny","hash":"0b"}],"options":{"device":"cuda:1","dtype":"f16","mode":"fast","vae_slicing":false,"vae_tiling":false},"random_seed":null}"#,
            r#"{"dropped_words":null}"#,
            r#"{"kind":"out_of_memory","field":null,"message":"out of memory on `cpu` while denoising","out_of_memory":["cpu","denoising"]}"#,
            r#"{"prompt":"a key","negative_prompt":null,"prompt_syntax":"comfyui","clip_skip":null,"seed":0,"steps":30,"guidance_scale":5.0,"guidance_rescale":0.0,"guidance_interval":null,"deep_cache":null,"scheduler":"euler","timestep_spacing":null,"timesteps":null,"sigmas":null,"eta":null,"size":{"width":256,"height":256},"original_size":{"width":256,"height":256},"crop":{"left":0,"top":0},"target_size":{"width":256,"height":256}}"#,
        ];
        assert_eq!(messages.map(Result::unwrap), expected);
    }

    #[test]
    fn an_error_keeps_its_kind_its_field_and_its_words() {
        let bad =
            Error::from(GenerateRequest { steps: Some(0), ..Default::default() }.validate().unwrap_err());
        let crossed = Error::from(Fault::from(&bad));
        assert_eq!(
            (crossed.kind(), crossed.field(), crossed.to_string()),
            (bad.kind(), bad.field(), bad.to_string())
        );
        let full = Error::OutOfMemory { device: "cuda:0".into(), doing: "decoding".into() };
        let crossed = Error::from(Fault::from(&full));
        assert!(matches!(crossed, Error::OutOfMemory { doing, .. } if doing == "decoding"));
    }
}
