//! The jobs that wait, and who goes next. Plain values: the time is an argument, and nothing here knows of threads.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::generator::Priority;

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
    /// How long it will take, in whatever unit.
    pub(crate) work: u64,
    /// Bytes that it takes while it waits.
    pub(crate) bytes: u64,
}

/// What may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) jobs: usize,
    /// Jobs of one client.
    pub(crate) client_jobs: usize,
    /// Bytes of one client's jobs.
    pub(crate) client_bytes: u64,
}

/// Why there is no place for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Queue,
    /// The jobs of its client, with this one.
    ClientJobs(usize),
    /// The bytes of its client's jobs, with this one.
    ClientBytes(u64),
}

/// What of one client waits, or has a place promised.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    jobs: usize,
    bytes: u64,
}

/// Who goes first: the smaller.
///
/// Those that are marked `first` have level 0. The level of others is the priority, from 1, less one for each `ageing` that a job has waited, so that nothing starves. Within a level clients take
/// turns: the first job of each goes before the second of any. Then the one with the least left to do, as that lets jobs wait the least on
/// average (Schrage 1968); then order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) level: u8,
    pub(crate) turn: usize,
    pub(crate) work: u64,
    pub(crate) number: u64,
}

/// Waiting jobs, ordered. Each operation takes logarithmic time in their number, and linear in models and priorities.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    ageing: Duration,
    limits: Limits,
    /// Of each client that has any.
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
    /// When it rises to the next level.
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
    /// As it stands in `heads`.
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

    /// Keeps a place free for one of `client` that comes soon.
    pub(crate) fn reserve(&mut self, client: &Arc<str>, bytes: u64) -> Result<(), Full> {
        if self.entries.len() + self.reserved >= self.limits.jobs {
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
        self.entries.insert(number, Entry { level, rises: None, waiting });
        self.line_up(number, level, since);
    }

    /// Lets an entry stand in the lane of `level`, from which it rises an `ageing` after `since`.
    fn line_up(&mut self, number: u64, level: u8, since: Instant) {
        let entry = self.entries.get_mut(&number).expect("only entries line up; this is a bug");
        entry.level = level;
        entry.rises = (level > base(Priority::Urgent)).then(|| since + self.ageing);
        self.rises.extend(entry.rises.map(|rises| (rises, number)));
        let client = entry.waiting.client.clone();
        let turn = self.turn(&client);
        let entry = &self.entries[&number];
        let lane = self.lanes.entry((level, entry.waiting.model.clone())).or_default();
        lane.clients.entry(client.clone()).or_default().places.insert((entry.waiting.work, number));
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
            line.places.remove(&(entry.waiting.work, number));
        }
        lane.settle(client, turn);
        if lane.clients.is_empty() {
            self.lanes.remove(&key);
        }
    }

    /// Lets those rise whose time has come.
    pub(crate) fn rise(&mut self, now: Instant) {
        while let Some((since, number)) = self.rises.first().copied().filter(|(rises, _)| *rises <= now) {
            let level = self.entries[&number].level;
            self.step_out(number);
            self.line_up(number, level - 1, since);
        }
    }

    /// Takes those out whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Waiting<T>> {
        let passed: Vec<_> = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).collect();
        let numbers: Vec<u64> = passed.into_iter().map(|(_, number)| *number).collect();
        numbers.into_iter().filter_map(|number| self.remove(number)).collect()
    }

    /// When [`rise`](Queue::rise) or [`expire`](Queue::expire) next have something to do.
    pub(crate) fn next_change(&self) -> Option<Instant> {
        let first = |set: &BTreeSet<(Instant, u64)>| set.first().map(|(at, _)| *at);
        first(&self.rises).into_iter().chain(first(&self.deadlines)).min()
    }

    /// How many wait for this model.
    pub(crate) fn waiting_for(&self, model: &str) -> usize {
        let lanes = self.lanes.iter().filter(|((_, known), _)| &**known == model);
        lanes.flat_map(|(_, lane)| lane.clients.values()).map(|line| line.places.len()).sum()
    }

    /// Different clients that wait.
    pub(crate) fn clients(&self) -> HashSet<&Arc<str>> {
        self.entries.values().map(|entry| &entry.waiting.client).collect()
    }

    /// Takes all out that wait for this model, or all there are.
    pub(crate) fn drain(&mut self, model: Option<&str>) -> Vec<Waiting<T>> {
        let wanted = |entry: &Entry<T>| model.is_none_or(|model| &*entry.waiting.model == model);
        let mut numbers: Vec<u64> =
            self.entries.iter().filter(|(_, entry)| wanted(entry)).map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.into_iter().filter_map(|number| self.remove(number)).collect()
    }

    /// Where the entry stands, 1 being the next, and the denoising steps of those before it.
    pub(crate) fn position(&self, number: u64) -> Option<(usize, f64)> {
        let Entry { level, waiting, .. } = self.entries.get(&number)?;
        let place = (waiting.work, number);
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

    /// How many wait at each priority, and since when the oldest does.
    pub(crate) fn by_priority(&self) -> [(usize, Option<Instant>); 4] {
        let mut all = [(0, None::<Instant>); 4];
        for Entry { waiting, .. } in self.entries.values() {
            let (count, oldest) = &mut all[waiting.priority as usize];
            *count += 1;
            *oldest = Some(oldest.map_or(waiting.since, |oldest| oldest.min(waiting.since)));
        }
        all
    }

    /// Those that wait.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Waiting<T>)> {
        self.entries.iter().map(|(number, entry)| (*number, &entry.waiting))
    }
}

/// The level of those that go before all others.
const FIRST: u8 = 0;

/// The level of one that has just been submitted.
fn base(priority: Priority) -> u8 {
    priority as u8 + 1
}

/// The level of one that was submitted at `since`, as [`Queue::rise`] would have it.
pub(crate) fn level(priority: Priority, since: Instant, now: Instant, ageing: Duration) -> u8 {
    let risen = now.saturating_duration_since(since).as_nanos() / ageing.as_nanos().max(1);
    base(priority).saturating_sub(u8::try_from(risen).unwrap_or(u8::MAX)).max(base(Priority::Urgent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AGEING: Duration = Duration::from_secs(30);

    fn waiting(client: &str, priority: Priority, since: Instant) -> Waiting<()> {
        let (model, client) = ("sketch".into(), client.into());
        Waiting {
            item: (),
            model,
            client,
            priority,
            first: false,
            since,
            deadline: None,
            steps: 10,
            work: 100,
            bytes: 10,
        }
    }

    fn of(jobs: usize) -> Queue<()> {
        Queue::new(Limits { jobs, client_jobs: jobs, client_bytes: u64::MAX }, AGEING)
    }

    /// All numbers in the order in which they would be taken at once, each leaving when it has been.
    fn order(queue: &mut Queue<()>) -> Vec<u64> {
        let mut order = vec![];
        while let Some(Rank { number, .. }) = queue.first(|_| true) {
            let taken = queue.take(number).unwrap();
            queue.leave(&taken.client);
            order.push(number);
        }
        order
    }

    #[test]
    fn clients_take_turns_however_many_jobs_each_has() {
        let start = Instant::now();
        let mut queue = of(100);
        for _ in 0..10 {
            queue.push(waiting("many", Priority::Normal, start));
        }
        let one = queue.push(waiting("one", Priority::Normal, start));
        let taken: Vec<u64> = (0..4)
            .map(|_| {
                let number = queue.first(|_| true).unwrap().number;
                queue.take(number);
                number
            })
            .collect();
        assert_eq!(taken, [0, one, 1, 2]);
    }

    #[test]
    fn of_one_clients_jobs_the_shortest_goes_first() {
        let start = Instant::now();
        let mut queue = of(100);
        let long = queue.push(waiting("a", Priority::Normal, start));
        let short = queue.push(Waiting { work: 10, ..waiting("a", Priority::Normal, start) });
        assert_eq!(queue.position(long).unwrap().0, 2);
        // Until the long one has waited so long that it is a level above.
        let later = start + AGEING;
        let newer = queue.push(Waiting { work: 10, ..waiting("a", Priority::Normal, later) });
        queue.rise(later);
        assert_eq!(order(&mut queue), [short, long, newer]);
    }

    #[test]
    fn the_more_urgent_go_first_and_the_old_rise() {
        let start = Instant::now();
        let mut queue = of(100);
        let low = queue.push(waiting("a", Priority::Low, start));
        let normal = queue.push(waiting("b", Priority::Normal, start));
        let urgent = queue.push(waiting("c", Priority::Urgent, start));
        assert_eq!(queue.first(|_| true).unwrap().number, urgent);
        // The low one has risen three times, the urgent ones after it are younger.
        let later = start + 3 * AGEING;
        let young = queue.push(waiting("d", Priority::Urgent, later));
        queue.rise(later);
        assert_eq!(order(&mut queue), [low, normal, urgent, young]);
    }

    #[test]
    fn one_that_is_first_goes_before_all_others_however_old() {
        let start = Instant::now();
        let mut queue = of(100);
        let old = queue.push(waiting("a", Priority::Urgent, start));
        let later = start + 9 * AGEING;
        let first = queue.push(Waiting { first: true, ..waiting("b", Priority::Low, later) });
        queue.rise(later);
        assert_eq!(order(&mut queue), [first, old]);
    }

    #[test]
    fn a_live_one_ranks_as_it_would_in_the_queue() {
        let start = Instant::now();
        for (waited, expected) in [(0, 4), (29, 4), (30, 3), (60, 2), (90, 1), (900_000, 1)] {
            let now = start + Duration::from_secs(waited);
            assert_eq!(level(Priority::Low, start, now, AGEING), expected);
        }
        assert_eq!(level(Priority::Normal, start + AGEING, start, AGEING), 3, "a clock that goes backwards");
    }

    #[test]
    fn a_model_that_cannot_be_used_holds_nobody_else_up() {
        let start = Instant::now();
        let mut queue = of(100);
        queue.push(Waiting { model: "broken".into(), ..waiting("a", Priority::Urgent, start) });
        let other = queue.push(waiting("a", Priority::Low, start));
        assert_eq!(queue.first(|model| model != "broken").unwrap().number, other);
        assert_eq!(queue.drain(Some("broken")).len(), 1);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn capacity_counts_the_reserved() {
        let mut queue = of(2);
        let client = "a".into();
        assert_eq!((queue.reserve(&client, 10), queue.reserve(&client, 10)), (Ok(()), Ok(())));
        assert_eq!(queue.reserve(&client, 10), Err(Full::Queue));
        queue.release(&client, 10);
        queue.push(waiting("a", Priority::Normal, Instant::now()));
        assert_eq!(queue.reserve(&client, 10), Err(Full::Queue));
    }

    #[test]
    fn a_client_that_has_its_share_leaves_room_for_others() {
        let mut queue = Queue::new(Limits { jobs: 100, client_jobs: 2, client_bytes: 100 }, AGEING);
        let (many, large, other) = ("many".into(), "large".into(), "other".into());
        let first = queue.push(waiting("many", Priority::Normal, Instant::now()));
        assert_eq!(queue.reserve(&many, 10), Ok(()));
        assert_eq!(queue.reserve(&many, 10), Err(Full::ClientJobs(3)));
        assert_eq!(queue.reserve(&large, 101), Err(Full::ClientBytes(101)));
        assert_eq!(queue.reserve(&other, 100), Ok(()));
        assert_eq!(queue.shares(), (2, 2));
        queue.take(first);
        assert_eq!(queue.reserve(&many, 10), Ok(()), "one that runs waits no more");
        for client in [&many, &many, &other] {
            queue.release(client, if client == &other { 100 } else { 10 });
        }
        assert!(queue.shares.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Act {
        Push { client: u8, priority: usize, model: u8, work: u64, deadline: Option<u64> },
        Take { models: u8 },
        Cancel { which: usize },
        Leave,
        PutBack,
        Wait { seconds: u64 },
    }

    fn acts() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (0u8..4, 0usize..4, 0u8..3, 0u64..3, proptest::option::of(0u64..100))
                .prop_map(|(client, priority, model, work, deadline)| Act::Push { client, priority, model, work, deadline }),
            3 => (1u8..8).prop_map(|models| Act::Take { models }),
            1 => any::<usize>().prop_map(|which| Act::Cancel { which }),
            2 => Just(Act::Leave),
            1 => Just(Act::PutBack),
            1 => (0u64..60).prop_map(|seconds| Act::Wait { seconds }),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled_and_the_first_is_the_first(acts in proptest::collection::vec(acts(), 0..200)) {
            let start = Instant::now();
            let mut now = start;
            let mut queue = of(1000);
            let mut inside = BTreeSet::new();
            let mut taken: Vec<(u64, Waiting<()>)> = vec![];
            for act in acts {
                match act {
                    Act::Push { client, priority, model, work, deadline } => {
                        let number = queue.push(Waiting {
                            model: model.to_string().into(),
                            work,
                            deadline: deadline.map(|seconds| now + Duration::from_secs(seconds)),
                            ..waiting(&client.to_string(), Priority::ALL[priority], now)
                        });
                        prop_assert!(inside.insert(number));
                    }
                    Act::Take { models } => {
                        queue.rise(now);
                        let usable = |model: &str| models & (1 << model.parse::<u8>().unwrap()) != 0;
                        let first = queue.first(usable);
                        // The same, the slow way.
                        let slow = inside.iter().filter(|number| usable(&queue.get(**number).unwrap().model)).map(|number| {
                            let one = queue.get(*number).unwrap();
                            let level = level(one.priority, one.since, now, AGEING);
                            let running = taken.iter().filter(|(_, other)| other.client == one.client).count();
                            let before = inside.iter().filter(|other| {
                                let entry = queue.get(**other).unwrap();
                                entry.client == one.client && entry.model == one.model
                                    && (entry.work, *other) < (one.work, number)
                                    && super::level(entry.priority, entry.since, now, AGEING) == level
                            });
                            Rank { level, turn: running + before.count(), work: one.work, number: *number }
                        }).min();
                        prop_assert_eq!(first, slow);
                        if let Some(Rank { number, .. }) = first {
                            prop_assert!(inside.remove(&number));
                            taken.push((number, queue.take(number).unwrap()));
                        }
                    }
                    Act::Cancel { which } => {
                        let number = inside.iter().nth(which % inside.len().max(1)).copied();
                        if let Some(number) = number {
                            prop_assert!(inside.remove(&number));
                            prop_assert!(queue.remove(number).is_some() && queue.remove(number).is_none());
                        }
                    }
                    Act::Leave => if let Some((_, gone)) = taken.pop() {
                        queue.leave(&gone.client);
                    },
                    Act::PutBack => if let Some((number, back)) = taken.pop() {
                        inside.insert(number);
                        queue.leave(&back.client);
                        queue.put(number, back);
                    },
                    Act::Wait { seconds } => {
                        now += Duration::from_secs(seconds);
                        let before = queue.len();
                        let expired = queue.expire(now).len();
                        inside.retain(|number| queue.get(*number).is_some());
                        prop_assert_eq!(before - expired, inside.len());
                        prop_assert!(inside.iter().all(|number| queue.get(*number).unwrap().deadline.is_none_or(|at| at > now)));
                    }
                }
                prop_assert_eq!(queue.len(), inside.len());
                prop_assert_eq!(queue.by_priority().iter().map(|(count, _)| count).sum::<usize>(), inside.len());
            }
            queue.rise(now);
            taken.drain(..).for_each(|(_, gone)| queue.leave(&gone.client));
            for number in &inside {
                prop_assert!((1..=inside.len()).contains(&queue.position(*number).unwrap().0));
            }
            let left = order(&mut queue);
            prop_assert_eq!(left.len(), inside.len());
            prop_assert_eq!(left.into_iter().collect::<BTreeSet<_>>(), inside);
            prop_assert!(queue.shares.is_empty());
            prop_assert!(queue.lanes.is_empty() && queue.rises.is_empty() && queue.deadlines.is_empty());
            prop_assert_eq!(queue.steps, 0);
        }

        #[test]
        fn no_job_starves_under_a_flood_of_urgent_ones(priority in 0usize..4, rate in 1usize..5) {
            let start = Instant::now();
            let mut queue = of(100_000);
            let patient = queue.push(waiting("patient", Priority::ALL[priority], start));
            let mut taken_at = None;
            for second in 0..200u64 {
                let now = start + Duration::from_secs(second);
                for _ in 0..rate {
                    queue.push(waiting("flood", Priority::Urgent, now));
                }
                queue.rise(now);
                let number = queue.first(|_| true).unwrap().number;
                let one = queue.take(number).unwrap();
                queue.leave(&one.client);
                if number == patient {
                    taken_at = Some(second);
                    break;
                }
            }
            prop_assert!(taken_at.is_some_and(|second| second <= 30 * priority as u64 + 1), "{taken_at:?}");
        }

        #[test]
        fn positions_count_from_one_and_the_first_is_next(jobs in proptest::collection::vec((0u8..3, 0usize..4), 1..40)) {
            let start = Instant::now();
            let mut queue = of(100);
            for (client, priority) in &jobs {
                queue.push(waiting(&client.to_string(), Priority::ALL[*priority], start));
            }
            let mut positions: Vec<_> =
                queue.iter().map(|(number, _)| (queue.position(number).unwrap().0, number)).collect();
            positions.sort_unstable();
            prop_assert_eq!(queue.first(|_| true).unwrap().number, positions[0].1);
            let counted: Vec<_> = positions.iter().map(|(position, _)| *position).collect();
            prop_assert_eq!(counted, (1..=jobs.len()).collect::<Vec<_>>());
        }
    }
}
