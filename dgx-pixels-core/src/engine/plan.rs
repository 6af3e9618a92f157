//! The decisions of a device's thread, as functions of values.
//!
//! A [`Situation`] holds everything that a decision depends on: the time, the jobs that wait, the
//! canvases with their stages, the models with their costs, and the memory in use. [`plan`] answers
//! with the one thing to do next. The thread does it, and asks again. So decisions are tested under
//! a clock of the test's own, without a thread, a device or a model.
//!
//! A decision between two rounds of steps takes the first of these that applies:
//!
//! 1. let canvases go that were cancelled or are too late;
//! 2. take in a model that was loaded, or end;
//! 3. measure a model that did not fit beside the others, alone;
//! 4. open the device, load a model, or drop one to make room;
//! 5. go a round of steps, or sleep.
//!
//! The round puts the canvases that are live and the jobs that wait into one order, so that a more
//! urgent job takes the place of a canvas, which pauses and keeps its state. A job joins if its
//! canvas and the most expensive call of one image fit beside the others.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::canvas::{Facts, Stage};
use super::config::EngineConfig;
use super::pace::{Pace, decoded_in, together};
use super::queue::{Choice, Needs, Queue, Rank, Waiting};
use super::residence::{CallKind, Residence};
use super::shared::Course;
use crate::request::ImageSize;

/// Decoded images that may wait to be written before no new job is begun.
const MOST_UNWRITTEN: usize = 64;
/// Longest sleep while there is nothing to do; changes wake the thread.
const NAP: Duration = Duration::from_millis(500);
/// Shortest sleep.
const BLINK: Duration = Duration::from_micros(100);

/// Everything that a decision depends on.
pub(super) struct Situation<'a, T, L> {
    pub(super) now: Instant,
    /// The sizes and times that the user set.
    pub(super) config: &'a EngineConfig,
    /// The engine's mode of running or stopping.
    pub(super) course: Course,
    /// The jobs that wait, after those were taken out whose time has passed.
    pub(super) queue: &'a Queue<T>,
    /// The canvases of this device, in the order in which they were begun.
    pub(super) canvases: &'a [Facts],
    /// The models, their costs and the budget.
    pub(super) residence: &'a Residence<L>,
    /// The bytes in use on the device; 0 where memory is not counted.
    pub(super) used_bytes: u64,
    /// `true` once the device is in use.
    pub(super) is_open: bool,
    pub(super) loading: Loading,
    /// The keys of the models that other devices have.
    pub(super) elsewhere: &'a [Arc<str>],
    /// The durations of the rounds so far.
    pub(super) pace: Pace,
    /// Images that are decoded and not written yet.
    pub(super) unwritten: usize,
    /// Suspects that have not ended: jobs at which the process died before.
    pub(super) suspects: usize,
    /// `true` if no device has begun anything that has not ended.
    pub(super) is_quiet: bool,
}

/// The state of a model on its way to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loading {
    Nothing,
    Going,
    /// It is loaded, or could not be.
    Done,
}

/// The next thing to do. Jobs and canvases are named by their numbers, models by their keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// Canvases leave whose jobs are over or too late.
    Release(Vec<u64>),
    /// The model that was loaded comes into use.
    TakeModel,
    /// The model is measured, with the device for itself.
    Measure(Arc<str>),
    /// The device is opened, and its budget worked out.
    Open,
    /// The model of this job is loaded.
    Load(u64),
    /// A model leaves that no canvas has.
    Evict(Arc<str>),
    /// Jobs fail that do not fit into the budget even alone.
    Refuse(Vec<u64>),
    /// A round goes, in which jobs begin, canvases step, and images are decoded.
    Round(Round),
    /// Nothing is to be done before so much time has passed, or something changes.
    Sleep(Duration),
    /// All is done that was to be done.
    End,
}

/// A round of steps, and the decoding after it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Round {
    /// Jobs that are begun.
    pub(super) begin: Vec<u64>,
    /// Canvases that go a step, besides those that are begun.
    pub(super) step: Vec<u64>,
}

/// Canvases that can share calls.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// The key of their model.
    pub(super) model: Arc<str>,
    /// The size of their images.
    pub(super) size: ImageSize,
    /// Their numbers, in the order in which they go.
    pub(super) numbers: Vec<u64>,
}

/// The next thing to do.
pub(super) fn plan<T, L>(at: &Situation<T, L>) -> Next {
    let gone = at.canvases.iter().filter(|canvas| canvas.is_to_leave(at.now));
    let gone: Vec<u64> = gone.map(|canvas| canvas.number).collect();
    if !gone.is_empty() {
        return Next::Release(gone);
    }
    if at.loading == Loading::Done {
        return Next::TakeModel;
    }
    if at.course == Course::Stop {
        return Next::End;
    }
    if let Some(next) = at.measures() {
        return next;
    }
    if !at.is_open && at.queue.len() > 0 {
        return Next::Open;
    }
    match at.loads() {
        Loads::Now(next) => next,
        Loads::Later(number) => at.goes_on(Some(number)),
        Loads::Nothing => at.goes_on(None),
    }
}

/// The answer to the wish for another model.
enum Loads {
    Now(Next),
    /// The jobs that are not before this one have to wait until there is room for its model.
    Later(u64),
    Nothing,
}

impl<T, L> Situation<'_, T, L> {
    /// Once no canvas is left: a model that did not fit beside the others is measured alone.
    fn measures(&self) -> Option<Next> {
        if !self.canvases.is_empty() {
            return None;
        }
        let model = self.residence.iter().find(|model| !model.is_ready)?;
        let other = self.residence.iter().find(|other| other.key != model.key);
        Some(match other {
            Some(other) => Next::Evict(other.key.clone()),
            None => Next::Measure(model.key.clone()),
        })
    }

    /// The first waiting job that has no model decides which is loaded. Another device that has the
    /// model serves a few jobs well enough.
    fn loads(&self) -> Loads {
        if self.loading != Loading::Nothing {
            return Loads::Nothing;
        }
        let wanted = |model: &str| {
            let has_other = self.elsewhere.iter().any(|known| **known == *model);
            let is_enough = has_other && self.queue.waiting_for(model) <= self.config.max_batch;
            !self.residence.is_loaded(model) && !is_enough
        };
        let Some(rank) = self.queue.first(wanted) else { return Loads::Nothing };
        let Some(waiting) = self.queue.get(rank.number) else { return Loads::Nothing };
        // Beside it there must be room for the canvases, and for a job that goes before it. Else
        // nothing could be begun while it loads.
        let before = self.queue.first(|model| self.residence.is_ready(model));
        let before = before.filter(|before| *before < rank).and_then(|before| self.queue.get(before.number));
        let before = before.map(|before| (&*before.model, &before.needs));
        let with_it = self.used_bytes + waiting.needs.weight_bytes;
        if self.residence.has_room_for(with_it, self.canvases, before.into_iter()) {
            return Loads::Now(Next::Load(rank.number));
        }
        let outranked = |model: &str| {
            let first = self.queue.first(|known| known == model);
            first.is_none_or(|first| rank < first)
        };
        match self.residence.longest_unused(self.canvases, outranked) {
            Some(model) => Loads::Now(Next::Evict(model.clone())),
            None if self.residence.is_empty() => {
                Loads::Now(Next::Refuse(self.queue.numbers_of(&waiting.model)))
            }
            // Those in use leave when they are done; an old job makes later ones wait for that.
            // Those before it go on, as their models do not leave for it.
            None if self.now.saturating_duration_since(waiting.since) > self.config.ageing => {
                Loads::Later(rank.number)
            }
            None => Loads::Nothing,
        }
    }

    /// A round, if there is anything to do; else a nap, or the end.
    fn goes_on(&self, before: Option<u64>) -> Next {
        let next = self.round(before);
        let is_decoded = self.canvases.iter().any(|canvas| !canvas.is_denoising());
        if is_decoded || next != Next::Round(Round::default()) {
            return next;
        }
        // A sprite that is being made may come back to be drawn again.
        let is_idle = self.queue.len() == 0 && self.loading == Loading::Nothing && self.unwritten == 0;
        if is_idle && self.course == Course::Drain {
            return Next::End;
        }
        let change = self.queue.next_change().map(|at| at.saturating_duration_since(self.now));
        let nap = change.into_iter().chain(self.waits_for_company()).fold(NAP, Duration::min);
        Next::Sleep(nap.max(BLINK))
    }

    /// Live canvases and waiting jobs in one order: the first go the next step. A live canvas that
    /// others outrank pauses. Only jobs `before` that one are begun.
    fn round(&self, before: Option<u64>) -> Next {
        let mut live: Vec<&Facts> = self.canvases.iter().filter(|canvas| canvas.is_denoising()).collect();
        let most = self.most_together(&live);
        let alone = self.suspects > 0;
        let mut closed = self.unwritten >= MOST_UNWRITTEN
            || live.is_empty() && self.waits_for_company().is_some()
            || alone && !self.is_quiet;
        // Turns count those that are chosen, not those that were.
        let mut choice = Choice::new(self.queue);
        live.iter().for_each(|canvas| choice.leave(&canvas.client));
        let mut round = Round::default();
        let mut admitted: Vec<(&str, &Needs)> = vec![];
        while round.step.len() + round.begin.len() < most {
            let limit = before.and_then(|number| choice.rank(number));
            let waiting = choice.first(|model| !closed && self.residence.is_ready(model));
            let waiting = waiting.filter(|rank| limit.is_none_or(|limit| *rank < limit));
            let rank = |canvas: &Facts| {
                let turn = choice.turn(&canvas.client);
                Rank { turn, ..canvas.rank(self.now, self.config.ageing) }
            };
            let running = live.iter().enumerate().map(|(place, canvas)| (rank(canvas), place)).min();
            match (running, waiting) {
                (Some((rank, place)), waiting) if waiting.is_none_or(|waiting| rank < waiting) => {
                    choice.count(&live.swap_remove(place).client);
                    round.step.push(rank.number);
                }
                (_, Some(Rank { number, .. })) => {
                    let Some(waiting) = self.queue.get(number) else { break };
                    if alone && !(waiting.first && round.begin.is_empty()) {
                        closed = true;
                        continue;
                    }
                    let new = admitted.iter().copied().chain([(&*waiting.model, &waiting.needs)]);
                    if self.residence.has_room_for(self.used_bytes, self.canvases, new) {
                        choice.take(number);
                        round.begin.push(number);
                        admitted.push((&waiting.model, &waiting.needs));
                        continue;
                    }
                    let loaded = choice.first(|model| self.residence.is_loaded(model));
                    let is_chosen = |model: &str| admitted.iter().any(|(chosen, _)| *chosen == model);
                    if let Some(model) = spare(self.queue, self.residence, self.canvases, loaded, is_chosen) {
                        return Next::Evict(model);
                    }
                    let is_alone = self.canvases.is_empty() && self.loading == Loading::Nothing;
                    if is_alone && round.begin.is_empty() {
                        return Next::Refuse(vec![number]);
                    }
                    // It goes first when those that are there have left.
                    closed = true;
                }
                _ => break,
            }
        }
        Next::Round(round)
    }

    /// The number of images in the next round. As many as pay, or as there are clients, are enough.
    fn most_together(&self, live: &[&Facts]) -> usize {
        let most = self.config.max_batch;
        let enough = || {
            let first = self.queue.first(|model| self.residence.is_ready(model));
            let first = first.and_then(|rank| self.queue.get(rank.number));
            let needs = live.first().map(|canvas| canvas.needs).or(first.map(|waiting| waiting.needs));
            let Some(needs) = needs else { return most };
            let mut clients: HashSet<&Arc<str>> = self.queue.clients();
            clients.extend(live.iter().map(|canvas| &canvas.client));
            self.pace.enough(needs.step_work(), most).max(clients.len())
        };
        together(self.queue.len(), most, enough)
    }

    /// The time for which a few jobs may still wait for others to begin with them; `None` if none
    /// waits, or none should.
    fn waits_for_company(&self) -> Option<Duration> {
        let max_wait = self.config.max_wait;
        if max_wait.is_zero() || self.queue.len() >= self.config.max_batch {
            return None;
        }
        let oldest = self.queue.iter().map(|(_, waiting): (u64, &Waiting<T>)| waiting.since).min()?;
        max_wait.checked_sub(self.now.saturating_duration_since(oldest)).filter(|left| !left.is_zero())
    }
}

/// The model that leaves to make room: the longest unused one that no canvas has, but not that of
/// the job `wanted`, and none that `is_chosen`.
pub(super) fn spare<T, L>(
    queue: &Queue<T>,
    residence: &Residence<L>,
    canvases: &[Facts],
    wanted: Option<Rank>,
    is_chosen: impl Fn(&str) -> bool,
) -> Option<Arc<str>> {
    let wanted = wanted.and_then(|rank| queue.get(rank.number)).map(|waiting| &*waiting.model);
    let may_go = |model: &str| wanted != Some(model) && !is_chosen(model);
    residence.longest_unused(canvases, may_go).cloned()
}

/// The canvases with these numbers, in groups that can share forward passes.
pub(super) fn groups(canvases: &[Facts], numbers: &[u64]) -> Vec<Group> {
    let mut groups: Vec<(bool, Group)> = vec![];
    for canvas in canvases.iter().filter(|canvas| canvas.is_denoising() && numbers.contains(&canvas.number)) {
        let (size, alone) = (canvas.size(), canvas.is_alone);
        let known = groups
            .iter_mut()
            .find(|(apart, group)| group.model == canvas.model && group.size == size && !alone && !apart);
        match known {
            Some((_, group)) => group.numbers.push(canvas.number),
            None => {
                let group = Group { model: canvas.model.clone(), size, numbers: vec![canvas.number] };
                groups.push((alone, group));
            }
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The recent durations that decide how many images are decoded between two rounds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beat {
    /// The duration of the last round of steps.
    pub(super) round: Duration,
    /// The recent average time to decode an image.
    pub(super) finish_each: Duration,
}

/// The images that are decoded next, those whose last step was first. If other canvases have steps
/// to go, they are about as many as are decoded in the time of a round.
pub(super) fn decodes<L>(
    canvases: &[Facts],
    residence: &Residence<L>,
    used_bytes: u64,
    beat: Beat,
    max_batch: usize,
) -> Option<Group> {
    let since = |canvas: &&Facts| match canvas.stage {
        Stage::Stepped { since } => Some(since),
        _ => None,
    };
    let mut stepped: Vec<&Facts> = canvases.iter().filter(|canvas| since(canvas).is_some()).collect();
    stepped.sort_by_key(since);
    let first = *stepped.first()?;
    let (model, size) = (first.model.clone(), first.size());
    let shares = |canvas: &&Facts| canvas.model == model && canvas.size() == size && !canvas.is_alone;
    let mut numbers: Vec<u64> = match first.is_alone {
        true => vec![first.number],
        false => stepped.into_iter().filter(shares).map(|canvas| canvas.number).collect(),
    };
    let steps_wait = canvases.iter().any(Facts::is_denoising);
    let most = if steps_wait { decoded_in(beat.round, beat.finish_each) } else { usize::MAX };
    numbers.truncate(most.min(max_batch));
    let rows = vec![1; numbers.len()];
    numbers.truncate(residence.together(used_bytes, &model, CallKind::Finish, size, &rows));
    Some(Group { model, size, numbers })
}

#[cfg(test)]
mod tests;
