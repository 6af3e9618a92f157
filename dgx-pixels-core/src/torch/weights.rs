//! Weights by name: one tensor at a time from the mapped files onto the device.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Div;
use std::sync::Arc;

use memmap2::UncheckedAdvice;
use safetensors::Dtype as StoredDtype;
use tch::{Kind, Tensor};

use super::cuda::Kernels;
use super::device::channels_last;
use super::failed;
use crate::device::{Device, Dtype};
use crate::error::Error;
use crate::model::files::{Shard, WeightFiles, dtype_word};

/// One component's weights, and which of them nobody has asked for yet.
pub(super) struct Weights<'a> {
    source: Source,
    device: Device,
    dtype: Dtype,
    on_bytes: &'a dyn Fn(u64),
    kernels: Option<Arc<Kernels>>,
}

enum Source {
    Files {
        files: WeightFiles,
        shard_of: BTreeMap<String, usize>,
        unread: RefCell<BTreeSet<String>>,
    },
    /// Drawn by libtorch's own generator, whatever is asked for.
    Random,
}

/// A place in the tree of names: `weights.root() / "down_blocks" / 0`.
pub(super) struct Node<'a> {
    weights: &'a Weights<'a>,
    path: String,
}

impl<'a> Weights<'a> {
    /// Tensors come out on `device` in `dtype`, whatever their precision in the files. `on_bytes` is told of the bytes of
    /// each.
    pub(super) fn new(files: WeightFiles, device: Device, dtype: Dtype, on_bytes: &'a dyn Fn(u64)) -> Self {
        let mut shard_of = BTreeMap::new();
        for (i, shard) in files.shards.iter().enumerate() {
            shard_of.extend(shard.metadata.tensors().into_keys().map(|name| (name, i)));
        }
        let unread = RefCell::new(shard_of.keys().cloned().collect());
        let source = Source::Files { files, shard_of, unread };
        Weights { source, device, dtype, on_bytes, kernels: None }
    }

    /// Of a size that keeps what passes through as large as it was, to measure with.
    pub(super) fn random(device: Device, dtype: Dtype, on_bytes: &'a dyn Fn(u64)) -> Self {
        Weights { source: Source::Random, device, dtype, on_bytes, kernels: None }
    }

    /// Layers that are made from these weights compute with `kernels`, which are for their device and precision.
    pub(super) fn with_kernels(self, kernels: Option<Arc<Kernels>>) -> Self {
        Weights { kernels, ..self }
    }

    pub(super) fn root(&self) -> Node<'_> {
        Node { weights: self, path: String::new() }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        match &self.source {
            Source::Files { shard_of, .. } => shard_of.contains_key(name),
            Source::Random => false,
        }
    }

    /// Passes over a tensor that holds nothing learned.
    pub(super) fn ignore(&self, name: &str) {
        if let Source::Files { unread, .. } = &self.source {
            unread.borrow_mut().remove(name);
        }
    }

    /// Ends the loading: an error names the tensors that nobody asked for, as the model then is not what its config
    /// says.
    pub(super) fn finish(self) -> Result<(), Error> {
        const NAMED: usize = 8;
        let Source::Files { files, unread, .. } = self.source else { return Ok(()) };
        let unread = unread.take();
        if unread.is_empty() {
            return Ok(());
        }
        let names = unread.iter().take(NAMED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let more =
            if unread.len() > NAMED { format!(" and {} more", unread.len() - NAMED) } else { String::new() };
        let reason = format!("its config has no place for {names}{more}");
        Err(Error::model(files.dir, reason))
    }

    fn read(&self, name: &str, shape: &[i64]) -> Result<Tensor, Error> {
        let placed = match &self.source {
            Source::Random => self.drawn(name, shape),
            Source::Files { files, shard_of, unread } => {
                let Some(shard) = shard_of.get(name).map(|i| &files.shards[*i]) else {
                    let reason = format!("`{name}` is missing; its config asks for it, as {shape:?}");
                    return Err(Error::model(&files.dir, reason));
                };
                let fault = |reason: String| Error::model(&shard.path, reason);
                let info =
                    shard.metadata.info(name).expect("the shard's header lists the names it was found by");
                let found: Vec<i64> = info.shape.iter().map(|side| *side as i64).collect();
                if found != shape {
                    return Err(fault(format!("`{name}` is {found:?}; expected {shape:?}")));
                }
                let kind = stored_kind(info.dtype).ok_or_else(|| {
                    fault(format!("`{name}` is in {}; expected a float", dtype_word(info.dtype)))
                })?;
                unread.borrow_mut().remove(name);
                self.place(shard, info.data_offsets, kind, &found)
            }
        };
        let placed = placed.map_err(|error| failed(error, self.device, "loading weights"))?;
        (self.on_bytes)(placed.numel() as u64 * self.dtype.bytes());
        Ok(placed)
    }

    fn drawn(&self, name: &str, shape: &[i64]) -> Result<Tensor, tch::TchError> {
        let options = (self.dtype.kind(), self.device.tch());
        let drawn = match shape {
            // Norms and biases.
            [_] if name.ends_with("weight") => Tensor::f_ones(shape, options)?,
            [_] => Tensor::f_zeros(shape, options)?,
            [_, fan @ ..] => {
                let deviation = 1.0 / (fan.iter().product::<i64>() as f64).sqrt();
                Tensor::f_randn(shape, options)?.f_mul_scalar_(deviation)?
            }
            [] => Tensor::f_zeros(shape, options)?,
        };
        self.laid_out(drawn)
    }

    fn place(
        &self,
        shard: &Shard,
        (start, end): (usize, usize),
        kind: Kind,
        shape: &[i64],
    ) -> Result<Tensor, tch::TchError> {
        let (start, len) = (shard.data_start + start, end - start);
        let copied = Tensor::f_from_data_size(&shard.bytes[start..start + len], shape, kind)?;
        // SAFETY: the mapping is read-only and backed by the file: pages given back are read again if touched.
        // Advice only: where it fails, memory is given back later.
        let _ = unsafe { shard.bytes.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len) };
        let placed = copied.f_to_device(self.device.tch())?.f_to_kind(self.dtype.kind())?;
        self.laid_out(placed)
    }

    /// Convolutions on GPUs are faster with channels last.
    fn laid_out(&self, placed: Tensor) -> Result<Tensor, tch::TchError> {
        match (placed.dim(), self.device) {
            (4, Device::Cuda(_)) => channels_last(&placed),
            _ => Ok(placed),
        }
    }
}

impl<'a> Node<'a> {
    /// The tensor called `name` here.
    ///
    /// # Errors
    /// [`Error::Model`] if it is missing or has another shape.
    pub(super) fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, Error> {
        self.weights.read(&(self / name).path, shape)
    }

    /// What layers here compute with beside libtorch.
    pub(super) fn kernels(&self) -> Option<Arc<Kernels>> {
        self.weights.kernels.clone()
    }
}

impl<'a, T: Display> Div<T> for &Node<'a> {
    type Output = Node<'a>;

    fn div(self, name: T) -> Node<'a> {
        let path = if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) };
        Node { weights: self.weights, path }
    }
}

impl<'a, T: Display> Div<T> for Node<'a> {
    type Output = Node<'a>;

    fn div(self, name: T) -> Node<'a> {
        &self / name
    }
}

fn stored_kind(dtype: StoredDtype) -> Option<Kind> {
    match dtype {
        StoredDtype::F64 => Some(Kind::Double),
        StoredDtype::F32 => Some(Kind::Float),
        StoredDtype::F16 => Some(Kind::Half),
        StoredDtype::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}
