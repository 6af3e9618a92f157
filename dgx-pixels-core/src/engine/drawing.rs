//! The canvases of one device, and the calls of the backend that move them on: beginning, a step
//! for each, decoding.
//!
//! Nothing is chosen here. A round names the jobs that begin and the canvases that go a step, and
//! `plan.rs` cuts them into groups and calls. A call may fail, and `attempts.rs` has the answers.
//! Whatever the answer, each job of the call is afterwards in one of four places: it has a canvas
//! still, it waits in the queue, it was handed over, or it has failed.
//!
//! The device's thread holds the engine's lock only to count clients' turns and to put jobs back
//! into the queue, never during a call.

mod decode;
mod step;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::attempts::{Answer, answer};
use super::canvas::{Facts, Stage};
use super::guard::Panic;
use super::host::Host;
use super::plan::{Beat, spare};
use super::residence::{Call, CallKind};
use super::shared::Shared;
use super::task::Task;
use super::trace;
use crate::backend::{Backend, Canvas, Decoding, Latents, Models};
use crate::error::{Error, one_line};
use crate::job::JobEvent;
use crate::request::{ImageSize, ResolvedRequest};

/// The canvases of a collection of models.
type CanvasOf<M> = <<M as Models>::Backend as Backend>::Canvas;

/// A job and its number in the queue.
pub(super) type Numbered = (u64, Arc<Task>);

/// The canvases of a device, with the models that draw them.
pub(super) struct Drawing<M: Models> {
    shared: Arc<Shared>,
    pub(super) host: Host<M>,
    /// In the order in which they were begun.
    lives: Vec<Live<CanvasOf<M>>>,
    /// Taken from the queue, and not begun yet.
    pub(super) taken: Vec<Numbered>,
    /// The images that the device decodes.
    under_way: Option<UnderWay>,
    beat: Beat,
}

/// A job with its canvas.
struct Live<C> {
    task: Arc<Task>,
    canvas: C,
    /// The number in the queue, to which the job returns if its model is lost.
    number: u64,
    stage: Stage,
    begun: Instant,
    begin: Duration,
    /// The latents after the last step, if they are asked for.
    latents: Option<Latents>,
}

impl<C: Canvas> Live<C> {
    fn facts(&self) -> Facts {
        let (task, job) = (&self.task, self.task.writer.job());
        Facts {
            number: self.number,
            client: task.client.clone(),
            model: task.model.clone(),
            priority: job.submission().priority,
            submitted: task.writer.submitted(),
            deadline: task.deadline(),
            needs: task.needs(),
            rows: self.canvas.rows(),
            steps_left: self.canvas.steps() - self.canvas.steps_done(),
            stage: self.stage,
            is_alone: task.is_alone(),
            is_over: task.writer.cancel_asked() || job.result().is_some(),
        }
    }
}

/// Images of one size that the device decodes.
struct UnderWay {
    model: Arc<str>,
    size: ImageSize,
    numbers: Vec<u64>,
    decoding: Decoding,
    /// The time that it took to begin.
    begin: Duration,
}

impl<M: Models> Drawing<M> {
    pub(super) fn new(shared: Arc<Shared>, host: Host<M>) -> Self {
        Drawing { shared, host, lives: vec![], taken: vec![], under_way: None, beat: Beat::default() }
    }

    /// The facts of all canvases.
    pub(super) fn facts(&self) -> Vec<Facts> {
        self.lives.iter().map(Live::facts).collect()
    }

    /// Everybody who is lost if the device never comes back.
    fn everybody(&self, more: &[Numbered]) -> Vec<Arc<Task>> {
        let others = self.taken.iter().chain(more).map(|(_, task)| task.clone());
        self.lives.iter().map(|live| live.task.clone()).chain(others).collect()
    }

    /// Lets canvases go whose jobs were cancelled, came too late, or were given up by the watchdog.
    pub(super) fn release(&mut self, numbers: &[u64]) {
        for live in self.take(numbers) {
            let (steps_done, steps) = (live.canvas.steps_done(), live.canvas.steps());
            let error = if live.task.writer.cancel_asked() {
                Error::Cancelled { steps_done, steps }
            } else {
                live.task.too_late(steps_done)
            };
            self.shared.fail(live.task, error);
        }
    }

    /// Takes canvases out. Those that had steps to go count no more when clients take turns.
    fn take(&mut self, numbers: &[u64]) -> Vec<Live<CanvasOf<M>>> {
        let gone: Vec<_> = self.lives.extract_if(.., |live| numbers.contains(&live.number)).collect();
        let mut state = self.shared.lock();
        for live in gone.iter().filter(|live| live.stage == Stage::Denoising) {
            state.queue.leave(&live.task.client);
        }
        drop(state);
        gone
    }

    /// Begins canvases, those of one model together. Returns the numbers of those that were.
    pub(super) fn begin(&mut self, mut admitted: Vec<Numbered>) -> Vec<u64> {
        let mut begun = vec![];
        while let Some((_, first)) = admitted.first() {
            let model = first.model.clone();
            let (now, later) = admitted.into_iter().partition(|(_, task)| task.model == model);
            admitted = later;
            self.begin_some(&model, now, &mut begun);
        }
        begun
    }

    fn begin_some(&mut self, model: &str, mut tasks: Vec<Numbered>, begun: &mut Vec<u64>) {
        if !self.host.residence.is_loaded(model) {
            self.leave(&tasks);
            return self.requeue(tasks, false);
        }
        let alone = tasks.len() > 1 && tasks.iter().any(|(_, task)| task.is_alone());
        if alone {
            return tasks.into_iter().for_each(|task| self.begin_some(model, vec![task], begun));
        }
        let started = Instant::now();
        let requests: Vec<ResolvedRequest> = tasks.iter().map(|(_, task)| task.draw()).collect();
        tasks.iter().for_each(|(_, task)| task.trace.enter(trace::Stage::Encode));
        let everybody = self.everybody(&tasks);
        let call = Call { kind: CallKind::Begin, size: tasks[0].1.size(), rows: tasks.len() };
        match self.host.call(model, call, everybody, |backend| backend.begin(&requests)) {
            Ok(Ok(canvases)) => {
                let begin = started.elapsed();
                for ((number, task), canvas) in tasks.into_iter().zip(canvases) {
                    tracing::info!(job = %task.id(), device = &*self.host.name, "started");
                    task.trace.on(&self.host.name);
                    task.trace.enter(trace::Stage::Denoise);
                    task.writer.tell(JobEvent::Started { device: self.host.name.to_string() });
                    begun.push(number);
                    let (stage, begun, latents) = (Stage::Denoising, started, None);
                    self.lives.push(Live { task, canvas, number, stage, begun, begin, latents });
                }
            }
            Ok(Err(error)) if tasks.len() > 1 => {
                tracing::debug!(error = one_line(&error), "beginning canvases again in halves");
                let half = tasks.split_off(tasks.len() / 2);
                self.begin_some(model, tasks, begun);
                self.begin_some(model, half, begun);
            }
            Ok(Err(error)) => {
                self.leave(&tasks);
                tasks.into_iter().for_each(|(number, task)| self.failed(number, task, &error));
            }
            Err(panic) => {
                self.leave(&tasks);
                self.drop_model(model, panic, tasks);
            }
        }
    }

    /// A job that was alone in a call failed, and has left.
    fn failed(&mut self, number: u64, task: Arc<Task>, error: &Error) {
        let attempts = task.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        if answer(error, 1, attempts) != Answer::Again {
            return self.shared.fail(task, error.clone());
        }
        if self.lives.is_empty() {
            // Only a model that nobody has can still make room.
            let unused = {
                let state = self.shared.lock();
                let residence = &self.host.residence;
                let loaded = state.queue.first(|model| residence.is_loaded(model));
                spare(&state.queue, residence, &[], loaded, |_| false)
            };
            unused.into_iter().for_each(|model| self.evict(&model));
        }
        self.shared.rest(&task);
        self.shared.lock().queue.put(number, task.waiting());
    }

    /// They do not count any more when clients take turns.
    fn leave(&self, tasks: &[Numbered]) {
        let mut state = self.shared.lock();
        tasks.iter().for_each(|(_, task)| state.queue.leave(&task.client));
    }

    /// Back into the queue, to be begun anew. `alone`: from then on in calls of their own.
    fn requeue(&self, tasks: impl IntoIterator<Item = Numbered>, alone: bool) {
        let mut state = self.shared.lock();
        for (number, task) in tasks {
            task.alone.fetch_or(alone, Ordering::Relaxed);
            self.shared.rest(&task);
            state.queue.put(number, task.waiting());
        }
    }

    /// Drops a model to make room. No canvas has it, but one that left may still be decoded.
    pub(super) fn evict(&mut self, model: &str) {
        self.under_way.take_if(|under_way| *under_way.model == *model);
        self.host.evict(model);
    }

    /// A backend that panicked cannot be trusted: it goes, and its jobs are begun anew. Those that
    /// were in the call, which have left, go alone then; one that was alone in it is the cause, and
    /// fails.
    fn drop_model(&mut self, model: &str, panic: Panic, mut in_call: Vec<Numbered>) {
        self.shared.metrics.panics.with_label_values(&[&*self.host.name]).inc();
        let error = Error::from(panic);
        tracing::error!(
            device = &*self.host.name,
            error = one_line(&error),
            "a model is dropped, its jobs are begun anew"
        );
        self.under_way.take_if(|under_way| *under_way.model == *model);
        let of_model = self.lives.iter().filter(|live| *live.task.model == *model);
        let numbers: Vec<u64> = of_model.map(|live| live.number).collect();
        let lives: Vec<_> = self.take(&numbers).into_iter().map(|live| (live.number, live.task)).collect();
        self.host.drop_panicked(model);
        if in_call.len() == 1 {
            let (_, task) = in_call.remove(0);
            self.shared.fail(task, error);
        }
        self.requeue(in_call, true);
        self.requeue(lives, false);
    }

    /// Ends: what is left fails, decoded or not.
    pub(super) fn end(mut self) {
        self.host.end();
        for live in self.lives.drain(..) {
            self.shared.fail(live.task, Error::ShutDown);
        }
    }
}
