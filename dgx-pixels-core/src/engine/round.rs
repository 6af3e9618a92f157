//! The calls of a backend in one round: beginning, a step for each canvas, decoding; and what
//! becomes of a call that fails.
//!
//! Each end of a call of a backend has one answer:
//!
//! | end | answer |
//! |---|---|
//! | success | the peak is noted, and the events are sent |
//! | an error with several jobs | each half is called again, since no canvas has moved |
//! | [`Error::OutOfMemory`](crate::Error::OutOfMemory) with one job | it waits for memory, and is begun three times at most |
//! | another error with one job | the job fails |
//! | a panic | the model is dropped, and its jobs begin anew, those of the call alone |
//!
//! The watchdog fails the jobs of a call that does not return.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::attempts::is_tried_again;
use super::costs::{Costs, Peaks};
use super::journal::NOWHERE;
use super::pace::decoded_in;
use super::post::{Decoded, Post, words};
use super::residence::Loaded;
use super::shared::{Busy, Shared, Task, work};
use super::trace::Stage;
use super::worker::{CanvasOf, Live, Worker};
use crate::backend::Models;
use crate::backend::{Backend, Canvas, Decoding};
use crate::error::{Error, one_line};
use crate::job::{JobEvent, JobTimings};
use crate::request::{ImageSize, ResolvedRequest};

/// The costs of one kind of call.
type CostsOf = fn(&mut Costs) -> &mut Peaks;

/// Pictures of one size that the device is at work on.
pub(super) struct UnderWay {
    size: ImageSize,
    numbers: Vec<u64>,
    decoding: Decoding,
    /// The time that it took to begin.
    begin: Duration,
}

/// A backend's panic, in its words.
pub(super) struct Panic(String);

impl From<Panic> for Error {
    fn from(Panic(message): Panic) -> Error {
        Error::internal("calling the model", format!("it panicked: {message}"))
    }
}

impl Shared {
    /// Calls a backend under the watchdog's eyes; its panic is an answer.
    pub(super) fn guarded<T>(
        &self,
        device: usize,
        doing: &'static str,
        tasks: Vec<Arc<Task>>,
        call: impl FnOnce() -> T,
    ) -> Result<T, Panic> {
        let alone = if let [task] = &tasks[..] { Some(task.clone()) } else { None };
        if let Some(task) = &alone {
            let step = task.steps_done.load(Ordering::Relaxed) + 1;
            let place = if doing == "denoising" { format!("{doing}, step {step}") } else { doing.to_owned() };
            self.note_place(task, &place);
        }
        self.lock().devices[device].busy = Some(Busy { since: Instant::now(), doing, tasks });
        let answer = catch_unwind(AssertUnwindSafe(call));
        if let Some(task) = &alone {
            self.note_place(task, NOWHERE);
        }
        let mut state = self.lock();
        let device = &mut state.devices[device];
        device.busy = None;
        if !device.up {
            tracing::warn!(device = &*device.name, "the device answers again");
            self.metrics.device_up.with_label_values(&[&*device.name]).set(1);
            device.up = true;
        }
        answer.map_err(|panic| Panic(words(&*panic)))
    }
}

impl<M: Models> Worker<M> {
    fn model_of(&self, name: &str) -> Option<usize> {
        self.loaded.iter().position(|loaded| loaded.info.key() == name)
    }

    /// Everybody who is lost if the device never comes back.
    fn everybody(&self, more: &[(u64, Arc<Task>)]) -> Vec<Arc<Task>> {
        let live = self.loaded.iter().flat_map(|loaded| loaded.live.iter().chain(&loaded.done));
        let others = self.taken.iter().chain(more).map(|(_, task)| task.clone());
        live.map(|live| live.task.clone()).chain(others).collect()
    }

    /// Begins canvases, those of one model together. The numbers of those that were.
    pub(super) fn begin(&mut self, mut admitted: Vec<(u64, Arc<Task>)>) -> Vec<u64> {
        let mut begun = vec![];
        while let Some((_, first)) = admitted.first() {
            let model = first.model.clone();
            let (now, later) = admitted.into_iter().partition(|(_, task)| task.model == model);
            admitted = later;
            self.begin_some(now, &mut begun);
        }
        begun
    }

    fn begin_some(&mut self, mut tasks: Vec<(u64, Arc<Task>)>, begun: &mut Vec<u64>) {
        let Some(model) = self.model_of(&tasks[0].1.model) else {
            self.leave(&tasks);
            return self.requeue(tasks, false);
        };
        let alone = tasks.len() > 1 && tasks.iter().any(|(_, task)| task.is_alone());
        if alone {
            return tasks.into_iter().for_each(|task| self.begin_some(vec![task], begun));
        }
        let started = Instant::now();
        let requests: Vec<ResolvedRequest> = tasks.iter().map(|(_, task)| task.draw()).collect();
        tasks.iter().for_each(|(_, task)| task.trace.enter(Stage::Encode));
        let everybody = self.everybody(&tasks);
        let size = tasks[0].1.size();
        let predicted = self.loaded[model].costs.begin.predict(size, tasks.len());
        let (answer, peak) = self.measured(predicted, |worker| {
            let backend = &mut worker.loaded[model].backend;
            worker.shared.guarded(worker.index, "encoding", everybody, || backend.begin(&requests))
        });
        match answer {
            Ok(Ok(canvases)) => {
                self.observe(model, |costs| &mut costs.begin, size, tasks.len(), peak);
                let begin = started.elapsed();
                for ((number, task), canvas) in tasks.into_iter().zip(canvases) {
                    tracing::info!(job = %task.id(), device = &*self.name, "started");
                    task.trace.on(&self.name);
                    task.trace.enter(Stage::Denoise);
                    task.writer.tell(JobEvent::Started { device: self.name.to_string() });
                    begun.push(number);
                    let live =
                        Live { task, canvas, number, begun: started, begin, stepped: None, latents: None };
                    self.loaded[model].live.push(live);
                }
            }
            Ok(Err(error)) => {
                self.relieve(&error, model, |costs| &mut costs.begin, size, tasks.len());
                if tasks.len() > 1 {
                    let half = tasks.split_off(tasks.len() / 2);
                    self.begin_some(tasks, begun);
                    return self.begin_some(half, begun);
                }
                self.leave(&tasks);
                for (number, task) in tasks {
                    self.give_up(number, task, error.clone());
                }
            }
            Err(panic) => {
                self.leave(&tasks);
                self.lose(model, panic, tasks);
            }
        }
    }

    /// One alone failed: for want of memory beside others it waits until they have left, else that
    /// is its end.
    fn give_up(&mut self, number: u64, task: Arc<Task>, error: Error) {
        let attempts = task.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let others = self.loaded.iter().any(|loaded| !loaded.live.is_empty() || !loaded.done.is_empty());
        if is_tried_again(&error, attempts) {
            let shared = self.shared.clone();
            let mut state = shared.lock();
            if !others {
                self.make_room(&mut state);
            }
            self.shared.rest(&task);
            return state.queue.put(number, task.waiting());
        }
        self.shared.fail(task, error);
    }

    /// After a call that ran out of memory: what can be given back is, that it did not suffice is
    /// remembered, and it is told.
    fn relieve(&mut self, error: &Error, model: usize, of: CostsOf, size: ImageSize, rows: usize) {
        if !matches!(error, Error::OutOfMemory { .. }) {
            return;
        }
        tracing::warn!(device = &*self.name, %error, "out of memory; trying again with less");
        self.shared.metrics.oom_recoveries.with_label_values(&[&*self.name]).inc();
        self.device.empty_cache();
        if let Some(budget) = self.budget {
            let free = budget.saturating_sub(self.resident());
            of(&mut self.loaded[model].costs).refuse(size, rows, free);
        }
    }

    /// They do not count any more when clients take turns.
    fn leave(&self, tasks: &[(u64, Arc<Task>)]) {
        let mut state = self.shared.lock();
        tasks.iter().for_each(|(_, task)| state.queue.leave(&task.client));
    }

    /// Back into the queue, to be begun anew. `alone`: from then on in calls of their own.
    fn requeue(&mut self, tasks: Vec<(u64, Arc<Task>)>, alone: bool) {
        let mut state = self.shared.lock();
        for (number, task) in tasks {
            task.alone.fetch_or(alone, Ordering::Relaxed);
            self.shared.rest(&task);
            state.queue.put(number, task.waiting());
        }
    }

    /// A backend that panicked cannot be trusted: it goes, and its jobs are begun anew. Those that
    /// were in the call, which have left, go alone then; one that was alone in it is the cause, and
    /// fails.
    fn lose(&mut self, model: usize, panic: Panic, mut in_call: Vec<(u64, Arc<Task>)>) {
        let shared = self.shared.clone();
        shared.metrics.panics.with_label_values(&[&*self.name]).inc();
        let error = Error::from(panic);
        tracing::error!(
            device = &*self.name,
            error = one_line(&error),
            "a model is dropped, its jobs are begun anew"
        );
        let gone = self.forget(&mut shared.lock(), model);
        let numbered = |live: Live<_>| (live.number, live.task);
        let live: Vec<_> = gone.live.into_iter().map(numbered).collect();
        let done: Vec<_> = gone.done.into_iter().map(numbered).collect();
        // Those that are done have left before.
        self.leave(&live);
        let backend = gone.backend;
        let _ = catch_unwind(AssertUnwindSafe(|| drop(backend)));
        self.device.empty_cache();
        if in_call.len() == 1 {
            let (_, task) = in_call.remove(0);
            shared.fail(task, error);
        }
        self.requeue(in_call, true);
        self.requeue(live, false);
        self.requeue(done, false);
    }

    fn observe(&mut self, model: usize, of: CostsOf, size: ImageSize, rows: usize, peak: Option<u64>) {
        let Some(peak) = peak else { return };
        let loaded = &mut self.loaded[model];
        let before = of(&mut loaded.costs).predict(size, rows);
        of(&mut loaded.costs).observe(size, rows, peak);
        loaded.costs_changed |= before != of(&mut loaded.costs).predict(size, rows);
    }

    /// A step for each of these, those that can share a forward pass together.
    pub(super) fn step(&mut self, run: &[u64]) {
        let started = Instant::now();
        let mut decoding = Duration::ZERO;
        let mut all_work = 0.0;
        let mut groups: Vec<(String, ImageSize, bool, Vec<u64>)> = vec![];
        for loaded in &self.loaded {
            for live in loaded.live.iter().filter(|live| run.contains(&live.number)) {
                let (size, alone) = (live.task.size(), live.task.is_alone());
                all_work += work(&live.task);
                let known = groups.iter_mut().find(|(name, known, apart, _)| {
                    *name == loaded.info.key() && *known == size && !alone && !*apart
                });
                match known {
                    Some((.., group)) => group.push(live.number),
                    None => groups.push((loaded.info.key().into_owned(), size, alone, vec![live.number])),
                }
            }
        }
        for (name, size, _, mut numbers) in groups {
            // A model may be lost on the way.
            while let (false, Some(model)) = (numbers.is_empty(), self.model_of(&name)) {
                let rows: Vec<usize> = numbers
                    .iter()
                    .filter_map(|number| self.loaded[model].live.iter().find(|live| live.number == *number))
                    .map(|live| live.canvas.rows())
                    .collect();
                let later = numbers.split_off(self.step_together(model, size, &rows));
                self.step_some(model, size, &numbers);
                decoding += self.take_decoded();
                numbers = later;
            }
        }
        if all_work > 0.0 {
            self.round = started.elapsed() - decoding;
            self.shared.lock().devices[self.index].pace.observe(all_work, self.round);
        }
    }

    fn step_some(&mut self, model: usize, size: ImageSize, numbers: &[u64]) {
        let everybody = self.everybody(&[]);
        let chosen = |live: &&mut Live<CanvasOf<M>>| numbers.contains(&live.number);
        let rows = self.loaded[model]
            .live
            .iter()
            .filter(|live| numbers.contains(&live.number))
            .map(|live| live.canvas.rows())
            .sum();
        let predicted = self.loaded[model].costs.step.predict(size, rows);
        let started = Instant::now();
        let (answer, peak) = self.measured(predicted, |worker| {
            let loaded = &mut worker.loaded[model];
            let mut canvases: Vec<_> =
                loaded.live.iter_mut().filter(chosen).map(|live| &mut live.canvas).collect();
            let backend = &mut loaded.backend;
            worker.shared.guarded(worker.index, "denoising", everybody, || backend.step(&mut canvases))
        });
        let step_time = started.elapsed();
        match answer {
            Ok(Ok(())) => {
                self.observe(model, |costs| &mut costs.step, size, rows, peak);
                self.stepped(model, numbers, rows, step_time);
            }
            Ok(Err(error)) => {
                self.relieve(&error, model, |costs| &mut costs.step, size, rows);
                if numbers.len() > 1 {
                    // No canvas has moved.
                    return self
                        .halves(model, numbers, |worker, model, half| worker.step_some(model, size, half));
                }
                let live = &mut self.loaded[model].live;
                let Some(place) = live.iter().position(|live| numbers.contains(&live.number)) else { return };
                let failed = live.remove(place);
                self.left(&failed);
                self.give_up(failed.number, failed.task, error);
            }
            Err(panic) => {
                let live = &mut self.loaded[model].live;
                let in_call = live.extract_if(.., |live| numbers.contains(&live.number));
                let in_call: Vec<_> = in_call.map(|live| (live.number, live.task)).collect();
                self.leave(&in_call);
                self.lose(model, panic, in_call);
            }
        }
    }

    /// One half after the other, unless the model is lost on the way.
    fn halves(&mut self, model: usize, numbers: &[u64], call: impl Fn(&mut Self, usize, &[u64])) {
        let (first, second) = numbers.split_at(numbers.len() / 2);
        let name = self.loaded[model].info.key().into_owned();
        for half in [first, second] {
            if let Some(model) = self.model_of(&name) {
                call(self, model, half);
            }
        }
    }

    /// Tells of a step that was done, and puts those aside that were at their last.
    fn stepped(&mut self, model: usize, numbers: &[u64], rows: usize, step_time: Duration) {
        let metrics = &self.shared.metrics;
        metrics.step_seconds.observe(step_time.as_secs_f64());
        metrics.batch_rows.observe(rows as f64);
        metrics.steps.inc_by(numbers.len() as u64);
        let (tail, pace) = {
            let state = self.shared.lock();
            (state.tail(), state.devices[self.index].pace)
        };
        let together: f64 = numbers.len() as f64;
        let loaded = &mut self.loaded[model];
        let now = Instant::now();
        loaded.used = now;
        let mut previews = vec![];
        for (place, live) in loaded.live.iter_mut().enumerate() {
            if !numbers.contains(&live.number) {
                continue;
            }
            live.task.steps_done.store(live.canvas.steps_done(), Ordering::Relaxed);
            let (n, of) = (live.canvas.steps_done(), live.canvas.steps());
            let round = pace.time(together * work(&live.task)).unwrap_or(step_time).max(step_time);
            let eta = round * (of - n) as u32 + tail;
            live.task.writer.tell(JobEvent::Step { n, of, step_time, eta });
            let every = live.task.writer.job().submission().preview_every;
            if every > 0 && n % every == 0 && n < of {
                previews.push(place);
            }
            if n >= of {
                live.stepped = Some(now);
                live.task.trace.enter(Stage::Decode);
            }
        }
        for place in previews {
            let loaded = &mut self.loaded[model];
            let (backend, live) = (&mut loaded.backend, &loaded.live[place]);
            let (task, n) = (live.task.clone(), live.canvas.steps_done());
            let preview = || backend.preview(&live.canvas);
            match self.shared.guarded(self.index, "previewing", vec![task.clone()], preview) {
                Ok(Ok(image)) => drop(task.writer.tell(JobEvent::Preview { n, image: Arc::new(image) })),
                Ok(Err(error)) => tracing::warn!(job = %task.id(), error = one_line(&error), "no preview"),
                Err(panic) => return self.lose(model, panic, vec![]),
            }
        }
        let loaded = &mut self.loaded[model];
        let done: Vec<_> = loaded.live.extract_if(.., |live| live.stepped.is_some()).collect();
        let mut state = self.shared.lock();
        done.iter().for_each(|live| state.queue.leave(&live.task.client));
        drop(state);
        loaded.done.extend(done);
        self.read_latents(model);
    }

    /// Reads the latents of those that wait to be decoded and whose caller asks for them.
    fn read_latents(&mut self, model: usize) {
        let asks =
            |live: &&Live<CanvasOf<M>>| live.latents.is_none() && live.task.writer.job().submission().latents;
        let numbers: Vec<_> = self.loaded[model].done.iter().filter(asks).map(|live| live.number).collect();
        for number in numbers {
            let loaded = &mut self.loaded[model];
            let Some(place) = loaded.done.iter().position(|live| live.number == number) else { continue };
            let (backend, live) = (&mut loaded.backend, &loaded.done[place]);
            let read = || backend.latents(&live.canvas);
            match self.shared.guarded(self.index, "reading latents", vec![live.task.clone()], read) {
                Ok(Ok(latents)) => self.loaded[model].done[place].latents = Some(latents),
                Ok(Err(error)) => {
                    let Live { number, task, .. } = self.loaded[model].done.remove(place);
                    self.give_up(number, task, error);
                }
                Err(panic) => return self.lose(model, panic, vec![]),
            }
        }
    }

    /// Decodes: all there are if nobody's steps wait for it, else about as many as take the time of
    /// a step, which are taken when the next step has been given to the device.
    pub(super) fn decode(&mut self) {
        let steps_wait = self.loaded.iter().any(|loaded| !loaded.live.is_empty());
        let oldest = |worker: &Self| {
            let first = |loaded: &Loaded<M::Backend>| loaded.done.first().and_then(|live| live.stepped);
            let models =
                worker.loaded.iter().enumerate().filter_map(|(model, loaded)| Some((first(loaded)?, model)));
            models.min().map(|(_, model)| model)
        };
        while let Some(model) = oldest(self) {
            let done = &self.loaded[model].done;
            let (size, alone) = (done[0].task.size(), done[0].task.is_alone());
            let together = |live: &&Live<CanvasOf<M>>| live.task.size() == size && !live.task.is_alone();
            let mut numbers: Vec<u64> = match alone {
                true => vec![done[0].number],
                false => done.iter().filter(together).map(|live| live.number).collect(),
            };
            let most = if steps_wait { decoded_in(self.round, self.finish_each) } else { usize::MAX };
            numbers.truncate(most.min(self.shared.config.max_batch));
            numbers.truncate(self.finish_together(model, size, numbers.len()));
            self.begin_to_finish(model, size, &numbers);
            if steps_wait {
                return;
            }
            self.take_decoded();
        }
    }

    /// Gives those of `numbers` that are still there to the device. They are under way then, unless
    /// it failed.
    fn begin_to_finish(&mut self, model: usize, size: ImageSize, numbers: &[u64]) {
        let done = self.loaded[model].done.iter().map(|live| live.number);
        let numbers: Vec<u64> = done.filter(|number| numbers.contains(number)).collect();
        if numbers.is_empty() {
            return;
        }
        let everybody = self.everybody(&[]);
        let predicted = self.loaded[model].costs.finish.predict(size, numbers.len());
        let started = Instant::now();
        let (answer, peak) = self.measured(predicted, |worker| {
            let loaded = &mut worker.loaded[model];
            let chosen = loaded.done.iter().filter(|live| numbers.contains(&live.number));
            let canvases: Vec<_> = chosen.map(|live| &live.canvas).collect();
            let backend = &mut loaded.backend;
            worker.shared.guarded(worker.index, "decoding", everybody, || backend.finish(&canvases))
        });
        match answer {
            Ok(Ok(decoding)) => {
                self.observe(model, |costs| &mut costs.finish, size, numbers.len(), peak);
                let begin = started.elapsed();
                self.loaded[model].under_way = Some(UnderWay { size, numbers, decoding, begin });
            }
            Ok(Err(error)) => self.not_finished(model, size, &numbers, error),
            Err(panic) => self.lose_finishing(model, &numbers, panic),
        }
    }

    /// Waits for what is under way, and hands it on. How long that took.
    pub(super) fn take_decoded(&mut self) -> Duration {
        let under_way = |loaded: &mut Loaded<M::Backend>| loaded.under_way.take();
        let found =
            self.loaded.iter_mut().enumerate().find_map(|(model, loaded)| Some((model, under_way(loaded)?)));
        let Some((model, UnderWay { size, numbers, decoding, begin })) = found else { return Duration::ZERO };
        let everybody = self.everybody(&[]);
        let started = Instant::now();
        match self.shared.guarded(self.index, "decoding", everybody, || decoding.wait()) {
            Ok(Ok(images)) => {
                let each = (begin + started.elapsed()) / numbers.len() as u32;
                self.finish_each = (self.finish_each * 3 + each) / 4;
                for (number, image) in numbers.into_iter().zip(images) {
                    // One that was cancelled meanwhile has left.
                    if let Some(live) = self.take_done(model, &[number]).pop() {
                        self.shared.metrics.images.inc();
                        self.hand_on(live, image);
                    }
                }
            }
            Ok(Err(error)) => self.not_finished(model, size, &numbers, error),
            Err(panic) => self.lose_finishing(model, &numbers, panic),
        }
        started.elapsed()
    }

    /// Several are decoded again in halves; one alone is given up.
    fn not_finished(&mut self, model: usize, size: ImageSize, numbers: &[u64], error: Error) {
        self.relieve(&error, model, |costs| &mut costs.finish, size, numbers.len());
        if numbers.len() > 1 {
            return self.halves(model, numbers, |worker, model, half| {
                worker.begin_to_finish(model, size, half);
                worker.take_decoded();
            });
        }
        for live in self.take_done(model, numbers) {
            self.give_up(live.number, live.task, error.clone());
        }
    }

    fn lose_finishing(&mut self, model: usize, numbers: &[u64], panic: Panic) {
        let in_call = self.take_done(model, numbers);
        self.lose(model, panic, in_call.into_iter().map(|live| (live.number, live.task)).collect());
    }

    fn take_done(&mut self, model: usize, numbers: &[u64]) -> Vec<Live<CanvasOf<M>>> {
        self.loaded[model].done.extract_if(.., |live| numbers.contains(&live.number)).collect()
    }

    /// Hands the image on to the threads that make sprites and files.
    fn hand_on(&self, live: Live<CanvasOf<M>>, image: image::RgbImage) {
        let Live { task, canvas, number, begun, begin, stepped, latents } = live;
        let last_step = stepped.unwrap_or(begun);
        let timings = JobTimings {
            waiting: begun.saturating_duration_since(task.writer.submitted()),
            begin,
            denoise: last_step.saturating_duration_since(begun).saturating_sub(begin),
            finish: last_step.elapsed(),
            ..Default::default()
        };
        self.shared.unwritten.fetch_add(1, Ordering::SeqCst);
        self.shared.post(Post::Decoded(Box::new(Decoded {
            request: canvas.request().clone(),
            dropped_words: canvas.dropped_words().map(str::to_owned),
            task,
            number,
            image,
            latents,
            device: self.name.clone(),
            timings,
            last_step,
        })));
    }
}
