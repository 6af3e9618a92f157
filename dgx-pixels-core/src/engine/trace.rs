//! The spans of a job, for OpenTelemetry: `job` over all of it, and inside it one for each stage.
//!
//! Without a subscriber that takes spans of level `info`, no span is made.

use std::sync::{Mutex, PoisonError};

use tracing::{Span, field, info_span};

use crate::job::JobId;
use crate::request::ResolvedRequest;

/// The stages that have spans.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    Queue,
    Encode,
    Denoise,
    Decode,
    Pixels,
    File,
}

/// The open spans of one job.
pub(super) struct Trace(Mutex<Spans>);

struct Spans {
    job: Span,
    /// The span of the stage that the job is in.
    stage: Span,
}

impl Trace {
    /// Begins the span of a job, inside the one that this thread is in.
    pub(super) fn begin(id: JobId, model: &str, request: &ResolvedRequest) -> Trace {
        let job = info_span!(
            "job",
            job = %id,
            model,
            width = request.size.width,
            height = request.size.height,
            steps = request.steps,
            device = field::Empty,
            kind = field::Empty,
            otel.status_code = field::Empty,
        );
        Trace(Mutex::new(Spans { job, stage: Span::none() }))
    }

    /// Ends the stage before, and begins this one.
    pub(super) fn enter(&self, stage: Stage) {
        self.with(|Spans { job, stage: current }| {
            if job.is_none() {
                return;
            }
            *current = Span::none();
            *current = match stage {
                Stage::Queue => info_span!(parent: &*job, "queue"),
                Stage::Encode => info_span!(parent: &*job, "encode"),
                Stage::Denoise => info_span!(parent: &*job, "denoise"),
                Stage::Decode => info_span!(parent: &*job, "decode"),
                Stage::Pixels => info_span!(parent: &*job, "pixels"),
                Stage::File => info_span!(parent: &*job, "file"),
            };
        });
    }

    /// Says which device draws it.
    pub(super) fn on(&self, device: &str) {
        self.with(|spans| {
            spans.job.record("device", device);
        });
    }

    /// The span of the job; none after its end.
    pub(super) fn span(&self) -> Span {
        self.with(|spans| spans.job.clone())
    }

    /// Ends all spans. `kind` is that of the job's error.
    pub(super) fn end(&self, kind: Option<&str>) {
        self.with(|spans| {
            if let Some(kind) = kind {
                spans.job.record("kind", kind).record("otel.status_code", "ERROR");
            }
            *spans = Spans { job: Span::none(), stage: Span::none() };
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Spans) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
