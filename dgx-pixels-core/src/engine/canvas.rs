//! A canvas as a plan sees it: plain facts, without its latents.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue::{Needs, Rank, standing};
use crate::request::ImageSize;
use crate::submission::Priority;

/// The progress of a canvas that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has steps to go.
    Denoising,
    /// Its last step was done at `since`, and it waits to be decoded.
    Stepped { since: Instant },
    /// The device decodes it.
    Decoding { since: Instant },
}

impl Stage {
    /// The time of the last step, if it is done.
    pub(super) fn stepped(self) -> Option<Instant> {
        match self {
            Stage::Denoising => None,
            Stage::Stepped { since } | Stage::Decoding { since } => Some(since),
        }
    }
}

/// The facts of one canvas.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The number in the queue, to which the job returns if its model is lost.
    pub(super) number: u64,
    /// The client whose turn it takes while it has steps to go.
    pub(super) client: Arc<str>,
    /// The key of its model.
    pub(super) model: Arc<str>,
    pub(super) priority: Priority,
    /// The time since which the job ages.
    pub(super) submitted: Instant,
    /// The time at which it is too late, if there is one.
    pub(super) deadline: Option<Instant>,
    /// The job's needs, by which it was admitted.
    pub(super) needs: Needs,
    /// The rows of its coming step.
    pub(super) rows: usize,
    /// The steps that it has to go.
    pub(super) steps_left: usize,
    pub(super) stage: Stage,
    /// It was in a call that panicked, and goes alone from then on.
    pub(super) is_alone: bool,
    /// Its job was cancelled, or has ended.
    pub(super) is_over: bool,
}

impl Facts {
    /// The size of its image.
    pub(super) fn size(&self) -> ImageSize {
        self.needs.size
    }

    /// `true` if it has steps to go.
    pub(super) fn is_denoising(&self) -> bool {
        self.stage == Stage::Denoising
    }

    /// `true` if it is not to go on.
    pub(super) fn is_to_leave(&self, now: Instant) -> bool {
        self.is_over || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Its rank beside the jobs that wait, turns aside.
    pub(super) fn rank(&self, now: Instant, ageing: Duration) -> Rank {
        let work = self.needs.work(self.steps_left);
        let (level, work) = standing(self.priority, work, self.submitted, now, ageing);
        Rank { level, turn: 0, work, number: self.number }
    }
}
