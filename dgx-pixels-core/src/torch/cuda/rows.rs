//! Passes over rows of numbers, and attention to few keys.

use std::ptr;

use tch::Tensor;

use super::driver::{Function, Launch};
use super::fp8::Fp8;
use super::kernels::{Kernels, Result, VECTORS, arguments};

/// What the kernels of rows are told of a norm.
struct Norm<'a> {
    residual: Option<&'a Tensor>,
    early: Option<(i64, &'a Tensor)>,
    affine: (&'a Tensor, &'a Tensor),
    eps: f64,
}

impl Kernels {
    /// Adds to `x [.., width]` what is missing of it, in its place, and norms the sum over the last
    /// dimension: `early [width]` is missing in the first rows, `residual` in those that it has,
    /// the last. `None` where it does not fit.
    pub(in crate::torch) fn layer_norm(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        early: Option<(i64, &Tensor)>,
        affine: (&Tensor, &Tensor),
        eps: f64,
    ) -> Result<Option<Tensor>> {
        let out = x.f_empty_like()?;
        let norm = Norm { residual, early, affine, eps };
        let fits = self.rows(&self.layer_norms, x, Some(norm), (&out, None))?;
        Ok(fits.then_some(out))
    }

    /// As [`layer_norm`](Kernels::layer_norm), to 8-bit floats.
    pub(in crate::torch) fn layer_norm_fp8(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        early: Option<(i64, &Tensor)>,
        affine: (&Tensor, &Tensor),
        eps: f64,
    ) -> Result<Option<Fp8>> {
        let out = Fp8::empty(&x.size(), x.device())?;
        let norm = Norm { residual, early, affine, eps };
        let fits = self.rows(&self.layer_norms_e4m3, x, Some(norm), (&out.values, Some(&out.scales)))?;
        Ok(fits.then_some(out))
    }

    /// `x [.., width]` itself, to 8-bit floats.
    pub(in crate::torch) fn round_fp8(&self, x: &Tensor) -> Result<Option<Fp8>> {
        let out = Fp8::empty(&x.size(), x.device())?;
        let fits = self.rows(&self.rounds_e4m3, x, None, (&out.values, Some(&out.scales)))?;
        Ok(fits.then_some(out))
    }

    /// Runs one of the kernels that take a row each; false where it does not fit.
    fn rows(
        &self,
        functions: &[Function; 4],
        x: &Tensor,
        norm: Option<Norm>,
        (out, scales): (&Tensor, Option<&Tensor>),
    ) -> Result<bool> {
        let size = x.size();
        let width = size[size.len() - 1];
        let vectors = (width / 8 + 31) / 32;
        let Some(which) = VECTORS.iter().position(|most| vectors <= *most) else { return Ok(false) };
        let residual = norm.as_ref().and_then(|norm| norm.residual);
        if width % 8 != 0
            || x.kind() != self.kind
            || !x.is_contiguous()
            || residual.is_some_and(|more| !more.is_contiguous())
        {
            return Ok(false);
        }
        let rows = size.iter().rev().skip(1).product::<i64>();
        let early = norm.as_ref().and_then(|norm| norm.early);
        let affine = norm.as_ref().map(|norm| norm.affine);
        let pointer = |tensor: Option<&Tensor>| tensor.map_or(ptr::null_mut(), Tensor::data_ptr);
        let (mut x_at, mut residual_at) = (x.data_ptr(), pointer(residual));
        let mut early_at = pointer(early.map(|(_, bias)| bias));
        let mut early_rows = early.map_or(0, |(rows, _)| rows) as i32;
        let mut weight_at = pointer(affine.map(|(weight, _)| weight));
        let mut bias_at = pointer(affine.map(|(_, bias)| bias));
        let mut eps = norm.map_or(0.0, |norm| norm.eps) as f32;
        let (mut rows_argument, mut width) = (rows as i32, width as i32);
        let (mut sum_at, mut out_at, mut scales_at) = (x_at, out.data_ptr(), pointer(scales));
        const WARPS: u32 = 4;
        let grid = ((rows as u32).div_ceil(WARPS), 1);
        self.launch(
            functions[which],
            Launch { grid, threads: 32 * WARPS, shared_bytes: 0, early: self.early },
            arguments![
                x_at,
                residual_at,
                early_at,
                early_rows,
                weight_at,
                bias_at,
                rows_argument,
                width,
                eps,
                sum_at,
                out_at,
                scales_at
            ],
        )?;
        Ok(true)
    }

    /// `x [.., 2 * width]` → `x[.., :width] * gelu(x[.., width:])`; `None` where it does not fit.
    pub(in crate::torch) fn geglu(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let mut size = x.size();
        let last = size.len() - 1;
        let width = size[last] / 2;
        if width % 8 != 0 || x.kind() != self.kind || !x.is_contiguous() {
            return Ok(None);
        }
        size[last] = width;
        let out = Tensor::f_empty(&size, (self.kind, x.device()))?;
        let Ok(mut vectors) = u32::try_from(out.numel() / 8) else { return Ok(None) };
        let (mut x_at, mut width, mut out_at) = (x.data_ptr(), width as i32, out.data_ptr());
        self.launch(self.geglu, self.vectors(i64::from(vectors)), arguments![x_at, width, vectors, out_at])?;
        Ok(Some(out))
    }

    /// As [`geglu`](Kernels::geglu), to 8-bit floats.
    pub(in crate::torch) fn geglu_fp8(&self, x: &Tensor) -> Result<Option<Fp8>> {
        const MAX_WIDTH: i64 = 8192;
        let mut size = x.size();
        let last = size.len() - 1;
        let width = size[last] / 2;
        if width % 8 != 0 || width > MAX_WIDTH || x.kind() != self.kind || !x.is_contiguous() {
            return Ok(None);
        }
        size[last] = width;
        let out = Fp8::empty(&size, x.device())?;
        let rows = size[..last].iter().product::<i64>();
        let (mut x_at, mut width) = (x.data_ptr(), width as i32);
        let (mut out_at, mut scales_at) = (out.values.data_ptr(), out.scales.data_ptr());
        self.launch(
            self.geglu_e4m3,
            Launch { grid: (rows as u32, 1), threads: 128, shared_bytes: 0, early: self.early },
            arguments![x_at, width, out_at, scales_at],
        )?;
        Ok(Some(out))
    }

    /// Softmax attention to few keys, in heads of 64: `query [b, n, heads * 64]`, `key` and `value`
    /// `[b, heads, tokens, 64]`, of which those of one token lie beside each other → as `query`.
    /// `None` where it does not fit.
    pub(in crate::torch) fn cross_attention(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<Option<Tensor>> {
        const HEAD: i64 = 64;
        /// Rows of a block.
        const ROWS: i64 = 64;
        let (b, n, width) = query.size3()?;
        let (texts, heads, tokens, head) = key.size4()?;
        let laid = |tensor: &Tensor| {
            let stride = tensor.stride();
            stride[1..] == [HEAD, width, 1] && stride[0] % 8 == 0 && stride[0] == key.stride()[0]
        };
        let which = if tokens <= 80 { 0 } else { 1 };
        let fits = head == HEAD
            && texts == b
            && heads * HEAD == width
            && (1..=128).contains(&tokens)
            && b * heads <= 65535
            && query.kind() == self.kind
            && key.kind() == self.kind
            && query.is_contiguous()
            && laid(key)
            && laid(value);
        if !fits {
            return Ok(None);
        }
        let out = query.f_empty_like()?;
        let (mut query_at, mut key_at, mut value_at) = (query.data_ptr(), key.data_ptr(), value.data_ptr());
        let mut stride = key.stride()[0];
        let (mut rows, mut tokens, mut heads) = (n as i32, tokens as i32, heads as i32);
        let mut out_at = out.data_ptr();
        let grid = (((n + ROWS - 1) / ROWS) as u32, (b as u32) * heads as u32);
        self.launch(
            self.cross_attentions[which],
            Launch { grid, threads: 128, shared_bytes: 0, early: self.early },
            arguments![query_at, key_at, value_at, stride, rows, tokens, heads, out_at],
        )?;
        Ok(Some(out))
    }
}
