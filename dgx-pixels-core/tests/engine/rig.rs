//! A model that does what prompts say: `panic@3` panics at its fourth step, or while it is decoded
//! if it has three, `nan` decodes to no picture, `blank` to nothing but background, and so on.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use dgx_pixels_core::backend::{Backend, Canvas, Decoding, Sketch, SketchCanvas};
use dgx_pixels_core::backend::{DeviceMemory, Memory, ModelInfo, Models, Sketches};
use dgx_pixels_core::engine::{Engine, EngineConfig};
use dgx_pixels_core::pixel::MATTE;
use dgx_pixels_core::{Error, GenerateRequest, ImageSize, ModelDefaults, ResolvedRequest, Submission};
use image::{Rgb, RgbImage};

/// Longer than any test takes that goes well.
const PATIENCE: Duration = Duration::from_secs(20);

/// A place where calls of the backend wait for the test. It is open unless it was made closed.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    closed: bool,
    /// Calls that may pass while it is closed.
    allowed: usize,
    /// Calls that wait in front of it.
    held: usize,
}

impl Gate {
    pub(crate) fn closed() -> Gate {
        Gate { state: Mutex::new(GateState { closed: true, ..Default::default() }), ..Default::default() }
    }

    /// Lets `count` more calls pass.
    pub(crate) fn allow(&self, count: usize) {
        self.state.lock().unwrap().allowed += count;
        self.changed.notify_all();
    }

    /// Lets all calls pass from now on. An engine ends only when its call has come back, so a test
    /// opens the gate before it drops the engine.
    pub(crate) fn open(&self) {
        self.state.lock().unwrap().closed = false;
        self.changed.notify_all();
    }

    /// The number of calls that wait in front of it.
    pub(crate) fn held(&self) -> usize {
        self.state.lock().unwrap().held
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.held += 1;
        let waits = |state: &mut GateState| state.closed && state.allowed == 0;
        let (mut state, waited) = self.changed.wait_timeout_while(state, PATIENCE, waits).unwrap();
        state.held -= 1;
        state.allowed = state.allowed.saturating_sub(1);
        drop(state);
        assert!(!waited.timed_out(), "the test did not open the gate");
    }
}

/// Tries again until there is an answer.
pub(crate) fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "it did not happen");
        thread::yield_now();
    }
}

/// What is shared with the test.
#[derive(Default)]
pub(crate) struct Rig {
    /// Seeds of each call of `step`, in order.
    pub(crate) calls: Mutex<Vec<Vec<u64>>>,
    /// Told of each of them.
    pub(crate) called: Condvar,
    /// Where each step of a job waits, after it was noted in `calls`.
    pub(crate) steps: Gate,
    /// Where loading waits.
    pub(crate) loading: Gate,
    /// Where a call waits whose prompt says `hang`.
    pub(crate) hang: Gate,
    /// Where the test and a picture that says `meet` meet twice when decoding it begins.
    pub(crate) meeting: Option<Barrier>,
    pub(crate) begun: AtomicUsize,
    pub(crate) finished: AtomicUsize,
    pub(crate) loads: Mutex<Vec<String>>,
    /// How long a step takes, whatever its rows.
    pub(crate) step_time: Duration,
    pub(crate) load_time: Duration,
    pub(crate) memory: Arc<Ledger>,
}

/// The memory of a device that is not there.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) used: AtomicU64,
    /// Bytes that the allocator keeps for later, until it is told to give them back.
    pub(crate) kept: AtomicU64,
    pub(crate) peak: AtomicU64,
    pub(crate) limit: AtomicU64,
}

impl Ledger {
    /// Memory for as long as the answer lives; refused past the limit, as by a device.
    pub(crate) fn take(self: &Arc<Ledger>, bytes: u64) -> Result<Held, Error> {
        let used = self.used.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let held = Held(self.clone(), bytes);
        if used + self.kept.load(Ordering::SeqCst) > self.limit.load(Ordering::SeqCst) {
            return Err(Error::OutOfMemory { device: "rig".into(), doing: "rigging".into() });
        }
        self.peak.fetch_max(used, Ordering::SeqCst);
        Ok(held)
    }
}

pub(crate) struct Held(Arc<Ledger>, u64);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.used.fetch_sub(self.1, Ordering::SeqCst);
    }
}

/// A device that counts in a [`Ledger`].
pub(crate) struct Metered {
    pub(crate) name: &'static str,
    pub(crate) total: u64,
    pub(crate) ledger: Arc<Ledger>,
}

impl DeviceMemory for Metered {
    fn name(&self) -> &str {
        self.name
    }

    fn hardware(&self) -> String {
        "rig".into()
    }

    fn memory(&self) -> Option<Memory> {
        let used_bytes = self.ledger.used.load(Ordering::SeqCst);
        Some(Memory {
            total_bytes: self.total,
            available_bytes: self.total - used_bytes,
            used_bytes,
            peak_bytes: self.ledger.peak.load(Ordering::SeqCst),
        })
    }

    fn reset_peak(&mut self) {
        self.ledger.peak.store(self.ledger.used.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn empty_cache(&mut self) {
        self.ledger.kept.store(0, Ordering::SeqCst);
    }

    fn limit(&mut self, bytes: u64) {
        self.ledger.limit.store(bytes, Ordering::SeqCst);
    }
}

pub(crate) const WEIGHTS: u64 = 1000;
const CANVAS: u64 = 10;
const STEP_ROW: u64 = 25;

pub(crate) struct Rigged {
    rig: Arc<Rig>,
    _weights: Held,
}

pub(crate) struct RiggedCanvas {
    sketch: SketchCanvas,
    _held: Held,
}

impl RiggedCanvas {
    /// Whether its prompt says `word@N` for the step that comes, or `word` for all.
    fn says(&self, word: &str) -> bool {
        let here = format!("{word}@{}", self.sketch.steps_done());
        self.sketch.request().prompt.split(' ').any(|said| said == word || said == here)
    }

    /// Whether its prompt says `blank`, or `blank:7` for seed 7 alone: it is nothing but matte
    /// then.
    fn is_blank(&self) -> bool {
        self.says("blank") || self.says(&format!("blank:{}", self.seed()))
    }

    fn seed(&self) -> u64 {
        self.sketch.request().seed
    }
}

/// Bytes of a call: they grow with pixels.
fn area(canvas: &RiggedCanvas) -> u64 {
    let size = canvas.request().size;
    u64::from(size.width) * u64::from(size.height) / 1024
}

impl Canvas for RiggedCanvas {
    fn request(&self) -> &ResolvedRequest {
        self.sketch.request()
    }
    fn steps_done(&self) -> usize {
        self.sketch.steps_done()
    }
    fn steps(&self) -> usize {
        self.sketch.steps()
    }
    fn rows(&self) -> usize {
        self.sketch.rows()
    }
    fn dropped_words(&self) -> Option<&str> {
        None
    }
}

impl Backend for Rigged {
    type Canvas = RiggedCanvas;

    fn defaults(&self) -> ModelDefaults {
        Sketch.defaults()
    }

    fn begin(&mut self, requests: &[ResolvedRequest]) -> Result<Vec<RiggedCanvas>, Error> {
        self.rig.begun.fetch_add(requests.len(), Ordering::SeqCst);
        let canvases = Sketch.begin(requests)?;
        let begin = |sketch| {
            let held = self.rig.memory.take(CANVAS)?;
            Ok(RiggedCanvas { sketch, _held: held })
        };
        canvases.into_iter().map(begin).collect()
    }

    fn step(&mut self, canvases: &mut [&mut RiggedCanvas]) -> Result<(), Error> {
        self.rig.calls.lock().unwrap().push(canvases.iter().map(|canvas| canvas.seed()).collect());
        self.rig.called.notify_all();
        let measures = canvases.iter().any(|canvas| canvas.request().prompt.starts_with("a profile of "));
        if !measures {
            self.rig.steps.pass();
        }
        let _needed = canvases
            .iter()
            .map(|canvas| self.rig.memory.take(STEP_ROW * canvas.rows() as u64 * area(canvas)))
            .collect::<Result<Vec<_>, _>>()?;
        thread::sleep(self.rig.step_time);
        let oom = |doing: &'static str| Error::OutOfMemory { device: "rig".into(), doing: doing.into() };
        if canvases.iter().any(|canvas| canvas.says("oom")) {
            return Err(oom("denoising alone"));
        }
        if canvases.len() > 1 && canvases.iter().any(|canvas| canvas.says("crowded")) {
            return Err(oom("denoising in a crowd"));
        }
        if canvases.iter().any(|canvas| canvas.says("abort")) {
            std::process::abort();
        }
        if canvases.iter().any(|canvas| canvas.says("panic")) {
            panic!("as the prompt says");
        }
        if canvases.iter().any(|canvas| canvas.says("hang")) {
            self.rig.hang.pass();
        }
        let mut sketches: Vec<_> = canvases.iter_mut().map(|canvas| &mut canvas.sketch).collect();
        Sketch.step(&mut sketches)
    }

    fn finish(&mut self, canvases: &[&RiggedCanvas]) -> Result<Decoding, Error> {
        let _needed = canvases
            .iter()
            .map(|canvas| self.rig.memory.take(STEP_ROW * area(canvas)))
            .collect::<Result<Vec<_>, _>>()?;
        let says = |word| canvases.iter().any(|canvas| canvas.says(word));
        if says("oom") || canvases.len() > 1 && says("crowded") {
            return Err(Error::OutOfMemory { device: "rig".into(), doing: "decoding".into() });
        }
        if says("meet") {
            let meeting = self.rig.meeting.as_ref().unwrap();
            meeting.wait();
            meeting.wait();
        }
        self.rig.finished.fetch_add(canvases.len(), Ordering::SeqCst);
        let sketched = Sketch.finish(&canvases.iter().map(|canvas| &canvas.sketch).collect::<Vec<_>>())?;
        let (rig, calls) = (self.rig.clone(), self.rig.all_calls());
        let blank: Vec<bool> = canvases.iter().map(|canvas| canvas.is_blank()).collect();
        let [panics, hangs, nan, beside] = ["panic", "hang", "nan", "beside"].map(says);
        Ok(Decoding::new(move || {
            if beside {
                let waits = |seen: &mut Vec<_>| seen.len() == calls;
                let seen = rig.calls.lock().unwrap();
                let waited = rig.called.wait_timeout_while(seen, PATIENCE, waits).unwrap().1;
                assert!(!waited.timed_out(), "no step was made meanwhile");
            }
            if panics {
                panic!("as the prompt says");
            }
            if hangs {
                rig.hang.pass();
            }
            if nan {
                return Err(Error::NotFinite { what: "the decoded picture", dtype: "f32" });
            }
            let mut images = sketched.wait()?;
            for (image, _) in images.iter_mut().zip(blank).filter(|(_, blank)| *blank) {
                image.pixels_mut().for_each(|pixel| *pixel = Rgb(MATTE));
            }
            Ok(images)
        }))
    }

    fn preview(&mut self, canvas: &RiggedCanvas) -> Result<RgbImage, Error> {
        Sketch.preview(&canvas.sketch)
    }
}

/// Any name is a model, but `broken` does not load.
pub(crate) struct RigModels(pub(crate) Arc<Rig>);

impl Models for RigModels {
    type Backend = Rigged;

    fn describe(&self, model: Option<&str>, device: &str) -> Result<ModelInfo, Error> {
        let name = model.unwrap_or("a").into();
        let info = Sketches.describe(None, device)?;
        let defaults = ModelDefaults { size: ImageSize { width: 64, height: 64 }, ..info.defaults.clone() };
        Ok(ModelInfo { name, weight_bytes: WEIGHTS, defaults, ..info })
    }

    fn load(&self, model: &str, _: &str, on_bytes: &mut dyn FnMut(u64)) -> Result<Rigged, Error> {
        self.0.loads.lock().unwrap().push(model.into());
        self.0.loading.pass();
        thread::sleep(self.0.load_time);
        on_bytes(WEIGHTS);
        if model == "fatal" {
            std::process::abort();
        }
        if model == "broken" {
            return Err(Error::model(model, "its files are gone"));
        }
        Ok(Rigged { _weights: self.0.memory.take(WEIGHTS)?, rig: self.0.clone() })
    }

    fn hash(&self, _: &str) -> Result<Option<String>, Error> {
        Ok(None)
    }
}

impl Rig {
    pub(crate) fn slow(step_time: Duration) -> Arc<Rig> {
        Arc::new(Rig { step_time, ..Default::default() })
    }

    /// Each step waits until the test lets it pass.
    pub(crate) fn held() -> Arc<Rig> {
        Arc::new(Rig { steps: Gate::closed(), ..Default::default() })
    }

    /// Blocks until this many steps of the job with this seed have begun.
    pub(crate) fn wait_for_steps_of(&self, seed: u64, count: usize) {
        let calls = self.calls.lock().unwrap();
        let waits =
            |calls: &mut Vec<Vec<u64>>| calls.iter().filter(|call| call.contains(&seed)).count() < count;
        let (calls, waited) = self.called.wait_timeout_while(calls, PATIENCE, waits).unwrap();
        drop(calls);
        assert!(!waited.timed_out(), "step {count} of {seed} did not begin");
    }

    /// An engine on one device with `total` bytes.
    pub(crate) fn engine_with(self: &Arc<Rig>, total: u64, config: EngineConfig) -> Engine {
        self.memory.limit.store(u64::MAX, Ordering::SeqCst);
        let device = Metered { name: "rig", total, ledger: self.memory.clone() };
        Engine::start(RigModels(self.clone()), vec![Box::new(device)], config).unwrap()
    }

    pub(crate) fn engine(self: &Arc<Rig>) -> Engine {
        self.engine_with(1 << 40, EngineConfig::default())
    }

    /// Calls of `step` that had this seed in them.
    pub(crate) fn calls_of(&self, seed: u64) -> Vec<usize> {
        let calls = self.calls.lock().unwrap();
        calls.iter().enumerate().filter(|(_, call)| call.contains(&seed)).map(|(place, _)| place).collect()
    }

    pub(crate) fn all_calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

/// A small picture as the model gives it, of so many steps.
pub(crate) fn raw(prompt: &str, seed: u64, steps: usize) -> Submission {
    let request = GenerateRequest { prompt: prompt.into(), seed, steps: Some(steps), ..Default::default() };
    let request = request.with_size(ImageSize { width: 64, height: 64 });
    Submission { pixel: None, ..request.into() }
}
