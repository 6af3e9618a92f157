//! The models on a device, their memory, and the check that there is room for more.
//!
//! A model is loaded by a thread of its own, while the steps of other models go on. Its calls are
//! then measured at two sizes, unless the file of costs has them. The model may be used after the
//! smaller one.
//!
//! If a job's model does not fit, the model that was unused for longest leaves, as long as no job
//! needs it. A model that does not fit beside the others is measured alone, once their canvases
//! have left.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::costs::{CostFile, Costs};
use super::journal::{LOADING, NOWHERE};
use super::round::UnderWay;
use super::shared::{State, Task};
use super::worker::{Live, Worker};
use crate::backend::{Backend, Canvas as _, Decoding};
use crate::backend::{DeviceMemory, Memory, ModelInfo, Models};
use crate::error::{Error, one_line};
use crate::job::JobEvent;
use crate::request::{GenerateRequest, ImageSize};

/// The time between two reports to clients that wait for a model to load.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// A model on the device, with the canvases that it works on.
pub(super) struct Loaded<B: Backend> {
    pub(super) info: Arc<ModelInfo>,
    pub(super) backend: B,
    pub(super) costs: Costs,
    /// `true` if `costs` differ from the file.
    pub(super) costs_changed: bool,
    /// `true` if its calls were measured, so that it may be used.
    pub(super) is_ready: bool,
    pub(super) used: Instant,
    /// The canvases with steps to go.
    pub(super) live: Vec<Live<B::Canvas>>,
    /// The canvases that wait to be decoded, oldest first.
    pub(super) done: Vec<Live<B::Canvas>>,
    /// The canvases that the device is working on.
    pub(super) under_way: Option<UnderWay>,
}

/// A model on its way, loaded by a thread of its own so that others' steps go on.
pub(super) struct Loading<B> {
    info: Arc<ModelInfo>,
    started: Instant,
    answer: Receiver<Result<B, Error>>,
    done: Arc<AtomicBool>,
}

impl<B> Loading<B> {
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }
}

impl<M: Models> Worker<M> {
    /// Begins to use the device, works the budget out, and has the device keep it. libtorch may be
    /// loaded for it, so the caller holds no lock.
    pub(super) fn open(&mut self) {
        self.is_open = true;
        if let Err(error) = self.device.open() {
            // The model that is loaded next fails with the same, and its jobs report it.
            tracing::debug!(device = &*self.name, error = one_line(&error), "the device cannot be used");
        }
        let Some(memory) = self.device.memory() else { return };
        let budget = self.shared.config.budget.bytes(memory);
        self.device.limit(budget);
        self.shared.metrics.budget.with_label_values(&[&*self.name]).set(budget as i64);
        self.budget = Some(budget);
    }

    pub(super) fn is_loaded(&self, model: &str) -> bool {
        self.loaded.iter().any(|loaded| loaded.info.key() == model)
    }

    /// Begins to load the model of the first waiting job that has none, if it may be loaded.
    /// Returns `true` if jobs of other models have to wait until there is room for it.
    pub(super) fn loads_next(&mut self, state: &mut State, now: Instant) -> bool {
        if self.loading.is_some() {
            return false;
        }
        let most = self.shared.config.max_batch;
        let elsewhere: HashSet<Arc<str>> = state
            .devices
            .iter()
            .enumerate()
            .filter(|(index, device)| *index != self.index && device.up)
            .flat_map(|(_, device)| device.models.iter().cloned())
            .collect();
        // Another device that has it serves a few well enough.
        let wanted = |model: &str| {
            !self.is_loaded(model) && (!elsewhere.contains(model) || state.queue.waiting_for(model) > most)
        };
        let Some(rank) = state.queue.first(wanted) else { return false };
        let Some(waiting) = state.queue.get(rank.number) else { return false };
        let (task, since) = (waiting.item.clone(), waiting.since);

        while !self.fits(task.info.weight_bytes) {
            let idle = self.loaded.iter().enumerate().filter(|(_, loaded)| {
                let first = state.queue.first(|model| model == loaded.info.key());
                loaded.live.is_empty() && loaded.done.is_empty() && first.is_none_or(|first| rank < first)
            });
            let oldest = idle.min_by_key(|(_, loaded)| loaded.used).map(|(index, _)| index);
            match oldest {
                Some(index) => self.evict(state, index),
                None if self.loaded.is_empty() => {
                    let error = self.over_budget(&task);
                    for refused in state.queue.drain(Some(&task.model)) {
                        self.shared.fail(refused.item, error.clone());
                    }
                    return false;
                }
                // Those in use leave when they are done; an old job makes new ones wait for that.
                None => return now.saturating_duration_since(since) > self.shared.config.ageing,
            }
        }
        self.load(state, &task);
        false
    }

    /// Begins to load the model of a waiting task. If that kills the process, the task is the
    /// cause.
    fn load(&mut self, state: &mut State, task: &Arc<Task>) {
        let info = task.info.clone();
        let mark = self.shared.mark([task]);
        let (is_alone, told_of) = (self.lives().next().is_none(), task.clone());
        self.loading_for = Some(task.clone());
        let (models, device) = (self.models.clone(), self.name.clone());
        let (sender, answer) = sync_channel(1);
        let done = Arc::new(AtomicBool::new(false));
        let (shared, key, told_done) = (self.shared.clone(), task.model.clone(), done.clone());
        let loaded_info = info.clone();
        let bytes = info.weight_bytes;
        // Needed when the first picture is written; it takes seconds, in which steps can go on.
        let (hashed, hashed_name) = (self.models.clone(), info.name.clone());
        thread::spawn(move || hashed.hash(&hashed_name));
        thread::spawn(move || {
            let mut told = Instant::now();
            let mut on_bytes = |bytes_done: u64| {
                if told.elapsed() >= TELL_EVERY {
                    told = Instant::now();
                    let event = JobEvent::Loading { model: loaded_info.name.clone(), bytes_done, bytes };
                    let state = shared.lock();
                    let waiting = state.queue.iter().map(|(_, waiting)| waiting);
                    for waiting in waiting.filter(|waiting| waiting.model == key) {
                        waiting.item.writer.tell(event.clone());
                    }
                }
            };
            for error in mark.into_iter().filter_map(|mark| mark.wait().err()) {
                tracing::warn!(error = one_line(&error), "the journal does not know that a model is loaded");
            }
            if is_alone {
                shared.note_place(&told_of, LOADING);
            }
            let load =
                std::panic::AssertUnwindSafe(|| models.load_with(&loaded_info, &device, &mut on_bytes));
            let result = std::panic::catch_unwind(load)
                .unwrap_or_else(|panic| Err(Error::internal("loading a model", super::post::words(&*panic))));
            if is_alone {
                shared.note_place(&told_of, NOWHERE);
            }
            let _ = sender.send(result);
            // Under the lock: the device's thread is either not yet asleep, or wakes.
            let _state = shared.lock();
            told_done.store(true, Ordering::SeqCst);
            shared.wake.notify_all();
        });
        state.devices[self.index].models.push(task.model.clone());
        tracing::info!(model = &*task.model, device = &*self.name, "loading");
        self.loading = Some(Loading { info, started: Instant::now(), answer, done });
    }

    /// Takes in a model that was loaded, or tells those who wait for it why it was not.
    pub(super) fn take_loaded(&mut self) {
        let Some(loading) = self.loading.take_if(|loading| loading.is_done()) else { return };
        let info = loading.info;
        let answer = loading.answer.recv().expect("the answer comes before it is done; this is a bug");
        let backend = match answer {
            Ok(backend) => backend,
            Err(error) => {
                // A device that could not be opened is tried again with the next job.
                self.is_open = self.budget.is_some();
                let mut state = self.shared.lock();
                let device = &mut state.devices[self.index];
                device.models.retain(|model| **model != *info.key());
                for refused in state.queue.drain(Some(&info.key())) {
                    self.shared.fail(refused.item, error.clone());
                }
                return;
            }
        };
        if self.budget.is_none() {
            // The device could not be used when the first job came, and can now.
            self.open();
        }
        let metrics = &self.shared.metrics;
        metrics.loads.with_label_values(&[&info.name]).inc();
        metrics.load_seconds.observe(loading.started.elapsed().as_secs_f64());
        metrics.models_loaded.with_label_values(&[&*self.name]).inc();
        let known = self.shared.config.costs.as_deref().map(CostFile::read).unwrap_or_default();
        let costs = known.get(&self.costs_key(&info)).cloned().unwrap_or_default();
        self.loaded.push(Loaded {
            info,
            backend,
            costs,
            costs_changed: false,
            is_ready: false,
            used: Instant::now(),
            live: vec![],
            done: vec![],
            under_way: None,
        });
        let newest = self.loaded.len() - 1;
        // If it does not fit beside the others, it waits until they have left.
        let _ = self.profile(newest);
    }

    /// Once the models are ready or gone, the job that one was loaded for waits as the others do.
    pub(super) fn end_loading(&mut self) {
        let is_done = self.loading.is_none() && self.loaded.iter().all(|loaded| loaded.is_ready);
        if let Some(task) = self.loading_for.take_if(|_| is_done) {
            self.shared.rest(&task);
        }
    }

    /// Models that are ready to be used.
    pub(super) fn is_ready(&self, model: &str) -> bool {
        self.loaded.iter().any(|loaded| loaded.is_ready && loaded.info.key() == model)
    }

    /// Once nothing else is live: measures a model that did not fit beside the others, alone. One
    /// that does not fit even so goes, and so do those who wait for it.
    pub(super) fn ready_the_rest(&mut self) {
        let live = self.loaded.iter().any(|loaded| !loaded.live.is_empty() || !loaded.done.is_empty());
        let Some(place) = self.loaded.iter().position(|loaded| !loaded.is_ready && !live) else { return };
        let shared = self.shared.clone();
        let name = self.loaded[place].info.key().into_owned();
        while let Some(other) = self.loaded.iter().position(|loaded| loaded.info.key() != name) {
            self.evict(&mut shared.lock(), other);
        }
        if let Err(error) = self.profile(0) {
            let mut state = shared.lock();
            for refused in state.queue.drain(Some(&name)) {
                shared.fail(refused.item, error.clone());
            }
            self.evict(&mut state, 0);
        }
    }

    /// Costs are kept by what shapes them.
    fn costs_key(&self, info: &ModelInfo) -> String {
        let libtorch = info.libtorch.as_deref().unwrap_or("none");
        format!("{} libtorch {libtorch} {} {}", self.device.hardware(), info.architecture, info.dtype)
    }

    /// Measures a model's calls at two sizes, unless they are known; the smaller is enough to go
    /// on.
    fn profile(&mut self, model: usize) -> Result<(), Error> {
        let info = self.loaded[model].info.clone();
        let half = |side: u32| (side / 2).next_multiple_of(info.defaults.multiple).max(crate::MIN_SIDE);
        let ImageSize { width, height } = info.defaults.size;
        let small = ImageSize { width: half(width), height: half(height) };
        let metered = self.device.memory().is_some();
        for size in [small, info.defaults.size].into_iter().filter(|_| metered) {
            if self.loaded[model].costs.finish.is_known(size, 1) {
                continue;
            }
            if let Err(error) = self.profile_at(model, size) {
                tracing::warn!(
                    model = info.name,
                    device = &*self.name,
                    error = one_line(&error),
                    "measuring what a step costs failed"
                );
                self.device.empty_cache();
                if size == small {
                    return Err(error);
                }
            }
        }
        self.loaded[model].is_ready = true;
        self.keep_costs(&self.loaded[model]);
        Ok(())
    }

    fn profile_at(&mut self, model: usize, size: ImageSize) -> Result<(), Error> {
        let Worker { device, loaded, shared, name, .. } = self;
        let Loaded { backend, costs, costs_changed, info, .. } = &mut loaded[model];
        let prompt = format!("a profile of {}x{}", size.width, size.height);
        let request = GenerateRequest { prompt, steps: Some(1), ..Default::default() };
        let request = request.with_size(size).resolve(&info.defaults)?;
        device.empty_cache();
        let index = self.index;

        let before = start(&mut **device);
        let mut canvases = shared.guarded(index, "measuring", vec![], || backend.begin(&[request]))??;
        let (peak, kept) = stop(&**device, before);
        let canvas = &mut canvases[0];
        costs.begin.observe(size, 1, peak);
        costs.canvas.observe(size, canvas.rows(), kept);

        let before = start(&mut **device);
        shared.guarded(index, "measuring", vec![], || backend.step(&mut [canvas]))??;
        costs.step.observe(size, canvas.rows(), stop(&**device, before).0);

        let before = start(&mut **device);
        let decode = || backend.finish(&[canvas]).and_then(Decoding::wait);
        shared.guarded(index, "measuring", vec![], decode)??;
        costs.finish.observe(size, 1, stop(&**device, before).0);
        *costs_changed = true;
        tracing::debug!(model = info.name, device = &**name, ?size, "measured what a step costs");
        Ok(())
    }

    /// Bytes that stay in use whatever is called next: those in use now, and a model's that is on
    /// its way.
    pub(super) fn resident(&self) -> u64 {
        let coming = self.loading.as_ref().map_or(0, |loading| loading.info.weight_bytes);
        coming + self.device.memory().map_or(0, |memory| memory.used_bytes)
    }

    /// `true` if this many more bytes leave room for the most expensive call of one image.
    fn fits(&self, more: u64) -> bool {
        self.budget.is_none_or(|budget| self.resident() + more + self.dearest() <= budget)
    }

    /// The dearest call that the live ones need, one picture at once.
    fn dearest(&self) -> u64 {
        let calls = self.loaded.iter().flat_map(|loaded| {
            loaded.live.iter().chain(&loaded.done).map(|live| {
                let (size, rows) = (live.task.size(), live.canvas.rows());
                let step = loaded.costs.step.predict(size, rows);
                step.max(loaded.costs.finish.predict(size, 1)).unwrap_or(0)
            })
        });
        calls.max().unwrap_or(0)
    }

    /// `true` if a waiting job's canvas fits beside the present ones and those that are `admitted`
    /// with it.
    pub(super) fn has_room_for(&self, task: &Task, admitted: &[(u64, Arc<Task>)], resident: u64) -> bool {
        let Some(budget) = self.budget else { return true };
        let all = admitted.iter().map(|(_, task)| &**task).chain([task]);
        let (mut kept, mut dearest) = (0, self.dearest());
        for task in all {
            let needs = self.needs(task);
            kept += needs.0;
            dearest = dearest.max(needs.1);
        }
        resident + kept + dearest <= budget
    }

    /// The memory that a job keeps once it has begun, and that of the most expensive of its calls,
    /// in bytes.
    fn needs(&self, task: &Task) -> (u64, u64) {
        let Some(loaded) = self.loaded.iter().find(|loaded| loaded.info.key() == *task.model) else {
            return (0, 0);
        };
        let (size, rows, costs) = (task.size(), task.rows(), &loaded.costs);
        let calls =
            [costs.begin.predict(size, 1), costs.step.predict(size, rows), costs.finish.predict(size, 1)];
        let dearest = calls.into_iter().flatten().max().unwrap_or(0);
        (costs.canvas.predict(size, rows).unwrap_or(0), dearest)
    }

    /// The number of `rows`, each of one canvas, that one call of `step` may take at this size.
    pub(super) fn step_together(&self, model: usize, size: ImageSize, rows: &[usize]) -> usize {
        let predict = |together: usize| {
            self.loaded[model].costs.step.predict(size, rows[..together].iter().sum::<usize>())
        };
        self.together(rows.len(), predict)
    }

    /// The number of images of this size that one call of `finish` may take.
    pub(super) fn finish_together(&self, model: usize, size: ImageSize, count: usize) -> usize {
        self.together(count, |together| self.loaded[model].costs.finish.predict(size, together))
    }

    /// All of `count` if they fit, or the largest power of two that does; at least 1.
    fn together(&self, count: usize, predict: impl Fn(usize) -> Option<u64>) -> usize {
        let Some(budget) = self.budget else { return count };
        let resident = self.resident();
        let fits = |together: usize| predict(together).is_none_or(|peak| resident + peak <= budget);
        let mut together = count;
        while together > 1 && !fits(together) {
            together =
                if together.is_power_of_two() { together / 2 } else { together.next_power_of_two() / 2 };
        }
        together
    }

    /// Lets the longest unused model go that nobody needs; `false` if there is none but the one in
    /// demand.
    pub(super) fn make_room(&mut self, state: &mut State) -> bool {
        let wanted = state.queue.first(|model| self.is_loaded(model));
        let wanted =
            wanted.and_then(|rank| state.queue.get(rank.number)).map(|waiting| waiting.model.clone());
        let idle = self.loaded.iter().enumerate().filter(|(_, loaded)| {
            loaded.live.is_empty() && loaded.done.is_empty() && wanted.as_deref() != Some(&*loaded.info.key())
        });
        let oldest = idle.min_by_key(|(_, loaded)| loaded.used).map(|(index, _)| index);
        oldest.map(|index| self.evict(state, index)).is_some()
    }

    fn evict(&mut self, state: &mut State, index: usize) {
        let gone = self.forget(state, index);
        self.shared.metrics.evictions.with_label_values(&[&gone.info.name]).inc();
        tracing::info!(model = &*gone.info.key(), device = &*self.name, "evicted");
        drop(gone);
        self.device.empty_cache();
    }

    /// Takes a model out of all books.
    pub(super) fn forget(&mut self, state: &mut State, index: usize) -> Loaded<M::Backend> {
        let gone = self.loaded.swap_remove(index);
        state.devices[self.index].models.retain(|model| **model != *gone.info.key());
        self.shared.metrics.models_loaded.with_label_values(&[&*self.name]).dec();
        self.keep_costs(&gone);
        gone
    }

    /// Keeps what was measured, if there is a file for it.
    pub(super) fn keep_costs(&self, loaded: &Loaded<M::Backend>) {
        let Some(path) = self.shared.config.costs.as_deref().filter(|_| loaded.costs_changed) else { return };
        if let Err(error) = CostFile::keep(path, &self.costs_key(&loaded.info), &loaded.costs) {
            tracing::warn!(error = one_line(&error), "measured costs cannot be kept");
        }
    }

    pub(super) fn over_budget(&self, task: &Task) -> Error {
        let (kept, dearest) = self.needs(task);
        let weights = if self.is_loaded(&task.model) { 0 } else { task.info.weight_bytes };
        Error::OverBudget {
            device: self.name.to_string(),
            needs_bytes: self.resident() + weights + kept + dearest,
            budget_bytes: self.budget.unwrap_or(u64::MAX),
        }
    }

    /// Makes a call and measures its peak above what was in use before; `None` where memory is not
    /// counted.
    pub(super) fn measured<T>(
        &mut self,
        predicted: Option<u64>,
        call: impl FnOnce(&mut Self) -> T,
    ) -> (T, Option<u64>) {
        let before = start(&mut *self.device);
        let answer = call(self);
        let (Some(before), Some(after)) = (before, self.device.memory()) else { return (answer, None) };
        let (metrics, label) = (&self.shared.metrics, [&*self.name]);
        metrics.used.with_label_values(&label).set(after.used_bytes as i64);
        metrics.peak.with_label_values(&label).set(after.peak_bytes as i64);
        if let Some(predicted) = predicted {
            let predicted = before.used_bytes + predicted;
            metrics.predicted.with_label_values(&label).set(predicted as i64);
            metrics.prediction_error.observe(predicted as f64 / after.peak_bytes.max(1) as f64 - 1.0);
        }
        (answer, Some(after.peak_bytes.saturating_sub(before.used_bytes)))
    }
}

/// Begins to measure; what is in use.
fn start(device: &mut dyn DeviceMemory) -> Option<Memory> {
    device.reset_peak();
    device.memory()
}

/// The peak above the earlier use, and the part of it that is kept, in bytes.
fn stop(device: &dyn DeviceMemory, before: Option<Memory>) -> (u64, u64) {
    let (Some(before), Some(after)) = (before, device.memory()) else { return (0, 0) };
    let above = |bytes: u64| bytes.saturating_sub(before.used_bytes);
    (above(after.peak_bytes), above(after.used_bytes))
}
