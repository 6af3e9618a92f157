//! Jobs, and the assets of the library that they become.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dgx_pixels_core::job::{Job, JobId};
use dgx_pixels_core::library::{AssetId, AssetName, Library};
use dgx_pixels_core::{Error, Generator, Submission};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tracing::{Instrument as _, Span};

use crate::answer::Fault;
use crate::pixel_work::Stop;

/// Jobs that have ended and are still known by their asset; the generator finds older ones.
const ENDED_KEPT: usize = 1000;
/// Calls that submit at once. They take turns at the library and the journal, and each holds a
/// thread that short calls need as well.
const MAX_SUBMITTING: usize = 2;

/// Facts that the library remembers beside those in the image itself.
type Notes = BTreeMap<String, String>;

/// A sprite that is checked and planned, and not submitted yet.
pub(crate) struct PlannedSprite {
    pub(crate) name: AssetName,
    pub(crate) submission: Submission,
    pub(crate) notes: Notes,
}

/// A job and the asset that it becomes.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) job: Job,
    pub(crate) asset: AssetId,
    /// Set once the asset is in the library, or is known not to come.
    done: watch::Receiver<Option<Result<(), Error>>>,
    /// Its copies are the calls that wait, and one more.
    waiting: Arc<Waiters>,
}

struct Waiters(Arc<()>);

/// While it lives the job has somebody who waits.
pub(crate) struct Waiting {
    _counted: Arc<()>,
}

impl Work {
    pub(crate) fn wait(&self) -> Waiting {
        Waiting { _counted: self.waiting.0.clone() }
    }

    /// Returns when the asset is in the library.
    ///
    /// # Errors
    /// The job's own; the library's.
    pub(crate) async fn done(&self) -> Result<(), Error> {
        let mut done = self.done.clone();
        match done.wait_for(Option::is_some).await {
            Ok(result) => result.clone().expect("it was waited for"),
            Err(_) => Err(Error::ShutDown),
        }
    }

    /// The outcome of a job that has ended; `None` while it runs.
    pub(crate) fn ended(&self) -> Option<Result<(), Error>> {
        self.done.borrow().clone()
    }

    /// Cancels the job if no call waits for it.
    pub(crate) fn cancel_unless_wanted(&self) {
        if Arc::strong_count(&self.waiting.0) == 1 {
            self.job.cancel();
        }
    }
}

/// The jobs of a server. All its copies are the same ones.
#[derive(Clone)]
pub(crate) struct Jobs(Arc<Inner>);

struct Inner {
    library: Library,
    /// Calls that submit wait here, where one whose client goes has done nothing yet.
    submitting: Arc<Semaphore>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    known: HashMap<JobId, Work>,
    ended: VecDeque<JobId>,
}

impl Jobs {
    pub(crate) fn new(library: Library) -> Jobs {
        let submitting = Arc::new(Semaphore::new(MAX_SUBMITTING));
        Jobs(Arc::new(Inner { library, submitting, table: Mutex::default() }))
    }

    /// Hands sprites to the generator, and sees to it that each becomes an asset.
    ///
    /// # Errors
    /// Those of [`Generator::submit_all`] and [`Library::reserve`]; the fault for a call that was
    /// given up before its turn. Nothing is drawn then.
    pub(crate) async fn submit(
        &self,
        generator: impl Generator + 'static,
        planned: Vec<PlannedSprite>,
        stop: &Stop,
    ) -> Result<Vec<Work>, Fault> {
        // Clients that go come faster than their calls get a turn, and each call that waits takes
        // 45 KB.
        let turn = tokio::select! {
            biased;
            () = stop.set() => return Err(stop.fault()),
            turn = self.0.submitting.clone().acquire_owned() => turn.map_err(|_| Error::ShutDown)?,
        };
        let jobs = self.clone();
        let work = async move {
            let _turn = turn;
            jobs.take(&generator, planned).await
        };
        let (jobs, error) = apart(work).await.unwrap_or((vec![], Some(Error::ShutDown)));
        let works = jobs.into_iter().filter_map(|(job, notes)| self.watch(job, notes)).collect();
        error.map_or(Ok(works), |error| Err(error.into()))
    }

    /// The jobs that were accepted with their notes, and the first fault, on which they are
    /// cancelled.
    async fn take(
        &self,
        generator: &impl Generator,
        planned: Vec<PlannedSprite>,
    ) -> (Vec<(Job, Notes)>, Option<Error>) {
        let mut places = vec![];
        let mut submissions = vec![];
        for PlannedSprite { name, submission, notes } in planned {
            match self.0.library.reserve(&name) {
                Ok(reserved) => {
                    submissions.push(Submission { output: Some(reserved.png()), ..submission });
                    places.push((reserved, notes));
                }
                Err(error) => return (vec![], Some(error)),
            }
        }
        let mut jobs = vec![];
        let mut first_error = None;
        for (answer, (reserved, notes)) in generator.submit_all(submissions).await.into_iter().zip(places) {
            match answer {
                Ok(job) => {
                    reserved.keep();
                    jobs.push((job, notes));
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        if first_error.is_some() {
            jobs.iter().for_each(|(job, _)| job.cancel());
        }
        (jobs, first_error)
    }

    /// The job of this id.
    ///
    /// # Errors
    /// Those of [`Generator::find`].
    pub(crate) async fn find(
        &self,
        generator: impl Generator + 'static,
        id: JobId,
    ) -> Result<Option<Work>, Error> {
        if let Some(work) = self.table().known.get(&id) {
            return Ok(Some(work.clone()));
        }
        let found = apart(async move { generator.find(&id).await }).await?;
        Ok(found?.and_then(|job| self.watch(job, Notes::new())))
    }

    /// Adds the job's image to the library when it is drawn; `None` for a job whose output is
    /// elsewhere.
    pub(crate) fn watch(&self, job: Job, notes: Notes) -> Option<Work> {
        let output = job.submission().output.clone()?;
        let asset: AssetId = output.file_stem()?.to_str()?.parse().ok()?;
        let (sender, done) = watch::channel(None);
        let work =
            Work { job: job.clone(), asset: asset.clone(), done, waiting: Arc::new(Waiters(Arc::new(()))) };
        let mut table = self.table();
        if let Some(known) = table.known.get(&job.id()) {
            return Some(known.clone());
        }
        table.known.insert(job.id(), work.clone());
        drop(table);
        let (jobs, call) = (self.clone(), Span::current());
        tokio::spawn(async move {
            let drawn = job.finished().await;
            let library = jobs.0.library.clone();
            let recorded = tokio::task::spawn_blocking(move || match drawn {
                Ok(finished) => tracing::info_span!(parent: &call, "library")
                    .in_scope(|| library.add(&asset, finished.verdict, notes).map(drop)),
                // The next server does it.
                Err(Error::ShutDown) => Err(Error::ShutDown),
                Err(error) => {
                    if let Err(error) = library.discard(&asset) {
                        tracing::warn!(%asset, %error, "an id that was not used cannot be given back");
                    }
                    Err(error)
                }
            });
            let _ = sender.send(Some(recorded.await.unwrap_or(Err(Error::ShutDown))));
            jobs.table().forget_old(job.id());
        });
        Some(work)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Notes that a job has ended, and forgets the one that ended first if too many are kept.
    fn forget_old(&mut self, ended: JobId) {
        self.ended.push_back(ended);
        while self.ended.len() > ENDED_KEPT {
            let Some(id) = self.ended.pop_front() else { break };
            self.known.remove(&id);
        }
    }
}

/// Runs `work` on a thread that may block: a generator checks files while it takes jobs, and waits
/// for its journal.
async fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Error> {
    let (runtime, work) = (Handle::current(), work.in_current_span());
    tokio::task::spawn_blocking(move || runtime.block_on(work)).await.map_err(|_| Error::ShutDown)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dgx_pixels_core::ErrorKind;
    use dgx_pixels_core::job::JobWriter;
    use dgx_pixels_core::library::Quota;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// Accepts jobs until it is full, and never draws one.
    struct Full {
        capacity: usize,
        accepted: Arc<Mutex<Vec<JobWriter>>>,
    }

    #[async_trait::async_trait]
    impl Generator for Full {
        async fn submit_all(&self, submissions: Vec<Submission>) -> Vec<Result<Job, Error>> {
            let mut accepted = self.accepted.lock().unwrap();
            let answers = submissions.into_iter().map(|submission| {
                let (waiting, capacity) = (accepted.len(), self.capacity);
                if waiting == capacity {
                    return Err(Error::QueueFull { waiting, capacity, retry_after: Duration::ZERO });
                }
                let (job, writer) = Job::new(JobId::new(), submission);
                accepted.push(writer);
                Ok(job)
            });
            answers.collect()
        }

        async fn find(&self, id: &JobId) -> Result<Option<Job>, Error> {
            let accepted = self.accepted.lock().unwrap();
            Ok(accepted.iter().map(JobWriter::job).find(|job| job.id() == *id))
        }
    }

    fn stop() -> Stop {
        Stop { call: CancellationToken::new(), server: CancellationToken::new() }
    }

    fn keys(count: usize) -> Vec<PlannedSprite> {
        let key = || PlannedSprite {
            name: "key".parse().unwrap(),
            submission: Submission::of("a key"),
            notes: Notes::new(),
        };
        std::iter::repeat_with(key).take(count).collect()
    }

    #[tokio::test]
    async fn a_refused_sprite_cancels_those_beside_it_and_its_id_is_free_again() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path(), Quota::default()).unwrap();
        let jobs = Jobs::new(library.clone());
        let accepted = Arc::new(Mutex::new(vec![]));
        let full = Full { capacity: 2, accepted: accepted.clone() };
        let fault = jobs.submit(full, keys(3), &stop()).await.err().unwrap();
        assert_eq!(fault.kind, ErrorKind::QueueFull, "{fault:?}");
        let accepted = std::mem::take(&mut *accepted.lock().unwrap());
        assert_eq!(accepted.iter().map(JobWriter::cancel_asked).collect::<Vec<_>>(), [true; 2]);
        let next = library.reserve(&"key".parse().unwrap()).unwrap();
        assert!(next.png().ends_with("key-3/key-3.png"), "{}", next.png().display());
    }

    #[tokio::test]
    async fn a_call_that_was_given_up_does_not_wait_for_its_turn_and_submits_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let jobs = Jobs::new(Library::open(folder.path(), Quota::default()).unwrap());
        let _all = jobs.0.submitting.acquire_many(MAX_SUBMITTING as u32).await.unwrap();
        let accepted = Arc::new(Mutex::new(vec![]));
        let full = Full { capacity: 1, accepted: accepted.clone() };
        let stop = stop();
        let given_up = async { stop.call.cancel() };
        let (submitted, ()) = tokio::join!(jobs.submit(full, keys(1), &stop), given_up);
        assert_eq!(submitted.err().map(|fault| fault.kind), Some(ErrorKind::Cancelled));
        assert!(accepted.lock().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_job_of_an_earlier_server_is_found_by_its_generator() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path(), Quota::default()).unwrap();
        let output = library.reserve(&"key".parse().unwrap()).unwrap().png();
        let submission = Submission { output: Some(output), ..Submission::of("a key") };
        let (job, writer) = Job::new(JobId::new(), submission);
        let earlier = || Full { capacity: 0, accepted: Arc::new(Mutex::new(vec![])) };
        let jobs = Jobs::new(library);
        assert!(jobs.find(earlier(), job.id()).await.unwrap().is_none());
        let known = earlier();
        known.accepted.lock().unwrap().push(writer);
        let work = jobs.find(known, job.id()).await.unwrap().unwrap();
        assert_eq!(work.asset.to_string(), "key");
        // It is known from here on, whatever the generator forgets.
        assert!(jobs.find(earlier(), job.id()).await.unwrap().is_some());
    }
}
