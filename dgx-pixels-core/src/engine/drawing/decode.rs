//! Decoding: a call that begins it, and another that waits for the images. In between the device
//! does the next step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{CanvasOf, Drawing, Live, UnderWay};
use crate::backend::{Backend, Canvas, Models};
use crate::engine::attempts::{Answer, answer};
use crate::engine::canvas::{Facts, Stage};
use crate::engine::guard::Panic;
use crate::engine::handover::{Decoded, Post};
use crate::engine::plan::{Group, decodes};
use crate::engine::residence::{Call, CallKind};
use crate::error::Error;
use crate::job::JobTimings;

impl<M: Models> Drawing<M> {
    /// Decodes: all there are if no steps wait for it, else about as many as take the time of a
    /// round, which are taken when the next step has been given to the device.
    pub(in crate::engine) fn decode(&mut self) {
        loop {
            let facts = self.facts();
            let (used, most) = (self.host.used_bytes(), self.shared.config.max_batch);
            let next = decodes(&facts, &self.host.residence, used, self.beat, most);
            let Some(group) = next else { return };
            self.begin_to_finish(&group);
            if facts.iter().any(Facts::is_denoising) {
                return;
            }
            self.take_decoded();
        }
    }

    /// Gives those of the group that are still there to the device. They are under way then, unless
    /// it failed.
    fn begin_to_finish(&mut self, group: &Group) {
        let is_chosen = |live: &&mut Live<CanvasOf<M>>| group.numbers.contains(&live.number);
        let started = Instant::now();
        let everybody = self.everybody(&[]);
        let Drawing { host, lives, under_way, .. } = self;
        let mut chosen: Vec<_> = lives.iter_mut().filter(is_chosen).collect();
        let numbers: Vec<u64> = chosen.iter().map(|live| live.number).collect();
        if numbers.is_empty() {
            return;
        }
        let group = Group { numbers, ..group.clone() };
        let call = Call { kind: CallKind::Finish, size: group.size, rows: chosen.len() };
        let canvases: Vec<_> = chosen.iter().map(|live| &live.canvas).collect();
        match host.call(&group.model, call, everybody, |backend| backend.finish(&canvases)) {
            Ok(Ok(decoding)) => {
                for live in &mut chosen {
                    live.stage = Stage::Decoding { since: live.stage.stepped().unwrap_or(started) };
                }
                let Group { model, size, numbers } = group;
                *under_way = Some(UnderWay { model, size, numbers, decoding, begin: started.elapsed() });
            }
            Ok(Err(error)) => self.not_finished(&group, &error),
            Err(panic) => self.drop_finishing(&group, panic),
        }
    }

    /// Waits for what is under way, and hands it over. Returns the time that it took.
    pub(in crate::engine) fn take_decoded(&mut self) -> Duration {
        let Some(under_way) = self.under_way.take() else { return Duration::ZERO };
        let UnderWay { model, size, numbers, decoding, begin } = under_way;
        let group = Group { model, size, numbers };
        let everybody = self.everybody(&[]);
        let started = Instant::now();
        let doing = CallKind::Finish.doing();
        match self.shared.guarded(self.host.index, doing, everybody, || decoding.wait()) {
            Ok(Ok(images)) => {
                let each = (begin + started.elapsed()) / group.numbers.len() as u32;
                self.beat.finish_each = (self.beat.finish_each * 3 + each) / 4;
                for (number, image) in group.numbers.into_iter().zip(images) {
                    // One that was cancelled meanwhile has left.
                    if let Some(live) = self.take(&[number]).pop() {
                        self.shared.metrics.images.inc();
                        self.hand_over(live, image);
                    }
                }
            }
            Ok(Err(error)) => {
                let call = Call { kind: CallKind::Finish, size, rows: group.numbers.len() };
                self.host.note_out_of_memory(&error, &group.model, call);
                self.not_finished(&group, &error);
            }
            Err(panic) => self.drop_finishing(&group, panic),
        }
        started.elapsed()
    }

    /// Several are decoded again in halves; one alone is given up.
    fn not_finished(&mut self, group: &Group, error: &Error) {
        match answer(error, group.numbers.len(), 1) {
            Answer::Halves => self.in_halves(group, |drawing, half| {
                drawing.begin_to_finish(half);
                drawing.take_decoded();
            }),
            Answer::Again | Answer::Fail => {
                for live in self.take(&group.numbers) {
                    self.failed(live.number, live.task, error);
                }
            }
        }
    }

    fn drop_finishing(&mut self, group: &Group, panic: Panic) {
        let in_call = self.take(&group.numbers);
        let in_call = in_call.into_iter().map(|live| (live.number, live.task)).collect();
        self.drop_model(&group.model, panic, in_call);
    }

    /// Hands the image over to the threads that make sprites and files.
    fn hand_over(&self, live: Live<CanvasOf<M>>, image: image::RgbImage) {
        let Live { task, canvas, number, begun, begin, stage, latents } = live;
        let last_step = stage.stepped().unwrap_or(begun);
        let timings = JobTimings {
            waiting: begun.saturating_duration_since(task.writer.submitted()),
            begin,
            denoise: last_step.saturating_duration_since(begun).saturating_sub(begin),
            finish: last_step.elapsed(),
            ..Default::default()
        };
        self.shared.posts.hand_image(Post::Decoded(Box::new(Decoded {
            request: canvas.request().clone(),
            dropped_words: canvas.dropped_words().map(str::to_owned),
            task,
            number,
            image,
            latents,
            device: Arc::clone(&self.host.name),
            timings,
            last_step,
        })));
    }
}
