//! Models, their canvases, and the images that come of them.

use dgx_pixels_core::abi::{
    Begun, ByteSink, Canvas as CanvasHandle, CanvasState, Decoding as DecodingHandle, ImageSink, LatentSink,
    Load, Model as Handle, Sink, Text,
};
use dgx_pixels_core::backend::{Backend, Canvas, Decoding, Latents};
use dgx_pixels_core::torch::{Sdxl, SdxlCanvas};
use dgx_pixels_core::{Error, Model, ResolvedRequest};
use image::RgbImage;

use crate::border::{answered, answered_with, message, quietly};

pub(crate) unsafe extern "C" fn load(
    load: Text,
    progress: ByteSink,
    model: *mut *mut Handle,
    answer: Sink,
) -> i32 {
    answered(answer, || {
        // SAFETY: the caller's message, its listener and its place for the handle live until we
        // return.
        unsafe {
            let Load { path, base, loras, vae, controls, options, random_seed } = message(load)?;
            let mut on_bytes = |bytes| (progress.write)(progress.context, bytes);
            let loaded = match random_seed {
                Some(seed) => Sdxl::random(&Model::sdxl_base(path), &options, seed)?,
                None => {
                    let base = base.map(Model::open).transpose()?;
                    let model = Model::open_on(path, base.as_ref())?;
                    let model = match vae {
                        Some(vae) => model.with_vae(&vae)?,
                        None => model,
                    };
                    let model = model.with_controls(&controls)?;
                    Sdxl::load_merged(&model, &options, &loras, &mut on_bytes)?
                }
            };
            *model = Box::into_raw(Box::new(loaded)).cast();
        }
        Ok(())
    })
}

/// # Safety
/// `model` came from [`load`], and nobody else uses it meanwhile.
unsafe fn loaded<'a>(model: *mut Handle) -> &'a mut Sdxl {
    // SAFETY: by the contract of this function.
    unsafe { &mut *model.cast::<Sdxl>() }
}

/// # Safety
/// `canvases` are `count` different ones that came from [`begin`], and nobody else uses them
/// meanwhile.
unsafe fn begun<'a>(canvases: *const *mut CanvasHandle, count: usize) -> Vec<&'a mut SdxlCanvas> {
    // SAFETY: by the contract of this function.
    (0..count).map(|i| unsafe { &mut *(*canvases.add(i)).cast::<SdxlCanvas>() }).collect()
}

pub(crate) unsafe extern "C" fn begin(
    model: *mut Handle,
    requests: Text,
    count: usize,
    canvases: *mut *mut CanvasHandle,
    answer: Sink,
) -> i32 {
    answered_with(answer, || {
        // SAFETY: the caller's handle is a model; its message and `count` places live until we
        // return.
        unsafe {
            let requests: Vec<ResolvedRequest> = message(requests)?;
            if requests.len() != count {
                let fault = format!("there are {} requests and places for {count}", requests.len());
                return Err(Error::internal("beginning images", fault));
            }
            let drawn = loaded(model).begin(&requests)?;
            let answers =
                drawn.iter().map(|canvas| Begun { dropped_words: canvas.dropped_words().map(str::to_owned) });
            let answers: Vec<_> = answers.collect();
            for (i, canvas) in drawn.into_iter().enumerate() {
                *canvases.add(i) = Box::into_raw(Box::new(canvas)).cast();
            }
            Ok(answers)
        }
    })
}

pub(crate) unsafe extern "C" fn step(
    model: *mut Handle,
    canvases: *const *mut CanvasHandle,
    count: usize,
    answer: Sink,
) -> i32 {
    // SAFETY: the caller's handles are a model and its canvases.
    answered(answer, || unsafe { loaded(model).step(&mut begun(canvases, count)) })
}

pub(crate) unsafe extern "C" fn finish(
    model: *mut Handle,
    canvases: *const *mut CanvasHandle,
    count: usize,
    decoding: *mut *mut DecodingHandle,
    answer: Sink,
) -> i32 {
    answered(answer, || {
        // SAFETY: the caller's handles are a model and its canvases; its place for the decoding
        // lives until we return.
        unsafe {
            let canvases = begun(canvases, count);
            let canvases: Vec<&SdxlCanvas> = canvases.iter().map(|canvas| &**canvas).collect();
            let begun = loaded(model).finish(&canvases)?;
            *decoding = Box::into_raw(Box::new(begun)).cast();
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn preview(
    model: *mut Handle,
    canvas: *const CanvasHandle,
    image: ImageSink,
    answer: Sink,
) -> i32 {
    answered(answer, || {
        // SAFETY: the caller's handles are a model and its canvas; its sink lives until we return.
        unsafe {
            let preview = loaded(model).preview(&*canvas.cast::<SdxlCanvas>())?;
            write(image, &preview);
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn latents(
    model: *mut Handle,
    canvas: *const CanvasHandle,
    latents: LatentSink,
    answer: Sink,
) -> i32 {
    answered(answer, || {
        // SAFETY: the caller's handles are a model and its canvas; its sink lives until we return.
        unsafe {
            let Latents { values, shape } = loaded(model).latents(&*canvas.cast::<SdxlCanvas>())?;
            let [channels, height, width] = shape.map(|side| side as u32);
            (latents.write)(latents.context, channels, height, width, values.as_ptr());
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn flops(model: *const Handle) -> u64 {
    // SAFETY: the caller's handle is a model.
    unsafe { &*model.cast::<Sdxl>() }.step_flops()
}

pub(crate) unsafe extern "C" fn free(model: *mut Handle) {
    // SAFETY: the caller's handle came from `load`, and is freed once.
    quietly(|| drop(unsafe { Box::from_raw(model.cast::<Sdxl>()) }));
}

pub(crate) unsafe extern "C" fn canvas_state(canvas: *const CanvasHandle, state: *mut CanvasState) {
    // SAFETY: the caller's handle is a canvas, and its place for the state lives until we return.
    quietly(|| unsafe {
        let canvas = &*canvas.cast::<SdxlCanvas>();
        let [steps_done, steps, rows] =
            [canvas.steps_done(), canvas.steps(), canvas.rows()].map(|count| count as u64);
        *state = CanvasState { steps_done, steps, rows };
    });
}

pub(crate) unsafe extern "C" fn canvas_free(canvas: *mut CanvasHandle) {
    // SAFETY: the caller's handle came from `begin`, and is freed once.
    quietly(|| drop(unsafe { Box::from_raw(canvas.cast::<SdxlCanvas>()) }));
}

pub(crate) unsafe extern "C" fn decoding_wait(
    decoding: *mut DecodingHandle,
    images: ImageSink,
    answer: Sink,
) -> i32 {
    answered(answer, || {
        // SAFETY: the caller's handle came from `finish`, and is waited for once; its sink lives
        // until we return.
        unsafe {
            let decoding = Box::from_raw(decoding.cast::<Decoding>());
            decoding.wait()?.iter().for_each(|image| write(images, image));
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn decoding_free(decoding: *mut DecodingHandle) {
    // SAFETY: the caller's handle came from `finish`, and is freed once.
    quietly(|| drop(unsafe { Box::from_raw(decoding.cast::<Decoding>()) }));
}

/// # Safety
/// `images` lives as long as this call.
unsafe fn write(images: ImageSink, image: &RgbImage) {
    // SAFETY: by the contract of this function; an image has three bytes a pixel.
    unsafe { (images.write)(images.context, image.width(), image.height(), image.as_raw().as_ptr()) }
}
