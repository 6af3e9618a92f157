//! The engine, its jobs and their events.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dgx_pixels_core::engine::{self, EngineConfig, Shutdown};
use dgx_pixels_core::fields::json::{self, Object};
use dgx_pixels_core::job::{self, JobId};
use dgx_pixels_core::model::Options;
use dgx_pixels_core::{Cause, Error, ErrorKind, folders};
use prometheus::TextEncoder;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::backend::{Served, ServedModels, is_in_backend};
use crate::error::{exception, of_field, of_kind};
use crate::notifier::{Notice, notify};
use crate::{SIGNALS_EVERY, check_signals, event, fields};

/// The options of an engine.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct EngineOptions {
    device: Option<String>,
    dtype: Option<String>,
    mode: Option<String>,
    vae_slicing: bool,
    vae_tiling: bool,
    prediction_type: Option<String>,
    zero_snr: Option<bool>,
    lenient: bool,
    budget: Option<String>,
    journal: Option<PathBuf>,
    #[schemars(range(min = 1))]
    max_batch: Option<usize>,
    #[schemars(range(min = 1))]
    queue_capacity: Option<usize>,
    preload: bool,
    own_process: bool,
}

static OPTIONS: LazyLock<Arc<Object>> = LazyLock::new(json::schema::<EngineOptions>);

impl EngineOptions {
    fn computing(&self) -> Result<Options, Error> {
        let defaults = Options::default();
        Ok(Options {
            device: self.device.as_deref().map_or(Ok(defaults.device), str::parse)?,
            dtype: self.dtype.as_deref().map(str::parse).transpose()?,
            mode: self.mode.as_deref().map_or(Ok(defaults.mode), str::parse)?,
            vae_slicing: self.vae_slicing,
            vae_tiling: self.vae_tiling,
            prediction_type: self.prediction_type.as_deref().map(str::parse).transpose()?,
            zero_snr: self.zero_snr,
            lenient: self.lenient,
        })
    }

    fn config(self) -> Result<EngineConfig, Error> {
        let defaults = EngineConfig::default();
        let queue_capacity = self.queue_capacity.unwrap_or(defaults.queue_capacity);
        Ok(EngineConfig {
            budget: self.budget.as_deref().map_or(Ok(defaults.budget), str::parse)?,
            journal: self.journal,
            max_batch: self.max_batch.unwrap_or(defaults.max_batch),
            queue_capacity,
            // One process is one client unless it says otherwise.
            client_jobs: queue_capacity,
            costs: folders::cache().map(|cache| cache.join("costs.json")),
            ..defaults
        })
    }
}

/// The process that made an object. libtorch and threads do not survive a fork.
struct Process(u32);

impl Process {
    fn this() -> Process {
        Process(std::process::id())
    }

    fn is_this(&self) -> bool {
        self.0 == std::process::id()
    }

    fn check(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_this() {
            return Ok(());
        }
        let text = "this process is a fork of the one that made the engine, and an engine does not survive a fork; start \
                    processes by `multiprocessing.get_context(\"spawn\")`, and make the engine in each";
        Err(of_kind(py, ErrorKind::ShutDown, text, None, None))
    }
}

/// An engine. Python's `Engine` holds one.
#[pyclass(frozen, module = "dgx_pixels._native")]
pub(crate) struct Engine {
    /// `None` once it has ended.
    engine: Mutex<Option<engine::Engine>>,
    is_closed: AtomicBool,
    models: Vec<String>,
    recovered: Vec<job::Job>,
    process: Process,
}

impl Engine {
    fn engine(&self, py: Python<'_>) -> PyResult<engine::Engine> {
        self.process.check(py)?;
        let engine = self.lock().clone().filter(|_| !self.is_closed.load(Ordering::SeqCst));
        engine.ok_or_else(|| {
            of_kind(py, ErrorKind::ShutDown, "the engine is closed; expected an open one", None, None)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<engine::Engine>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Engine {
    /// Starts an engine: `models` are names or folders, each with a backend in Python or `None`.
    /// Without any, all models of this machine are served.
    #[new]
    fn new(
        py: Python<'_>,
        models: Vec<(String, Option<Py<PyAny>>)>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Engine> {
        let given = crate::json::object(options)?;
        let options: EngineOptions =
            json::parse(&OPTIONS, Some(given)).map_err(|error| of_field(py, &error))?;
        let served = ServedModels::read(py, models)?;
        let start = || -> Result<Engine, Error> {
            let (preload, own_process) = (options.preload, options.own_process);
            let served = Served::open(served, options.computing()?, own_process)?;
            let config = options.config()?;
            if preload {
                served.preload()?;
            }
            let models = served.names();
            let devices = served.devices()?;
            let engine = engine::Engine::start(served, devices, config)?;
            let recovered = engine.recovered().to_vec();
            Ok(Engine {
                engine: Mutex::new(Some(engine)),
                is_closed: AtomicBool::new(false),
                models,
                recovered,
                process: Process::this(),
            })
        };
        py.detach(start).map_err(|error| exception(py, &error))
    }

    /// Returns the names of the models, the default first.
    #[getter]
    fn models(&self) -> Vec<String> {
        self.models.clone()
    }

    /// Returns the jobs that an earlier engine had accepted and not finished.
    #[getter]
    fn recovered(&self) -> Vec<Job> {
        self.recovered.iter().cloned().map(Job::new).collect()
    }

    /// Submits several jobs as one unit of work for the journal; a job or an exception for each.
    fn submit(&self, py: Python<'_>, given: Vec<Bound<'_, PyDict>>) -> PyResult<Vec<Py<PyAny>>> {
        let engine = self.engine(py)?;
        let submissions: Vec<_> = given.iter().map(|given| fields::submission(py, given)).collect();
        let valid: Vec<_> = submissions.iter().filter_map(|it| it.as_ref().ok().cloned()).collect();
        let mut jobs = py.detach(|| engine.submit_all(valid)).into_iter();
        let answer = |submission: PyResult<_>| -> PyResult<Py<PyAny>> {
            match submission {
                Err(error) => Ok(error.into_value(py).into_any()),
                Ok(_) => match jobs.next() {
                    Some(Ok(job)) => Ok(Py::new(py, Job::new(job))?.into_any()),
                    Some(Err(error)) => Ok(exception(py, &error).into_value(py).into_any()),
                    None => Ok(exception(py, &Error::ShutDown).into_value(py).into_any()),
                },
            }
        };
        submissions.into_iter().map(answer).collect()
    }

    /// Returns the job of this id, or `None`.
    fn find(&self, py: Python<'_>, id: &str) -> PyResult<Option<Job>> {
        let engine = self.engine(py)?;
        let id: JobId = id.parse().map_err(|error| exception(py, &Error::Value(error)))?;
        let found = py.detach(|| engine.find(id)).map_err(|error| exception(py, &error))?;
        Ok(found.map(Job::new))
    }

    /// Returns what is measured, in Prometheus' text format.
    fn metrics(&self, py: Python<'_>) -> PyResult<String> {
        let engine = self.engine(py)?;
        py.detach(|| TextEncoder::new().encode_to_string(&engine.metrics().gather()))
            .map_err(|error| exception(py, &Error::internal("writing metrics", Cause::from(error))))
    }

    /// Ends the engine: after all jobs if `drain`, else at the next step. Does nothing in a fork. A
    /// wait that is interrupted can be made again, also without `drain`.
    fn shutdown(&self, py: Python<'_>, drain: bool) -> PyResult<()> {
        if !self.process.is_this() {
            return Ok(());
        }
        self.is_closed.store(true, Ordering::SeqCst);
        let Some(engine) = self.lock().clone() else { return Ok(()) };
        let how = if drain { Shutdown::Drain } else { Shutdown::NextStep };
        let ender = std::thread::spawn(move || engine.shutdown(how));
        if is_in_backend() {
            return Ok(());
        }
        py.detach(|| {
            while !ender.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
                check_signals()?;
            }
            PyResult::Ok(())
        })?;
        let ended = self.lock().take();
        py.detach(|| drop(ended));
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(engine) = self.lock().take() else { return };
        if !self.process.is_this() {
            // Its threads are not in this process, so that they cannot be waited for.
            std::mem::forget(engine);
            return;
        }
        if is_in_backend() {
            std::thread::spawn(move || drop(engine));
            return;
        }
        // A backend in Python needs the interpreter to come to its end.
        let mut engine = Some(engine);
        Python::try_attach(|py| py.detach(|| drop(engine.take())));
        std::mem::forget(engine);
    }
}

/// A job. Python's `Job` holds one.
#[pyclass(frozen, module = "dgx_pixels._native")]
pub(crate) struct Job {
    job: job::Job,
    process: Process,
}

impl Job {
    fn new(job: job::Job) -> Job {
        Job { job, process: Process::this() }
    }
}

#[pymethods]
impl Job {
    /// Returns the id.
    #[getter]
    fn id(&self) -> String {
        self.job.id().to_string()
    }

    /// Returns prompt, seed and model as they were submitted.
    #[getter]
    fn submitted(&self) -> (String, u64, Option<String>) {
        let submission = self.job.submission();
        (submission.request.prompt.clone(), submission.request.seed, submission.model.clone())
    }

    /// Waits until the job has ended, at most `timeout` seconds; `True` if it has.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.process.check(py)?;
        // A time past all clocks is no limit.
        let until = timeout.and_then(|timeout| {
            let time = Duration::try_from_secs_f64(timeout.max(0.0)).ok()?;
            Instant::now().checked_add(time)
        });
        py.detach(|| {
            loop {
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                let time = left.map_or(SIGNALS_EVERY, |left| left.min(SIGNALS_EVERY));
                if self.job.wait_for(time).is_some() {
                    return Ok(true);
                }
                check_signals()?;
                if left.is_some_and(|left| left.is_zero()) {
                    return Ok(false);
                }
            }
        })
    }

    /// Returns the pixels and JSON of all else; raises why there are none. The job must have ended.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<event::Result<'py>> {
        self.process.check(py)?;
        match self.job.result() {
            Some(Ok(finished)) => Ok(event::finished(py, &finished)),
            Some(Err(error)) => Err(exception(py, &error)),
            None => Err(exception(py, &Error::internal("reading a result", "the job has not ended"))),
        }
    }

    /// Returns the exception of an ended job; `None` if it finished, or has not ended.
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let error = self.job.result()?.err()?;
        Some(exception(py, &error).into_value(py).into_any())
    }

    /// `True` if the job has ended.
    fn done(&self) -> bool {
        self.job.result().is_some()
    }

    /// Asks to stop before the next step.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.process.check(py)?;
        py.detach(|| self.job.cancel());
        Ok(())
    }

    /// Has `event_loop` call `callback` once the job has ended.
    fn on_end(&self, py: Python<'_>, event_loop: Py<PyAny>, callback: Py<PyAny>) -> PyResult<()> {
        self.process.check(py)?;
        py.detach(|| self.job.on_end(move || notify(Notice { event_loop, callback })));
        Ok(())
    }

    /// Returns what is reported from now on.
    fn events(&self, py: Python<'_>) -> PyResult<Events> {
        self.process.check(py)?;
        Ok(Events { events: Mutex::new(self.job.events()) })
    }
}

/// The events of a job.
#[pyclass(frozen, module = "dgx_pixels._native")]
pub(crate) struct Events {
    events: Mutex<job::Events>,
}

/// The name of an event and its values.
type Named<'py> = (&'static str, Bound<'py, PyDict>);

#[pymethods]
impl Events {
    /// Waits for the next event; `None` after the end.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Named<'py>>> {
        loop {
            if let Some(next) = self.unseen() {
                return next.map(|event| event::event(py, &event)).transpose();
            }
            let (sender, receiver) = mpsc::channel();
            self.on_unseen(move || {
                // Nobody waits any more if this wait was interrupted.
                let _ = sender.send(());
            });
            py.detach(move || {
                while receiver.recv_timeout(SIGNALS_EVERY) == Err(RecvTimeoutError::Timeout) {
                    check_signals()?;
                }
                PyResult::Ok(())
            })?;
        }
    }

    /// Returns the next event if there is one: `(True, event)`, or `(True, None)` after the end.
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<(bool, Option<Named<'py>>)> {
        match self.unseen() {
            None => Ok((false, None)),
            Some(next) => Ok((true, next.map(|event| event::event(py, &event)).transpose()?)),
        }
    }

    /// Has `event_loop` call `callback` once there is an event that was not seen.
    fn on_event(&self, py: Python<'_>, event_loop: Py<PyAny>, callback: Py<PyAny>) {
        py.detach(|| self.on_unseen(move || notify(Notice { event_loop, callback })));
    }
}

impl Events {
    fn unseen(&self) -> Option<Option<job::JobEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).unseen()
    }

    fn on_unseen(&self, react: impl FnOnce() + Send + 'static) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).on_unseen(react);
    }
}
