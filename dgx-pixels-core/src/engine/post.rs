//! After the device: pixel stages, files, the journal, and only then the news that a job has ended.
//!
//! Two threads take the images of all devices, so that a device never waits for a disk. A worker
//! begins no new job while 64 decoded images wait here.
//!
//! The order of a job's end is fixed: the sprite, its file, the journal, then the event. A client
//! that hears of the end therefore finds the file, also after a crash. A job whose sprite has no
//! visible pixel returns to the queue with the seed of the next draw.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use image::DynamicImage;

use super::guard::panic_message;
use super::handover::{Decoded, Post};
use super::journal::{NOWHERE, Record};
use super::shared::{Course, Shared};
use super::task::Task;
use super::trace::Stage;
use crate::error::{Cause, Error, ErrorKind, one_line};
use crate::files::write_whole;
use crate::files::{MAX_PICTURE_BYTES, read_regular};
use crate::job::{Finished, JobEvent, JobTimings};
use crate::picture_file::{Made, is_ours, picture_png, sidecar, sprite_png, write_sprite};
use crate::pixel::{Certificate, Pixelized, is_empty, pixelize};
use crate::redraw::MOST_REDRAWS;

/// The models' hashes, which take seconds the first time.
pub(super) type Hashes = Arc<dyn Fn(&str) -> Result<Option<String>, Error> + Send + Sync>;

/// Takes what is handed over until nothing comes any more.
pub(super) fn run(shared: &Shared, hashes: &Hashes) {
    while let Some(post) = shared.posts.take() {
        match post {
            Post::Decoded(decoded) => {
                let (task, number) = (decoded.task.clone(), decoded.number);
                let span = task.trace.span();
                let _entered = span.enter();
                let last_step = decoded.last_step;
                let result = catch_unwind(AssertUnwindSafe(|| finish(shared, hashes, *decoded)));
                let result = match result {
                    Ok(Ok(Some(finished))) => Some(Ok(finished)),
                    Ok(Ok(None)) => draw_again(shared, &task, number).err().map(Err),
                    Ok(Err(error)) => Some(Err(error)),
                    Err(panic) => Some(Err(Error::internal("making a sprite", panic_message(&*panic)))),
                };
                shared.posts.written();
                shared.lock().observe_tail(last_step.elapsed());
                if let Some(result) = result {
                    end(shared, &task, result);
                }
                shared.wake.notify_all();
            }
            Post::Failed { task, error } => end(shared, &task, Err(error)),
        }
    }
}

/// The finished job; `None` if the sprite has no visible pixel.
fn finish(shared: &Shared, hashes: &Hashes, decoded: Decoded) -> Result<Option<Finished>, Error> {
    let Decoded { task, mut image, latents, request, dropped_words, device, mut timings, .. } = decoded;

    // 1. the sprite
    let started = Instant::now();
    let made = Made {
        request,
        pixel: task.resolved.pixel.clone(),
        model: task.info.name.clone(),
        model_hash: hashes(&task.info.name)?,
        dtype: task.info.dtype.clone(),
        device: device.split(':').next().unwrap_or(&device).to_owned(),
        vae_tiling: task.info.vae_tiling,
        mode: task.info.mode.clone(),
        program: env!("CARGO_PKG_VERSION").into(),
        libtorch: task.info.libtorch.clone(),
        licence: task.info.licence.clone(),
        lora_hashes: task.info.variant.loras.iter().map(|lora| lora.hash.clone()).collect(),
        vae_hash: task.info.variant.vae.as_ref().map(|vae| vae.hash.clone()),
        control_hashes: task.info.variant.controls.iter().map(|one| one.hash.clone()).collect(),
        inversions: task.info.variant.inversions.clone(),
        prediction_type: task.info.variant.prediction_type,
        zero_snr: task.info.variant.zero_snr,
    };
    shared.note_place(&task, "making the sprite");
    task.trace.enter(Stage::Pixels);
    if let Some(prepared) = task.info.defaults.matte.and_then(|matte| task.resolved.request.prepared(matte)) {
        prepared.restore(&mut image);
    }
    let picture = || DynamicImage::ImageRgb8(image.clone()).into_rgba8();
    let mut pixelized = match &task.resolved.pixel {
        Some(options) => Some(pixelize(&picture(), options)?),
        None => None,
    };
    if let (Some(made), Some(options)) = (&mut pixelized, &task.resolved.pixel)
        && task.resolved.request.restore(&mut made.sprite)
    {
        let palette = options.palette.as_ref().map(|palette| palette.colors());
        made.certificate = Certificate::of(&made.sprite, palette, options.wrap());
    }
    shared.note_place(&task, NOWHERE);
    timings.pixel = started.elapsed();
    if pixelized.as_ref().is_some_and(|pixelized| is_empty(&pixelized.sprite)) {
        return Ok(None);
    }
    shared.rest(&task);
    let redraws = task.redraws.load(Ordering::SeqCst);

    // 2. its file
    if let Some(path) = &task.output {
        task.trace.enter(Stage::File);
        let bytes = match &pixelized {
            Some(pixelized) => sprite_png(&pixelized.sprite, Some(&made))?,
            None => picture_png(&image, &made)?,
        };
        timings.total = task.writer.submitted().elapsed();
        let record = Record {
            path: path.clone(),
            blake3: blake3::hash(&bytes).to_hex().to_string(),
            verdict: pixelized.as_ref().map(|made| made.verdict),
            certificate: pixelized.as_ref().map(|made| made.certificate),
            dropped_words: dropped_words.clone(),
            redraws,
            timings,
        };
        write(shared, &task, &record, &bytes, pixelized.as_ref())?;
    }
    timings.total = task.writer.submitted().elapsed();
    let (image, verdict, certificate) = match pixelized {
        Some(made) => (made.sprite, Some(made.verdict), Some(made.certificate)),
        None => (picture(), None, None),
    };
    let path = task.output.clone();
    Ok(Some(Finished { image, made, redraws, verdict, certificate, dropped_words, latents, path, timings }))
}

/// Puts a job whose sprite has no visible pixel back to where it stood in the queue, to be drawn
/// with another seed.
///
/// # Errors
/// [`Error::EmptySprite`] after the last redraw; why it cannot be drawn any more.
fn draw_again(shared: &Shared, task: &Arc<Task>, number: u64) -> Result<(), Error> {
    let redraw = task.redraws.load(Ordering::SeqCst) + 1;
    if redraw > MOST_REDRAWS {
        return Err(Error::EmptySprite { seeds: (0..redraw).map(|redraw| task.seed(redraw)).collect() });
    }
    shared.rest(task);
    let mut state = shared.lock();
    // From here on a cancellation finds it in the queue.
    if task.writer.cancel_asked() {
        let steps = task.steps();
        return Err(Error::Cancelled { steps_done: steps, steps });
    }
    if let Some(error) = state.gone() {
        return Err(error);
    }
    if state.course == Course::Stop || task.writer.job().result().is_some() {
        return Err(Error::ShutDown);
    }
    task.redraws.store(redraw, Ordering::SeqCst);
    let seed = task.seed(redraw);
    tracing::info!(job = %task.id(), redraw, seed, "the sprite has no visible pixel and is drawn again");
    shared.metrics.redraws.inc();
    task.writer.tell(JobEvent::Redraw { redraw, seed });
    state.queue.put(number, task.waiting());
    Ok(())
}

/// The journal knows what the file will be before it is there: a run that is killed in between is
/// understood by the next.
fn write(
    shared: &Shared,
    task: &Task,
    record: &Record,
    bytes: &[u8],
    pixelized: Option<&Pixelized>,
) -> Result<(), Error> {
    let force = task.writer.job().submission().force;
    if let Some(journal) = shared.journal() {
        journal.writing(task.id(), record).wait()?;
    }
    match pixelized {
        Some(pixelized) => {
            if task.recovered {
                // An earlier run may have been killed between the two files.
                let beside = sidecar(&record.path);
                if is_ours(&beside) {
                    let _ = fs::remove_file(beside);
                }
            }
            write_sprite(&record.path, bytes, &pixelized.certificate, force)?;
        }
        None => write_whole(&record.path, bytes, force)?,
    }
    match shared.journal() {
        Some(journal) => journal.finished(task.id()).wait(),
        None => Ok(()),
    }
}

/// Tells everybody, the journal first.
fn end(shared: &Shared, task: &Task, result: Result<Finished, Error>) {
    let id = task.id();
    let metrics = &shared.metrics;
    if task.writer.job().result().is_some() {
        // The watchdog gave it up before.
        return;
    }
    let result = match (result, shared.journal()) {
        // What was not done for want of an engine is done by the next.
        (Err(error), Some(journal)) if error.kind() != ErrorKind::ShutDown => {
            let told = journal.failed(id, error.kind(), &one_line(&error)).wait();
            if let Err(journal_error) = told {
                let journal_error = one_line(&journal_error);
                tracing::error!(job = %id, journal_error, "the journal does not know that a job failed");
            }
            Err(error)
        }
        (result, _) => {
            if result.is_err() {
                shared.rest(task);
            }
            result
        }
    };
    let bytes = result.as_ref().map_or(0, |finished| {
        finished.image.len() + finished.latents.as_ref().map_or(0, |latents| size_of_val(&*latents.values))
    });
    match result {
        Ok(finished) => {
            let JobTimings { waiting, begin, denoise, finish, pixel, total } = finished.timings;
            for (stage, time) in
                super::metrics::STAGES.into_iter().zip([waiting, begin, denoise, finish, pixel, total])
            {
                metrics.stage(stage, time);
            }
            tracing::info!(job = %id, seconds = total.as_secs_f64(), "finished");
            metrics.ended("finished", "");
            task.trace.end(None);
            task.writer.finish(finished);
        }
        Err(error) => {
            let kind = error.kind();
            let outcome = if kind == ErrorKind::Cancelled { "cancelled" } else { "failed" };
            tracing::info!(job = %id, kind = kind.as_str(), error = one_line(&error), outcome);
            metrics.ended(outcome, kind.as_str());
            task.trace.end(Some(kind.as_str()));
            task.writer.fail(error);
        }
    }
    let mut state = shared.lock();
    state.ended(id, bytes);
    if task.suspect {
        state.suspects -= 1;
        shared.wake.notify_all();
    }
}

/// A finished job of an earlier run, from its record and its file.
///
/// # Errors
/// [`Error::Output`] if the file is gone, or another.
pub(super) fn read_back(record: Record) -> Result<Finished, Error> {
    let path = record.path;
    let bytes = read_regular(&path, MAX_PICTURE_BYTES)
        .map_err(|error| Error::output(&path, ("it was written, and cannot be read again", error)))?;
    if blake3::hash(&bytes).to_hex().as_str() != record.blake3 {
        return Err(Error::output(path, "it was written, and has changed since"));
    }
    let made = Made::read(&bytes).map_err(|error| Error::output(&path, Cause::from(error)))?;
    let image = image::load_from_memory(&bytes).map_err(|error| Error::output(&path, Cause::from(error)))?;
    Ok(Finished {
        image: image.into_rgba8(),
        made,
        verdict: record.verdict,
        certificate: record.certificate,
        dropped_words: record.dropped_words,
        latents: None,
        redraws: record.redraws,
        path: Some(path),
        timings: record.timings,
    })
}
