//! Passes over pictures with channels last.

use std::ffi::c_void;
use std::ptr;

use tch::{Kind, Tensor};

use super::super::device::channels_last;
use super::driver::{Function, Launch};
use super::fp8::Fp8Picture;
use super::kernels::{BLOCKS_EACH, Kernels, MAX_IMAGES, Result, arguments};

/// Threads of a block, at most.
const PIXEL_THREADS: i64 = 512;
/// Chunks of a picture that `group_stats` can join.
const MAX_CHUNKS: i64 = 128;

/// Channels last: channels of `a`, then of `b`; `bias [channels]` and `time [images, channels]` are
/// still to be added, in this order.
#[derive(Clone, Copy)]
pub(in crate::torch) struct Parts<'a> {
    pub(in crate::torch) a: &'a Tensor,
    pub(in crate::torch) b: Option<&'a Tensor>,
    pub(in crate::torch) bias: Option<&'a Tensor>,
    pub(in crate::torch) time: Option<&'a Tensor>,
}

impl<'a> From<&'a Tensor> for Parts<'a> {
    fn from(a: &'a Tensor) -> Parts<'a> {
        Parts { a, b: None, bias: None, time: None }
    }
}

impl Parts<'_> {
    /// In plain tensors.
    pub(in crate::torch) fn whole(&self) -> Result<Tensor> {
        let mut whole = match self.b {
            Some(b) => Tensor::f_cat(&[self.a, b], 1)?,
            None => self.a.shallow_clone(),
        };
        if let Some(bias) = self.bias {
            whole = whole.f_add(&bias.f_view([1, -1, 1, 1])?)?;
        }
        if let Some(time) = self.time {
            whole = whole.f_add(&time.f_unsqueeze(-1)?.f_unsqueeze(-1)?)?;
        }
        Ok(whole)
    }
}

/// Threads of a block for pixels of so many channels, in groups; `None` if they do not fit.
fn pixel_threads(channels: i64, groups: i64) -> Option<i64> {
    let columns = channels / 8;
    if channels % 8 != 0 || columns == 0 || columns > PIXEL_THREADS || channels % groups != 0 {
        return None;
    }
    // Whole warps: sums of groups are a warp's.
    (1..=PIXEL_THREADS / columns).rev().map(|rows| rows * columns).find(|threads| threads % 32 == 0)
}

/// What is told of a group norm.
struct Norm<'a> {
    affine: (&'a Tensor, &'a Tensor),
    groups: i64,
    eps: f64,
    activate: bool,
}

/// The argument of a kernel that is called `Source` there.
#[repr(C)]
struct SourceArgument {
    a: *const c_void,
    b: *const c_void,
    bias: *const c_void,
    time: *const c_void,
    time_stride: i64,
    channels_a: i32,
    channels: i32,
}

impl Kernels {
    /// Whether pictures of so many channels can be normed; what of them is asked for at run time
    /// stands in `normed`.
    pub(super) fn norms(channels: i64, groups: i64) -> bool {
        pixel_threads(channels, groups).is_some()
    }

    /// Group norm of `parts.whole()`, with SiLU behind it if `activate`; `None` where it does not
    /// fit.
    pub(in crate::torch) fn group_norm(
        &self,
        parts: Parts,
        affine: (&Tensor, &Tensor),
        groups: i64,
        eps: f64,
        activate: bool,
    ) -> Result<Option<Tensor>> {
        let norm = Norm { affine, groups, eps, activate };
        self.normed(&self.group_norm, self.kind, parts, norm, 1.0)
    }

    /// As [`group_norm`](Kernels::group_norm), divided by `scale`, to 8-bit floats.
    pub(in crate::torch) fn group_norm_fp8(
        &self,
        parts: Parts,
        affine: (&Tensor, &Tensor),
        groups: i64,
        eps: f64,
        activate: bool,
        scale: f64,
    ) -> Result<Option<Fp8Picture>> {
        let norm = Norm { affine, groups, eps, activate };
        let normed = self.normed(&self.group_norm_e4m3, Kind::Uint8, parts, norm, 1.0 / scale)?;
        Ok(normed.map(|values| Fp8Picture { values }))
    }

    /// `factor`: what the output is multiplied with, if it is of bytes.
    fn normed(
        &self,
        functions: &[Function; 2],
        kind: Kind,
        parts: Parts,
        norm: Norm,
        factor: f64,
    ) -> Result<Option<Tensor>> {
        let Norm { affine: (weight, bias), groups, eps, activate } = norm;
        let channels_a = parts.a.size4()?.1;
        let channels = channels_a + parts.b.map_or(Ok(0), |b| b.size4().map(|size| size.1))?;
        let Some(threads) = pixel_threads(channels, groups) else { return Ok(None) };
        let (images, _, h, w) = parts.a.size4()?;
        let fits = channels_a % 8 == 0
            && images <= MAX_IMAGES
            && h * w <= i64::from(i32::MAX)
            && parts.a.kind() == self.kind;
        if !fits {
            return Ok(None);
        }
        let a = channels_last(parts.a)?;
        let b = parts.b.map(channels_last).transpose()?;
        let pointer =
            |tensor: Option<&Tensor>| tensor.map_or(ptr::null(), |tensor| tensor.data_ptr().cast_const());
        let mut source = SourceArgument {
            a: a.data_ptr(),
            b: pointer(b.as_ref()),
            bias: pointer(parts.bias),
            time: pointer(parts.time),
            time_stride: parts.time.map_or(0, |time| time.stride()[0]),
            channels_a: channels_a as i32,
            channels: channels as i32,
        };
        // As many chunks as give each multiprocessor one block, and one that only streams several.
        let cut = |most: i64| -> (i64, i64) {
            let chunk_pixels = (h * w).div_euclid(most.clamp(1, h * w)).max(1);
            let chunk_pixels = chunk_pixels + i64::from(chunk_pixels * most.clamp(1, h * w) < h * w);
            (chunk_pixels, (h * w + chunk_pixels - 1) / chunk_pixels)
        };
        let (stats_pixels, stats_chunks) = cut((self.multiprocessors / images).min(MAX_CHUNKS));
        let (norm_pixels, norm_chunks) = cut(self.multiprocessors * BLOCKS_EACH / images);
        let floats = |size: &[i64]| Tensor::f_empty(size, (Kind::Float, a.device()));
        let partial = floats(&[images, stats_chunks, groups, 2])?;
        let stats = floats(&[images, groups, 2])?;
        let out = Tensor::f_empty([images, h, w, channels], (kind, a.device()))?.f_permute([0, 3, 1, 2])?;

        let which = usize::from(parts.bias.is_some() || parts.time.is_some());
        let (mut pixels, mut stats_pixels, mut norm_pixels) =
            ((h * w) as i32, stats_pixels as i32, norm_pixels as i32);
        let (mut groups, mut eps, mut activate) = (groups as i32, eps as f32, i32::from(activate));
        let mut factor = factor as f32;
        let (mut partial_at, mut arrived_at) = (partial.data_ptr(), self.arrived.data_ptr());
        let (mut stats_at, mut weight_at, mut bias_at, mut out_at) =
            (stats.data_ptr(), weight.data_ptr(), bias.data_ptr(), out.data_ptr());
        let threads = threads as u32;
        // Two sums for each of a thread's eight channels.
        let shared_bytes = threads * 8 * 2 * 4;
        self.launch(
            self.group_stats[which],
            Launch { grid: (stats_chunks as u32, images as u32), threads, shared_bytes, early: self.early },
            arguments![source, pixels, stats_pixels, groups, eps, partial_at, arrived_at, stats_at],
        )?;
        self.launch(
            functions[which],
            Launch { grid: (norm_chunks as u32, images as u32), threads, shared_bytes: 0, early: self.early },
            arguments![
                source,
                pixels,
                norm_pixels,
                groups,
                activate,
                stats_at,
                weight_at,
                bias_at,
                out_at,
                factor
            ],
        )?;
        Ok(Some(out))
    }

    /// `x + bias`, or that and `residual`; all but `bias [c]` are `[b, c, h, w]` with channels
    /// last. In the place of `x`, which is used up; `None` where it does not fit.
    pub(in crate::torch) fn add(
        &self,
        x: &Tensor,
        bias: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let channels = x.size4()?.1;
        let Ok(mut vectors) = u32::try_from(x.numel() / 8) else { return Ok(None) };
        if channels % 8 != 0 || x.kind() != self.kind {
            return Ok(None);
        }
        let (x, residual) = (channels_last(x)?, residual.map(channels_last).transpose()?);
        let (mut x_at, mut bias_at) = (x.data_ptr(), bias.data_ptr());
        let mut residual_at = residual.as_ref().map_or(ptr::null_mut(), Tensor::data_ptr);
        let mut channels = channels as i32;
        let mut out_at = x_at;
        self.launch(
            self.add,
            self.vectors(i64::from(vectors)),
            arguments![x_at, bias_at, residual_at, channels, vectors, out_at],
        )?;
        Ok(Some(x))
    }

    /// Each pixel four times: `x [b, c, h, w]` → `[b, c, 2h, 2w]`; `None` where it does not fit.
    pub(in crate::torch) fn upsample(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let (b, channels, h, w) = x.size4()?;
        let Ok(mut vectors) = u32::try_from(x.numel() / 8) else { return Ok(None) };
        if channels % 8 != 0 || x.kind() != self.kind {
            return Ok(None);
        }
        let x = channels_last(x)?;
        let out =
            Tensor::f_empty([b, 2 * h, 2 * w, channels], (self.kind, x.device()))?.f_permute([0, 3, 1, 2])?;
        let (mut x_at, mut out_at) = (x.data_ptr(), out.data_ptr());
        let (mut width, mut channels) = (w as i32, channels as i32);
        self.launch(
            self.upsample,
            self.vectors(i64::from(vectors)),
            arguments![x_at, width, channels, vectors, out_at],
        )?;
        Ok(Some(out))
    }
}
