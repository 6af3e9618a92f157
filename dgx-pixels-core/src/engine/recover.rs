//! Jobs of earlier runs: those that go on, those that were given up, and those that had ended.
//!
//! The journal says for each job of an earlier run whether it had ended, and how often the process
//! died while it ran. A job that was running at a death is a suspect: it runs before all others and
//! alone, so that the next death has one cause. A job at which the process died too often fails as
//! [`Error::ProcessDied`](crate::Error::ProcessDied).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::time::Instant;

use super::journal::{Entry, EntryState, Unfinished};
use super::shared::{Shared, State};
use super::task::Task;
use super::trace::Trace;
use super::{Describe, post};
use crate::backend::ModelInfo;
use crate::error::{Error, ErrorKind, one_line};
use crate::job::{Job, JobId};
use crate::submission::{Resolved, Submission};

/// The outcome that an earlier run had for a job.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Earlier {
    None,
    /// It accepted it, and ended before the job was done.
    Accepted,
    /// The process died while the job ran.
    Died,
}

/// Builds the task for a job.
pub(super) fn task(
    shared: &Shared,
    info: ModelInfo,
    id: JobId,
    submission: Submission,
    mut resolved: Resolved,
    submitted: Instant,
    earlier: Earlier,
) -> Task {
    // A record has names, not the paths of this machine.
    for (choice, lora) in resolved.request.lora.iter_mut().zip(&info.variant.loras) {
        choice.name.clone_from(&lora.name);
    }
    if let (Some(name), Some(vae)) = (&mut resolved.request.vae, &info.variant.vae) {
        name.clone_from(&vae.name);
    }
    for (choice, control) in resolved.request.control.iter_mut().zip(&info.variant.controls) {
        choice.model.clone_from(&control.name);
    }
    let results = shared.journal().map(|journal| journal.results().join(format!("{id}.png")));
    let output = submission.output.clone().or(results);
    let (client, model) = (submission.client.as_str().into(), (&*info.key()).into());
    let bytes = submission.bytes();
    let (_, writer) = Job::submitted_at(id, submission, submitted);
    Task {
        writer,
        trace: Trace::begin(id, &info.name, &resolved.request),
        bytes,
        info: Arc::new(info),
        resolved,
        output,
        client,
        model,
        recovered: earlier != Earlier::None,
        suspect: earlier == Earlier::Died,
        marks: AtomicUsize::new(0),
        alone: AtomicBool::new(false),
        attempts: AtomicUsize::new(0),
        steps_done: AtomicUsize::new(0),
        redraws: AtomicU32::new(0),
    }
}

/// Lets a task wait, and its job be cancelled while it does.
pub(super) fn push(shared: &Arc<Shared>, state: &mut State, task: Arc<Task>) {
    let number = state.queue.push(task.waiting());
    let weak = Arc::downgrade(shared);
    task.writer.on_cancel(move || {
        let Some(shared) = weak.upgrade() else { return };
        let waiting = shared.lock().queue.remove(number);
        match waiting {
            Some(waiting) => {
                let steps = waiting.item.steps();
                shared.fail(waiting.item, Error::Cancelled { steps_done: 0, steps });
            }
            None => shared.wake.notify_all(),
        }
    });
    state.tell_place(number, &task, shared.config.max_batch);
}

/// Takes up what an earlier run accepted and did not finish.
pub(super) fn recover(shared: &Arc<Shared>, describe: &Describe, unfinished: Vec<Unfinished>) -> Vec<Job> {
    let mut jobs = vec![];
    for Unfinished { id, mut submission, deaths } in unfinished {
        if let Some(inputs) = &shared.inputs {
            inputs.fill(&mut submission.request);
        }
        // A journal is a file: what it asks for passes the same door as a caller's request.
        let described =
            submission.validate().and_then(|()| describe(submission.model.as_deref(), &submission.request));
        let resolved = described.and_then(|info| Ok((submission.resolve(&info.defaults)?, info)));
        let job = match resolved {
            Ok((resolved, info)) => {
                let earlier = if deaths > 0 { Earlier::Died } else { Earlier::Accepted };
                let task = Arc::new(task(shared, info, id, submission, resolved, Instant::now(), earlier));
                let job = task.writer.job();
                let mut state = shared.lock();
                if task.suspect {
                    tracing::info!(job = %id, deaths, "the process died while this job ran; it runs alone now");
                    state.suspects += 1;
                }
                state.know(&job);
                push(shared, &mut state, task);
                job
            }
            // Its model may be there in another run: it stays accepted. What no model does ends.
            Err(error) => {
                tracing::warn!(job = %id, error = one_line(&error), "a job of an earlier run cannot be done in this one");
                if let (Err(error), Some(journal)) = (submission.validate(), shared.journal())
                    && let Err(error) = journal.failed(id, error.kind(), &one_line(&error)).wait()
                {
                    tracing::warn!(job = %id, error = one_line(&error), "the end of a job cannot be kept");
                }
                let (job, writer) = Job::new(id, submission);
                writer.fail(error);
                job
            }
        };
        shared.metrics.recovered.inc();
        jobs.push(job);
    }
    jobs
}

/// The jobs that failed as the engine started.
pub(super) fn given_up_jobs(shared: &Shared, given_up: Vec<JobId>) -> Result<Vec<Job>, Error> {
    let mut jobs = vec![];
    let Some(journal) = shared.journal() else { return Ok(jobs) };
    for id in given_up {
        let Some(entry) = journal.find(id)? else { continue };
        let job = restored(id, entry);
        if let Some(Err(error)) = job.result() {
            tracing::error!(job = %id, %error, "failed");
            shared.metrics.ended("failed", error.kind().as_str());
        }
        jobs.push(job);
    }
    Ok(jobs)
}

/// A job that ended in an earlier run, or was displaced from memory.
pub(super) fn restored(id: JobId, entry: Entry) -> Job {
    let (job, writer) = Job::new(id, entry.submission);
    match entry.state {
        EntryState::Finished(record) => match post::read_back(record) {
            Ok(finished) => writer.finish(finished),
            Err(error) => writer.fail(error),
        },
        EntryState::Failed { kind: ErrorKind::Cancelled, .. } => {
            let steps = job.submission().request.steps.unwrap_or_default();
            writer.fail(Error::Cancelled { steps_done: 0, steps })
        }
        EntryState::Failed { kind, message } => writer.fail(Error::Reported { kind, field: None, message }),
        EntryState::Accepted | EntryState::Writing(_) => writer.fail(Error::ShutDown),
    };
    job
}
