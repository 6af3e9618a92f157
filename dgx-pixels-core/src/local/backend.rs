//! One backend for both kinds of models: it forwards to the sketch or to SDXL.

use image::RgbImage;

use super::libtorch::{Sdxl, SdxlCanvas};
use crate::backend::{Backend, Canvas, Decoding, Sketch, SketchCanvas};
use crate::error::Error;
use crate::request::{ModelDefaults, ResolvedRequest};

/// A loaded model of [`LocalModels`](super::LocalModels).
pub struct LocalBackend(Either<Sketch, Box<Sdxl>>);

/// An image that a [`LocalBackend`] draws.
pub struct LocalCanvas(Either<SketchCanvas, Box<SdxlCanvas>>);

enum Either<S, T> {
    Sketch(S),
    Sdxl(T),
}

impl<S, T> Either<S, T> {
    fn as_ref(&self) -> Either<&S, &T> {
        match self {
            Either::Sketch(it) => Either::Sketch(it),
            Either::Sdxl(it) => Either::Sdxl(it),
        }
    }

    fn as_mut(&mut self) -> Either<&mut S, &mut T> {
        match self {
            Either::Sketch(it) => Either::Sketch(it),
            Either::Sdxl(it) => Either::Sdxl(it),
        }
    }

    fn sketch(self) -> S {
        match self {
            Either::Sketch(it) => it,
            Either::Sdxl(_) => unreachable!("{FOREIGN}"),
        }
    }

    fn sdxl(self) -> T {
        match self {
            Either::Sdxl(it) => it,
            Either::Sketch(_) => unreachable!("{FOREIGN}"),
        }
    }
}

const FOREIGN: &str = "the canvas is another model's; this is a bug";

impl LocalBackend {
    pub(super) fn sketch() -> LocalBackend {
        LocalBackend(Either::Sketch(Sketch))
    }

    pub(super) fn sdxl(sdxl: Sdxl) -> LocalBackend {
        LocalBackend(Either::Sdxl(Box::new(sdxl)))
    }
}

impl Backend for LocalBackend {
    type Canvas = LocalCanvas;

    fn defaults(&self) -> ModelDefaults {
        match &self.0 {
            Either::Sketch(sketch) => sketch.defaults(),
            Either::Sdxl(sdxl) => sdxl.defaults(),
        }
    }

    fn begin(&mut self, requests: &[ResolvedRequest]) -> Result<Vec<LocalCanvas>, Error> {
        Ok(match &mut self.0 {
            Either::Sketch(sketch) => {
                let canvases = sketch.begin(requests)?.into_iter();
                canvases.map(|canvas| LocalCanvas(Either::Sketch(canvas))).collect()
            }
            Either::Sdxl(sdxl) => {
                let canvases = sdxl.begin(requests)?.into_iter();
                canvases.map(|canvas| LocalCanvas(Either::Sdxl(Box::new(canvas)))).collect()
            }
        })
    }

    fn step(&mut self, canvases: &mut [&mut LocalCanvas]) -> Result<(), Error> {
        let canvases = canvases.iter_mut().map(|canvas| canvas.0.as_mut());
        match &mut self.0 {
            Either::Sketch(sketch) => sketch.step(&mut canvases.map(Either::sketch).collect::<Vec<_>>()),
            Either::Sdxl(sdxl) => {
                sdxl.step(&mut canvases.map(|canvas| &mut **canvas.sdxl()).collect::<Vec<_>>())
            }
        }
    }

    fn finish(&mut self, canvases: &[&LocalCanvas]) -> Result<Decoding, Error> {
        let canvases = canvases.iter().map(|canvas| canvas.0.as_ref());
        match &mut self.0 {
            Either::Sketch(sketch) => sketch.finish(&canvases.map(Either::sketch).collect::<Vec<_>>()),
            Either::Sdxl(sdxl) => sdxl.finish(&canvases.map(|canvas| &**canvas.sdxl()).collect::<Vec<_>>()),
        }
    }

    fn preview(&mut self, canvas: &LocalCanvas) -> Result<RgbImage, Error> {
        let canvas = canvas.0.as_ref();
        match &mut self.0 {
            Either::Sketch(sketch) => sketch.preview(canvas.sketch()),
            Either::Sdxl(sdxl) => sdxl.preview(canvas.sdxl()),
        }
    }
}

impl LocalCanvas {
    fn canvas(&self) -> &dyn Canvas {
        match &self.0 {
            Either::Sketch(canvas) => canvas,
            Either::Sdxl(canvas) => &**canvas,
        }
    }
}

impl Canvas for LocalCanvas {
    fn request(&self) -> &ResolvedRequest {
        self.canvas().request()
    }

    fn steps_done(&self) -> usize {
        self.canvas().steps_done()
    }

    fn steps(&self) -> usize {
        self.canvas().steps()
    }

    fn rows(&self) -> usize {
        self.canvas().rows()
    }

    fn dropped_words(&self) -> Option<&str> {
        self.canvas().dropped_words()
    }
}
