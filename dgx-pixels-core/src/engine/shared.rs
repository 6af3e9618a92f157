//! The state that all threads of an engine share, under one lock.
//!
//! The lock is held for bookkeeping alone: never during a call of a backend, a write to a disk, or
//! the loading of libtorch. Threads that wait for work sleep on one condition variable, which every
//! change wakes.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::EngineConfig;
use super::handover::{HandOver, Post};
use super::journal::{Journal, NOWHERE, Pending};
use super::metrics::Metrics;
use super::pace::Pace;
use super::queue::{Limits, Queue};
use super::task::Task;
use crate::error::Error;
use crate::input_image::KeptImages;
use crate::job::{Job, JobEvent, JobId};

/// Bytes of pictures of ended jobs that can still be found by id where no journal is kept.
const KEPT_BYTES: usize = 64 << 20;
/// The time between two reports of the queue position to clients that watch waiting jobs.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(500);
/// Most waiting jobs whose places are told at once.
const MOST_ANNOUNCED: usize = 256;

/// The engine's mode of running or stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    Serve,
    /// No new jobs; those that were accepted are done.
    Drain,
    /// Nothing more than the steps that are being done.
    Stop,
}

pub(super) struct Shared {
    pub(super) config: EngineConfig,
    pub(super) metrics: Metrics,
    journal: RwLock<Option<Journal>>,
    /// The images that requests begin from, if they are kept.
    pub(super) inputs: Option<KeptImages>,
    /// The way to the threads that write.
    pub(super) posts: HandOver<Post>,
    state: Mutex<State>,
    pub(super) wake: Condvar,
}

pub(super) struct State {
    pub(super) queue: Queue<Arc<Task>>,
    pub(super) course: Course,
    pub(super) devices: Vec<DeviceState>,
    /// Suspects that have not ended.
    pub(super) suspects: usize,
    jobs: HashMap<JobId, Job>,
    keys: HashMap<String, JobId>,
    ended: VecDeque<(JobId, usize)>,
    ended_bytes: usize,
    /// The time from an image's last step to its finished file.
    tail: Option<Duration>,
    announced: Instant,
}

/// A device, as seen from outside its thread.
pub(super) struct DeviceState {
    pub(super) name: Arc<str>,
    pub(super) up: bool,
    /// Loaded, or being loaded.
    pub(super) models: Vec<Arc<str>>,
    pub(super) pace: Pace,
    /// Steps that its canvases have left.
    pub(super) steps_left: usize,
    pub(super) canvases: usize,
    /// The call of the backend that it is in.
    pub(super) busy: Option<Busy>,
}

pub(super) struct Busy {
    pub(super) since: Instant,
    pub(super) doing: &'static str,
    /// All that are lost if it never comes back.
    pub(super) tasks: Vec<Arc<Task>>,
}

impl Shared {
    pub(super) fn new(
        config: EngineConfig,
        metrics: Metrics,
        journal: Option<Journal>,
        devices: Vec<Arc<str>>,
    ) -> Self {
        let device = |name| DeviceState {
            name,
            up: true,
            models: vec![],
            pace: Pace::default(),
            steps_left: 0,
            canvases: 0,
            busy: None,
        };
        let limits = Limits {
            jobs: config.queue_capacity,
            client_jobs: config.client_jobs,
            client_bytes: config.client_bytes,
        };
        let beside_journal = || Some(config.journal.as_ref()?.join("inputs"));
        Shared {
            inputs: config.inputs.clone().or_else(beside_journal).map(KeptImages::new),
            state: Mutex::new(State {
                queue: Queue::new(limits, config.ageing),
                course: Course::Serve,
                devices: devices.into_iter().map(device).collect(),
                suspects: 0,
                jobs: HashMap::new(),
                keys: HashMap::new(),
                ended: VecDeque::new(),
                ended_bytes: 0,
                tail: None,
                announced: Instant::now(),
            }),
            config,
            metrics,
            journal: RwLock::new(journal),
            posts: HandOver::new(),
            wake: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The journal, while the engine runs.
    pub(super) fn journal(&self) -> Option<Journal> {
        self.journal.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets another engine open the journal.
    pub(super) fn close_journal(&self) {
        self.journal.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Ends a job with an error, off this thread: the journal is told first.
    pub(super) fn fail(&self, task: Arc<Task>, error: Error) {
        // Once it is closed the task is dropped, which ends its job too.
        self.posts.hand(Post::Failed { task, error });
    }

    /// Notes where a job is that runs alone, in case that the process dies there.
    pub(super) fn note_place(&self, task: &Task, doing: &str) {
        if let Some(journal) = self.journal() {
            journal.note_place(task.id(), doing);
        }
    }

    /// Tells the journal that something is about to be done for these tasks.
    pub(super) fn mark<'a>(&self, tasks: impl IntoIterator<Item = &'a Arc<Task>>) -> Vec<Pending> {
        let Some(journal) = self.journal() else { return vec![] };
        let mark = |task: &'a Arc<Task>| {
            task.marks.fetch_add(1, Ordering::SeqCst);
            task.id()
        };
        let ids: Vec<JobId> = tasks.into_iter().map(mark).collect();
        if let [id] = ids[..] {
            journal.note_place(id, NOWHERE);
        }
        if ids.is_empty() { vec![] } else { journal.begin(ids) }
    }

    /// Takes a mark back; without any the journal takes the task for one that waits.
    pub(super) fn rest(&self, task: &Task) {
        let one_less = |marks: usize| marks.checked_sub(1);
        let before = task.marks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        if before == Ok(1)
            && let Some(journal) = self.journal()
        {
            drop(journal.rest(task.id()));
        }
    }

    /// `true` if nothing is begun that has not ended. To be asked under the lock.
    pub(super) fn is_quiet(&self, state: &State) -> bool {
        state.devices.iter().all(|device| device.canvases == 0 || !device.up) && self.posts.unwritten() == 0
    }

    /// Tells the metrics of the queue as it is now.
    pub(super) fn measure_queue(&self) {
        let now = Instant::now();
        let (by_priority, (clients, most)) = {
            let state = self.lock();
            (state.queue.by_priority(), state.queue.shares())
        };
        self.metrics.queue_clients.set(clients as i64);
        self.metrics.queue_largest_client.set(most as i64);
        for (priority, (jobs, oldest)) in crate::submission::Priority::ALL.into_iter().zip(by_priority) {
            let oldest = oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            self.metrics.queue(priority, jobs, oldest);
        }
    }
}

impl State {
    pub(super) fn job(&self, id: JobId) -> Option<Job> {
        self.jobs.get(&id).cloned()
    }

    pub(super) fn job_of_key(&self, key: &str) -> Option<Job> {
        self.keys.get(key).and_then(|id| self.job(*id))
    }

    /// Makes a job that is being accepted known.
    pub(super) fn know(&mut self, job: &Job) {
        self.jobs.insert(job.id(), job.clone());
        self.keys.extend(job.submission().idempotency_key.clone().map(|key| (key, job.id())));
    }

    /// Forgets a job that was not accepted, or has ended long ago.
    pub(super) fn forget(&mut self, id: JobId) {
        let Some(job) = self.jobs.remove(&id) else { return };
        if let Some(key) = &job.submission().idempotency_key {
            self.keys.remove(key);
        }
    }

    /// A job has ended with a picture of so many bytes: it stays known for a while.
    pub(super) fn ended(&mut self, id: JobId, bytes: usize) {
        // What its record takes, roughly.
        let bytes = bytes + 1024;
        self.ended.push_back((id, bytes));
        self.ended_bytes += bytes;
        while self.ended_bytes > KEPT_BYTES {
            let Some((id, bytes)) = self.ended.pop_front() else { break };
            self.ended_bytes -= bytes;
            self.forget(id);
        }
    }

    /// The reason why the engine serves no job, once no device answers any more.
    pub(super) fn gone(&self) -> Option<Error> {
        let all_hang = self.devices.iter().all(|device| !device.up && device.busy.is_some());
        all_hang.then(|| {
            let names: Vec<_> = self.devices.iter().map(|device| &*device.name).collect();
            Error::device(names.join(", "), "it does not answer; restarting the program may help")
        })
    }

    pub(super) fn observe_tail(&mut self, time: Duration) {
        self.tail = Some(self.tail.map_or(time, |tail| (tail * 7 + time) / 8));
    }

    pub(super) fn tail(&self) -> Duration {
        self.tail.unwrap_or_default()
    }

    /// The time until a job of `steps` steps with this much work each is finished, if
    /// `steps_before` wait before it.
    pub(super) fn eta(
        &self,
        steps: usize,
        work: f64,
        before: usize,
        steps_before: f64,
        most: usize,
    ) -> Option<Duration> {
        let devices = self.devices.iter().filter(|device| device.up).count().max(1);
        let slots = (most * devices) as f64;
        let canvases: usize = self.devices.iter().map(|device| device.canvases).sum();
        let steps_left: usize = self.devices.iter().map(|device| device.steps_left).sum();
        let pace = self.devices.iter().find_map(|device| {
            let together = ((canvases + before + 1) as f64 / devices as f64).min(most as f64);
            device.pace.time(together * work)
        })?;
        let waits =
            if canvases + before < slots as usize { 0.0 } else { (steps_left as f64 + steps_before) / slots };
        Some(pace.mul_f64(waits + steps as f64) + self.tail())
    }

    /// Tells those who watch waiting jobs where they stand.
    pub(super) fn announce(&mut self, now: Instant, most: usize) {
        if now.saturating_duration_since(self.announced) < ANNOUNCE_EVERY {
            return;
        }
        self.announced = now;
        let watched = self.queue.iter().filter(|(_, waiting)| waiting.item.writer.is_watched());
        let places: Vec<_> =
            watched.take(MOST_ANNOUNCED).map(|(number, waiting)| (number, waiting.item.clone())).collect();
        places.into_iter().for_each(|(number, task)| self.tell_place(number, &task, most));
    }

    pub(super) fn tell_place(&self, number: u64, task: &Task, most: usize) {
        if let Some((position, steps_before)) = self.queue.position(number) {
            let eta = self.eta(task.steps(), task.needs().step_work(), position - 1, steps_before, most);
            task.writer.tell(JobEvent::Queued { position, eta });
        }
    }
}
