//! The configuration of an engine, and the ways to end it.

use std::path::PathBuf;
use std::time::Duration;

use super::Budget;

/// The configuration of an engine.
///
/// # Example
/// ```
/// use dgx_pixels_core::engine::{Budget, EngineConfig};
/// let config = EngineConfig { budget: Budget::Leave(4 << 30), max_batch: 4, ..Default::default() };
/// assert_eq!(config.queue_capacity, 10_000);
/// ```
///
/// The defaults suit one program on one machine. A server sets `journal` and `costs`, so that jobs
/// and memory measurements outlive it, and `client_jobs`, so that no client fills the queue.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Memory that may be used, of each device, by tensors and what the allocator keeps for them;
    /// the program itself, CUDA's context and libraries come on top. Default `90%` of what the
    /// device has.
    pub budget: Budget,
    /// Jobs that may wait. Default 10,000.
    pub queue_capacity: usize,
    /// Jobs of one client that may wait, so that it leaves places in the queue to others. Default
    /// 10,000.
    pub client_jobs: usize,
    /// Bytes that the waiting jobs of one client may take: prompts, other texts and palettes, and
    /// about 1.5 KB for each job. Default 256 MiB.
    pub client_bytes: u64,
    /// Pictures that go a step in one round, at most; 1 or more. Default 8. It takes fewer where
    /// more would gain next to nothing, but one of each client; live canvases beyond these pause.
    pub max_batch: usize,
    /// The time that the oldest job may wait for company before it runs with fewer than
    /// `max_batch`. Default: 0, as others join it at the next step anyway.
    pub max_wait: Duration,
    /// A job that has waited so long goes as if it were a priority higher; twice, two. Default 30
    /// s.
    pub ageing: Duration,
    /// A call of a backend that takes longer is given up, and its jobs with it. Default 10 min.
    pub hang_after: Duration,
    /// A folder, made if absent, that holds the journal of jobs and the results of those without an
    /// output of their own. It remembers the last 100,000 that ended; results are never deleted.
    /// Default: none, and jobs are lost with the program.
    pub journal: Option<PathBuf>,
    /// A folder, made if absent, that keeps the images that requests begin from, each once, by the
    /// hash of its pixels. They are never deleted. Default: `inputs` in the journal's folder, and
    /// without a journal none.
    pub inputs: Option<PathBuf>,
    /// Folders of journals that this engine takes over when it starts, unless another engine has
    /// them open: it does their unfinished jobs, and finds those that ended. Default: none.
    pub adopt: Vec<PathBuf>,
    /// A file that keeps what calls cost in memory, from run to run. Default: none, and it is
    /// measured each time.
    pub costs: Option<PathBuf>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            budget: Budget::default(),
            queue_capacity: 10_000,
            client_jobs: 10_000,
            client_bytes: 256 << 20,
            max_batch: 8,
            max_wait: Duration::ZERO,
            ageing: Duration::from_secs(30),
            hang_after: Duration::from_secs(600),
            journal: None,
            inputs: None,
            adopt: vec![],
            costs: None,
        }
    }
}

/// The ways to end an engine.
///
/// # Example
/// ```
/// use dgx_pixels_core::backend::{Sketches, Unmetered};
/// use dgx_pixels_core::engine::{Engine, EngineConfig, Shutdown};
/// use dgx_pixels_core::{ErrorKind, GenerateRequest, Submission};
///
/// let engine = Engine::start(Sketches, vec![Box::new(Unmetered("cpu".into()))], EngineConfig::default())?;
/// let jobs = engine.submit_all((0..100).map(|seed| {
///     Submission::from(GenerateRequest { seed, steps: Some(1000), ..Default::default() })
/// }));
/// engine.shutdown(Shutdown::NextStep);
/// // Without a journal no later engine does what was left.
/// assert!(jobs.into_iter().any(|job| job.unwrap().wait().is_err_and(|error| error.kind() == ErrorKind::ShutDown)));
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// All jobs that were accepted are done first.
    Drain,
    /// The engine ends at the next step. A job that is not finished fails as
    /// [`Error::ShutDown`](crate::Error::ShutDown); where a journal is kept, the next engine does
    /// it.
    NextStep,
}
