//! The thread of one device: it alone owns models and canvases. Between steps it lets canvases in
//! and out.
//!
//! A round is: drop the canvases that were cancelled or are too late, choose, begin, step, decode.
//! The choice puts the canvases that are live and the jobs that wait into one order, so that a more
//! urgent job takes the place of a canvas, which pauses and keeps its state. A job joins if its
//! canvas and the most expensive call of one image fit beside the others.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::journal::Pending;
use super::pace::together;
use super::queue::{Rank, level};
use super::residence::{Loaded, Loading};
use super::shared::{Course, Shared, State, Task, work};
use crate::backend::Canvas;
use crate::backend::{DeviceMemory, Latents, Models};
use crate::error::{Error, one_line};

/// Decoded pictures that may wait to be written before no new job is begun.
const MOST_UNWRITTEN: usize = 64;
/// Longest sleep while there is nothing to do; changes wake it.
const NAP: Duration = Duration::from_millis(500);

pub(super) struct Worker<M: Models> {
    pub(super) shared: Arc<Shared>,
    pub(super) models: Arc<M>,
    pub(super) device: Box<dyn DeviceMemory>,
    pub(super) name: Arc<str>,
    /// The index of the engine's device.
    pub(super) index: usize,
    /// `true` once the device is in use.
    pub(super) is_open: bool,
    /// Most bytes that may be used; `None` where memory is not counted.
    pub(super) budget: Option<u64>,
    pub(super) loaded: Vec<Loaded<M::Backend>>,
    pub(super) loading: Option<Loading<M::Backend>>,
    /// The job for which a model is loaded and measured.
    pub(super) loading_for: Option<Arc<Task>>,
    /// Taken from the queue, and not begun yet.
    pub(super) taken: Vec<(u64, Arc<Task>)>,
    /// The duration of the last round of steps.
    pub(super) round: Duration,
    /// The recent average time to decode an image.
    pub(super) finish_each: Duration,
}

/// A job with its canvas.
pub(super) struct Live<C> {
    pub(super) task: Arc<Task>,
    pub(super) canvas: C,
    /// The number in the queue, to which the job returns if its model is lost.
    pub(super) number: u64,
    pub(super) begun: Instant,
    pub(super) begin: Duration,
    /// The time at which its last step was done; from then on it waits to be decoded.
    pub(super) stepped: Option<Instant>,
    /// The latents after the last step, if they are asked for.
    pub(super) latents: Option<Latents>,
}

/// The work of the next round.
#[derive(Default)]
struct Chosen {
    /// Taken from the queue, to be begun.
    admitted: Vec<(u64, Arc<Task>)>,
    /// The canvases that were live before and advance by a step.
    run: Vec<u64>,
}

impl<M: Models> Worker<M> {
    /// Serves until the engine ends.
    pub(super) fn run(mut self) {
        loop {
            self.take_loaded();
            self.sweep();
            self.ready_the_rest();
            self.end_loading();
            let Some(chosen) = self.choose() else { break };
            let Chosen { admitted, mut run } = chosen;
            let marks = self.shared.mark(admitted.iter().map(|(_, task)| task));
            self.taken = admitted;
            if !marks.is_empty() && !run.is_empty() {
                // The disk syncs meanwhile; those that are begun go with the others from the next
                // round on.
                self.step(&run);
                run.clear();
                self.begin_marked(marks);
            } else {
                run.extend(self.begin_marked(marks));
                self.step(&run);
            }
            self.take_decoded();
            self.decode();
        }
        self.take_decoded();
        self.end();
    }

    /// Begins what was taken once the journal knows it. The numbers of those that were.
    fn begin_marked(&mut self, marks: Vec<Pending>) -> Vec<u64> {
        for error in marks.into_iter().filter_map(|mark| mark.wait().err()) {
            // Without it they run all the same: only a death of the process would not be counted.
            tracing::warn!(error = one_line(&error), "the journal does not know that a job runs");
        }
        let taken = std::mem::take(&mut self.taken);
        self.begin(taken)
    }

    /// All its canvases, decoded or not.
    pub(super) fn lives(&self) -> impl Iterator<Item = &Live<CanvasOf<M>>> {
        self.loaded.iter().flat_map(|loaded| loaded.live.iter().chain(&loaded.done))
    }

    /// Lets those go that were cancelled, came too late, or were given up by the watchdog.
    fn sweep(&mut self) {
        let now = Instant::now();
        let mut gone = vec![];
        for loaded in &mut self.loaded {
            for lives in [&mut loaded.live, &mut loaded.done] {
                gone.extend(lives.extract_if(.., |live| {
                    let writer = &live.task.writer;
                    writer.cancel_asked()
                        || live.task.deadline().is_some_and(|deadline| deadline <= now)
                        || writer.job().result().is_some()
                }));
            }
        }
        for live in gone {
            let (steps_done, steps) = (live.canvas.steps_done(), live.canvas.steps());
            let error = if live.task.writer.cancel_asked() {
                Error::Cancelled { steps_done, steps }
            } else {
                live.task.too_late(steps_done)
            };
            self.left(&live);
            self.shared.fail(live.task, error);
        }
    }

    /// A live one leaves; only those that still had steps to go stand in others' way.
    pub(super) fn left(&self, live: &Live<CanvasOf<M>>) {
        if live.stepped.is_none() {
            self.shared.lock().queue.leave(&live.task.client);
        }
    }

    /// Waits until there is something to do, and says what; `None` at the end.
    fn choose(&mut self) -> Option<Chosen> {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        loop {
            let now = Instant::now();
            if state.course == Course::Stop {
                return None;
            }
            self.keep_house(&mut state, now);
            if !self.is_open && state.queue.len() > 0 {
                drop(state);
                self.open();
                state = shared.lock();
                continue;
            }
            let chosen = self.merge(&mut state, now);
            let decodes = self.loaded.iter().any(|loaded| !loaded.done.is_empty());
            if !chosen.admitted.is_empty() || !chosen.run.is_empty() || decodes {
                return Some(chosen);
            }
            // A sprite that is being made may come back to be drawn again.
            let idle = state.queue.len() == 0
                && self.loading.is_none()
                && shared.unwritten.load(Ordering::SeqCst) == 0;
            if idle && state.course == Course::Drain {
                return None;
            }
            if self.loading.as_ref().is_some_and(Loading::is_done) {
                return Some(Chosen::default());
            }
            let until_change = state.queue.next_change().map(|at| at.saturating_duration_since(now));
            let company = self.waits_for_company(&state, now);
            let nap = until_change.into_iter().chain(company).fold(NAP, Duration::min);
            state = shared
                .wake
                .wait_timeout(state, nap.max(Duration::from_micros(100)))
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
    }

    /// Makes the changes that depend on time alone.
    fn keep_house(&mut self, state: &mut State, now: Instant) {
        state.queue.rise(now);
        for late in state.queue.expire(now) {
            let error = late.item.too_late(0);
            self.shared.fail(late.item, error);
        }
        state.announce(now, self.shared.config.max_batch);
        let steps_left = |live: &Live<CanvasOf<M>>| live.canvas.steps() - live.canvas.steps_done();
        let (canvases, left) = (self.lives().count(), self.lives().map(steps_left).sum());
        let device = &mut state.devices[self.index];
        (device.canvases, device.steps_left) = (canvases, left);
        self.shared.metrics.running.with_label_values(&[&*self.name]).set(canvases as i64);
    }

    /// The time for which a few jobs may still wait for others to begin with them; `None` if none
    /// waits, or none should.
    fn waits_for_company(&self, state: &State, now: Instant) -> Option<Duration> {
        let max_wait = self.shared.config.max_wait;
        if max_wait.is_zero() || state.queue.len() >= self.shared.config.max_batch {
            return None;
        }
        let oldest = state.queue.iter().map(|(_, waiting)| waiting.since).min()?;
        max_wait.checked_sub(now.saturating_duration_since(oldest)).filter(|left| !left.is_zero())
    }

    /// Live ones and waiting ones in one order: the first go the next step. A live one that others
    /// outrank pauses.
    fn merge(&mut self, state: &mut State, now: Instant) -> Chosen {
        let mut live = self.ranks(now);
        let most = self.most_together(state, &live);
        let mut closed = self.loads_next(state, now)
            || self.shared.unwritten.load(Ordering::SeqCst) >= MOST_UNWRITTEN
            || live.is_empty() && self.waits_for_company(state, now).is_some();
        let alone = state.suspects > 0;
        closed |= alone && !self.shared.is_quiet(state);
        // Turns count those that are chosen, not those that were.
        live.iter().for_each(|(client, _)| state.queue.leave(client));
        let mut chosen = Chosen::default();
        let mut resident = self.resident();
        while chosen.run.len() + chosen.admitted.len() < most {
            let waiting = state.queue.first(|model| !closed && self.is_ready(model));
            let running = live
                .iter()
                .enumerate()
                .map(|(place, (client, rank))| (Rank { turn: state.queue.turn(client), ..*rank }, place))
                .min();
            match (running, waiting) {
                (Some((rank, place)), waiting) if waiting.is_none_or(|waiting| rank < waiting) => {
                    let (client, rank) = live.swap_remove(place);
                    state.queue.count(&client);
                    chosen.run.push(rank.number);
                }
                (_, Some(Rank { number, .. })) => {
                    let Some(waiting) = state.queue.get(number) else { break };
                    if alone && !(waiting.item.suspect && chosen.admitted.is_empty()) {
                        closed = true;
                        continue;
                    }
                    if self.has_room_for(&waiting.item, &chosen.admitted, resident) {
                        let taken = state.queue.take(number).expect("it was first; this is a bug");
                        chosen.admitted.push((number, taken.item));
                    } else if self.make_room(state) {
                        resident = self.resident();
                    } else if self.lives().next().is_some() || !chosen.admitted.is_empty() {
                        // It goes first when those that are there have left.
                        closed = true;
                    } else {
                        let refused = state.queue.remove(number).expect("it was first; this is a bug");
                        let error = self.over_budget(&refused.item);
                        self.shared.fail(refused.item, error);
                    }
                }
                _ => break,
            }
        }
        live.iter().for_each(|(client, _)| state.queue.count(client));
        state.devices[self.index].canvases += chosen.admitted.len();
        chosen
    }

    /// The number of images in the next round. As many as pay, or as there are clients, are enough.
    fn most_together(&self, state: &State, live: &[(Arc<str>, Rank)]) -> usize {
        let most = self.shared.config.max_batch;
        let enough = || {
            let first = state.queue.first(|model| self.is_ready(model));
            let first = first.and_then(|rank| state.queue.get(rank.number));
            let live_work =
                self.loaded.iter().flat_map(|loaded| &loaded.live).map(|live| work(&live.task)).next();
            let Some(work) = live_work.or(first.map(|waiting| work(&waiting.item))) else { return most };
            let mut clients: HashSet<&Arc<str>> = state.queue.clients();
            clients.extend(live.iter().map(|(client, _)| client));
            state.devices[self.index].pace.enough(work, most).max(clients.len())
        };
        together(state.queue.len(), most, enough)
    }

    /// The clients and ranks, turns aside, of the live ones that have steps to go.
    fn ranks(&self, now: Instant) -> Vec<(Arc<str>, Rank)> {
        let rank = |live: &Live<CanvasOf<M>>| {
            let writer = &live.task.writer;
            let priority = writer.job().submission().priority;
            let level = level(priority, writer.submitted(), now, self.shared.config.ageing);
            let work = live.task.work(live.canvas.steps() - live.canvas.steps_done());
            (live.task.client.clone(), Rank { level, turn: 0, work, number: live.number })
        };
        self.loaded.iter().flat_map(|loaded| &loaded.live).map(rank).collect()
    }

    /// Everything that is left when the engine stops.
    fn end(mut self) {
        if let Some(task) = self.loading_for.take() {
            self.shared.rest(&task);
        }
        for loaded in std::mem::take(&mut self.loaded) {
            self.keep_costs(&loaded);
            for live in loaded.live.into_iter().chain(loaded.done) {
                self.shared.fail(live.task, Error::ShutDown);
            }
        }
        let mut state = self.shared.lock();
        state.devices[self.index].up = false;
        if state.devices.iter().all(|device| !device.up) {
            for waiting in state.queue.drain(None) {
                self.shared.fail(waiting.item, Error::ShutDown);
            }
        }
    }
}

/// The canvases of a collection of models.
pub(super) type CanvasOf<M> = <<M as Models>::Backend as crate::backend::Backend>::Canvas;
