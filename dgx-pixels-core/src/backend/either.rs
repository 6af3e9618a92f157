//! Two kinds of backends behind one type, for engines that serve models of both.

use image::RgbImage;

use super::{Backend, Canvas, Decoding, Latents};
use crate::error::Error;
use crate::request::{ModelDefaults, ResolvedRequest};

/// One of two backends, or a canvas of one of them. A canvas goes back to the backend that began
/// it.
///
/// # Example
/// ```
/// use dgx_pixels_core::GenerateRequest;
/// use dgx_pixels_core::backend::{Backend, Either, Sketch, begin};
///
/// let mut backend: Either<Sketch, Sketch> = Either::Second(Sketch);
/// let canvases = begin(&mut backend, &[GenerateRequest::default()])?;
/// assert!(matches!(canvases[0], Either::Second(_)));
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
pub enum Either<A, B> {
    /// The first kind.
    First(A),
    /// The second kind.
    Second(B),
}

impl<A, B> Either<A, B> {
    fn as_ref(&self) -> Either<&A, &B> {
        match self {
            Either::First(it) => Either::First(it),
            Either::Second(it) => Either::Second(it),
        }
    }

    fn as_mut(&mut self) -> Either<&mut A, &mut B> {
        match self {
            Either::First(it) => Either::First(it),
            Either::Second(it) => Either::Second(it),
        }
    }

    fn first(self) -> A {
        match self {
            Either::First(it) => it,
            Either::Second(_) => unreachable!("{FOREIGN}"),
        }
    }

    fn second(self) -> B {
        match self {
            Either::Second(it) => it,
            Either::First(_) => unreachable!("{FOREIGN}"),
        }
    }
}

const FOREIGN: &str = "the canvas is another model's; this is a bug";

impl<A: Backend, B: Backend> Backend for Either<A, B> {
    type Canvas = Either<A::Canvas, B::Canvas>;

    fn defaults(&self) -> ModelDefaults {
        match self {
            Either::First(backend) => backend.defaults(),
            Either::Second(backend) => backend.defaults(),
        }
    }

    fn begin(&mut self, requests: &[ResolvedRequest]) -> Result<Vec<Self::Canvas>, Error> {
        Ok(match self {
            Either::First(backend) => backend.begin(requests)?.into_iter().map(Either::First).collect(),
            Either::Second(backend) => backend.begin(requests)?.into_iter().map(Either::Second).collect(),
        })
    }

    fn step(&mut self, canvases: &mut [&mut Self::Canvas]) -> Result<(), Error> {
        let canvases = canvases.iter_mut().map(|canvas| canvas.as_mut());
        match self {
            Either::First(backend) => backend.step(&mut canvases.map(Either::first).collect::<Vec<_>>()),
            Either::Second(backend) => backend.step(&mut canvases.map(Either::second).collect::<Vec<_>>()),
        }
    }

    fn finish(&mut self, canvases: &[&Self::Canvas]) -> Result<Decoding, Error> {
        let canvases = canvases.iter().map(|canvas| canvas.as_ref());
        match self {
            Either::First(backend) => backend.finish(&canvases.map(Either::first).collect::<Vec<_>>()),
            Either::Second(backend) => backend.finish(&canvases.map(Either::second).collect::<Vec<_>>()),
        }
    }

    fn preview(&mut self, canvas: &Self::Canvas) -> Result<RgbImage, Error> {
        match self {
            Either::First(backend) => backend.preview(canvas.as_ref().first()),
            Either::Second(backend) => backend.preview(canvas.as_ref().second()),
        }
    }

    fn latents(&mut self, canvas: &Self::Canvas) -> Result<Latents, Error> {
        match self {
            Either::First(backend) => backend.latents(canvas.as_ref().first()),
            Either::Second(backend) => backend.latents(canvas.as_ref().second()),
        }
    }
}

impl<A: Canvas, B: Canvas> Either<A, B> {
    fn canvas(&self) -> &dyn Canvas {
        match self {
            Either::First(canvas) => canvas,
            Either::Second(canvas) => canvas,
        }
    }
}

impl<A: Canvas, B: Canvas> Canvas for Either<A, B> {
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
