//! Forward passes of the UNet: computed, or on a GPU recorded once for each shape and then
//! replayed, which takes the CPU no time.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::Result;
use super::blocks::Conditioning;
use super::cuda::{Graph, Kernels, Pool};
use super::device::channels_last;
use super::edges;
use super::flops;
use super::is_out_of_memory;
use super::memory::{MemoryStats, hold, memory_stats};
use super::recent::Recent;
use super::unet::UNet;
use crate::device::Device;
use crate::pixel::Wrap;

/// Recorded shapes; the one that was not used for longest goes.
const MOST_RECORDED: usize = 12;

/// One row of a forward pass.
pub(super) struct PassRow<'a> {
    /// `[1, in_channels, h, w]`, scaled for its timestep.
    pub(super) sample: &'a Tensor,
    /// `[1, time_width]`.
    pub(super) time: Tensor,
    /// Its text `[1, width]` by a number of its own; `None` is a text of zeros. Rows without come
    /// first.
    pub(super) text: Option<(u64, &'a Tensor)>,
    /// `[1, c, h, w]`, what the inner levels made of another step's sample: they are left out then.
    /// All rows have it, or none.
    pub(super) deep: Option<&'a Tensor>,
}

/// What a pass makes; it holds until the next.
pub(super) struct Passed {
    /// `[rows, out_channels, h, w]`.
    pub(super) output: Tensor,
    /// What the inner levels made, if they were computed: `[rows, c, h, w]`.
    pub(super) deep: Option<Tensor>,
}

impl Passed {
    fn shallow_clone(&self) -> Passed {
        Passed { output: self.output.shallow_clone(), deep: self.deep.as_ref().map(Tensor::shallow_clone) }
    }
}

/// The UNet's forward passes on one device.
pub(super) struct Passes {
    device: Device,
    kernels: Option<Arc<Kernels>>,
    /// Texts under each other, of the rows that go on together.
    joined: Vec<Joined>,
    /// Whether passes are recorded: on a GPU, until that fails.
    records: bool,
    pool: Option<Pool>,
    /// Shapes that were computed once, and so are warm, with their operations.
    seen: Vec<(Shape, u64)>,
    flops: u64,
    recorded: Recent<Recorded>,
}

struct Joined {
    ids: Vec<u64>,
    texts: Tensor,
    used: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    sample: Vec<i64>,
    texts: i64,
    /// The tokens of each text.
    tokens: i64,
    /// Whether the inner levels are left out.
    shallow: bool,
    /// `true` if control nets add to it. Such a pass is never recorded.
    controlled: bool,
    /// The edges that meet.
    wrap: Wrap,
}

struct Recorded {
    shape: Shape,
    /// Before the tensors that it reads and writes.
    graph: Graph,
    sample: Tensor,
    time: Tensor,
    texts: Tensor,
    /// Where the inner levels are left out.
    deep: Option<Tensor>,
    ids: Vec<u64>,
    passed: Passed,
    _held: Held,
}

/// Memory that a recorded pass keeps, which the allocator counts as free.
struct Held(Device, u64);

impl Held {
    fn new(device: Device, bytes: u64) -> Held {
        hold(device, bytes as i64);
        Held(device, bytes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        hold(self.0, -(self.1 as i64));
    }
}

impl Passes {
    pub(super) fn new(device: Device, kernels: Option<Arc<Kernels>>) -> Passes {
        Passes {
            device,
            kernels,
            joined: vec![],
            records: matches!(device, Device::Cuda(_)),
            pool: None,
            seen: vec![],
            flops: 0,
            recorded: Recent::new(MOST_RECORDED),
        }
    }

    /// The UNet's answer for `rows`, which have samples of one size, texts of this many tokens, and
    /// the same edges that meet. `control`: what control nets add to all rows, if to any.
    pub(super) fn forward(
        &mut self,
        unet: &UNet,
        rows: &[PassRow],
        tokens: i64,
        wrap: Wrap,
        control: Option<&[Tensor]>,
    ) -> Result<Passed> {
        let texts: Vec<_> = rows.iter().filter_map(|row| row.text).collect();
        let mut sample = rows[0].sample.size();
        sample[0] = rows.len() as i64;
        let shallow = rows[0].deep.is_some();
        let (texts_len, controlled) = (texts.len() as i64, control.is_some());
        let shape = Shape { sample, texts: texts_len, tokens, shallow, controlled, wrap };
        let known = self.seen.iter().find(|(seen, _)| *seen == shape).map(|(_, flops)| *flops);
        self.flops = known.unwrap_or_default();
        let answer = match self.recorded.take(|one| one.shape == shape) {
            Some(one) => {
                let answer = one.replayed(rows, &texts);
                answer.map(|(one, passed)| {
                    self.recorded.put(one);
                    passed
                })
            }
            None if self.records && !controlled && self.seen.iter().any(|(seen, _)| *seen == shape) => {
                self.record(unet, &shape, rows, &texts)
            }
            None => self.compute(unet, shape, rows, &texts, control),
        };
        if let Err(error) = &answer
            && is_out_of_memory(error)
        {
            // What they keep may be what is missing.
            self.drop_recorded();
        }
        answer
    }

    /// Gives back what recorded passes keep.
    pub(super) fn drop_recorded(&mut self) {
        self.recorded.clear();
    }

    /// Whether layers are of 8-bit floats.
    pub(super) fn are_fp8(&self) -> bool {
        self.kernels.as_ref().is_some_and(|kernels| kernels.is_fp8())
    }

    /// Multiplications and additions of the last pass.
    pub(super) fn flops(&self) -> u64 {
        self.flops
    }

    /// Between two steps: texts of rows that did not go on are forgotten.
    pub(super) fn forget(&mut self) {
        self.joined.retain(|joined| joined.used);
        self.joined.iter_mut().for_each(|joined| joined.used = false);
    }

    fn compute(
        &mut self,
        unet: &UNet,
        shape: Shape,
        rows: &[PassRow],
        texts: &[(u64, &Tensor)],
        control: Option<&[Tensor]>,
    ) -> Result<Passed> {
        let ids: Vec<u64> = texts.iter().map(|(id, _)| *id).collect();
        let place = match self.joined.iter().position(|joined| joined.ids == ids) {
            Some(place) => place,
            None => {
                let texts = Tensor::f_cat(&texts.iter().map(|(_, text)| *text).collect::<Vec<_>>(), 0)?;
                self.joined.push(Joined { ids, texts, used: true });
                self.joined.len() - 1
            }
        };
        self.joined[place].used = true;
        let sample = Tensor::f_cat(&rows.iter().map(|row| row.sample).collect::<Vec<_>>(), 0)?;
        let time = Tensor::f_cat(&rows.iter().map(|row| &row.time).collect::<Vec<_>>(), 0)?;
        let texts = &self.joined[place].texts;
        let conditioning = Conditioning { time: &time, texts, tokens: shape.tokens };
        let deep = joined_deep(rows)?;
        let pass = || pass(unet, &sample, &conditioning, control, deep.as_ref());
        let (passed, flops) = flops::count(|| edges::within(shape.wrap, pass));
        if self.seen.iter().all(|(seen, _)| *seen != shape) {
            self.seen.push((shape, flops));
            self.flops = flops;
        }
        passed
    }

    fn record(
        &mut self,
        unet: &UNet,
        shape: &Shape,
        rows: &[PassRow],
        texts: &[(u64, &Tensor)],
    ) -> Result<Passed> {
        // What it keeps is given back before another is recorded.
        self.recorded.make_room();
        match self.try_record(unet, shape, rows, texts) {
            Ok(one) => {
                let (one, passed) = one.replayed(rows, texts)?;
                self.recorded.put(one);
                Ok(passed)
            }
            Err(error) if is_out_of_memory(&error) => Err(error),
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().next().unwrap_or_default();
                tracing::warn!(
                    "steps are computed one kernel at a time, as they cannot be recorded: {reason}"
                );
                self.records = false;
                self.recorded.clear();
                self.compute(unet, shape.clone(), rows, texts, None)
            }
        }
    }

    fn try_record(
        &mut self,
        unet: &UNet,
        shape: &Shape,
        rows: &[PassRow],
        texts: &[(u64, &Tensor)],
    ) -> Result<Recorded> {
        let pool = match self.pool {
            Some(pool) => pool,
            None => *self.pool.insert(Pool::new()?),
        };
        let like = |rows: i64, one: &Tensor| {
            let mut size = one.size();
            size[0] = rows;
            Tensor::f_zeros(&size, (one.kind(), one.device()))
        };
        let sample = like(shape.sample[0], rows[0].sample)?;
        let time = like(shape.sample[0], &rows[0].time)?;
        let texts = match texts.first() {
            Some((_, text)) => like(shape.texts, text)?,
            None => Tensor::f_zeros([0, 0], (Kind::Float, sample.device()))?,
        };
        let deep = rows[0].deep.map(|deep| like(shape.sample[0], deep)).transpose()?;
        let deep = deep.map(|deep| channels_last(&deep)).transpose()?;
        let reserved = |stats: MemoryStats| stats.reserved_bytes;
        let before = memory_stats(self.device).map_or(0, reserved);
        let conditioning = Conditioning { time: &time, texts: &texts, tokens: shape.tokens };
        let set = |records| self.kernels.iter().for_each(|kernels| kernels.set_records(records));
        set(true);
        let pass = || pass(unet, &sample, &conditioning, None, deep.as_ref());
        let recorded = Graph::record(pool, || edges::within(shape.wrap, pass));
        set(false);
        let (graph, passed) = recorded?;
        let bytes = memory_stats(self.device).map_or(0, reserved).saturating_sub(before);
        let held = Held::new(self.device, bytes);
        Ok(Recorded {
            shape: shape.clone(),
            graph,
            sample,
            time,
            texts,
            deep,
            ids: vec![],
            passed,
            _held: held,
        })
    }
}

impl Recorded {
    /// With these rows in place of those before. After an error nothing of it can be trusted, and
    /// it is gone.
    fn replayed(mut self, rows: &[PassRow], texts: &[(u64, &Tensor)]) -> Result<(Recorded, Passed)> {
        let samples: Vec<_> = rows.iter().map(|row| row.sample).collect();
        let times: Vec<_> = rows.iter().map(|row| &row.time).collect();
        let _ = Tensor::f_cat_out(&self.sample, &samples, 0)?;
        let _ = Tensor::f_cat_out(&self.time, &times, 0)?;
        if let Some(deep) = &self.deep {
            let kept: Vec<_> = rows.iter().filter_map(|row| row.deep).collect();
            let _ = Tensor::f_cat_out(deep, &kept, 0)?;
        }
        for (row, (id, text)) in texts.iter().enumerate() {
            if self.ids.get(row) != Some(id) {
                self.texts.f_narrow(0, row as i64, 1)?.f_copy_(text)?;
            }
        }
        self.ids = texts.iter().map(|(id, _)| *id).collect();
        self.graph.replay()?;
        let passed = self.passed.shallow_clone();
        Ok((self, passed))
    }
}

fn joined_deep(rows: &[PassRow]) -> Result<Option<Tensor>> {
    let deep: Vec<_> = rows.iter().filter_map(|row| row.deep).collect();
    if deep.is_empty() { Ok(None) } else { Tensor::f_cat(&deep, 0).map(Some) }
}

fn pass(
    unet: &UNet,
    sample: &Tensor,
    conditioning: &Conditioning,
    control: Option<&[Tensor]>,
    deep: Option<&Tensor>,
) -> Result<Passed> {
    match deep {
        Some(deep) => {
            let output = unet.forward_shallow(sample, conditioning, control, deep)?;
            Ok(Passed { output, deep: None })
        }
        None => {
            let (output, deep) = unet.forward(sample, conditioning, control)?;
            Ok(Passed { output, deep: Some(deep) })
        }
    }
}
