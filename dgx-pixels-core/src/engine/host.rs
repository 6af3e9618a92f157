//! The models of one device at work: loading, measuring and dropping them, and calling them.
//!
//! A model is loaded by a thread of its own, while the steps of other models go on. Its calls are
//! then measured at two sizes, unless the file of costs has them. The model may be used after the
//! smaller one. A model that does not fit beside the others is measured alone, once their canvases
//! have left.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use image::RgbaImage;

use super::costs::CostFile;
use super::guard::{Panic, panic_message};
use super::journal::{LOADING, NOWHERE};
use super::plan;
use super::residence::{Call, Residence, Resident};
use super::shared::Shared;
use super::task::Task;
use crate::backend::{Backend, Canvas as _, Decoding};
use crate::backend::{DeviceMemory, Memory, ModelInfo, Models};
use crate::error::{Error, one_line};
use crate::job::JobEvent;
use crate::request::{Area, ControlChoice, Crop, GenerateRequest, ImageSize, Mask, Preprocess, SourceImage};

/// The time between two reports to clients that wait for a model to load.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// A device, and the models that are on it.
pub(super) struct Host<M: Models> {
    shared: Arc<Shared>,
    models: Arc<M>,
    device: Box<dyn DeviceMemory>,
    pub(super) name: Arc<str>,
    /// The index of the engine's device.
    pub(super) index: usize,
    /// `true` once the device is in use.
    pub(super) is_open: bool,
    pub(super) residence: Residence<Loaded<M::Backend>>,
    loading: Option<Loading<M::Backend>>,
    /// The job for which a model is loaded and measured.
    loading_for: Option<Arc<Task>>,
}

/// A model that was loaded.
pub(super) struct Loaded<B> {
    info: Arc<ModelInfo>,
    backend: B,
}

/// A model on its way, loaded by a thread of its own so that others' steps go on.
struct Loading<B> {
    info: Arc<ModelInfo>,
    key: Arc<str>,
    started: Instant,
    answer: Receiver<Result<B, Error>>,
    done: Arc<AtomicBool>,
}

impl<M: Models> Host<M> {
    pub(super) fn new(
        shared: Arc<Shared>,
        models: Arc<M>,
        device: Box<dyn DeviceMemory>,
        name: Arc<str>,
        index: usize,
    ) -> Self {
        Host {
            shared,
            models,
            device,
            name,
            index,
            is_open: false,
            residence: Residence::new(),
            loading: None,
            loading_for: None,
        }
    }

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
        self.residence.budget = Some(budget);
    }

    /// The bytes in use; 0 where memory is not counted.
    pub(super) fn used_bytes(&self) -> u64 {
        self.device.memory().map_or(0, |memory| memory.used_bytes)
    }

    /// The state of the model that is being loaded. Asked under the engine's lock, it does not miss
    /// the moment at which the thread that loads is done.
    pub(super) fn loading(&self) -> plan::Loading {
        match &self.loading {
            None => plan::Loading::Nothing,
            Some(loading) if loading.done.load(Ordering::SeqCst) => plan::Loading::Done,
            Some(_) => plan::Loading::Going,
        }
    }

    /// Begins to load the model of a waiting task. If that kills the process, the task is the
    /// cause; it is known as the only one if it `is_alone` on the device.
    pub(super) fn load(&mut self, task: &Arc<Task>, is_alone: bool) {
        let info = task.info.clone();
        let mark = self.shared.mark([task]);
        let told_of = task.clone();
        self.loading_for = Some(task.clone());
        let (models, device) = (self.models.clone(), self.name.clone());
        let (sender, answer) = sync_channel(1);
        let done = Arc::new(AtomicBool::new(false));
        let (shared, key, told_done) = (self.shared.clone(), task.model.clone(), done.clone());
        let loaded_info = info.clone();
        let bytes = info.weight_bytes;
        // Needed when the first image is written; it takes seconds, in which steps can go on.
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
            let load = AssertUnwindSafe(|| models.load_with(&loaded_info, &device, &mut on_bytes));
            let result = catch_unwind(load)
                .unwrap_or_else(|panic| Err(Error::internal("loading a model", panic_message(&*panic))));
            if is_alone {
                shared.note_place(&told_of, NOWHERE);
            }
            let _ = sender.send(result);
            // Under the lock: the device's thread is either not yet asleep, or wakes.
            let _state = shared.lock();
            told_done.store(true, Ordering::SeqCst);
            shared.wake.notify_all();
        });
        tracing::info!(model = &*task.model, device = &*self.name, "loading");
        self.residence.coming_bytes = bytes;
        let key = task.model.clone();
        self.loading = Some(Loading { info, key, started: Instant::now(), answer, done });
    }

    /// Takes in a model that was loaded, or reports to those who wait for it why it was not.
    pub(super) fn take_loaded(&mut self) {
        let Some(Loading { info, key, started, answer, .. }) = self.loading.take() else { return };
        self.residence.coming_bytes = 0;
        let backend = match answer.recv().expect("the answer comes before it is done; this is a bug") {
            Ok(backend) => backend,
            Err(error) => {
                // A device that could not be opened is tried again with the next job.
                self.is_open = self.residence.budget.is_some();
                self.refuse_all_of(&key, &error);
                return self.end_loading();
            }
        };
        if self.residence.budget.is_none() {
            // The device could not be used when the first job came, and can now.
            self.open();
        }
        let metrics = &self.shared.metrics;
        metrics.loads.with_label_values(&[&info.name]).inc();
        metrics.load_seconds.observe(started.elapsed().as_secs_f64());
        metrics.models_loaded.with_label_values(&[&*self.name]).inc();
        let known = self.shared.config.costs.as_deref().map(CostFile::read).unwrap_or_default();
        let costs = known.get(&self.costs_key(&info)).cloned().unwrap_or_default();
        self.residence.insert(key.clone(), Loaded { info, backend }, costs, Instant::now());
        // If it does not fit beside the others, it waits until they have left.
        let _ = self.profile(&key);
        self.end_loading();
    }

    /// The jobs that wait for a model fail, and the model is in no book any more.
    fn refuse_all_of(&mut self, model: &str, error: &Error) {
        let mut state = self.shared.lock();
        state.devices[self.index].models.retain(|known| **known != *model);
        for refused in state.queue.drain(Some(model)) {
            self.shared.fail(refused.item, error.clone());
        }
    }

    /// Once the models are ready or gone, the job that one was loaded for waits as the others do.
    fn end_loading(&mut self) {
        let is_done = self.loading.is_none() && self.residence.iter().all(|model| model.is_ready);
        if let Some(task) = self.loading_for.take_if(|_| is_done) {
            self.shared.rest(&task);
        }
    }

    /// Measures a model that has the device for itself. If it does not fit even so, it leaves, and
    /// the jobs that wait for it fail.
    pub(super) fn measure(&mut self, model: &str) {
        if let Err(error) = self.profile(model) {
            self.refuse_all_of(model, &error);
            self.evict(model);
        }
        self.end_loading();
    }

    /// Costs are kept by what shapes them.
    fn costs_key(&self, info: &ModelInfo) -> String {
        let libtorch = info.libtorch.as_deref().unwrap_or("none");
        format!("{} libtorch {libtorch} {} {}", self.device.hardware(), info.architecture, info.dtype)
    }

    /// Measures a model's calls at two sizes, unless they are known; the smaller is enough to go
    /// on.
    fn profile(&mut self, model: &str) -> Result<(), Error> {
        let Some(resident) = self.residence.get(model) else { return Ok(()) };
        let info = resident.loaded.info.clone();
        let half = |side: u32| (side / 2).next_multiple_of(info.defaults.multiple).max(crate::MIN_SIDE);
        let ImageSize { width, height } = info.defaults.size;
        let small = ImageSize { width: half(width), height: half(height) };
        let metered = self.device.memory().is_some();
        for size in [small, info.defaults.size].into_iter().filter(|_| metered) {
            if self.residence.get(model).is_some_and(|known| known.costs.finish.is_known(size, 1)) {
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
        if let Some(resident) = self.residence.get_mut(model) {
            resident.is_ready = true;
        }
        if let Some(resident) = self.residence.get(model) {
            self.keep_costs(resident);
        }
        Ok(())
    }

    fn profile_at(&mut self, model: &str, size: ImageSize) -> Result<(), Error> {
        let Host { device, residence, shared, name, index, .. } = self;
        let Some(Resident { loaded, costs, costs_changed, .. }) = residence.get_mut(model) else {
            return Ok(());
        };
        let Loaded { backend, info } = loaded;
        let prompt = format!("a profile of {}x{}", size.width, size.height);
        // With an image to encode, as far as the model takes one: the peak of all beginnings.
        let blank = || SourceImage::new(RgbaImage::new(size.width, size.height));
        let init_image = info.defaults.matte.map(|_| blank());
        let strength = init_image.as_ref().map(|_| 1.0);
        let whole = Area { corner: Crop::default(), size };
        let mask = info.defaults.needs_mask.then(|| Mask::Areas(vec![whole]));
        // Every control net at once, as in the steps of the jobs for which it was loaded.
        let of_net = |name: &str| ControlChoice {
            model: name.to_owned(),
            image: blank(),
            scale: 1.0,
            start: 0.0,
            end: 1.0,
            preprocess: Preprocess::None,
        };
        let control = info.variant.controls.iter().map(|one| of_net(&one.name)).collect();
        let asked = GenerateRequest { prompt, steps: Some(1), control, ..Default::default() };
        let request = GenerateRequest { init_image, strength, mask, ..asked };
        let request = request.with_size(size).resolve(&info.defaults)?;
        device.empty_cache();
        let index = *index;

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

    /// Drops a model to make room.
    pub(super) fn evict(&mut self, model: &str) {
        let Some(gone) = self.remove(model) else { return };
        self.shared.metrics.evictions.with_label_values(&[&gone.info.name]).inc();
        tracing::info!(model, device = &*self.name, "evicted");
        drop(gone);
        self.device.empty_cache();
        self.end_loading();
    }

    /// Drops a model that panicked. It may panic once more.
    pub(super) fn drop_panicked(&mut self, model: &str) {
        let gone = self.remove(model);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(gone)));
        self.device.empty_cache();
        self.end_loading();
    }

    /// Takes a model out of all books.
    fn remove(&mut self, model: &str) -> Option<Loaded<M::Backend>> {
        let gone = self.residence.remove(model)?;
        self.shared.lock().devices[self.index].models.retain(|known| **known != *model);
        self.shared.metrics.models_loaded.with_label_values(&[&*self.name]).dec();
        self.keep_costs(&gone);
        Some(gone.loaded)
    }

    /// Keeps what was measured, if there is a file for it.
    fn keep_costs(&self, resident: &Resident<Loaded<M::Backend>>) {
        let path = self.shared.config.costs.as_deref().filter(|_| resident.costs_changed);
        let Some(path) = path else { return };
        if let Err(error) = CostFile::keep(path, &self.costs_key(&resident.loaded.info), &resident.costs) {
            tracing::warn!(error = one_line(&error), "measured costs cannot be kept");
        }
    }

    /// The error of a job that does not fit into the budget.
    pub(super) fn over_budget(&self, task: &Task) -> Error {
        Error::OverBudget {
            device: self.name.to_string(),
            needs_bytes: self.residence.total_for(self.used_bytes(), &task.model, &task.needs()),
            budget_bytes: self.residence.budget.unwrap_or(u64::MAX),
        }
    }

    /// Calls a model under the watchdog's eyes and measures the peak of memory above that in use.
    /// A success is noted as the cost of such a call, and so is a lack of memory. `everybody` are
    /// all that are lost if the call does not return.
    ///
    /// # Errors
    /// The panic of the call.
    pub(super) fn call<T>(
        &mut self,
        model: &str,
        call: Call,
        everybody: Vec<Arc<Task>>,
        act: impl FnOnce(&mut M::Backend) -> Result<T, Error>,
    ) -> Result<Result<T, Error>, Panic> {
        let resident = self.residence.get_mut(model).expect("only loaded models are called; this is a bug");
        let predicted = resident.predict(call);
        let before = start(&mut *self.device);
        let backend = &mut resident.loaded.backend;
        let answer = self.shared.guarded(self.index, call.kind.doing(), everybody, || act(backend))?;
        let peak = self.measured(before, predicted);
        match &answer {
            Ok(_) => {
                if let (Some(peak), Some(resident)) = (peak, self.residence.get_mut(model)) {
                    resident.observe(call, peak);
                }
            }
            Err(error) => self.note_out_of_memory(error, model, call),
        }
        Ok(answer)
    }

    /// Calls a model for something whose memory is not measured.
    ///
    /// # Errors
    /// The panic of the call.
    pub(super) fn ask<T>(
        &mut self,
        model: &str,
        doing: &'static str,
        task: Arc<Task>,
        act: impl FnOnce(&mut M::Backend) -> Result<T, Error>,
    ) -> Result<Result<T, Error>, Panic> {
        let resident = self.residence.get_mut(model).expect("only loaded models are called; this is a bug");
        let backend = &mut resident.loaded.backend;
        self.shared.guarded(self.index, doing, vec![task], || act(backend))
    }

    /// After a call that ran out of memory: frees what the allocator keeps, and remembers that what
    /// was free did not suffice.
    pub(super) fn note_out_of_memory(&mut self, error: &Error, model: &str, call: Call) {
        if !matches!(error, Error::OutOfMemory { .. }) {
            return;
        }
        tracing::warn!(device = &*self.name, %error, "out of memory; trying again with less");
        self.shared.metrics.oom_recoveries.with_label_values(&[&*self.name]).inc();
        self.device.empty_cache();
        self.residence.refuse(self.used_bytes(), model, call);
    }

    /// The peak of a call above the memory in use `before` it, in bytes; `None` where memory is not
    /// counted.
    fn measured(&self, before: Option<Memory>, predicted: Option<u64>) -> Option<u64> {
        let (before, after) = (before?, self.device.memory()?);
        let (metrics, label) = (&self.shared.metrics, [&*self.name]);
        metrics.used.with_label_values(&label).set(after.used_bytes as i64);
        metrics.peak.with_label_values(&label).set(after.peak_bytes as i64);
        if let Some(predicted) = predicted {
            let predicted = before.used_bytes + predicted;
            metrics.predicted.with_label_values(&label).set(predicted as i64);
            metrics.prediction_error.observe(predicted as f64 / after.peak_bytes.max(1) as f64 - 1.0);
        }
        Some(after.peak_bytes.saturating_sub(before.used_bytes))
    }

    /// Keeps the costs of all models, and forgets the job that one is loaded for.
    pub(super) fn end(&mut self) {
        if let Some(task) = self.loading_for.take() {
            self.shared.rest(&task);
        }
        self.residence.iter().for_each(|model| self.keep_costs(model));
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
