//! Rows of pixels on their way through a transformer block.

use tch::{TchError, Tensor};

use super::Result;
use super::cuda::{Fp8, Gated};

/// The input of linear layers of a transformer, `[.., c_in]`.
pub(super) enum Rows {
    /// Numbers in the model's precision.
    Whole(Tensor),
    /// Floats of 8 bits, for layers that are [`rounded`](Linear::rounded).
    Fp8(Fp8),
    /// The same, for layers that are [`rounded_gated`](Linear::rounded_gated).
    Gated(Gated),
}

impl Rows {
    pub(super) fn size(&self) -> Vec<i64> {
        match self {
            Rows::Whole(tensor) => tensor.size(),
            Rows::Fp8(rounded) => rounded.size(),
            Rows::Gated(gated) => gated.size(),
        }
    }

    /// The last of the first dimension.
    pub(super) fn last(&self, count: i64) -> Result<Rows> {
        Ok(match self {
            Rows::Whole(tensor) => Rows::Whole(tensor.f_narrow(0, tensor.size()[0] - count, count)?),
            Rows::Fp8(rounded) => Rows::Fp8(rounded.last(count)?),
            Rows::Gated(_) => return Err(mixed()),
        })
    }
}

/// The part that is still to be added to rows of pixels.
#[derive(Default)]
pub(super) struct Lack {
    /// To so many of the first, a vector.
    pub(super) early: Option<(i64, Tensor)>,
    /// To the others.
    pub(super) late: Option<Tensor>,
}

impl Lack {
    /// Adds it, in the place of `sum`.
    pub(super) fn settle(&self, sum: &Tensor) -> Result<()> {
        let early_rows = self.early.as_ref().map_or(0, |(rows, _)| *rows);
        if let Some((rows, bias)) = &self.early {
            let _ = sum.f_narrow(0, 0, *rows)?.f_add_(bias)?;
        }
        if let Some(late) = &self.late {
            let _ = sum.f_narrow(0, early_rows, late.size()[0])?.f_add_(late)?;
        }
        Ok(())
    }
}

/// Only blocks whose widths the kernels take are rounded ([`MAX_ROUNDED`](super::layers::MAX_ROUNDED)).
pub(super) fn mixed() -> TchError {
    TchError::Shape("a layer of 8-bit floats is given other numbers, or another layer these".into())
}
