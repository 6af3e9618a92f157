//! The thread of one device: it alone owns models and canvases. It asks for a plan, acts, and asks
//! again (`plan.rs`).
//!
//! A plan is made under the engine's lock, and what it changes of the shared state is changed under
//! the same lock: jobs are taken from the queue or refused, and the device's books are kept. Calls
//! of the backend, and everything else that takes time, come after the lock is released. Sleeping
//! releases it too, so that a change after the plan wakes the thread.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::canvas::Facts;
use super::drawing::{Drawing, Numbered};
use super::host::Host;
use super::journal::Pending;
use super::plan::{Next, Round, Situation, plan};
use super::shared::{Shared, State};
use crate::backend::Models;
use crate::error::{Error, one_line};

pub(super) struct Worker<M: Models> {
    shared: Arc<Shared>,
    drawing: Drawing<M>,
}

impl<M: Models> Worker<M> {
    pub(super) fn new(shared: Arc<Shared>, host: Host<M>) -> Self {
        Worker { drawing: Drawing::new(shared.clone(), host), shared }
    }

    /// Serves until the engine ends.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let canvases = self.drawing.facts();
            let mut state = shared.lock();
            let now = Instant::now();
            self.keep_house(&mut state, &canvases, now);
            let next = self.plan(&state, &canvases, now);
            match next {
                Next::End => break,
                Next::Sleep(nap) => {
                    drop(shared.wake.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner));
                }
                Next::Round(round) => {
                    let admitted = take(&mut state, &round.begin);
                    state.devices[self.drawing.host.index].canvases += admitted.len();
                    drop(state);
                    self.round(admitted, round);
                }
                Next::Load(number) => {
                    let Some(waiting) = state.queue.get(number) else { continue };
                    let task = waiting.item.clone();
                    state.devices[self.drawing.host.index].models.push(task.model.clone());
                    drop(state);
                    self.drawing.host.load(&task, canvases.is_empty());
                }
                Next::Refuse(numbers) => {
                    for number in numbers {
                        let Some(refused) = state.queue.remove(number) else { continue };
                        let error = self.drawing.host.over_budget(&refused.item);
                        shared.fail(refused.item, error);
                    }
                }
                Next::Release(numbers) => {
                    drop(state);
                    self.drawing.release(&numbers);
                }
                Next::TakeModel => {
                    drop(state);
                    self.drawing.host.take_loaded();
                }
                Next::Measure(model) => {
                    drop(state);
                    self.drawing.host.measure(&model);
                }
                Next::Evict(model) => {
                    drop(state);
                    self.drawing.evict(&model);
                }
                Next::Open => {
                    drop(state);
                    self.drawing.host.open();
                }
            }
        }
        self.drawing.take_decoded();
        self.end();
    }

    /// Makes the changes that depend on time alone, and tells how this device stands.
    fn keep_house(&self, state: &mut State, canvases: &[Facts], now: Instant) {
        state.queue.rise(now);
        for late in state.queue.expire(now) {
            let error = late.item.too_late(0);
            self.shared.fail(late.item, error);
        }
        state.announce(now, self.shared.config.max_batch);
        let host = &self.drawing.host;
        let device = &mut state.devices[host.index];
        device.canvases = canvases.len();
        device.steps_left = canvases.iter().map(|canvas| canvas.steps_left).sum();
        self.shared.metrics.running.with_label_values(&[&*host.name]).set(canvases.len() as i64);
    }

    fn plan(&self, state: &State, canvases: &[Facts], now: Instant) -> Next {
        let host = &self.drawing.host;
        let others = state.devices.iter().enumerate();
        let others = others.filter(|(index, device)| *index != host.index && device.up);
        let elsewhere: Vec<_> = others.flat_map(|(_, device)| device.models.iter().cloned()).collect();
        plan(&Situation {
            now,
            config: &self.shared.config,
            course: state.course,
            queue: &state.queue,
            canvases,
            residence: &host.residence,
            used_bytes: host.used_bytes(),
            is_open: host.is_open,
            loading: host.loading(),
            elsewhere: &elsewhere,
            pace: state.devices[host.index].pace,
            unwritten: self.shared.posts.unwritten(),
            suspects: state.suspects,
            is_quiet: self.shared.is_quiet(state),
        })
    }

    /// A round: begins jobs, goes a step, and decodes.
    fn round(&mut self, admitted: Vec<Numbered>, Round { mut step, .. }: Round) {
        let marks = self.shared.mark(admitted.iter().map(|(_, task)| task));
        self.drawing.taken = admitted;
        if !marks.is_empty() && !step.is_empty() {
            // The disk syncs meanwhile; those that are begun go with the others from the next round
            // on.
            self.drawing.step(&step);
            self.begin_marked(marks);
        } else {
            step.extend(self.begin_marked(marks));
            self.drawing.step(&step);
        }
        self.drawing.take_decoded();
        self.drawing.decode();
    }

    /// Begins what was taken once the journal knows it. Returns the numbers of those that were.
    fn begin_marked(&mut self, marks: Vec<Pending>) -> Vec<u64> {
        for error in marks.into_iter().filter_map(|mark| mark.wait().err()) {
            // Without it they run all the same: only a death of the process would not be counted.
            tracing::warn!(error = one_line(&error), "the journal does not know that a job runs");
        }
        let taken = std::mem::take(&mut self.drawing.taken);
        self.drawing.begin(taken)
    }

    /// Everything that is left when the engine stops.
    fn end(self) {
        let index = self.drawing.host.index;
        self.drawing.end();
        let mut state = self.shared.lock();
        state.devices[index].up = false;
        if state.devices.iter().all(|device| !device.up) {
            for waiting in state.queue.drain(None) {
                self.shared.fail(waiting.item, Error::ShutDown);
            }
        }
    }
}

/// Takes jobs from the queue, to be begun.
fn take(state: &mut State, numbers: &[u64]) -> Vec<Numbered> {
    let take = |number: &u64| Some((*number, state.queue.take(*number)?.item));
    numbers.iter().filter_map(take).collect()
}
