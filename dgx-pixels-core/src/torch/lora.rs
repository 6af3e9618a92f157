//! Changes to weights by LoRAs and their kin, computed in `f32` from pristine weights.
//!
//! Each change is worked out against the weight as the model's file has it, and their sum is added
//! once. So the order of LoRAs does not matter, and nothing is ever subtracted.
//!
//! Sources of the formulas: Hu et al. 2021 (LoRA), Yeh et al. 2023 (LoCon, LoHa, LoKr, (IA)³ in
//! LyCORIS), Liu et al. 2024 (DoRA), Qiu et al. 2023 (OFT).

use tch::{Kind as Precision, Tensor};

use super::Result;
use super::device::stored_kind;
use crate::device::Device;
use crate::error::Error;
use crate::model::Component;
use crate::model::header::{StoredTensor, shown};
use crate::model::lora::{Kind, LoraFile, LoraSet, Module, Part};

/// The weight or bias called `name`, changed; `None` if nothing changes it. `pristine` is the
/// tensor in `f32` on `device`.
///
/// # Errors
/// [`Error::Model`] naming the module: a number that is not finite, or one that is no float.
pub(super) fn merged(
    set: &LoraSet,
    component: Component,
    name: &str,
    device: Device,
    pristine: impl FnOnce() -> Result<Tensor>,
) -> std::result::Result<Option<Tensor>, Error> {
    let Some((module, is_bias)) = name
        .strip_suffix(".weight")
        .map(|module| (module, false))
        .or(name.strip_suffix(".bias").map(|module| (module, true)))
    else {
        return Ok(None);
    };
    let failed = |error| super::failed(error, device, "merging LoRAs");
    let mut changes = set
        .changes(component, module)
        .filter(
            |(_, change, _)| {
                if is_bias { change.part(Part::Bias).is_some() } else { change.kind != Kind::Bias }
            },
        )
        .filter(|(_, _, strength)| *strength != 0.0)
        .peekable();
    if changes.peek().is_none() {
        return Ok(None);
    }
    let weight = pristine().map_err(failed)?;
    let mut sum = weight.copy();
    for (file, change, strength) in changes {
        let of_file = Changed { file, module: change, device };
        for tensor in change.parts.values().filter(|tensor| stored_kind(tensor.dtype).is_none()) {
            // Whether factors are of columns may be a truth value; it was read before.
            if change.part(Part::OnInput) != Some(tensor) && change.part(Part::Alpha) != Some(tensor) {
                let reason = format!("`{}` is in {:?}; expected a float", shown(&tensor.name), tensor.dtype);
                return Err(Error::model(&file.file.path, reason));
            }
        }
        let delta = if is_bias { of_file.bias(strength) } else { of_file.delta(&weight, strength) };
        let delta = delta.map_err(failed)?;
        let is_finite =
            delta.f_isfinite().and_then(|finite| finite.f_all()?.f_int64_value(&[])).map_err(failed)?;
        if is_finite == 0 {
            let reason =
                format!("`{}` has numbers that are not finite (NaN or infinity)", shown(&change.name));
            return Err(Error::model(&file.file.path, reason));
        }
        sum = sum.f_add_(&delta).map_err(failed)?;
    }
    Ok(Some(sum))
}

/// A change to one module.
struct Changed<'a> {
    file: &'a LoraFile,
    module: &'a Module,
    device: Device,
}

impl Changed<'_> {
    /// A part in `f32`.
    fn read(&self, tensor: &StoredTensor) -> Result<Tensor> {
        let shape: Vec<i64> = tensor.shape.iter().map(|side| *side as i64).collect();
        let kind = stored_kind(tensor.dtype).unwrap_or(Precision::Float);
        let bytes = &self.file.file.bytes[tensor.bytes.clone()];
        Tensor::f_from_data_size(bytes, &shape, kind)?
            .f_to_device(self.device.tch())?
            .f_to_kind(Precision::Float)
    }

    fn part(&self, part: Part) -> Result<Option<Tensor>> {
        self.module.part(part).map(|tensor| self.read(tensor)).transpose()
    }

    /// A part that the kind of the change cannot be without, which was checked when the file was
    /// opened.
    fn needed(&self, part: Part) -> Result<Tensor> {
        self.read(self.module.part(part).expect("the parts of a kind are checked; this is a bug"))
    }

    fn bias(&self, strength: f64) -> Result<Tensor> {
        self.needed(Part::Bias)?.f_flatten(0, -1)?.f_mul_scalar(strength)
    }

    /// The change of the weight, of its shape, for a strength `m`; `s` is alpha over rank, and `W`
    /// the pristine weight:
    ///
    /// - LoRA and LoCon: `m s U D`, with [`tucker`] if the file has a core
    /// - LoHa: `m s (A1 B1) * (A2 B2)`, element by element
    /// - LoKr: `m s (W1 kron W2)`, where `s` is 1 if both factors are whole
    /// - (IA)³: `m W * w`, by rows or by columns
    /// - OFT: `m (rescale R W - W)`, block by block
    /// - DoRA: `m (V d / |V| - W)` of `V = W + s U D`, with the lengths `d` of the file
    fn delta(&self, weight: &Tensor, strength: f64) -> Result<Tensor> {
        let shape = weight.size();
        let as_weight = |delta: Tensor| delta.f_reshape(&shape);
        let delta = match self.module.kind {
            Kind::LowRank => as_weight(self.low_rank()?)?,
            Kind::Hada => as_weight(self.hada()?)?,
            Kind::Kron => as_weight(self.kron()?)?,
            Kind::Diff => as_weight(self.needed(Part::Diff)?)?,
            Kind::Set => as_weight(self.needed(Part::Set)?)?.f_sub(weight)?,
            Kind::Factors => {
                let factors = self.needed(Part::Factor)?;
                let mut sides = vec![1; shape.len()];
                sides[usize::from(self.module.on_input())] = -1;
                weight.f_mul(&factors.f_view(sides.as_slice())?)?
            }
            Kind::Orthogonal => self.rotated(weight)?.f_sub(weight)?,
            Kind::Bias => unreachable!("a change of the bias alone changes no weight"),
        };
        let delta = delta.f_mul_scalar(self.module.scale)?;
        match self
            .part(Part::Magnitude)?
            .map(|lengths| (lengths, true))
            .or(self.part(Part::DoraScale)?.map(|lengths| (lengths, false)))
        {
            None => delta.f_mul_scalar(strength),
            Some((lengths, is_of_rows)) => {
                let scaled = with_lengths(&weight.f_add(&delta)?, &lengths, is_of_rows)?;
                scaled.f_sub(weight)?.f_mul_scalar(strength)
            }
        }
    }

    /// `up · down`, with a core between them where there is one.
    fn low_rank(&self) -> Result<Tensor> {
        let up = self.needed(Part::Up)?.f_flatten(1, -1)?;
        let down = self.needed(Part::Down)?.f_flatten(1, -1)?;
        match self.part(Part::Mid)? {
            None => up.f_matmul(&down),
            Some(mid) => tucker(&mid, &up.f_transpose(0, 1)?, &down),
        }
    }

    /// The product of two products, number by number.
    fn hada(&self) -> Result<Tensor> {
        let factor = |a, b, t| -> Result<Tensor> {
            let (a, b) = (self.needed(a)?, self.needed(b)?);
            match self.part(t)? {
                None => a.f_matmul(&b),
                Some(core) => tucker(&core, &a, &b),
            }
        };
        let one = factor(Part::HadaW1A, Part::HadaW1B, Part::HadaT1)?;
        one.f_mul(&factor(Part::HadaW2A, Part::HadaW2B, Part::HadaT2)?)
    }

    /// The Kronecker product of two factors, each whole or itself a product.
    fn kron(&self) -> Result<Tensor> {
        let first = match self.part(Part::KronW1)? {
            Some(whole) => whole,
            None => self.needed(Part::KronW1A)?.f_matmul(&self.needed(Part::KronW1B)?)?,
        };
        let second = match (self.part(Part::KronW2)?, self.part(Part::KronT2)?) {
            (Some(whole), _) => whole,
            (None, Some(core)) => tucker(&core, &self.needed(Part::KronW2A)?, &self.needed(Part::KronW2B)?)?,
            (None, None) => self.needed(Part::KronW2A)?.f_matmul(&self.needed(Part::KronW2B)?)?,
        };
        let mut sides = first.size();
        sides.resize(second.dim(), 1);
        first.f_reshape(sides.as_slice())?.f_kron(&second.f_contiguous()?)
    }

    /// `weight` with its rows turned, block by block.
    fn rotated(&self, weight: &Tensor) -> Result<Tensor> {
        let blocks = self.needed(Part::OftBlocks)?;
        let (count, side, _) = blocks.size3()?;
        // A skew matrix, whose length may be limited, makes a rotation (Cayley).
        let mut skew = blocks.f_sub(&blocks.f_transpose(1, 2)?)?;
        let limit = self.module.alpha.unwrap_or(0.0) * (count * side) as f64;
        let length = skew.f_norm()?.f_double_value(&[])?;
        if limit > 0.0 && length > limit {
            skew = skew.f_mul_scalar(limit / length)?;
        }
        let one = Tensor::f_eye(side, (Precision::Float, weight.device()))?;
        let rotation = one.f_add(&skew)?.f_matmul(&one.f_sub(&skew)?.f_inverse()?)?;
        let rows = weight.f_reshape([count, side, -1])?;
        let turned = rotation.f_transpose(1, 2)?.f_matmul(&rows)?.f_reshape(weight.size())?;
        match self.part(Part::Rescale)? {
            None => Ok(turned),
            Some(rescale) => {
                let mut sides = vec![1; weight.dim()];
                sides[0] = -1;
                turned.f_mul(&rescale.f_view(sides.as_slice())?)
            }
        }
    }
}

/// `core [m, n, h, w]`, `a [m, out]` and `b [n, in]` → `[out, in, h, w]`.
fn tucker(core: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (m, _, h, w) = core.size4()?;
    // Over n, then over m.
    let inner = core.f_permute([0, 2, 3, 1])?.f_matmul(b)?;
    let outer = a.f_transpose(0, 1)?.f_matmul(&inner.f_reshape([m, -1])?)?;
    outer.f_view([a.size()[1], h, w, b.size()[1]])?.f_permute([0, 3, 1, 2])
}

/// `weight` with rows, or columns, of these lengths.
fn with_lengths(weight: &Tensor, lengths: &Tensor, is_of_rows: bool) -> Result<Tensor> {
    let shape = weight.size();
    let is_of_rows = is_of_rows || (lengths.size()[0] == shape[0] && lengths.numel() as i64 == shape[0]);
    let axis = usize::from(!is_of_rows);
    let rows = weight.f_transpose(0, axis as i64)?.f_flatten(1, -1)?;
    let found = rows.f_square()?.f_sum_dim_intlist(&[1_i64][..], false, Precision::Float)?.f_sqrt()?;
    let factors = lengths.f_flatten(0, -1)?.f_div(&found.f_add_scalar(f64::from(f32::EPSILON))?)?;
    let mut sides = vec![1; shape.len()];
    sides[axis] = -1;
    weight.f_mul(&factors.f_view(sides.as_slice())?)
}

#[cfg(test)]
mod tests;
