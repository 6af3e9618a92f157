//! Carrying plans out, as the real thread does, with checks of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::super::{Facts, Group, Next, Round, decodes, groups, spare};
use super::{CANVAS, Drawn, End, Fault, MEASURED, MS, STEP_ROW, Spec, WEIGHTS, World, needs};
use crate::engine::attempts::{Answer, answer};
use crate::engine::canvas::Stage;
use crate::engine::costs::Costs;
use crate::engine::residence::{Call, CallKind, Resident};
use crate::error::Error;
use crate::request::ImageSize;

impl World {
    pub(super) fn act(&mut self, next: Next) {
        match next {
            Next::End => unreachable!("it does not end before it drains"),
            Next::Sleep(nap) => {
                assert!(nap > Duration::ZERO && self.canvases.is_empty());
                let events = self.events.keys().next().map(|(at, _)| self.start + *at);
                let written = self.writing.iter().map(|(until, ..)| *until).min();
                let loaded = self.loading.as_ref().map(|(_, until)| *until);
                let wake = [events, written, loaded].into_iter().flatten().fold(self.now + nap, Instant::min);
                self.advance(wake - self.now);
            }
            Next::Open => {
                self.is_open = true;
                self.residence.budget = self.setup.room.map(|room| WEIGHTS + room);
            }
            Next::Load(number) => {
                assert!(self.loading.is_none());
                let model = self.queue.get(number).unwrap().model.clone();
                assert!(!self.residence.is_loaded(&model));
                self.residence.coming_bytes = if self.setup.room.is_some() { WEIGHTS } else { 0 };
                self.loading = Some((model, self.now + self.setup.load_time));
            }
            Next::TakeModel => {
                let (model, _) = self.loading.take().unwrap();
                self.residence.coming_bytes = 0;
                if &*model == "9" {
                    return self
                        .queue
                        .drain(Some(&model))
                        .into_iter()
                        .for_each(|job| self.end(job.item, End::Failed));
                }
                self.residence.insert(model.clone(), (), Costs::default(), self.now);
                assert!(self.within_budget(0), "a model is loaded only where it fits");
                self.measure(&model);
            }
            Next::Measure(model) => {
                assert!(self.canvases.is_empty() && self.residence.iter().count() == 1);
                if !self.measure(&model) {
                    let gone = self.queue.drain(Some(&model));
                    gone.into_iter().for_each(|job| self.end(job.item, End::OutOfMemory));
                    self.residence.remove(&model);
                }
            }
            Next::Evict(model) => {
                assert!(self.specs_of_canvases().all(|spec| *spec.model.to_string() != *model));
                self.residence.remove(&model).unwrap();
            }
            Next::Refuse(numbers) => {
                assert!(!numbers.is_empty() && self.canvases.is_empty() && self.loading.is_none());
                for number in numbers {
                    let refused = self.queue.remove(number).unwrap();
                    let total = self.residence.total_for(self.used_bytes(), &refused.model, &refused.needs);
                    assert!(total > self.residence.budget.unwrap(), "it fits into the budget");
                    let is_own = |model: &Resident<()>| model.key == refused.model;
                    assert!(self.residence.iter().all(is_own), "another model could make room");
                    self.end(refused.item, End::OverBudget);
                }
            }
            Next::Release(numbers) => {
                for drawn in self.take(&numbers) {
                    let end = if self.jobs[drawn.job].cancelled { End::Cancelled } else { End::TooLate };
                    self.end(drawn.job, end);
                }
            }
            Next::Round(round) => self.round(round),
        }
    }

    fn specs_of_canvases(&self) -> impl Iterator<Item = &Spec> {
        self.canvases.iter().map(|drawn| &self.specs[drawn.job])
    }

    /// Measures a model at two sizes, or as far as there is room.
    fn measure(&mut self, model: &str) -> bool {
        for side in MEASURED.into_iter().filter(|_| self.setup.room.is_some()) {
            let size = ImageSize { width: side, height: side };
            let needed = CANVAS + peak(CallKind::Step, side, 1).max(peak(CallKind::Finish, side, 1));
            if !self.within_budget(needed) {
                if side == MEASURED[0] {
                    return false;
                }
                continue;
            }
            let known = self.residence.get_mut(model).unwrap();
            known.costs.canvas.observe(size, 1, CANVAS);
            for kind in [CallKind::Begin, CallKind::Step, CallKind::Finish] {
                known.observe(Call { kind, size, rows: 1 }, peak(kind, side, 1));
            }
        }
        self.residence.get_mut(model).unwrap().is_ready = true;
        true
    }

    fn within_budget(&self, more: u64) -> bool {
        self.residence.budget.is_none_or(|budget| self.used_bytes() + more <= budget)
    }

    /// Takes canvases out, as `Drawing::take` does.
    fn take(&mut self, numbers: &[u64]) -> Vec<Drawn> {
        let gone: Vec<_> = self.canvases.extract_if(.., |drawn| numbers.contains(&drawn.number)).collect();
        for drawn in gone.iter().filter(|drawn| drawn.stage == Stage::Denoising) {
            self.queue.leave(&self.specs[drawn.job].client.to_string().into());
        }
        gone
    }

    fn round(&mut self, round: Round) {
        let mut run = round.step.clone();
        let taken = round.begin.iter().map(|number| (*number, self.queue.take(*number).unwrap().item));
        let taken: Vec<_> = taken.collect();
        let mut models: BTreeMap<u8, Vec<(u64, usize)>> = BTreeMap::new();
        taken.into_iter().for_each(|one| models.entry(self.specs[one.1].model).or_default().push(one));
        for jobs in models.into_values() {
            self.begin(jobs, &mut run);
        }
        let begun = self.now;
        let groups = groups(&self.facts(), &run);
        let mut work = 0.0;
        for mut group in groups {
            while !group.numbers.is_empty() && self.residence.is_loaded(&group.model) {
                let rows = |number: &u64| self.drawn(*number).map(|drawn| self.specs[drawn.job].rows);
                let rows: Vec<usize> = group.numbers.iter().filter_map(rows).collect();
                let (used, kind) = (self.used_bytes(), CallKind::Step);
                let together = self.residence.together(used, &group.model, kind, group.size, &rows);
                let later = group.numbers.split_off(together.max(1));
                work += rows[..together].iter().sum::<usize>() as f64
                    * f64::from(group.size.width * group.size.height);
                self.step(&group);
                self.take_decoded();
                group.numbers = later;
            }
        }
        if work > 0.0 {
            self.beat.round = self.now - begun;
            self.pace.observe(work, self.beat.round);
        }
        self.take_decoded();
        loop {
            let facts = self.facts();
            let used = self.used_bytes();
            let Some(group) = decodes(&facts, &self.residence, used, self.beat, self.setup.max_batch) else {
                break;
            };
            assert!(!group.numbers.is_empty() && self.under_way.is_empty());
            self.begin_to_finish(&group);
            if facts.iter().any(Facts::is_denoising) {
                break;
            }
            self.take_decoded();
        }
    }

    fn drawn(&self, number: u64) -> Option<&Drawn> {
        self.canvases.iter().find(|drawn| drawn.number == number)
    }

    fn begin(&mut self, jobs: Vec<(u64, usize)>, run: &mut Vec<u64>) {
        if jobs.len() > 1 && jobs.iter().any(|(_, job)| self.jobs[*job].alone) {
            return jobs.into_iter().for_each(|job| self.begin(vec![job], run));
        }
        self.now += MS;
        for (number, job) in jobs {
            let outcome = &mut self.jobs[job];
            outcome.begun_at.get_or_insert(self.now - self.start);
            self.canvases.push(Drawn { job, number, steps_done: 0, stage: Stage::Denoising });
            run.push(number);
        }
        assert!(self.within_budget(0), "canvases are begun only where they fit");
    }

    fn step(&mut self, group: &Group) {
        let in_call: Vec<usize> = (0..self.canvases.len())
            .filter(|place| group.numbers.contains(&self.canvases[*place].number))
            .collect();
        assert_eq!(in_call.len(), group.numbers.len());
        let jobs: Vec<usize> = in_call.iter().map(|place| self.canvases[*place].job).collect();
        self.calls.push(jobs.iter().map(|job| self.specs[*job].client).collect());
        assert!(jobs.len() == 1 || jobs.iter().all(|job| !self.jobs[*job].alone), "it goes alone");
        let rows: usize = jobs.iter().map(|job| self.specs[*job].rows).sum();
        let (fixed, each) = self.setup.step_time;
        self.now += fixed + each * (rows as u32 * group.size.width * group.size.height / 4096);
        let at = |place: &usize| {
            let drawn = &self.canvases[*place];
            (self.specs[drawn.job].fault, drawn.steps_done)
        };
        let panics = in_call.iter().any(|place| matches!(at(place), (Fault::Panic(n), done) if n == done));
        let lacks = in_call.iter().any(|place| match at(place) {
            (Fault::NeverFits, _) => true,
            (Fault::Crowded(n), done) => n == done && in_call.len() > 1,
            _ => false,
        });
        let bytes = peak(CallKind::Step, group.size.width, rows);
        let refused = !self.within_budget(bytes);
        self.refused += usize::from(refused);
        if panics {
            return self.panicked(&group.model, &group.numbers);
        }
        let call = Call { kind: CallKind::Step, size: group.size, rows };
        if lacks || refused {
            self.residence.refuse(self.used_bytes(), &group.model, call);
            return self.fail(group, &out_of_memory(), World::step);
        }
        let known = self.residence.get_mut(&group.model).unwrap();
        known.used = self.now;
        if self.setup.room.is_some() {
            known.observe(call, bytes);
        }
        for place in in_call {
            let drawn = &mut self.canvases[place];
            drawn.steps_done += 1;
            let spec = &self.specs[drawn.job];
            assert!(drawn.steps_done <= spec.steps);
            if drawn.steps_done == spec.steps {
                drawn.stage = Stage::Stepped { since: self.now };
                self.queue.leave(&spec.client.to_string().into());
            }
        }
    }

    fn begin_to_finish(&mut self, group: &Group) {
        let numbers: Vec<u64> =
            group.numbers.iter().copied().filter(|number| self.drawn(*number).is_some()).collect();
        if numbers.is_empty() {
            return;
        }
        let call = Call { kind: CallKind::Finish, size: group.size, rows: numbers.len() };
        let bytes = peak(CallKind::Finish, group.size.width, numbers.len());
        let refused = !self.within_budget(bytes);
        self.refused += usize::from(refused);
        if refused {
            self.residence.refuse(self.used_bytes(), &group.model, call);
            return self.fail(group, &out_of_memory(), World::finish);
        }
        if self.setup.room.is_some() {
            self.residence.get_mut(&group.model).unwrap().observe(call, bytes);
        }
        for drawn in self.canvases.iter_mut().filter(|drawn| numbers.contains(&drawn.number)) {
            drawn.stage = Stage::Decoding { since: drawn.stage.stepped().unwrap() };
        }
        self.under_way = numbers;
    }

    fn finish(&mut self, group: &Group) {
        self.begin_to_finish(group);
        self.take_decoded();
    }

    fn take_decoded(&mut self) {
        let numbers = std::mem::take(&mut self.under_way);
        let there: Vec<&Drawn> = numbers.iter().filter_map(|number| self.drawn(*number)).collect();
        let Some(first) = there.first() else { return };
        let spec = &self.specs[first.job];
        let (model, size): (Arc<str>, _) = (spec.model.to_string().into(), needs(spec).size);
        let says = |fault: Fault| there.iter().any(|drawn| self.specs[drawn.job].fault == fault);
        let (panics, not_finite) = (says(Fault::PanicAtLast), says(Fault::NotFinite));
        let each = 3 * MS;
        self.now += each * there.len() as u32;
        self.beat.finish_each = (self.beat.finish_each * 3 + each) / 4;
        let group = Group { model, size, numbers };
        if panics {
            return self.panicked(&group.model, &group.numbers);
        }
        if not_finite {
            let error = Error::NotFinite { what: "the decoded image", dtype: "f32" };
            return self.fail(&group, &error, World::finish);
        }
        for drawn in self.take(&group.numbers) {
            self.writing.push((self.now + self.setup.write_time, drawn.job, drawn.number));
        }
    }

    /// A call failed: the answer is the real one.
    fn fail(&mut self, group: &Group, error: &Error, again: impl Fn(&mut World, &Group)) {
        let first = self.drawn(group.numbers[0]).map(|drawn| drawn.job);
        let attempts = first.map_or(1, |job| self.jobs[job].attempts + 1);
        match answer(error, group.numbers.len(), attempts) {
            Answer::Halves => {
                let (first, second) = group.numbers.split_at(group.numbers.len() / 2);
                for half in [first, second] {
                    if self.residence.is_loaded(&group.model) {
                        again(self, &Group { numbers: half.to_vec(), ..group.clone() });
                    }
                }
            }
            Answer::Again => {
                for drawn in self.take(&group.numbers) {
                    self.jobs[drawn.job].attempts += 1;
                    self.queue.put(drawn.number, self.waiting(drawn.job));
                    if self.canvases.is_empty() {
                        let loaded = self.queue.first(|model| self.residence.is_loaded(model));
                        let unused = spare(&self.queue, &self.residence, &[], loaded, |_| false);
                        unused.into_iter().for_each(|model| drop(self.residence.remove(&model)));
                    }
                }
            }
            Answer::Fail => {
                for drawn in self.take(&group.numbers) {
                    let lacked = matches!(error, Error::OutOfMemory { .. });
                    self.end(drawn.job, if lacked { End::OutOfMemory } else { End::Failed });
                }
            }
        }
    }

    /// The model is lost; as `Drawing::drop_model`.
    fn panicked(&mut self, model: &str, numbers: &[u64]) {
        let mut in_call = self.take(numbers);
        let specs = &self.specs;
        let others = self.canvases.iter().filter(|drawn| *specs[drawn.job].model.to_string() == *model);
        let others: Vec<u64> = others.map(|drawn| drawn.number).collect();
        if in_call
            .iter()
            .map(|drawn| drawn.number)
            .chain(others.iter().copied())
            .any(|number| self.under_way.contains(&number))
        {
            self.under_way.clear();
        }
        let others = self.take(&others);
        self.residence.remove(model).unwrap();
        if in_call.len() == 1 {
            self.end(in_call.remove(0).job, End::Failed);
        }
        for drawn in in_call {
            self.jobs[drawn.job].alone = true;
            self.queue.put(drawn.number, self.waiting(drawn.job));
        }
        for drawn in others {
            self.queue.put(drawn.number, self.waiting(drawn.job));
        }
    }
}

fn out_of_memory() -> Error {
    Error::OutOfMemory { device: "world".into(), doing: "drawing".into() }
}

/// The bytes that a call takes above those in use.
fn peak(kind: CallKind, side: u32, rows: usize) -> u64 {
    let row = STEP_ROW * u64::from(side) * u64::from(side) / 4096;
    match kind {
        CallKind::Begin => CANVAS * rows as u64,
        CallKind::Step => row * rows as u64,
        CallKind::Finish => row * rows as u64 / 2,
    }
}
