//! An accepted job on its way through the engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Instant;

use super::queue::{Needs, Waiting};
use super::trace::{Stage, Trace};
use crate::backend::ModelInfo;
use crate::error::Error;
use crate::job::{JobId, JobWriter};
use crate::redraw::redraw_seed;
use crate::request::{ImageSize, ResolvedRequest};
use crate::submission::Resolved;

/// One accepted job, on its way.
pub(super) struct Task {
    pub(super) writer: JobWriter,
    pub(super) trace: Trace,
    pub(super) info: Arc<ModelInfo>,
    /// The request with every default filled in.
    pub(super) resolved: Resolved,
    /// The path of the job's file, if it writes one.
    pub(super) output: Option<PathBuf>,
    pub(super) client: Arc<str>,
    /// Bytes that it takes while it waits.
    pub(super) bytes: u64,
    pub(super) model: Arc<str>,
    /// Taken up again after an earlier run ended without it.
    pub(super) recovered: bool,
    /// The process died while it ran: it runs before all others, and no other beside it.
    pub(super) suspect: bool,
    /// Reasons for which the journal knows that it runs: it is drawn, or its model is loaded for
    /// it.
    pub(super) marks: AtomicUsize,
    /// It was in a call that panicked, and goes alone from then on.
    pub(super) alone: AtomicBool,
    /// Times it was begun.
    pub(super) attempts: AtomicUsize,
    /// The steps that are done in the present draw.
    pub(super) steps_done: AtomicUsize,
    /// Times it was drawn again, as the sprite had no visible pixel.
    pub(super) redraws: AtomicU32,
}

impl Task {
    pub(super) fn id(&self) -> JobId {
        self.writer.job().id()
    }

    /// The request as it is drawn now, from its beginning, with the seed of this draw.
    pub(super) fn draw(&self) -> ResolvedRequest {
        self.steps_done.store(0, Ordering::Relaxed);
        ResolvedRequest {
            seed: self.seed(self.redraws.load(Ordering::SeqCst)),
            ..self.resolved.request.clone()
        }
    }

    /// The seed of a draw.
    pub(super) fn seed(&self, redraw: u32) -> u64 {
        redraw_seed(self.resolved.request.seed, redraw)
    }

    pub(super) fn size(&self) -> ImageSize {
        self.resolved.request.size
    }

    pub(super) fn steps(&self) -> usize {
        self.resolved.request.drawn_steps()
    }

    /// The rows that it takes in a forward pass with guidance.
    fn rows(&self) -> usize {
        self.resolved.request.rows(&self.info.defaults)
    }

    /// None for a deadline past the end of the clock.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.writer.submitted().checked_add(self.writer.job().submission().deadline?)
    }

    /// Begins to wait in the queue.
    pub(super) fn waiting(self: &Arc<Task>) -> Waiting<Arc<Task>> {
        self.trace.enter(Stage::Queue);
        Waiting {
            item: self.clone(),
            model: self.model.clone(),
            client: self.client.clone(),
            priority: self.writer.job().submission().priority,
            first: self.suspect,
            since: self.writer.submitted(),
            deadline: self.deadline(),
            steps: self.steps(),
            work: self.work(self.steps()),
            bytes: self.bytes,
            needs: self.needs(),
        }
    }

    /// The facts that decide how much memory it needs.
    pub(super) fn needs(&self) -> Needs {
        Needs { size: self.size(), rows: self.rows(), weight_bytes: self.info.weight_bytes }
    }

    /// The work of this many of its steps.
    pub(super) fn work(&self, steps: usize) -> u64 {
        self.needs().work(steps)
    }

    pub(super) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// Its deadline has passed, after so many steps.
    pub(super) fn too_late(&self, steps_done: usize) -> Error {
        let deadline = self.writer.job().submission().deadline.unwrap_or_default();
        Error::DeadlineExceeded { deadline, steps_done, steps: self.steps() }
    }
}
