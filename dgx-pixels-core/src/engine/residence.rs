//! The models on a device, the memory that their calls need, and the check that there is room for
//! more.
//!
//! Plain values: the memory in use is an argument, so that a plan can be tested without a device.
//! The bytes in use are those that the allocator reports, which include weights, canvases, and what
//! libraries keep. Only what the next call needs on top is predicted.
//!
//! If a job's model does not fit, the model that was unused for longest leaves, as long as no job
//! that goes before needs it. The type `L` is what is kept of a loaded model: its backend, or
//! nothing in tests.

use std::sync::Arc;
use std::time::Instant;

use super::canvas::Facts;
use super::costs::{Costs, Peaks};
use super::queue::Needs;
use crate::request::ImageSize;

/// The calls of a backend whose memory is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    Begin,
    Step,
    Finish,
}

/// A call of a backend with so many rows of one size. Only those of a step are rows of the UNet;
/// else a row is an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) kind: CallKind,
    pub(super) size: ImageSize,
    pub(super) rows: usize,
}

impl CallKind {
    /// The name for the watchdog and for errors.
    pub(super) fn doing(self) -> &'static str {
        match self {
            CallKind::Begin => "encoding",
            CallKind::Step => "denoising",
            CallKind::Finish => "decoding",
        }
    }

    /// The measured peaks of such calls.
    fn peaks(self, costs: &Costs) -> &Peaks {
        match self {
            CallKind::Begin => &costs.begin,
            CallKind::Step => &costs.step,
            CallKind::Finish => &costs.finish,
        }
    }

    /// The measured peaks of such calls, to be changed.
    fn peaks_mut(self, costs: &mut Costs) -> &mut Peaks {
        match self {
            CallKind::Begin => &mut costs.begin,
            CallKind::Step => &mut costs.step,
            CallKind::Finish => &mut costs.finish,
        }
    }
}

/// A model on the device.
pub(super) struct Resident<L> {
    pub(super) key: Arc<str>,
    pub(super) loaded: L,
    pub(super) costs: Costs,
    /// `true` if `costs` differ from the file.
    pub(super) costs_changed: bool,
    /// `true` if its calls were measured, so that it may be used.
    pub(super) is_ready: bool,
    pub(super) used: Instant,
}

impl<L> Resident<L> {
    /// The bytes that a call needs on top of those in use, if anything is known of it.
    pub(super) fn predict(&self, call: Call) -> Option<u64> {
        call.kind.peaks(&self.costs).predict(call.size, call.rows)
    }

    /// A call came to so many bytes above those in use.
    pub(super) fn observe(&mut self, call: Call, peak: u64) {
        let before = self.predict(call);
        call.kind.peaks_mut(&mut self.costs).observe(call.size, call.rows, peak);
        self.costs_changed |= before != self.predict(call);
    }
}

/// The models on a device, and the budget that they share.
pub(super) struct Residence<L> {
    /// Most bytes that may be used; `None` where memory is not counted.
    pub(super) budget: Option<u64>,
    /// The bytes of the model that is being loaded; 0 without one.
    pub(super) coming_bytes: u64,
    models: Vec<Resident<L>>,
}

impl<L> Residence<L> {
    /// A device without models, whose memory is not counted yet.
    pub(super) fn new() -> Self {
        Residence { budget: None, coming_bytes: 0, models: vec![] }
    }

    /// Takes in a model that is not measured yet.
    pub(super) fn insert(&mut self, key: Arc<str>, loaded: L, costs: Costs, now: Instant) {
        self.models.push(Resident { key, loaded, costs, costs_changed: false, is_ready: false, used: now });
    }

    /// Takes a model out, if it is there.
    pub(super) fn remove(&mut self, model: &str) -> Option<Resident<L>> {
        let place = self.models.iter().position(|known| *known.key == *model)?;
        Some(self.models.swap_remove(place))
    }

    /// The model of this key.
    pub(super) fn get(&self, model: &str) -> Option<&Resident<L>> {
        self.models.iter().find(|known| *known.key == *model)
    }

    /// The model of this key, to be changed.
    pub(super) fn get_mut(&mut self, model: &str) -> Option<&mut Resident<L>> {
        self.models.iter_mut().find(|known| *known.key == *model)
    }

    /// All models, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Resident<L>> {
        self.models.iter()
    }

    /// `true` without any model.
    pub(super) fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// `true` if the model is there, measured or not.
    pub(super) fn is_loaded(&self, model: &str) -> bool {
        self.get(model).is_some()
    }

    /// `true` if the model may be used.
    pub(super) fn is_ready(&self, model: &str) -> bool {
        self.get(model).is_some_and(|known| known.is_ready)
    }

    /// The model unused for longest, of those that no canvas has and that `may_go`.
    pub(super) fn longest_unused(
        &self,
        canvases: &[Facts],
        may_go: impl Fn(&str) -> bool,
    ) -> Option<&Arc<str>> {
        let idle = |known: &&Resident<L>| {
            canvases.iter().all(|canvas| canvas.model != known.key) && may_go(&known.key)
        };
        self.models.iter().filter(idle).min_by_key(|known| known.used).map(|known| &known.key)
    }

    /// Bytes that stay in use whatever is called next: those in use now, and a model's that is on
    /// its way.
    fn resident(&self, used_bytes: u64) -> u64 {
        used_bytes + self.coming_bytes
    }

    /// The bytes of the budget that are free.
    fn free(&self, used_bytes: u64) -> Option<u64> {
        self.budget.map(|budget| budget.saturating_sub(self.resident(used_bytes)))
    }

    /// The most expensive call that the canvases need, one image at once.
    fn dearest(&self, canvases: &[Facts]) -> u64 {
        let calls = canvases.iter().filter_map(|canvas| {
            let known = self.get(&canvas.model)?;
            let (size, rows) = (canvas.size(), canvas.rows);
            let step = known.predict(Call { kind: CallKind::Step, size, rows });
            step.max(known.predict(Call { kind: CallKind::Finish, size, rows: 1 }))
        });
        calls.max().unwrap_or(0)
    }

    /// The memory that a job of this model keeps once it has begun, and that of the most expensive
    /// of its calls, in bytes.
    fn needs(&self, model: &str, needs: &Needs) -> (u64, u64) {
        let Some(known) = self.get(model) else { return (0, 0) };
        let Needs { size, rows, .. } = *needs;
        let calls = [(CallKind::Begin, 1), (CallKind::Step, rows), (CallKind::Finish, 1)];
        let calls = calls.map(|(kind, rows)| Call { kind, size, rows });
        let dearest = calls.into_iter().filter_map(|call| known.predict(call)).max();
        (known.costs.canvas.predict(size, rows).unwrap_or(0), dearest.unwrap_or(0))
    }

    /// `true` if the canvases of new jobs, given with their models, fit beside the present ones,
    /// with the most expensive call of one image.
    pub(super) fn has_room_for<'a>(
        &self,
        used_bytes: u64,
        canvases: &[Facts],
        new: impl Iterator<Item = (&'a str, &'a Needs)>,
    ) -> bool {
        let Some(budget) = self.budget else { return true };
        let (mut kept, mut dearest) = (0, self.dearest(canvases));
        for (model, needs) in new {
            let (keeps, call) = self.needs(model, needs);
            kept += keeps;
            dearest = dearest.max(call);
        }
        self.resident(used_bytes) + kept + dearest <= budget
    }

    /// The bytes that would be in use while a job of this model runs alone.
    pub(super) fn total_for(&self, used_bytes: u64, model: &str, needs: &Needs) -> u64 {
        let (kept, dearest) = self.needs(model, needs);
        let weights = if self.is_loaded(model) { 0 } else { needs.weight_bytes };
        self.resident(used_bytes) + weights + kept + dearest
    }

    /// The number of canvases that one call may take together, where `rows` are those of each: all
    /// if they fit, or the largest power of two that does; at least 1.
    pub(super) fn together(
        &self,
        used_bytes: u64,
        model: &str,
        kind: CallKind,
        size: ImageSize,
        rows: &[usize],
    ) -> usize {
        let (Some(budget), Some(known)) = (self.budget, self.get(model)) else { return rows.len() };
        let resident = self.resident(used_bytes);
        let fits = |together: usize| {
            let peak = known.predict(Call { kind, size, rows: rows[..together].iter().sum() });
            peak.is_none_or(|peak| resident + peak <= budget)
        };
        let mut together = rows.len();
        while together > 1 && !fits(together) {
            together =
                if together.is_power_of_two() { together / 2 } else { together.next_power_of_two() / 2 };
        }
        together
    }

    /// A call ran out of memory. It is not made again before more is free.
    pub(super) fn refuse(&mut self, used_bytes: u64, model: &str, call: Call) {
        let free = self.free(used_bytes);
        if let (Some(free), Some(known)) = (free, self.get_mut(model)) {
            call.kind.peaks_mut(&mut known.costs).refuse(call.size, call.rows, free);
        }
    }
}
