//! The denoising step as the unit of work, and the loop that drives it.

mod either;
mod host;
mod sketch;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use image::RgbImage;

pub use either::Either;
pub use host::{DeviceMemory, Memory, ModelInfo, Models, Sketches, Unmetered, Variant, refuse_changes};
pub use sketch::{Sketch, SketchCanvas};

use crate::error::Error;
use crate::request::{GenerateRequest, Generated, ModelDefaults, ResolvedRequest, Timings};
use crate::value_error::ValueError;

/// Paints images one denoising step at a time. Owned by one thread; never shared.
///
/// A backend is a state machine of canvases: [`begin`](Self::begin), as many calls of
/// [`step`](Self::step) as [`Canvas::steps`] says, then [`finish`](Self::finish). Canvases of
/// different sizes, schedulers and progress may be in one call, so an engine can let a request join
/// at any step.
///
/// A request's image must not depend on the canvases that share its calls. The engine relies on it:
/// it groups canvases as memory allows. `Sdxl` keeps to it up to the order of sums.
pub trait Backend: Send {
    /// One image on its way: conditioning, latents, and how far it has come.
    type Canvas: Canvas;

    /// Returns the model's values for what a request leaves open.
    fn defaults(&self) -> ModelDefaults;

    /// Encodes the prompts, together where that can be, and draws the noise. No step is run yet. As
    /// many canvases as requests, in their order. The requests are resolved with this backend's
    /// [`defaults`](Self::defaults).
    ///
    /// # Errors
    /// [`Error::Request`] if the model cannot do what one of them asks; [`Error::OutOfMemory`].
    /// Nothing is left behind.
    ///
    /// A canvas draws its noise from its own request's seed, so that it does not depend on its
    /// neighbors.
    fn begin(&mut self, requests: &[ResolvedRequest]) -> Result<Vec<Self::Canvas>, Error>;

    /// Advances every canvas by one step, each at its own timestep and with its own guidance.
    /// Canvases that are done stay as they are. Those that can share a forward pass do.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the device refused an allocation. No canvas has moved: try again
    /// with half of them.
    fn step(&mut self, canvases: &mut [&mut Self::Canvas]) -> Result<(), Error>;

    /// Begins to decode finished canvases to pixels. The pictures are waited for with what comes
    /// back; until then other calls may be made, and the canvases may go.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], and whatever else is known before the pictures are there.
    fn finish(&mut self, canvases: &[&Self::Canvas]) -> Result<Decoding, Error>;

    /// The picture as it would be if it ended here, coarse and in rough colours, for a small part
    /// of a step's time.
    ///
    /// # Errors
    /// As [`finish`](Backend::finish) and [`Decoding::wait`].
    fn preview(&mut self, canvas: &Self::Canvas) -> Result<RgbImage, Error>;

    /// Returns the latents of a canvas as it is now.
    ///
    /// # Errors
    /// [`Error::Value`] if the model has none, which is the default; [`Error::OutOfMemory`].
    fn latents(&mut self, _canvas: &Self::Canvas) -> Result<Latents, Error> {
        Err(ValueError::new("latents", "true", "`false`, as this model has no latents").into())
    }
}

/// Latents as plain numbers.
///
/// # Example
/// ```
/// use dgx_pixels_core::backend::Latents;
/// // A 1024x1024 image of SDXL: 4 channels, a latent for each 8x8 pixels.
/// let latents = Latents { values: vec![0.0; 4 * 128 * 128], shape: [4, 128, 128] };
/// assert_eq!(latents.values.len(), latents.shape.iter().product::<usize>());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Latents {
    /// `[channels, height, width]`, row by row: as the scheduler leaves them, and diffusers returns
    /// them for `output_type="latent"`.
    pub values: Vec<f32>,
    /// Channels, height and width in latent pixels.
    pub shape: [usize; 3],
}

/// Pictures that a device may still be at work on. Dropped, they are not waited for.
///
/// # Example
/// ```
/// use dgx_pixels_core::backend::Decoding;
/// use image::RgbImage;
/// // Images that are there already need no wait.
/// let decoding = Decoding::from(vec![RgbImage::new(8, 8)]);
/// assert_eq!(decoding.wait()?[0].dimensions(), (8, 8));
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
pub struct Decoding(Box<dyn FnOnce() -> Result<Vec<RgbImage>, Error> + Send>);

impl Decoding {
    /// Pictures that `wait` waits for, as many as canvases and in their order. It is called once,
    /// or not at all.
    ///
    /// # Example
    /// ```
    /// use std::thread;
    /// use dgx_pixels_core::Error;
    /// use dgx_pixels_core::backend::Decoding;
    /// use image::RgbImage;
    ///
    /// // The work goes on while the caller does something else.
    /// let work = thread::spawn(|| vec![RgbImage::new(8, 8)]);
    /// let decoding = Decoding::new(move || work.join().map_err(|_| Error::internal("decoding", "it panicked")));
    /// assert_eq!(decoding.wait()?.len(), 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(wait: impl FnOnce() -> Result<Vec<RgbImage>, Error> + Send + 'static) -> Decoding {
        Decoding(Box::new(wait))
    }

    /// The pictures, once they are there, in the order of the canvases.
    ///
    /// # Errors
    /// [`Error::NotFinite`] rather than a black picture.
    pub fn wait(self) -> Result<Vec<RgbImage>, Error> {
        (self.0)()
    }
}

/// Pictures that are there.
impl From<Vec<RgbImage>> for Decoding {
    fn from(pictures: Vec<RgbImage>) -> Decoding {
        Decoding::new(move || Ok(pictures))
    }
}

/// An image that is being drawn, and its progress.
///
/// The engine asks for these facts between two calls, so they must be cheap: fields of the canvas,
/// and nothing that a device has to compute.
pub trait Canvas: Send {
    /// Returns the request that is drawn.
    fn request(&self) -> &ResolvedRequest;
    /// UNet evaluations done.
    fn steps_done(&self) -> usize;
    /// UNet evaluations in all; more than the request's steps for `heun`. Default: the request's
    /// steps.
    fn steps(&self) -> usize {
        self.request().steps
    }
    /// Returns the rows of the coming forward pass: 2 with guidance, 1 without. Default: 1.
    fn rows(&self) -> usize {
        1
    }
    /// Words of the prompts that did not fit the tokenizers' length. Default: none, for a backend
    /// that drops no words.
    fn dropped_words(&self) -> Option<&str> {
        None
    }
}

/// The progress of a batch, reported after each step.
///
/// The remaining time is about `(steps - steps_done) * step_time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Steps done by the image that has done the fewest.
    pub steps_done: usize,
    /// Steps of the image that has the most.
    pub steps: usize,
    /// The duration of the last step.
    pub step_time: Duration,
}

/// Resolves `requests` with the backend's own defaults, and begins a canvas for each.
///
/// # Errors
/// [`Error::Request`] if one of them cannot be drawn, and those of [`Backend::begin`]. Nothing is
/// left behind.
///
/// # Example
/// ```
/// use dgx_pixels_core::GenerateRequest;
/// use dgx_pixels_core::backend::{Canvas, Sketch, begin};
/// let request = GenerateRequest { steps: Some(4), ..Default::default() };
/// let canvases = begin(&mut Sketch, &[request])?;
/// assert_eq!((canvases[0].steps_done(), canvases[0].steps()), (0, 4));
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
pub fn begin<B: Backend>(backend: &mut B, requests: &[GenerateRequest]) -> Result<Vec<B::Canvas>, Error> {
    let defaults = backend.defaults();
    let resolved =
        requests.iter().map(|request| request.resolve(&defaults)).collect::<Result<Vec<_>, _>>()?;
    backend.begin(&resolved)
}

/// Draws `requests` together: the simplest way through a [`Backend`], for one caller with one
/// batch.
///
/// `on_step` hears of progress after the beginning (0 steps done) and after each step, and may stop
/// it there.
///
/// # Errors
/// What the backend reports, or [`Error::Cancelled`] if `on_step` broke off.
///
/// # Example
/// ```
/// use std::ops::ControlFlow;
/// use dgx_pixels_core::{GenerateRequest, backend::{Sketch, paint}};
/// let request = GenerateRequest { prompt: "a brass key".into(), steps: Some(4), ..Default::default() };
/// let mut seen = 0;
/// let drawn = paint(&mut Sketch, &[request], |progress| {
///     seen = progress.steps_done;
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!((drawn.len(), seen), (1, 4));
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
pub fn paint<B: Backend>(
    backend: &mut B,
    requests: &[GenerateRequest],
    mut on_step: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Vec<Generated>, Error> {
    let started = Instant::now();
    let mut canvases = begin(backend, requests)?;
    let begun = started.elapsed();

    let steps = canvases.iter().map(Canvas::steps).max().unwrap_or(0);
    let mut step_time = Duration::ZERO;
    for steps_done in 0..=steps {
        if on_step(Progress { steps_done, steps, step_time }).is_break() {
            return Err(Error::Cancelled { steps_done, steps });
        }
        if steps_done < steps {
            let before = Instant::now();
            backend.step(&mut canvases.iter_mut().collect::<Vec<_>>())?;
            step_time = before.elapsed();
        }
    }
    let denoise = started.elapsed() - begun;

    let images = backend.finish(&canvases.iter().collect::<Vec<_>>())?.wait()?;
    let timings = Timings { begin: begun, denoise, finish: started.elapsed() - begun - denoise };
    Ok(canvases
        .iter()
        .zip(images)
        .map(|(canvas, image)| Generated {
            image,
            request: canvas.request().clone(),
            dropped_words: canvas.dropped_words().map(str::to_owned),
            timings,
        })
        .collect())
}
