//! A model that the loaded libtorch computes.

use std::ffi::c_void;
use std::path::Path;
use std::ptr;

use image::RgbImage;

use super::{Libtorch, json, text};
use crate::abi::{self, Begun, ByteSink, CanvasState, ImageSink, LatentSink, Load};
use crate::backend::{Backend, Canvas, Decoding, Latents, Variant};
use crate::error::Error;
use crate::model::{Model, Options};
use crate::request::{ModelDefaults, ResolvedRequest};

/// An SDXL model on one device.
pub struct LoadedModel {
    libtorch: Libtorch,
    model: *mut abi::Model,
    defaults: ModelDefaults,
}

// SAFETY: the border lets a model be used by any thread, one at a time.
unsafe impl Send for LoadedModel {}

/// An image on its way.
pub struct LoadedCanvas {
    libtorch: Libtorch,
    canvas: *mut abi::Canvas,
    request: ResolvedRequest,
    dropped_words: Option<String>,
    state: CanvasState,
}

// SAFETY: as of `LoadedModel`.
unsafe impl Send for LoadedCanvas {}

impl LoadedModel {
    /// Loads a model's weights. `on_bytes` hears of the bytes on the device so far.
    ///
    /// # Errors
    /// [`Error::Device`]; [`Error::Model`]; [`Error::OutOfMemory`].
    pub fn load(
        libtorch: Libtorch,
        model: &Model,
        options: &Options,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<LoadedModel, Error> {
        LoadedModel::load_changed(libtorch, model, options, &Variant::default(), on_bytes)
    }

    /// Loads a model as [`load`](Self::load) does, as the files in `variant` change it.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), and [`Error::Model`] for a file that is for another model.
    pub fn load_changed(
        libtorch: Libtorch,
        model: &Model,
        options: &Options,
        variant: &Variant,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<LoadedModel, Error> {
        let (path, base) = (model.path.clone(), model.base_path().map(Path::to_owned));
        let (loras, vae) = (variant.loras.clone(), variant.vae.as_ref().map(|vae| vae.path.clone()));
        let controls = variant.controls.clone();
        let load = Load { path, base, loras, vae, controls, options: *options, random_seed: None };
        LoadedModel::new(libtorch, &load, model.defaults(), on_bytes)
    }

    /// SDXL base at its full size with weights drawn at random: speed does not depend on their
    /// values. Of the model in `path` the tokenizers alone are read.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub fn random(
        libtorch: Libtorch,
        path: &Path,
        options: &Options,
        seed: u64,
    ) -> Result<LoadedModel, Error> {
        let (path, seed) = (path.to_owned(), Some(seed));
        let load = Load {
            path: path.clone(),
            base: None,
            loras: vec![],
            vae: None,
            controls: vec![],
            options: *options,
            random_seed: seed,
        };
        LoadedModel::new(libtorch, &load, Model::sdxl_base(path).defaults(), &mut |_| ())
    }

    fn new(
        libtorch: Libtorch,
        load: &Load,
        defaults: ModelDefaults,
        mut on_bytes: &mut dyn FnMut(u64),
    ) -> Result<LoadedModel, Error> {
        unsafe extern "C" fn report(context: *mut c_void, bytes: u64) {
            // SAFETY: `context` is the listener of the call that is under way, on this thread.
            unsafe { (*context.cast::<&mut dyn FnMut(u64)>())(bytes) }
        }
        let load = json(load);
        let progress = ByteSink { context: (&raw mut on_bytes).cast(), write: report };
        let mut model = ptr::null_mut();
        // SAFETY: the message, the listener and the place for the model outlive the call.
        libtorch.call(|answer| unsafe {
            (libtorch.functions.model_load)(text(&load), progress, &mut model, answer)
        })?;
        Ok(LoadedModel { libtorch, model, defaults })
    }

    /// The multiplications and additions of the UNet in the last step, for all canvases of one size
    /// together.
    pub fn step_flops(&self) -> u64 {
        // SAFETY: the model is loaded.
        unsafe { (self.libtorch.functions.model_flops)(self.model) }
    }
}

impl Drop for LoadedModel {
    fn drop(&mut self) {
        // SAFETY: the model was loaded by `new` and is freed once.
        unsafe { (self.libtorch.functions.model_free)(self.model) }
    }
}

impl Drop for LoadedCanvas {
    fn drop(&mut self) {
        // SAFETY: the canvas was begun by its model and is freed once.
        unsafe { (self.libtorch.functions.canvas_free)(self.canvas) }
    }
}

impl LoadedCanvas {
    fn read_state(&mut self) {
        // SAFETY: the canvas lives, and so does the place for its state.
        unsafe { (self.libtorch.functions.canvas_state)(self.canvas, &mut self.state) }
    }
}

impl Backend for LoadedModel {
    type Canvas = LoadedCanvas;

    fn defaults(&self) -> ModelDefaults {
        self.defaults.clone()
    }

    fn begin(&mut self, requests: &[ResolvedRequest]) -> Result<Vec<LoadedCanvas>, Error> {
        let message = json(&requests);
        let mut canvases = vec![ptr::null_mut(); requests.len()];
        // SAFETY: the model is loaded; the message and as many places as requests outlive the call.
        let begun: Vec<Begun> = self.libtorch.ask(|answer| unsafe {
            (self.libtorch.functions.model_begin)(
                self.model,
                text(&message),
                requests.len(),
                canvases.as_mut_ptr(),
                answer,
            )
        })?;
        let canvases = canvases.into_iter().zip(requests).zip(begun).map(|((canvas, request), begun)| {
            let mut canvas = LoadedCanvas {
                libtorch: self.libtorch,
                canvas,
                request: request.clone(),
                dropped_words: begun.dropped_words,
                state: CanvasState::default(),
            };
            canvas.read_state();
            canvas
        });
        Ok(canvases.collect())
    }

    fn step(&mut self, canvases: &mut [&mut LoadedCanvas]) -> Result<(), Error> {
        let handles: Vec<_> = canvases.iter().map(|canvas| canvas.canvas).collect();
        // SAFETY: the model and its canvases live.
        self.libtorch.call(|answer| unsafe {
            (self.libtorch.functions.model_step)(self.model, handles.as_ptr(), handles.len(), answer)
        })?;
        canvases.iter_mut().for_each(|canvas| canvas.read_state());
        Ok(())
    }

    fn finish(&mut self, canvases: &[&LoadedCanvas]) -> Result<Decoding, Error> {
        let handles: Vec<_> = canvases.iter().map(|canvas| canvas.canvas).collect();
        let mut decoding = ptr::null_mut();
        // SAFETY: the model and its canvases live, and so does the place for the decoding.
        self.libtorch.call(|answer| unsafe {
            (self.libtorch.functions.model_finish)(
                self.model,
                handles.as_ptr(),
                handles.len(),
                &mut decoding,
                answer,
            )
        })?;
        let waiting = Waiting { libtorch: self.libtorch, decoding };
        Ok(Decoding::new(move || waiting.wait()))
    }

    fn preview(&mut self, canvas: &LoadedCanvas) -> Result<RgbImage, Error> {
        let mut images = vec![];
        // SAFETY: the model, the canvas and the place for the image live.
        self.libtorch.call(|answer| unsafe {
            (self.libtorch.functions.model_preview)(
                self.model,
                canvas.canvas,
                image_sink(&mut images),
                answer,
            )
        })?;
        images.pop().ok_or_else(|| Error::internal("drawing a preview", "libtorch wrote no image"))
    }

    fn latents(&mut self, canvas: &LoadedCanvas) -> Result<Latents, Error> {
        unsafe extern "C" fn write(
            context: *mut c_void,
            channels: u32,
            height: u32,
            width: u32,
            values: *const f32,
        ) {
            // SAFETY: `context` is the place of the call that is under way, on this thread; there
            // are as many values as the shape says.
            unsafe {
                let shape = [channels, height, width].map(|side| side as usize);
                let values = std::slice::from_raw_parts(values, shape.iter().product()).to_vec();
                *context.cast::<Option<Latents>>() = Some(Latents { values, shape });
            }
        }
        let mut latents: Option<Latents> = None;
        let sink = LatentSink { context: (&raw mut latents).cast(), write };
        // SAFETY: the model, the canvas and the place for the latents live.
        self.libtorch.call(|answer| unsafe {
            (self.libtorch.functions.model_latents)(self.model, canvas.canvas, sink, answer)
        })?;
        latents.ok_or_else(|| Error::internal("reading latents", "libtorch wrote none"))
    }
}

impl Canvas for LoadedCanvas {
    fn request(&self) -> &ResolvedRequest {
        &self.request
    }

    fn steps_done(&self) -> usize {
        self.state.steps_done as usize
    }

    fn steps(&self) -> usize {
        self.state.steps as usize
    }

    fn rows(&self) -> usize {
        self.state.rows as usize
    }

    fn dropped_words(&self) -> Option<&str> {
        self.dropped_words.as_deref()
    }
}

/// Images that are being decoded.
struct Waiting {
    libtorch: Libtorch,
    decoding: *mut abi::Decoding,
}

// SAFETY: the border lets any thread wait.
unsafe impl Send for Waiting {}

impl Waiting {
    fn wait(mut self) -> Result<Vec<RgbImage>, Error> {
        let decoding = std::mem::replace(&mut self.decoding, ptr::null_mut());
        let mut images = vec![];
        // SAFETY: the decoding lives, and is freed by this call; the place for the images outlives
        // it.
        self.libtorch.call(|answer| unsafe {
            (self.libtorch.functions.decoding_wait)(decoding, image_sink(&mut images), answer)
        })?;
        Ok(images)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.decoding.is_null() {
            // SAFETY: nobody has waited for the decoding, so it is freed here.
            unsafe { (self.libtorch.functions.decoding_free)(self.decoding) }
        }
    }
}

fn image_sink(images: &mut Vec<RgbImage>) -> ImageSink {
    unsafe extern "C" fn write(context: *mut c_void, width: u32, height: u32, rgb: *const u8) {
        // SAFETY: `context` is the list of the call that is under way, on this thread; `rgb` has
        // three bytes a pixel.
        unsafe {
            let bytes = std::slice::from_raw_parts(rgb, width as usize * height as usize * 3);
            let image = RgbImage::from_raw(width, height, bytes.to_vec());
            (*context.cast::<Vec<RgbImage>>()).extend(image);
        }
    }
    ImageSink { context: (images as *mut Vec<RgbImage>).cast(), write }
}
