//! A job on its way: its bar, its end, and what is said of it.

use std::sync::Arc;
use std::time::Duration;

use dgx_pixels_core::Error;
use dgx_pixels_core::job::{Finished, Job};
use dgx_pixels_core::picture_file::{Made, picture_png, sprite_png};
use image::DynamicImage;

use crate::failure::{Failure, counted};
use crate::interrupt;
use crate::progress::Bar;

/// The longest time that Ctrl-C may stay unnoticed.
pub(crate) const GLANCE: Duration = Duration::from_millis(20);

/// Waits for a job's end while a bar shows where it stands.
///
/// # Errors
/// The job's own; [`Failure::Interrupted`] once Ctrl-C is pressed: the engine is to be shut down
/// then.
pub(crate) fn follow(job: &Job, quiet: bool) -> Result<Arc<Finished>, Failure> {
    let bar = Bar::job(quiet);
    let mut events = job.events();
    loop {
        interrupt::check()?;
        let ended = job.wait_for(GLANCE);
        while let Some(Some(event)) = events.unseen() {
            bar.show(&event);
        }
        if let Some(result) = ended {
            return Ok(result?);
        }
    }
}

/// The PNG file of an image that says it was made as `made`.
///
/// # Errors
/// As [`sprite_png`].
pub(crate) fn png(finished: &Finished, made: &Made) -> Result<Vec<u8>, Error> {
    match made.pixel {
        Some(_) => sprite_png(&finished.image, Some(made)),
        None => picture_png(&DynamicImage::ImageRgba8(finished.image.clone()).into_rgb8(), made),
    }
}

/// Says which seed was used instead of the one that was asked for; `None` if that one was.
pub(crate) fn redrawn(finished: &Finished) -> Option<String> {
    let (seed, redraws) = (finished.made.request.seed, finished.redraws);
    (redraws > 0).then(|| {
        let times = counted(redraws as usize, "draw");
        format!("{times} gave a sprite without a visible pixel; it is drawn with seed {seed} instead")
    })
}
