//! Steps: the calls of a round, previews, and the latents after the last step.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{CanvasOf, Drawing, Live};
use crate::backend::{Backend, Canvas, Models};
use crate::engine::attempts::{Answer, answer};
use crate::engine::canvas::Stage;
use crate::engine::plan::{Group, groups};
use crate::engine::residence::{Call, CallKind};
use crate::engine::trace;
use crate::error::{Error, one_line};
use crate::job::JobEvent;

impl<M: Models> Drawing<M> {
    /// A step for each of these, those that can share a forward pass together.
    pub(in crate::engine) fn step(&mut self, run: &[u64]) {
        let started = Instant::now();
        let mut decoding = Duration::ZERO;
        let facts = self.facts();
        let runs = facts.iter().filter(|canvas| canvas.is_denoising() && run.contains(&canvas.number));
        let all_work: f64 = runs.map(|canvas| canvas.needs.step_work()).sum();
        for mut group in groups(&facts, run) {
            // A model may be lost on the way, and its canvases with it.
            while !group.numbers.is_empty() && self.host.residence.is_loaded(&group.model) {
                let rows: Vec<usize> = self.rows(&group.numbers);
                let (used, kind) = (self.host.used_bytes(), CallKind::Step);
                let together = self.host.residence.together(used, &group.model, kind, group.size, &rows);
                let later = group.numbers.split_off(together.max(1));
                self.step_some(&group);
                decoding += self.take_decoded();
                group.numbers = later;
            }
        }
        if all_work > 0.0 {
            self.beat.round = started.elapsed() - decoding;
            let round = self.beat.round;
            self.shared.lock().devices[self.host.index].pace.observe(all_work, round);
        }
    }

    /// The rows of the canvases with these numbers.
    fn rows(&self, numbers: &[u64]) -> Vec<usize> {
        self.chosen(numbers).map(|live| live.canvas.rows()).collect()
    }

    fn chosen(&self, numbers: &[u64]) -> impl Iterator<Item = &Live<CanvasOf<M>>> {
        self.lives.iter().filter(|live| numbers.contains(&live.number))
    }

    fn step_some(&mut self, group: &Group) {
        let Group { model, size, numbers } = group;
        let rows = self.rows(numbers).iter().sum();
        let everybody = self.everybody(&[]);
        let started = Instant::now();
        let call = Call { kind: CallKind::Step, size: *size, rows };
        let Drawing { host, lives, .. } = self;
        let chosen = lives.iter_mut().filter(|live| numbers.contains(&live.number));
        let mut canvases: Vec<_> = chosen.map(|live| &mut live.canvas).collect();
        let in_call = canvases.len();
        match host.call(model, call, everybody, |backend| backend.step(&mut canvases)) {
            Ok(Ok(())) => self.stepped(group, rows, started.elapsed()),
            Ok(Err(error)) => match answer(&error, in_call, 1) {
                // No canvas has moved.
                Answer::Halves => self.in_halves(group, Drawing::step_some),
                Answer::Again | Answer::Fail => {
                    for failed in self.take(numbers) {
                        self.failed(failed.number, failed.task, &error);
                    }
                }
            },
            Err(panic) => {
                let in_call = self.take(numbers).into_iter().map(|live| (live.number, live.task)).collect();
                self.drop_model(model, panic, in_call);
            }
        }
    }

    /// Makes a call with each half of a group, unless the model is lost on the way.
    pub(super) fn in_halves(&mut self, group: &Group, call: impl Fn(&mut Self, &Group)) {
        let (first, second) = group.numbers.split_at(group.numbers.len() / 2);
        for half in [first, second] {
            if self.host.residence.is_loaded(&group.model) {
                call(self, &Group { numbers: half.to_vec(), ..group.clone() });
            }
        }
    }

    /// Reports a step that was done. Canvases that were at their last wait to be decoded.
    fn stepped(&mut self, group: &Group, rows: usize, step_time: Duration) {
        let Group { model, numbers, .. } = group;
        let metrics = &self.shared.metrics;
        metrics.step_seconds.observe(step_time.as_secs_f64());
        metrics.batch_rows.observe(rows as f64);
        metrics.steps.inc_by(numbers.len() as u64);
        let (tail, pace) = {
            let state = self.shared.lock();
            (state.tail(), state.devices[self.host.index].pace)
        };
        let together: f64 = numbers.len() as f64;
        let now = Instant::now();
        if let Some(resident) = self.host.residence.get_mut(model) {
            resident.used = now;
        }
        let mut previewed = vec![];
        let mut done = vec![];
        for live in self.lives.iter_mut().filter(|live| numbers.contains(&live.number)) {
            let task = &live.task;
            task.steps_done.store(live.canvas.steps_done(), Ordering::Relaxed);
            let (n, of) = (live.canvas.steps_done(), live.canvas.steps());
            let round = pace.time(together * task.needs().step_work()).unwrap_or(step_time).max(step_time);
            let eta = round * (of - n) as u32 + tail;
            task.writer.tell(JobEvent::Step { n, of, step_time, eta });
            let every = task.writer.job().submission().preview_every;
            if every > 0 && n % every == 0 && n < of {
                previewed.push(live.number);
            }
            if n >= of {
                live.stage = Stage::Stepped { since: now };
                task.trace.enter(trace::Stage::Decode);
                done.push(task.client.clone());
            }
        }
        // Those that are done stand in no other's way.
        let mut state = self.shared.lock();
        done.iter().for_each(|client| state.queue.leave(client));
        drop(state);
        self.preview(model, &previewed);
        self.read_latents(model);
    }

    /// Draws previews of these.
    fn preview(&mut self, model: &str, numbers: &[u64]) {
        for number in numbers {
            let Drawing { host, lives, .. } = self;
            let Some(live) = lives.iter().find(|live| live.number == *number) else { continue };
            let (task, n) = (live.task.clone(), live.canvas.steps_done());
            match host.ask(model, "previewing", task.clone(), |backend| backend.preview(&live.canvas)) {
                Ok(Ok(image)) => drop(task.writer.tell(JobEvent::Preview { n, image: Arc::new(image) })),
                Ok(Err(error)) => tracing::warn!(job = %task.id(), error = one_line(&error), "no preview"),
                Err(panic) => return self.drop_model(model, panic, vec![]),
            }
        }
    }

    /// Reads the latents of those that wait to be decoded and whose caller asks for them.
    fn read_latents(&mut self, model: &str) {
        let asks = |live: &&Live<CanvasOf<M>>| {
            let is_done = *live.task.model == *model && live.stage != Stage::Denoising;
            is_done && live.latents.is_none() && live.task.writer.job().submission().latents
        };
        let numbers: Vec<_> = self.lives.iter().filter(asks).map(|live| live.number).collect();
        for number in numbers {
            let Drawing { host, lives, .. } = self;
            let Some(live) = lives.iter_mut().find(|live| live.number == number) else { continue };
            let task = live.task.clone();
            match host.ask(model, "reading latents", task, |backend| backend.latents(&live.canvas)) {
                Ok(Ok(latents)) => live.latents = Some(latents),
                Ok(Err(error)) => self.fail_alone(number, &error),
                Err(panic) => return self.drop_model(model, panic, vec![]),
            }
        }
    }

    fn fail_alone(&mut self, number: u64, error: &Error) {
        for failed in self.take(&[number]) {
            self.failed(failed.number, failed.task, error);
        }
    }
}
