//! Weights by name: one tensor at a time from the mapped files onto the device.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::Div;
use std::sync::Arc;

use memmap2::UncheckedAdvice;
use tch::{Kind, Tensor};

use super::cuda::Kernels;
use super::device::{channels_last, stored_kind};
use super::{failed, lora};
use crate::device::{Device, Dtype};
use crate::error::Error;
use crate::model::Component;
use crate::model::files::{Shard, Weight, WeightFiles, dtype_word};
use crate::model::lora::LoraSet;
use crate::model::scales::is_fp8;

/// One component's weights, and which of them nobody has asked for yet.
pub(super) struct Weights<'a> {
    source: Source,
    device: Device,
    dtype: Dtype,
    on_bytes: &'a dyn Fn(u64),
    kernels: Option<Arc<Kernels>>,
    /// What changes the weights before anything is made of them.
    loras: Option<(&'a LoraSet, Component)>,
}

enum Source {
    Files {
        files: WeightFiles,
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
    /// Tensors come out on `device` in `dtype`, whatever their precision in the files. `on_bytes`
    /// is told of the bytes of each.
    pub(super) fn new(files: WeightFiles, device: Device, dtype: Dtype, on_bytes: &'a dyn Fn(u64)) -> Self {
        let unread = RefCell::new(files.tensors().map(|(name, _)| name.to_owned()).collect());
        let source = Source::Files { files, unread };
        Weights { source, device, dtype, on_bytes, kernels: None, loras: None }
    }

    /// Of a size that keeps what passes through as large as it was, to measure with.
    pub(super) fn random(device: Device, dtype: Dtype, on_bytes: &'a dyn Fn(u64)) -> Self {
        Weights { source: Source::Random, device, dtype, on_bytes, kernels: None, loras: None }
    }

    /// Layers that are made from these weights compute with `kernels`, which are for their device
    /// and precision.
    pub(super) fn with_kernels(self, kernels: Option<Arc<Kernels>>) -> Self {
        Weights { kernels, ..self }
    }

    /// The weights of `component` come out as `loras` change them.
    pub(super) fn with_loras(self, loras: &'a LoraSet, component: Component) -> Self {
        Weights { loras: Some((loras, component)), ..self }
    }

    pub(super) fn root(&self) -> Node<'_> {
        Node { weights: self, path: String::new() }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        match &self.source {
            Source::Files { files, .. } => files.get(name).is_some(),
            Source::Random => false,
        }
    }

    /// Passes over a tensor that holds nothing learned.
    pub(super) fn ignore(&self, name: &str) {
        if let Source::Files { unread, .. } = &self.source {
            unread.borrow_mut().remove(name);
        }
    }

    /// Ends the loading: an error names the tensors that nobody asked for, as the model then is not
    /// what its config says.
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
            Source::Files { files, unread } => {
                let Some((weight, shard)) = files.get(name) else {
                    let reason = format!("`{name}` is missing; its config asks for it, as {shape:?}");
                    return Err(Error::model(&files.dir, reason));
                };
                let fault = |reason: String| Error::model(&shard.path, reason);
                let mut found: Vec<i64> = weight.shape.iter().map(|side| *side as i64).collect();
                if weight.is_transposed {
                    found.reverse();
                }
                if found != shape {
                    return Err(fault(format!("`{name}` is {found:?}; expected {shape:?}")));
                }
                let kind = stored_kind(weight.dtype).ok_or_else(|| {
                    fault(format!("`{name}` is in {}; expected a float", dtype_word(weight.dtype)))
                })?;
                unread.borrow_mut().remove(name);
                let refused = |error| failed(error, self.device, "loading weights");
                let stored = self.stored(shard, weight, kind).map_err(refused)?;
                let merged = match self.loras {
                    None => None,
                    Some((set, component)) => {
                        lora::merged(set, component, name, self.device, || stored.f_to_kind(Kind::Float))?
                    }
                };
                let whole = merged.unwrap_or(stored);
                let placed = whole.f_to_kind(self.dtype.kind()).and_then(|placed| self.laid_out(placed));
                if let Ok(placed) = &placed
                    && !is_finite(placed).map_err(refused)?
                {
                    let reason =
                        "has numbers that are not finite (NaN or infinity), and would spoil every image";
                    return Err(fault(format!(
                        "`{name}` {reason}; expected another copy or version of the model"
                    )));
                }
                placed
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

    /// A tensor on the device, in the precision of its file.
    fn stored(&self, shard: &Shard, weight: &Weight, kind: Kind) -> Result<Tensor, tch::TchError> {
        let shape: Vec<i64> = weight.shape.iter().map(|side| *side as i64).collect();
        let copied = Tensor::f_from_data_size(&shard.bytes[weight.bytes.clone()], &shape, kind)?;
        // SAFETY: the mapping is read-only and backed by the file: pages given back are read again
        // if touched. Advice only: where it fails, memory is given back later.
        let _ = unsafe {
            let (start, len) = (weight.bytes.start, weight.bytes.len());
            shard.bytes.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len)
        };
        let mut stored = copied.f_to_device(self.device.tch())?;
        // 8 bits are for storage: libtorch computes with wider numbers.
        if is_fp8(weight.dtype) {
            stored = stored.f_to_kind(Kind::Float)?;
        }
        if let Some(scale) = &weight.scale {
            let sides: Vec<i64> = match scale.count {
                1 => vec![],
                count => std::iter::once(count as i64).chain(shape[1..].iter().map(|_| 1)).collect(),
            };
            let kind = stored_kind(scale.dtype).unwrap_or(Kind::Float);
            let factors = Tensor::f_from_data_size(&shard.bytes[scale.bytes.clone()], &sides, kind)?;
            stored = stored.f_mul_(&factors.f_to_kind(Kind::Float)?.f_to_device(self.device.tch())?)?;
        }
        if weight.is_transposed { stored.f_transpose(0, 1)?.f_contiguous() } else { Ok(stored) }
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

/// `true` if no number is NaN or infinite. A sum finds it in one pass; only one that is not finite,
/// as large numbers may add up to infinity, is looked at number by number.
fn is_finite(tensor: &Tensor) -> Result<bool, tch::TchError> {
    let sum = tensor.f_sum(Kind::Float)?.f_double_value(&[])?;
    Ok(sum.is_finite() || tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use super::*;
    use crate::model::Model;

    /// `tests/fixtures/make_fp8.py` computes the numbers that are expected.
    #[test]
    fn weights_in_8_bits_are_those_of_the_formula_to_the_bit() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
        let base = Model::open(fixtures.join("tiny_sdxl_a")).unwrap();
        let expected = Tensor::read_safetensors(fixtures.join("fp8/expected.safetensors")).unwrap();
        let expected: HashMap<String, Tensor> = expected.into_iter().collect();
        for file in ["plain", "scaled"] {
            let path = fixtures.join(format!("fp8/{file}.safetensors"));
            let model = Model::open_on(path, Some(&base)).unwrap();
            assert_eq!(model.single_file().unwrap().unknown, [] as [&str; 0], "{file}");
            let of_file = expected.iter().filter_map(|(name, tensor)| {
                name.strip_prefix(file)?.strip_prefix('.').map(|name| (name, tensor))
            });
            let mut compared = 0;
            for (name, tensor) in of_file {
                let component = Component::ALL
                    .into_iter()
                    .find(|one| name.strip_prefix(one.name()).is_some_and(|rest| rest.starts_with('.')));
                let component = component.unwrap();
                let name = &name[component.name().len() + 1..];
                let files = model.weights(component, false).unwrap();
                let weights = Weights::new(files, Device::Cpu, Dtype::F32, &|_| ());
                let ours = weights.root().tensor(name, &tensor.size()).unwrap();
                assert!(ours.equal(tensor), "{file}: {name}");
                compared += 1;
            }
            assert!(compared >= 4, "{file}");
        }
    }
}
