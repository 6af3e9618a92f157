//! A device that is not there, for tests: it does what plans say, under a clock of its own.
//!
//! It keeps the books that the real thread keeps (`worker.rs`, `drawing.rs`, `host.rs`), and checks
//! each thing that it is told to do. Memory, time and faults are those of the test's [`Setup`] and
//! [`Spec`]s.

mod acting;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::*;

use crate::engine::queue::Limits;
use crate::submission::Priority;

pub(super) const MS: Duration = Duration::from_millis(1);
/// Plans after which a world that has not ended is one that never does.
const MOST_PLANS: usize = 4000;
/// Bytes of a model's weights, of a canvas, and of a row of a step for each 64x64 pixels.
pub(super) const WEIGHTS: u64 = 1000;
const CANVAS: u64 = 10;
const STEP_ROW: u64 = 100;
/// The sizes at which a model is measured when it is loaded.
const MEASURED: [u32; 2] = [64, 128];

/// A fault of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Its step panics, when so many are done.
    Panic(usize),
    /// Its step runs out of memory unless it is alone, when so many are done.
    Crowded(usize),
    /// Its step always runs out of memory.
    NeverFits,
    /// It decodes to values that are not finite.
    NotFinite,
    /// Decoding it panics.
    PanicAtLast,
    /// Its sprite is empty the first time.
    Empty,
}

/// A job, and what becomes of it.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) at: Duration,
    pub(super) client: u8,
    pub(super) priority: Priority,
    /// The model's number; model 9 does not load.
    pub(super) model: u8,
    pub(super) side: u32,
    pub(super) rows: usize,
    pub(super) steps: usize,
    /// It must be done so long after it came.
    pub(super) deadline: Option<Duration>,
    /// It is cancelled so long after it came.
    pub(super) cancelled: Option<Duration>,
    pub(super) fault: Fault,
    /// The process died before while it ran.
    pub(super) suspect: bool,
}

/// The device and the engine's settings.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) max_batch: usize,
    pub(super) max_wait: Duration,
    /// Bytes besides the weights of one model; `None` where memory is not counted.
    pub(super) room: Option<u64>,
    /// The time of a step that does not depend on its rows, and that of each 64x64 row.
    pub(super) step_time: (Duration, Duration),
    pub(super) load_time: Duration,
    pub(super) write_time: Duration,
}

/// The end of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    Cancelled,
    TooLate,
    OverBudget,
    OutOfMemory,
    /// Its own fault, or that of its model.
    Failed,
}

#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) end: Option<End>,
    pub(super) begun_at: Option<Duration>,
    pub(super) ended_at: Duration,
    attempts: usize,
    redraws: usize,
    alone: bool,
    cancelled: bool,
    /// Its number in the queue.
    number: Option<u64>,
}

struct Drawn {
    job: usize,
    number: u64,
    steps_done: usize,
    stage: Stage,
}

pub(super) struct World {
    setup: Setup,
    config: EngineConfig,
    start: Instant,
    pub(super) now: Instant,
    specs: Vec<Spec>,
    pub(super) jobs: Vec<Outcome>,
    queue: Queue<usize>,
    residence: Residence<()>,
    canvases: Vec<Drawn>,
    under_way: Vec<u64>,
    is_open: bool,
    loading: Option<(Arc<str>, Instant)>,
    /// Jobs that are written, with the time at which each is done.
    writing: Vec<(Instant, usize, u64)>,
    /// The events from outside, in order of time: a job comes, or is cancelled.
    events: BTreeMap<(Duration, usize), Vec<(usize, bool)>>,
    pace: Pace,
    beat: Beat,
    pub(super) plans: usize,
    /// The last plans, for the message of a test that fails.
    recent: VecDeque<Next>,
    /// Calls that the device refused although the budget was kept by their predictions.
    pub(super) refused: usize,
    /// The clients of the images in each call of a step.
    pub(super) calls: Vec<Vec<u8>>,
}

impl World {
    pub(super) fn new(setup: Setup, specs: Vec<Spec>) -> World {
        let start = Instant::now();
        let config = EngineConfig {
            max_batch: setup.max_batch,
            max_wait: setup.max_wait,
            ageing: 200 * MS,
            ..Default::default()
        };
        let mut events: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (job, spec) in specs.iter().enumerate() {
            events.entry((spec.at, 0)).or_default().push((job, true));
            if let Some(cancelled) = spec.cancelled {
                events.entry((spec.at + cancelled, 1)).or_default().push((job, false));
            }
        }
        let limits = Limits { jobs: usize::MAX, client_jobs: usize::MAX, client_bytes: u64::MAX };
        World {
            queue: Queue::new(limits, config.ageing),
            residence: Residence::new(),
            jobs: specs.iter().map(|_| Outcome::default()).collect(),
            config,
            start,
            now: start,
            specs,
            setup,
            canvases: vec![],
            under_way: vec![],
            is_open: false,
            loading: None,
            writing: vec![],
            events,
            pace: Pace::default(),
            beat: Beat::default(),
            plans: 0,
            recent: VecDeque::new(),
            refused: 0,
            calls: vec![],
        }
    }

    /// Goes on until all that comes is done.
    pub(super) fn drain(&mut self) {
        loop {
            self.advance(Duration::ZERO);
            let course = if self.events.is_empty() { Course::Drain } else { Course::Serve };
            match self.next(course) {
                Next::End => break,
                next => self.act(next),
            }
        }
        assert!(self.canvases.is_empty() && self.writing.is_empty() && self.queue.len() == 0);
        assert_eq!(self.queue.shares(), (0, 0), "no client has anything left");
        for client in 0..=u8::MAX {
            assert_eq!(self.queue.turn(&client.to_string().into()), 0, "client {client} counts on");
        }
    }

    /// One plan, made and carried out.
    pub(super) fn go_on(&mut self) {
        self.advance(Duration::ZERO);
        let next = self.next(Course::Serve);
        self.act(next);
    }

    fn next(&mut self, course: Course) -> Next {
        self.plans += 1;
        assert!(self.plans < MOST_PLANS, "the plans lead nowhere: {:?}", self.recent);
        self.queue.rise(self.now);
        for late in self.queue.expire(self.now) {
            self.end(late.item, End::TooLate);
        }
        let canvases = self.facts();
        let suspects = self.suspects();
        let at = Situation {
            now: self.now,
            config: &self.config,
            course,
            queue: &self.queue,
            canvases: &canvases,
            residence: &self.residence,
            used_bytes: self.used_bytes(),
            is_open: self.is_open,
            loading: match &self.loading {
                None => Loading::Nothing,
                Some((_, until)) if *until <= self.now => Loading::Done,
                Some(_) => Loading::Going,
            },
            elsewhere: &[],
            pace: self.pace,
            unwritten: self.writing.len(),
            suspects,
            is_quiet: canvases.is_empty() && self.writing.is_empty(),
        };
        let next = plan(&at);
        assert_eq!(plan(&at), next, "a plan depends on nothing else");
        if let Next::Round(round) = &next {
            self.check_round(&at, round);
        }
        self.recent.push_back(next.clone());
        if self.recent.len() > 12 {
            self.recent.pop_front();
        }
        next
    }

    /// The rules that each round must hold, however it was found.
    fn check_round(&self, at: &Situation<usize, ()>, round: &Round) {
        let count = round.begin.len() + round.step.len();
        assert!(count <= self.setup.max_batch);
        let numbers: HashSet<u64> = round.begin.iter().chain(&round.step).copied().collect();
        assert_eq!(numbers.len(), count, "nothing goes twice");
        for number in &round.begin {
            assert!(at.residence.is_ready(&at.queue.get(*number).unwrap().model));
        }
        let denoising: Vec<&Facts> = at.canvases.iter().filter(|canvas| canvas.is_denoising()).collect();
        assert!(round.step.iter().all(|number| denoising.iter().any(|canvas| canvas.number == *number)));
        assert!(denoising.is_empty() || count > 0, "a live canvas never waits for nothing");
        if at.suspects > 0 && !round.begin.is_empty() {
            assert!(at.canvases.is_empty() && self.writing.is_empty() && round.begin.len() == 1);
            assert!(at.queue.get(round.begin[0]).unwrap().first, "a suspect runs alone");
        }
        // A paused canvas is outranked by each canvas that goes on.
        let turn = |client: &str, rank: Rank| {
            let ahead = denoising.iter().filter(|other| {
                let rank_of = other.rank(at.now, at.config.ageing);
                round.step.contains(&other.number) && *other.client == *client && rank_of < rank
            });
            ahead.count()
        };
        let ranked = |canvas: &Facts| {
            let rank = canvas.rank(at.now, at.config.ageing);
            Rank { turn: turn(&canvas.client, rank), ..rank }
        };
        if round.begin.is_empty() {
            let (going, paused): (Vec<&Facts>, Vec<&Facts>) =
                denoising.iter().partition(|canvas| round.step.contains(&canvas.number));
            let last = going.into_iter().map(ranked).max();
            let first = paused.into_iter().map(ranked).min();
            assert!(first.is_none() || last < first, "{last:?} went before {first:?}");
        }
    }

    fn facts(&self) -> Vec<Facts> {
        let facts = |drawn: &Drawn| {
            let (spec, job) = (&self.specs[drawn.job], &self.jobs[drawn.job]);
            Facts {
                number: drawn.number,
                client: spec.client.to_string().into(),
                model: spec.model.to_string().into(),
                priority: spec.priority,
                submitted: self.start + spec.at,
                deadline: spec.deadline.map(|deadline| self.start + spec.at + deadline),
                needs: needs(spec),
                rows: spec.rows,
                steps_left: spec.steps - drawn.steps_done,
                stage: drawn.stage,
                is_alone: job.alone,
                is_over: job.cancelled,
            }
        };
        self.canvases.iter().map(facts).collect()
    }

    fn suspects(&self) -> usize {
        let ended = |job: &Outcome| job.end.is_some();
        let all = self.specs.iter().zip(&self.jobs);
        all.filter(|(spec, job)| spec.suspect && job.number.is_some() && !ended(job)).count()
    }

    fn used_bytes(&self) -> u64 {
        match self.setup.room {
            Some(_) => WEIGHTS * self.residence.iter().count() as u64 + CANVAS * self.canvases.len() as u64,
            None => 0,
        }
    }

    /// Time goes by, and with it what comes from outside.
    pub(super) fn advance(&mut self, time: Duration) {
        self.now += time;
        while let Some(entry) =
            self.events.first_entry().filter(|event| self.start + event.key().0 <= self.now)
        {
            for (job, comes) in entry.remove() {
                if comes { self.push(job) } else { self.cancel(job) }
            }
        }
        let done: Vec<_> = self.writing.extract_if(.., |(until, ..)| *until <= self.now).collect();
        for (_, job, number) in done {
            if self.specs[job].fault == Fault::Empty && self.jobs[job].redraws == 0 {
                self.jobs[job].redraws = 1;
                match self.jobs[job].cancelled {
                    true => self.end(job, End::Cancelled),
                    false => self.queue.put(number, self.waiting(job)),
                }
            } else {
                self.end(job, End::Finished);
            }
        }
    }

    pub(super) fn add(&mut self, spec: Spec) -> usize {
        self.specs.push(spec);
        self.jobs.push(Outcome::default());
        self.push(self.specs.len() - 1);
        self.specs.len() - 1
    }

    fn push(&mut self, job: usize) {
        let number = self.queue.push(self.waiting(job));
        self.jobs[job].number = Some(number);
    }

    fn cancel(&mut self, job: usize) {
        self.jobs[job].cancelled = self.jobs[job].end.is_none();
        let number = self.jobs[job].number.expect("it came before");
        if self.queue.remove(number).is_some() {
            self.end(job, End::Cancelled);
        }
    }

    fn waiting(&self, job: usize) -> Waiting<usize> {
        let spec = &self.specs[job];
        let needs = needs(spec);
        Waiting {
            item: job,
            model: spec.model.to_string().into(),
            client: spec.client.to_string().into(),
            priority: spec.priority,
            first: spec.suspect,
            since: self.start + spec.at,
            deadline: spec.deadline.map(|deadline| self.start + spec.at + deadline),
            steps: spec.steps,
            work: needs.work(spec.steps),
            bytes: 1,
            needs,
        }
    }

    fn end(&mut self, job: usize, end: End) {
        let outcome = &mut self.jobs[job];
        assert_eq!(outcome.end, None, "job {job} ends once");
        outcome.end = Some(end);
        outcome.ended_at = self.now - self.start;
    }

    /// The jobs and their ends.
    pub(super) fn ends(&self) -> impl Iterator<Item = (&Spec, &Outcome)> {
        self.specs.iter().zip(&self.jobs)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// The jobs that wait.
    pub(super) fn waiting_jobs(&self) -> usize {
        self.queue.len()
    }

    /// The steps that a client's jobs have to go.
    pub(super) fn steps_left_of(&self, client: u8) -> usize {
        let all = self.specs.iter().filter(|spec| spec.client == client).map(|spec| spec.steps);
        all.sum::<usize>() - self.calls.iter().flatten().filter(|known| **known == client).count()
    }
}

fn needs(spec: &Spec) -> Needs {
    let size = ImageSize { width: spec.side, height: spec.side };
    Needs { size, rows: spec.rows, weight_bytes: WEIGHTS }
}
