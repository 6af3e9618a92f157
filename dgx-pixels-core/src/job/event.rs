//! The events of a job, and its result.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use image::{RgbImage, RgbaImage};
use serde::{Deserialize, Serialize};

use crate::backend::Latents;
use crate::error::Error;
use crate::picture_file::Made;
use crate::pixel::{Certificate, Verdict};

/// The events of a job, in this order. One of the last three ends the job, once. After
/// [`Redraw`](JobEvent::Redraw) the order begins anew.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum JobEvent {
    /// The job waits.
    Queued {
        /// 1 is the next.
        position: usize,
        /// The time until it is finished; `None` while nothing was measured yet.
        eta: Option<Duration>,
    },
    /// The job's model is being loaded.
    Loading {
        /// The model's name.
        model: String,
        /// The bytes of the weights that are loaded so far.
        bytes_done: u64,
        /// The bytes of all weights.
        bytes: u64,
    },
    /// The prompt is encoded, and the first step comes.
    Started {
        /// The name of the device, for example `cuda:0`.
        device: String,
    },
    /// A step is done.
    Step {
        /// Steps done.
        n: usize,
        /// Steps in all.
        of: usize,
        /// The duration of this step, with the others that shared it.
        step_time: Duration,
        /// The time until the image is finished.
        eta: Duration,
    },
    /// The picture as it is after `n` steps, about one pixel for each latent.
    Preview {
        /// Steps done.
        n: usize,
        /// Coarse, and in rough colours.
        image: Arc<RgbImage>,
    },
    /// The sprite had no visible pixel, and is drawn again with another seed.
    Redraw {
        /// 1 for the second draw.
        redraw: u32,
        /// The seed of the draw that comes: [`redraw_seed`](crate::redraw_seed) of the request's
        /// seed.
        seed: u64,
    },
    /// The job is done; where a file was asked for, the file is there.
    Finished(Arc<Finished>),
    /// The job failed, with the error that says why.
    Failed(Error),
    /// The job was stopped on request.
    Cancelled {
        /// Steps that were done.
        steps_done: usize,
        /// Steps that were asked for.
        steps: usize,
    },
}

impl JobEvent {
    /// `true` if no event comes after this one.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Error;
    /// use dgx_pixels_core::job::JobEvent;
    ///
    /// assert!(!JobEvent::Queued { position: 1, eta: None }.is_end());
    /// assert!(JobEvent::Failed(Error::ShutDown).is_end());
    /// assert!(JobEvent::Cancelled { steps_done: 3, steps: 30 }.is_end());
    /// ```
    pub fn is_end(&self) -> bool {
        matches!(self, JobEvent::Finished(_) | JobEvent::Failed(_) | JobEvent::Cancelled { .. })
    }
}

/// A finished picture.
///
/// # Example
/// ```
/// use dgx_pixels_core::Submission;
/// use dgx_pixels_core::backend::{Sketches, Unmetered};
/// use dgx_pixels_core::engine::{Engine, EngineConfig};
///
/// let engine = Engine::start(Sketches, vec![Box::new(Unmetered("cpu".into()))], EngineConfig::default())?;
/// let finished = engine.submit(Submission::of("a brass key"))?.wait()?;
/// assert!(finished.certificate.as_ref().unwrap().one_bit_alpha);
/// assert_eq!((finished.path.as_ref(), finished.made.request.steps), (None, 30));
/// assert!(finished.timings.total >= finished.timings.denoise);
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Finished {
    /// The sprite; or the model's picture, with alpha 255, where no pixel stages were asked for.
    pub image: RgbaImage,
    /// The provenance of the image: drawing this again gives the same image. After redraws its seed
    /// is that of the last one.
    pub made: Made,
    /// Times that it was drawn again, as the sprite had no visible pixel; the seed of each is
    /// [`redraw_seed`](crate::redraw_seed) of the submission's.
    pub redraws: u32,
    /// The verdict on the grid; `None` without pixel stages.
    pub verdict: Option<Verdict>,
    /// The properties that the sprite keeps to; `None` without pixel stages.
    pub certificate: Option<Certificate>,
    /// Words of the prompts that did not fit the tokenizers' length.
    pub dropped_words: Option<String>,
    /// The latents, if the submission asks for them.
    pub latents: Option<Latents>,
    /// The file, if one was written.
    pub path: Option<PathBuf>,
    /// The time that each part of the job took.
    pub timings: JobTimings,
}

/// The time that each part of one job took. Work that is shared with other jobs is reported whole.
///
/// A stage that the job did not need is zero. `total` is larger than the sum of the
/// others if the job waited between two stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTimings {
    /// The time from submission to the first work on the job.
    pub waiting: Duration,
    /// Tokenizing, text encoders, first noise.
    pub begin: Duration,
    /// The time from the first step to the last, pauses included.
    pub denoise: Duration,
    /// VAE decode, to pixels in memory, and waiting for it.
    pub finish: Duration,
    /// Pixel stages.
    pub pixel: Duration,
    /// The time from submission to the finished file.
    pub total: Duration,
}
