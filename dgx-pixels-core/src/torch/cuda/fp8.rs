//! Numbers of 8 bits (e4m3), and products of them: by cuBLASLt, or on Hopper by kernels of our own,
//! which convolve as well.

use std::ptr;

use tch::{Kind, TchError, Tensor};

use super::super::device::channels_last;
use super::convolution::{Pixels, THREADS, Taps, div_ceil};
use super::driver::{Function, Launch, Number};
use super::hopper::{BLOCK, Cut, HopperFp8};
use super::kernels::{Kernels, Result, arguments};

/// Rows of numbers of 8 bits, with a factor for each row.
pub(in crate::torch) struct Fp8 {
    /// As bytes, `[.., width]`.
    pub(super) values: Tensor,
    /// `[..]`, in `f32`.
    pub(super) scales: Tensor,
}

/// What [`Kernels::linear_geglu_fp8`] writes, for [`Kernels::linear_gated`] to read: rows whose
/// columns are in the order of [`Fp8::for_gated`], with a factor for each row of each [`BLOCK`]
/// columns.
pub(in crate::torch) struct Gated {
    /// As bytes, `[.., width]`.
    values: Tensor,
    /// `[width / BLOCK, rows]`, in `f32`.
    scales: Tensor,
}

/// Pictures `[b, c, h, w]` of 8-bit numbers with channels last, all with one factor.
pub(in crate::torch) struct Fp8Picture {
    pub(super) values: Tensor,
}

/// Weights of a convolution of 3x3 pixels.
pub(in crate::torch) struct Fp8Conv {
    /// As bytes, `[c_out, 9 * c_in]`: the channels of each tap beside each other.
    values: Tensor,
    /// `[c_out]`, in `f32`; that of the picture it reads is in it.
    scales: Tensor,
    /// Of the picture it reads.
    pub(in crate::torch) input_scale: f64,
}

impl Fp8 {
    /// The largest of them.
    pub(in crate::torch) const LARGEST: f64 = 448.0;

    pub(super) fn empty(size: &[i64], device: tch::Device) -> Result<Fp8> {
        let values = Tensor::f_empty(size, (Kind::Uint8, device))?;
        Ok(Fp8 { values, scales: Tensor::f_empty(&size[..size.len() - 1], (Kind::Float, device))? })
    }

    /// A layer's weight `[c_out, c_in]`.
    pub(in crate::torch) fn of_weight(weight: &Tensor) -> Result<Fp8> {
        let weight = weight.f_to_kind(Kind::Float)?;
        let largest = weight.f_abs()?.f_amax([1], true)?.f_clamp_min(1e-12)?;
        let scales = largest.f_div_scalar(Fp8::LARGEST)?;
        let values = weight.f_div(&scales)?.f_to_kind(Kind::Float8e4m3fn)?.f_view_dtype(Kind::Uint8)?;
        Ok(Fp8 { values, scales: scales.f_flatten(0, -1)? })
    }

    /// The weight of a layer that reads [`Gated`]: what a thread of that kernel has of a block,
    /// pairs that are eight columns apart, lies together.
    pub(in crate::torch) fn for_gated(self) -> Result<Fp8> {
        let (outer, inner) = self.values.size2()?;
        let values = self.values.f_view([outer, inner / BLOCK, 16, 4, 2])?.f_permute([0, 1, 3, 2, 4])?;
        Ok(Fp8 { values: values.f_reshape([outer, inner])?, ..self })
    }

    /// The last rows of the first dimension.
    pub(in crate::torch) fn last(&self, count: i64) -> Result<Fp8> {
        let last = |tensor: &Tensor| tensor.f_narrow(0, tensor.size()[0] - count, count);
        Ok(Fp8 { values: last(&self.values)?, scales: last(&self.scales)? })
    }

    pub(in crate::torch) fn size(&self) -> Vec<i64> {
        self.values.size()
    }
}

impl Gated {
    pub(in crate::torch) fn size(&self) -> Vec<i64> {
        self.values.size()
    }
}

impl Fp8Picture {
    pub(in crate::torch) fn numel(&self) -> i64 {
        self.values.numel() as i64
    }
}

impl Fp8Conv {
    /// `weight [c_out, c_in, 3, 3]`, for a picture that is `input_scale` times what its numbers
    /// say.
    pub(in crate::torch) fn of_weight(weight: &Tensor, input_scale: f64) -> Result<Fp8Conv> {
        let Fp8 { values, scales } = Fp8::of_weight(&weight.f_permute([0, 2, 3, 1])?.f_flatten(1, -1)?)?;
        Ok(Fp8Conv { values, scales: scales.f_mul_scalar(input_scale)?, input_scale })
    }

    pub(in crate::torch) fn c_out(&self) -> i64 {
        self.values.size()[0]
    }
}

/// What is done to the sums of a product.
struct After<'a> {
    row_scales: Option<&'a Tensor>,
    bias: Option<&'a Tensor>,
    /// `[pictures, c_out]`.
    added: Option<&'a Tensor>,
    /// As the output.
    residual: Option<&'a Tensor>,
}

impl Kernels {
    /// Whether a layer of this weight and the GEGLU after it are one kernel, which writes
    /// [`Gated`].
    pub(in crate::torch) fn gates_fp8(&self, c_in: i64, width: i64) -> bool {
        self.is_fp8() && self.hopper_fp8().is_some() && c_in % BLOCK == 0 && width % BLOCK == 0
    }

    /// Whether convolutions of what [`group_norm_fp8`](Kernels::group_norm_fp8) writes can be of
    /// 8-bit floats.
    pub(in crate::torch) fn convolves_fp8(&self, c_in: i64, c_out: i64, groups: i64) -> bool {
        let fits = |channels: i64| channels % 16 == 0 && Kernels::norms(channels, groups);
        self.is_fp8() && self.hopper_fp8().is_some() && fits(c_in) && fits(c_out)
    }

    fn hopper_fp8(&self) -> Option<&HopperFp8> {
        self.hopper.as_ref().and_then(|hopper| hopper.fp8.as_ref())
    }

    /// As [`linear`](Kernels::linear), of 8-bit floats.
    pub(in crate::torch) fn linear_fp8(
        &self,
        input: &Fp8,
        weight: &Fp8,
        bias: Option<&Tensor>,
        into: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let scales = &input.scales;
        match self.hopper_fp8() {
            Some(hopper) => {
                let (outer, inner) = weight.values.size2()?;
                let rows = input.values.numel() as i64 / inner.max(1);
                let tiles =
                    div_ceil(rows, HopperFp8::LINEAR.rows) * div_ceil(outer, HopperFp8::LINEAR.columns);
                let of = match 2 * tiles <= self.multiprocessors {
                    true => (hopper.linear_short, &HopperFp8::SHORT, HopperFp8::SHORT_SHARED_BYTES),
                    false => (hopper.linear, &HopperFp8::LINEAR, HopperFp8::LINEAR_SHARED_BYTES),
                };
                self.product_fp8(of, &input.values, scales, weight, bias, into)
            }
            None => self.product(&input.values, &weight.values, Some((&weight.scales, scales)), bias, into),
        }
    }

    /// As [`linear_fp8`](Kernels::linear_fp8), of a weight that is [for it](Fp8::for_gated).
    pub(in crate::torch) fn linear_gated(
        &self,
        input: &Gated,
        weight: &Fp8,
        bias: Option<&Tensor>,
        into: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let Some(hopper) = self.hopper_fp8() else { return Ok(None) };
        let of = (hopper.linear_blocks, &HopperFp8::LINEAR, HopperFp8::LINEAR_SHARED_BYTES);
        self.product_fp8(of, &input.values, &input.scales, weight, bias, into)
    }

    fn product_fp8(
        &self,
        of: (Function, &Cut, u32),
        input: &Tensor,
        row_scales: &Tensor,
        weight: &Fp8,
        bias: Option<&Tensor>,
        into: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let mut size = input.size();
        let last = size.len() - 1;
        let (outer, inner) = weight.values.size2()?;
        let rows = size[..last].iter().product::<i64>();
        let fits = size[last] == inner
            && inner % 16 == 0
            && outer % 8 == 0
            && input.is_contiguous()
            && into.is_none_or(Tensor::is_contiguous);
        if !fits {
            return Ok(None);
        }
        size[last] = outer;
        let out = match into {
            Some(into) => into.shallow_clone(),
            None => Tensor::f_empty(&size, (self.kind, input.device()))?,
        };
        let pixels = pixels_of(input, 1, 1, rows, inner, Taps::ITSELF);
        let after = After { row_scales: Some(row_scales), bias, added: None, residual: into };
        self.multiply(of, &pixels, (&weight.values, &weight.scales), &after, &out)?;
        Ok(Some(out))
    }

    /// Convolves with a margin of one pixel; `bias [c_out]`, `time [b, c_out]` and
    /// `residual [b, c_out, h, w]` are added.
    pub(in crate::torch) fn conv_fp8(
        &self,
        picture: &Fp8Picture,
        conv: &Fp8Conv,
        bias: &Tensor,
        time: Option<&Tensor>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let unfit = || TchError::Shape("this convolution is not of 8-bit floats".into());
        let hopper = self.hopper_fp8().ok_or_else(unfit)?;
        let (b, c_in, h, w) = picture.values.size4()?;
        let (c_out, inner) = conv.values.size2()?;
        if inner != 9 * c_in || c_in % 16 != 0 || c_out % 8 != 0 {
            return Err(unfit());
        }
        let residual = residual.map(channels_last).transpose()?;
        let out = Tensor::f_empty([b, h, w, c_out], (self.kind, picture.values.device()))?;
        let out = out.f_permute([0, 3, 1, 2])?;
        let pixels = pixels_of(&picture.values, b, h, w, c_in, Taps::AROUND);
        let after = After { row_scales: None, bias: Some(bias), added: time, residual: residual.as_ref() };
        self.multiply(
            (hopper.linear, &HopperFp8::LINEAR, HopperFp8::LINEAR_SHARED_BYTES),
            &pixels,
            (&conv.values, &conv.scales),
            &after,
            &out,
        )?;
        Ok(out)
    }

    fn multiply(
        &self,
        (function, cut, shared_bytes): (Function, &Cut, u32),
        pixels: &Pixels,
        (weight, scales): (&Tensor, &Tensor),
        after: &After,
        out: &Tensor,
    ) -> Result<()> {
        let mut work = pixels.work(weight.size()[0], cut);
        let mut of_input = self.input_map(pixels, &work)?;
        let mut of_weight = self.weight_map(weight, Number::Byte, cut.columns)?;
        let mut of_out = self.output_map(pixels, &work, cut, out, None)?;
        let mut of_residual = self.output_map(pixels, &work, cut, after.residual.unwrap_or(out), None)?;
        let pointer = |tensor: Option<&Tensor>| tensor.map_or(ptr::null_mut(), Tensor::data_ptr);
        let (mut row_scales_at, mut scales_at) = (pointer(after.row_scales), scales.data_ptr());
        let (mut bias_at, mut added_at) = (pointer(after.bias), pointer(after.added));
        let mut added_stride = after.added.map_or(0, |added| added.stride()[0]);
        let mut has_residual = i32::from(after.residual.is_some());
        let grid = (work.tiles().min(self.multiprocessors) as u32, 1);
        self.launch(
            function,
            Launch { grid, threads: THREADS, shared_bytes, early: self.early },
            arguments![
                of_input,
                of_weight,
                of_residual,
                of_out,
                row_scales_at,
                scales_at,
                bias_at,
                added_at,
                added_stride,
                has_residual,
                work
            ],
        )
    }

    /// As [`linear_geglu`](Kernels::linear_geglu), of 8-bit floats; `None` where they are not [one
    /// kernel](Kernels::gates_fp8).
    pub(in crate::torch) fn linear_geglu_fp8(
        &self,
        input: &Fp8,
        weight: &Fp8,
        bias: Option<&Tensor>,
    ) -> Result<Option<Gated>> {
        let (Some(hopper), Some(bias)) = (self.hopper_fp8(), bias) else { return Ok(None) };
        let mut size = input.size();
        let last = size.len() - 1;
        let (outer, inner) = weight.values.size2()?;
        let (rows, width) = (size[..last].iter().product::<i64>(), outer / 2);
        if !self.gates_fp8(inner, width) || size[last] != inner || !input.values.is_contiguous() {
            return Ok(None);
        }
        size[last] = width;
        let device = input.values.device();
        let values = Tensor::f_empty(&size, (Kind::Uint8, device))?;
        let scales = Tensor::f_empty([width / BLOCK, rows], (Kind::Float, device))?;
        let pixels = pixels_of(&input.values, 1, 1, rows, inner, Taps::ITSELF);
        let mut work = pixels.work(width, &HopperFp8::GEGLU);
        let mut of_input = self.input_map(&pixels, &work)?;
        let mut of_weight = self.weight_map(&weight.values, Number::Byte, BLOCK)?;
        let (mut row_scales_at, mut scales_at) = (input.scales.data_ptr(), weight.scales.data_ptr());
        let (mut bias_at, mut out_at, mut out_scales_at) =
            (bias.data_ptr(), values.data_ptr(), scales.data_ptr());
        let mut width = width as i32;
        let grid = (work.tiles().min(self.multiprocessors) as u32, 1);
        self.launch(
            hopper.linear_geglu,
            Launch { grid, threads: THREADS, shared_bytes: HopperFp8::GEGLU_SHARED_BYTES, early: self.early },
            arguments![
                of_input,
                of_weight,
                row_scales_at,
                scales_at,
                bias_at,
                out_at,
                out_scales_at,
                width,
                work
            ],
        )?;
        Ok(Some(Gated { values, scales }))
    }
}

fn pixels_of(input: &Tensor, pictures: i64, h: i64, w: i64, channels: i64, taps: Taps) -> Pixels<'_> {
    Pixels { input, number: Number::Byte, pictures, h, w, channels, taps }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_for_gated_rows_have_each_threads_columns_together() {
        let columns = 2 * BLOCK;
        let values = Tensor::arange(columns, (Kind::Int64, tch::Device::Cpu)).view([1, columns]);
        let scales = Tensor::ones([1], (Kind::Float, tch::Device::Cpu));
        let ordered = Fp8 { values, scales }.for_gated().unwrap().values;
        // As `products_e4m3.cu` says.
        for column in 0..columns {
            let (block, b, q, e) = (column / 128, column % 128 / 8, column % 8 / 2, column % 2);
            assert_eq!(ordered.int64_value(&[0, block * 128 + 32 * q + 2 * b + e]), column);
        }
    }

    #[test]
    fn weights_are_rounded_to_a_sixteenth_of_themselves() {
        tch::manual_seed(5);
        let weight = Tensor::randn([40, 33, 3, 3], (Kind::Float, tch::Device::Cpu));
        let conv = Fp8Conv::of_weight(&weight, 0.5).unwrap();
        let taps = weight.permute([0, 2, 3, 1]).flatten(1, -1);
        let whole =
            conv.values.view_dtype(Kind::Float8e4m3fn).to_kind(Kind::Float) * conv.scales.unsqueeze(1) * 2.0;
        // The smallest of a row have fewer digits.
        let allowed = taps.abs() / 16.0 + taps.abs().amax([1], true) / 400_000.0;
        assert!(bool::try_from((whole - &taps).abs().le_tensor(&allowed).all()).unwrap());
    }
}
