//! A backend without libtorch: it paints a seeded, mirrored figure, step by step.

use image::{Rgb, RgbImage, imageops};

use super::{Backend, Canvas, Decoding};
use crate::error::Error;
use crate::redraw::{GOLDEN, splitmix};
use crate::request::{DEFAULT_GUIDANCE, DEFAULT_STEPS, ImageSize, ModelDefaults, ResolvedRequest};
use crate::scheduler::SchedulerName;

/// Draws a mirrored figure of 8 px cells from the seed and the prompt, one band of it for each
/// step, on white or on the image that the request begins from. For tests of everything around a
/// backend, and for building without libtorch. Same request, same bytes, on every machine.
///
/// # Example
/// ```
/// use dgx_pixels_core::{GenerateRequest, backend::{Backend, Sketch}};
/// let mut sketch = Sketch;
/// let request = GenerateRequest { steps: Some(1), ..Default::default() };
/// let mut canvases = sketch.begin(&[request.resolve(&sketch.defaults())?])?;
/// sketch.step(&mut [&mut canvases[0]])?;
/// let image = &sketch.finish(&[&canvases[0]])?.wait()?[0];
/// assert_eq!(image.dimensions(), (256, 256));
/// assert_eq!(image.get_pixel(0, 0), image.get_pixel(255, 0));
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Sketch;

/// A figure on its way.
///
/// It holds the request and the number of steps that are done. The image is computed when it is
/// asked for, so a canvas takes no memory for pixels.
#[derive(Clone, Debug)]
pub struct SketchCanvas {
    request: ResolvedRequest,
    steps_done: usize,
}

impl Sketch {
    /// Pixels of a cell; sides are multiples of it.
    pub const CELL_PX: u32 = 8;
    /// The size of a picture where none is asked for.
    pub const NATIVE_SIZE: ImageSize = ImageSize { width: 256, height: 256 };
}

impl Backend for Sketch {
    type Canvas = SketchCanvas;

    fn defaults(&self) -> ModelDefaults {
        ModelDefaults {
            size: Sketch::NATIVE_SIZE,
            largest: Sketch::NATIVE_SIZE,
            multiple: Sketch::CELL_PX,
            steps: DEFAULT_STEPS,
            guidance_scale: DEFAULT_GUIDANCE,
            scheduler: SchedulerName::Euler,
            is_distilled: false,
            matte: Some(PAPER),
            needs_mask: false,
        }
    }

    fn begin(&mut self, requests: &[ResolvedRequest]) -> Result<Vec<SketchCanvas>, Error> {
        Ok(requests.iter().map(|request| SketchCanvas { request: request.clone(), steps_done: 0 }).collect())
    }

    fn step(&mut self, canvases: &mut [&mut SketchCanvas]) -> Result<(), Error> {
        for canvas in canvases {
            canvas.steps_done = canvas.steps().min(canvas.steps_done + 1);
        }
        Ok(())
    }

    fn finish(&mut self, canvases: &[&SketchCanvas]) -> Result<Decoding, Error> {
        Ok(canvases.iter().map(|canvas| canvas.draw()).collect::<Vec<_>>().into())
    }

    fn preview(&mut self, canvas: &SketchCanvas) -> Result<RgbImage, Error> {
        let (width, height) =
            (canvas.request.size.width / Sketch::CELL_PX, canvas.request.size.height / Sketch::CELL_PX);
        Ok(imageops::resize(&canvas.draw(), width, height, imageops::FilterType::Nearest))
    }
}

impl Canvas for SketchCanvas {
    fn request(&self) -> &ResolvedRequest {
        &self.request
    }

    fn steps_done(&self) -> usize {
        self.steps_done
    }

    fn steps(&self) -> usize {
        self.request.drawn_steps()
    }

    fn rows(&self) -> usize {
        self.request.rows(&Sketch.defaults())
    }
}

impl SketchCanvas {
    fn draw(&self) -> RgbImage {
        let ImageSize { width, height } = self.request.size;
        let start =
            self.request.prompt.bytes().fold(self.request.seed, |hash, byte| mix(hash ^ u64::from(byte)));
        let ink = mix(start).to_le_bytes();
        let drawn_px = height as usize * self.steps_done / self.steps();
        let prepared = self.request.prepared(PAPER);
        // An image to begin from is the paper, and its mask says where there is ink.
        let strength = self.request.strength.unwrap_or(1.0);
        RgbImage::from_fn(width, height, |x, y| {
            let paper = prepared.as_ref().map_or(Rgb(PAPER), |prepared| *prepared.image.get_pixel(x, y));
            let mask = prepared.as_ref().and_then(|prepared| prepared.mask.as_ref());
            let (column, row) = (x.min(width - 1 - x) / Sketch::CELL_PX, y / Sketch::CELL_PX);
            let chance = mix(start ^ (u64::from(column) << 32 | u64::from(row)));
            let filled = chance.is_multiple_of(3) && (chance >> 32) as f64 <= strength * f64::from(u32::MAX);
            let may_change = mask.is_none_or(|mask| mask.get_pixel(x, y)[0] > 0);
            if filled && may_change && (y as usize) < drawn_px {
                Rgb([ink[0], ink[1], ink[2]])
            } else {
                paper
            }
        })
    }
}

/// The color of what is not drawn.
const PAPER: [u8; 3] = [255; 3];

/// The next output of SplitMix64.
fn mix(state: u64) -> u64 {
    splitmix(state.wrapping_add(GOLDEN))
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::backend::paint;
    use crate::request::GenerateRequest;

    fn requests() -> Vec<GenerateRequest> {
        (0..3)
            .map(|seed| GenerateRequest {
                prompt: "a frog".into(),
                seed,
                steps: Some(2 + seed as usize),
                ..Default::default()
            })
            .collect()
    }

    #[test]
    fn three_together_equal_three_alone() {
        let together = paint(&mut Sketch, &requests(), |_| ControlFlow::Continue(())).unwrap();
        for (request, together) in requests().into_iter().zip(together) {
            let alone = paint(&mut Sketch, &[request], |_| ControlFlow::Continue(())).unwrap();
            assert_eq!(alone[0].image, together.image);
        }
    }

    #[test]
    fn breaking_off_reports_how_far_it_came() {
        let error = paint(&mut Sketch, &requests(), |progress| {
            if progress.steps_done == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "cancelled after 2 of 4 steps");
    }

    #[test]
    fn sides_must_divide_by_the_cell() {
        let request = GenerateRequest::default().with_size(ImageSize { width: 68, height: 64 });
        let error = paint(&mut Sketch, &[request], |_| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(error.to_string(), "`width` is 68; expected a multiple of 8, 64 to 2048");
    }
}
