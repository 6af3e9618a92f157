//! The jobs that wait, and who goes next. Plain values: the time is an argument, and nothing here
//! knows of threads.
//!
//! A job's place is its [`Rank`]: level, turn, work and number. Jobs of one level and model form a
//! lane, in which each client has a line of its own. The head of each line is in one ordered set,
//! so the first job of a lane is found at once, and a client's thousand jobs do not slow the others
//! down.
//!
//! A place can be reserved before the job is in the queue. That keeps the capacity exact while the
//! journal writes the job to the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::request::ImageSize;
use crate::submission::Priority;

/// One that waits.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    pub(crate) item: T,
    pub(crate) model: Arc<str>,
    pub(crate) client: Arc<str>,
    pub(crate) priority: Priority,
    /// It goes before all others.
    pub(crate) first: bool,
    pub(crate) since: Instant,
    pub(crate) deadline: Option<Instant>,
    /// Denoising steps, for estimates.
    pub(crate) steps: usize,
    /// The expected work of the job, in a unit that the caller chooses.
    pub(crate) work: u64,
    /// Bytes that it takes while it waits.
    pub(crate) bytes: u64,
    pub(crate) needs: Needs,
}

/// The facts of a job that decide how much memory and time it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub(crate) size: ImageSize,
    /// The rows of a forward pass with guidance.
    pub(crate) rows: usize,
    /// The bytes of its model's weights.
    pub(crate) weight_bytes: u64,
}

impl Needs {
    /// The work of one step, in rows times pixels.
    pub(crate) fn step_work(&self) -> f64 {
        self.rows as f64 * f64::from(self.size.width) * f64::from(self.size.height)
    }

    /// The work of this many steps.
    pub(crate) fn work(&self, steps: usize) -> u64 {
        (self.step_work() * steps as f64) as u64
    }
}

/// The limits of the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) jobs: usize,
    /// Jobs of one client.
    pub(crate) client_jobs: usize,
    /// Bytes of one client's jobs.
    pub(crate) client_bytes: u64,
}

/// The reason why the queue has no place for another job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Queue,
    /// The jobs of its client, with this one.
    ClientJobs(usize),
    /// The bytes of its client's jobs, with this one.
    ClientBytes(u64),
}

/// The number of a client's jobs that wait or have a place promised.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    jobs: usize,
    bytes: u64,
}

/// The rank of a job. The smaller one goes first.
///
/// Those that are marked `first` have level 0. The level of others is the priority, from 1, less
/// one for each `ageing` that a job has waited. Within a level clients take turns: the first job of
/// each goes before the second of any. Then the one with the least left to do, as that lets jobs
/// wait the least on average (Schrage 1968); then order of arrival. A job that has risen to the
/// highest level, and an urgent one after one `ageing`, counts as one without work, so that shorter
/// jobs that keep coming do not starve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) level: u8,
    pub(crate) turn: usize,
    pub(crate) work: u64,
    pub(crate) number: u64,
}

/// Waiting jobs, ordered. Each operation takes logarithmic time in their number, and linear in
/// models and priorities.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    ageing: Duration,
    limits: Limits,
    /// The share of each client that has any.
    shares: HashMap<Arc<str>, Share>,
    /// Places promised to jobs that are not in yet.
    reserved: usize,
    next_number: u64,
    entries: HashMap<u64, Entry<T>>,
    lanes: BTreeMap<(u8, Arc<str>), Lane>,
    /// Jobs of each client that were taken and have not left.
    running: HashMap<Arc<str>, usize>,
    rises: BTreeSet<(Instant, u64)>,
    deadlines: BTreeSet<(Instant, u64)>,
    steps: usize,
}

#[derive(Debug)]
struct Entry<T> {
    level: u8,
    /// The work that counts for its rank.
    work: u64,
    /// The time at which it rises to the next level.
    rises: Option<Instant>,
    waiting: Waiting<T>,
}

/// The jobs of one level and model.
#[derive(Debug, Default)]
struct Lane {
    clients: HashMap<Arc<str>, Line>,
    /// Each client's first job, by turn, work and number.
    heads: BTreeSet<(usize, Place, Arc<str>)>,
}

/// One client's jobs in a lane.
#[derive(Debug, Default)]
struct Line {
    places: BTreeSet<Place>,
    /// Its key in `heads`.
    head: Option<(usize, Place)>,
}

/// Work and number.
type Place = (u64, u64);

impl Lane {
    /// Puts the client's head right after its line or its turn has changed.
    fn settle(&mut self, client: &Arc<str>, turn: usize) {
        let Some(line) = self.clients.get_mut(client) else { return };
        if let Some((turn, place)) = line.head.take() {
            self.heads.remove(&(turn, place, client.clone()));
        }
        match line.places.first() {
            Some(&place) => {
                line.head = Some((turn, place));
                self.heads.insert((turn, place, client.clone()));
            }
            None => {
                self.clients.remove(client);
            }
        }
    }
}

impl<T> Queue<T> {
    pub(crate) fn new(limits: Limits, ageing: Duration) -> Self {
        Queue {
            ageing,
            limits,
            shares: HashMap::new(),
            reserved: 0,
            next_number: 0,
            entries: HashMap::new(),
            lanes: BTreeMap::new(),
            running: HashMap::new(),
            rises: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            steps: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of places that are taken, by jobs that wait and by those that are being accepted.
    pub(crate) fn taken(&self) -> usize {
        self.entries.len() + self.reserved
    }

    /// Keeps a place free for one of `client` that comes soon.
    pub(crate) fn reserve(&mut self, client: &Arc<str>, bytes: u64) -> Result<(), Full> {
        if self.taken() >= self.limits.jobs {
            return Err(Full::Queue);
        }
        let share = self.shares.get(client).copied().unwrap_or_default();
        if share.jobs >= self.limits.client_jobs {
            return Err(Full::ClientJobs(share.jobs + 1));
        }
        let with_it = share.bytes.saturating_add(bytes);
        if with_it > self.limits.client_bytes {
            return Err(Full::ClientBytes(with_it));
        }
        self.reserved += 1;
        self.add_share(client, bytes);
        Ok(())
    }

    /// Gives a reserved place back.
    pub(crate) fn release(&mut self, client: &Arc<str>, bytes: u64) {
        self.reserved -= 1;
        self.drop_share(client, bytes);
    }

    fn add_share(&mut self, client: &Arc<str>, bytes: u64) {
        let share = self.shares.entry(client.clone()).or_default();
        share.jobs += 1;
        share.bytes += bytes;
    }

    fn drop_share(&mut self, client: &Arc<str>, bytes: u64) {
        if let Some(share) = self.shares.get_mut(client) {
            share.jobs -= 1;
            share.bytes -= bytes;
            if share.jobs == 0 {
                self.shares.remove(client);
            }
        }
    }

    /// Takes one in, whatever the capacity; its number.
    pub(crate) fn push(&mut self, waiting: Waiting<T>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.put(number, waiting);
        number
    }

    /// Puts one that has left back to where it stood before it was taken.
    pub(crate) fn put(&mut self, number: u64, waiting: Waiting<T>) {
        self.deadlines.extend(waiting.deadline.map(|deadline| (deadline, number)));
        self.steps += waiting.steps;
        self.add_share(&waiting.client, waiting.bytes);
        let (level, since) = (if waiting.first { FIRST } else { base(waiting.priority) }, waiting.since);
        let work = waiting.work;
        self.entries.insert(number, Entry { level, work, rises: None, waiting });
        self.line_up(number, level, since);
    }

    /// Lets an entry stand in the lane of `level`, from which it rises an `ageing` after `since`.
    fn line_up(&mut self, number: u64, level: u8, since: Instant) {
        let entry = self.entries.get_mut(&number).expect("only entries line up; this is a bug");
        entry.level = level;
        let rises = level > base(Priority::Urgent) || level > FIRST && entry.work != OVERDUE;
        entry.rises = rises.then(|| since + self.ageing);
        self.rises.extend(entry.rises.map(|rises| (rises, number)));
        let client = entry.waiting.client.clone();
        let turn = self.turn(&client);
        let entry = &self.entries[&number];
        let lane = self.lanes.entry((level, entry.waiting.model.clone())).or_default();
        lane.clients.entry(client.clone()).or_default().places.insert((entry.work, number));
        lane.settle(&client, turn);
    }

    /// The turn of the client's next job.
    pub(crate) fn turn(&self, client: &Arc<str>) -> usize {
        self.running.get(client).copied().unwrap_or(0)
    }

    /// The first of the models that are `usable`.
    pub(crate) fn first(&self, usable: impl Fn(&str) -> bool) -> Option<Rank> {
        let mut first: Option<Rank> = None;
        for ((level, model), lane) in &self.lanes {
            if first.is_some_and(|first| first.level < *level) {
                break;
            }
            let Some((turn, (work, number), _)) = lane.heads.first() else { continue };
            let rank = Rank { level: *level, turn: *turn, work: *work, number: *number };
            if first.is_none_or(|first| rank < first) && usable(model) {
                first = Some(rank);
            }
        }
        first
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Waiting<T>> {
        self.entries.get(&number).map(|entry| &entry.waiting)
    }

    /// Takes one to be run; its client's other jobs are a turn later until [`leave`](Queue::leave).
    pub(crate) fn take(&mut self, number: u64) -> Option<Waiting<T>> {
        let taken = self.remove(number)?;
        self.count(&taken.client);
        Some(taken)
    }

    /// One of the client's is running that was not.
    pub(crate) fn count(&mut self, client: &Arc<str>) {
        *self.running.entry(client.clone()).or_default() += 1;
        self.settle(client);
    }

    /// One that was taken has left, finished or not.
    pub(crate) fn leave(&mut self, client: &Arc<str>) {
        if let Some(running) = self.running.get_mut(client) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(client);
            }
        }
        self.settle(client);
    }

    fn settle(&mut self, client: &Arc<str>) {
        let turn = self.running.get(client).copied().unwrap_or(0);
        self.lanes.values_mut().for_each(|lane| lane.settle(client, turn));
    }

    /// Takes one out that is not to be run.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Waiting<T>> {
        self.step_out(number);
        let Entry { waiting, .. } = self.entries.remove(&number)?;
        if let Some(deadline) = waiting.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        self.steps -= waiting.steps;
        self.drop_share(&waiting.client, waiting.bytes);
        Some(waiting)
    }

    /// Out of its lane; it stays an entry.
    fn step_out(&mut self, number: u64) {
        let Some(entry) = self.entries.get(&number) else { return };
        if let Some(rises) = entry.rises {
            self.rises.remove(&(rises, number));
        }
        let (key, client) = ((entry.level, entry.waiting.model.clone()), &entry.waiting.client);
        let turn = self.turn(client);
        let lane = self.lanes.get_mut(&key).expect("an entry stands in its lane; this is a bug");
        if let Some(line) = lane.clients.get_mut(client) {
            line.places.remove(&(entry.work, number));
        }
        lane.settle(client, turn);
        if lane.clients.is_empty() {
            self.lanes.remove(&key);
        }
    }

    /// Lets those rise whose time has come.
    pub(crate) fn rise(&mut self, now: Instant) {
        while let Some((since, number)) = self.rises.first().copied().filter(|(rises, _)| *rises <= now) {
            self.step_out(number);
            let entry = self.entries.get_mut(&number).expect("only entries rise; this is a bug");
            let level = (entry.level - 1).max(base(Priority::Urgent));
            if level == base(Priority::Urgent) {
                entry.work = OVERDUE;
            }
            self.line_up(number, level, since);
        }
    }

    /// Takes those out whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Waiting<T>> {
        let passed: Vec<_> = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).collect();
        let numbers: Vec<u64> = passed.into_iter().map(|(_, number)| *number).collect();
        numbers.into_iter().filter_map(|number| self.remove(number)).collect()
    }

    /// The time at which [`rise`](Queue::rise) or [`expire`](Queue::expire) next have something to
    /// do.
    pub(crate) fn next_change(&self) -> Option<Instant> {
        let first = |set: &BTreeSet<(Instant, u64)>| set.first().map(|(at, _)| *at);
        first(&self.rises).into_iter().chain(first(&self.deadlines)).min()
    }

    /// The number of jobs that wait for this model.
    pub(crate) fn waiting_for(&self, model: &str) -> usize {
        let lanes = self.lanes.iter().filter(|((_, known), _)| &**known == model);
        lanes.flat_map(|(_, lane)| lane.clients.values()).map(|line| line.places.len()).sum()
    }

    /// The numbers of the jobs that wait for this model, the oldest first.
    pub(crate) fn numbers_of(&self, model: &str) -> Vec<u64> {
        let lanes = self.lanes.iter().filter(|((_, known), _)| &**known == model);
        let places = lanes.flat_map(|(_, lane)| lane.clients.values()).flat_map(|line| &line.places);
        let mut numbers: Vec<u64> = places.map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Different clients that wait.
    pub(crate) fn clients(&self) -> HashSet<&Arc<str>> {
        self.entries.values().map(|entry| &entry.waiting.client).collect()
    }

    /// Takes all out that wait for this model, or all there are.
    pub(crate) fn drain(&mut self, model: Option<&str>) -> Vec<Waiting<T>> {
        let numbers = match model {
            Some(model) => self.numbers_of(model),
            None => {
                let mut numbers: Vec<u64> = self.entries.keys().copied().collect();
                numbers.sort_unstable();
                numbers
            }
        };
        numbers.into_iter().filter_map(|number| self.remove(number)).collect()
    }

    /// The position of the entry, where 1 is the next, and the denoising steps of the jobs before
    /// it.
    pub(crate) fn position(&self, number: u64) -> Option<(usize, f64)> {
        let Entry { level, work, waiting, .. } = self.entries.get(&number)?;
        let place = (*work, number);
        let own = &self.lanes.get(&(*level, waiting.model.clone()))?.clients.get(&waiting.client)?.places;
        let turn = self.turn(&waiting.client) + own.range(..place).count();
        let mut before = 0;
        for ((_, _), lane) in self.lanes.range(..(*level, "".into())) {
            before += lane.clients.values().map(|line| line.places.len()).sum::<usize>();
        }
        for ((_, _), lane) in self.lanes.range((*level, "".into())..).take_while(|((at, _), _)| at == level) {
            for (client, line) in &lane.clients {
                // Its jobs have turns from `first` on.
                let first = self.turn(client);
                before += (turn.saturating_sub(first)).min(line.places.len());
                let at_turn = turn.checked_sub(first).and_then(|nth| line.places.iter().nth(nth));
                before += usize::from(at_turn.is_some_and(|other| *other < place));
            }
        }
        let mean_steps = self.steps as f64 / self.entries.len() as f64;
        Some((before + 1, before as f64 * mean_steps))
    }

    /// Different clients that have jobs waiting, and the most that one of them has.
    pub(crate) fn shares(&self) -> (usize, usize) {
        (self.shares.len(), self.shares.values().map(|share| share.jobs).max().unwrap_or(0))
    }

    /// The number of waiting jobs at each priority, and the time since which the oldest waits.
    pub(crate) fn by_priority(&self) -> [(usize, Option<Instant>); 4] {
        let mut all = [(0, None::<Instant>); 4];
        for Entry { waiting, .. } in self.entries.values() {
            let (count, oldest) = &mut all[waiting.priority as usize];
            *count += 1;
            *oldest = Some(oldest.map_or(waiting.since, |oldest| oldest.min(waiting.since)));
        }
        all
    }

    /// The jobs that wait.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Waiting<T>)> {
        self.entries.iter().map(|(number, entry)| (*number, &entry.waiting))
    }
}

/// A choice among the waiting jobs that leaves the queue as it is.
///
/// Jobs that are taken here, and turns that are counted here, count for this choice alone. So a
/// plan can be worked out, and dropped, without a trace.
pub(crate) struct Choice<'a, T> {
    queue: &'a Queue<T>,
    /// The turns that differ from the queue's.
    turns: HashMap<Arc<str>, usize>,
    taken: BTreeSet<u64>,
}

impl<'a, T> Choice<'a, T> {
    pub(crate) fn new(queue: &'a Queue<T>) -> Self {
        Choice { queue, turns: HashMap::new(), taken: BTreeSet::new() }
    }

    /// The turn of the client's next job.
    pub(crate) fn turn(&self, client: &Arc<str>) -> usize {
        self.turns.get(client).copied().unwrap_or_else(|| self.queue.turn(client))
    }

    /// One of the client's is chosen.
    pub(crate) fn count(&mut self, client: &Arc<str>) {
        let turn = self.turn(client);
        self.turns.insert(client.clone(), turn + 1);
    }

    /// One of the client's that runs is not chosen yet.
    pub(crate) fn leave(&mut self, client: &Arc<str>) {
        let turn = self.turn(client);
        self.turns.insert(client.clone(), turn.saturating_sub(1));
    }

    /// Takes a job that waits.
    pub(crate) fn take(&mut self, number: u64) {
        if let Some(waiting) = self.queue.get(number) {
            self.taken.insert(number);
            self.count(&waiting.client);
        }
    }

    /// The rank of a job that waits, as if it were the next of its client.
    pub(crate) fn rank(&self, number: u64) -> Option<Rank> {
        let Entry { level, work, waiting, .. } = self.queue.entries.get(&number)?;
        Some(Rank { level: *level, turn: self.turn(&waiting.client), work: *work, number })
    }

    /// The first of the models that are `usable` among the jobs that were not taken.
    pub(crate) fn first(&self, usable: impl Fn(&str) -> bool) -> Option<Rank> {
        let mut first: Option<Rank> = None;
        for ((level, model), lane) in &self.queue.lanes {
            if first.is_some_and(|first| first.level < *level) {
                break;
            }
            let mut heads = lane.heads.iter();
            let untouched = heads.find(|(_, _, client)| !self.turns.contains_key(client));
            let touched = self.turns.iter().filter_map(|(client, turn)| {
                let mut places = lane.clients.get(client)?.places.iter();
                Some((*turn, *places.find(|(_, number)| !self.taken.contains(number))?))
            });
            let heads = touched.chain(untouched.map(|(turn, place, _)| (*turn, *place)));
            let Some((turn, (work, number))) = heads.min() else { continue };
            let rank = Rank { level: *level, turn, work, number };
            if first.is_none_or(|first| rank < first) && usable(model) {
                first = Some(rank);
            }
        }
        first
    }
}

/// The level of those that go before all others.
const FIRST: u8 = 0;

/// The level of one that has just been submitted.
fn base(priority: Priority) -> u8 {
    priority as u8 + 1
}

/// The work that counts of a job that has waited for as long as all levels take.
const OVERDUE: u64 = 0;

/// The level of a job that was submitted at `since`, and the part of its `work` that counts, as
/// [`Queue::rise`] has them.
pub(crate) fn standing(
    priority: Priority,
    work: u64,
    since: Instant,
    now: Instant,
    ageing: Duration,
) -> (u8, u64) {
    let risen = now.saturating_duration_since(since).as_nanos() / ageing.as_nanos().max(1);
    let levels = u128::from(base(priority) - base(Priority::Urgent));
    let level = base(priority) - levels.min(risen) as u8;
    (level, if risen >= levels.max(1) { OVERDUE } else { work })
}

#[cfg(test)]
mod tests;
