//! The passes of `kernels.cu` and the products of `matmul.rs`, as functions of tensors.
//!
//! Each says what it computes in plain tensors; `tests` hold it against that on a GPU.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use super::super::device::{Device, Dtype, channels_last};
use super::driver::{Driver, Function, Launch};
use super::matmul::{MatMul, Product, Stream};
use super::nvrtc::{self, Source};
use super::stream;
use crate::torch::Mode;

type Result<T> = std::result::Result<T, TchError>;

/// Threads of a block that works on pixels, at most.
const PIXEL_THREADS: i64 = 512;
/// Chunks of a picture that `group_stats` can join.
const MAX_CHUNKS: i64 = 128;
/// Blocks that a pass which only streams is cut into, for each multiprocessor.
const BLOCKS_EACH: i64 = 4;
/// What `linear_geglu` takes of shared memory, nearly all that a multiprocessor has.
const GEGLU_SHARED_BYTES: u32 = 4 * 49152 + 32768 + 64;
/// Pictures of one call.
const MAX_IMAGES: i64 = 1024;
/// What a warp can keep of a row, in vectors of 256 numbers, by the kernel that does.
const LAYER_NORMS: [i64; 4] = [1, 3, 5, 8];

/// Kernels and products on one GPU in one precision. For the one thread that owns the model.
pub(in crate::torch) struct Kernels {
    driver: Driver,
    index: usize,
    kind: Kind,
    multiprocessors: i64,
    /// See [`Launch::early`].
    early: bool,
    /// Plain, and with vectors to be added.
    group_stats: [Function; 2],
    group_norm: [Function; 2],
    layer_norms: [Function; 4],
    layer_norms_e4m3: [Function; 4],
    rounds_e4m3: [Function; 4],
    geglu: Function,
    geglu_e4m3: Function,
    /// For at most 80 tokens, and for 128.
    cross_attentions: [Function; 2],
    /// On Hopper.
    linear_geglu: Option<Function>,
    add: Function,
    upsample: Function,
    matmul: Option<MatMul>,
    /// Counters of `group_stats`, zero between calls.
    arrived: Tensor,
    fast: bool,
    fp8: bool,
    records: Cell<bool>,
}

// SAFETY: nothing in it belongs to a thread: CUDA's handles may be used from any, one at a time. `Sync` holds because it is reached
// through the layers of one model, which one thread owns (`Backend`).
unsafe impl Send for Kernels {}
// SAFETY: as above.
unsafe impl Sync for Kernels {}

/// Channels last: channels of `a`, then of `b`; `bias [channels]` and `time [images, channels]` are still to be added, in this order.
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

/// Numbers of 8 bits (e4m3), with a factor for each row.
pub(in crate::torch) struct Fp8 {
    /// As bytes, `[.., width]`.
    values: Tensor,
    /// `[..]`, in `f32`.
    scales: Tensor,
}

impl Fp8 {
    /// The largest of them.
    const LARGEST: f64 = 448.0;

    fn empty(size: &[i64], device: tch::Device) -> Result<Fp8> {
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

    /// The last rows of the first dimension.
    pub(in crate::torch) fn last(&self, count: i64) -> Result<Fp8> {
        let last = |tensor: &Tensor| tensor.f_narrow(0, tensor.size()[0] - count, count);
        Ok(Fp8 { values: last(&self.values)?, scales: last(&self.scales)? })
    }

    pub(in crate::torch) fn size(&self) -> Vec<i64> {
        self.values.size()
    }
}

/// What the kernels of rows are told of a norm.
struct Norm<'a> {
    residual: Option<&'a Tensor>,
    early: Option<(i64, &'a Tensor)>,
    affine: (&'a Tensor, &'a Tensor),
    eps: f64,
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
    /// Compiles and loads them, or says why it cannot be. `mode` is not [`Mode::Exact`] where sums may be rounded once less and algorithms
    /// be tried.
    pub(in crate::torch) fn load(
        device: Device,
        dtype: Dtype,
        mode: Mode,
    ) -> std::result::Result<Arc<Kernels>, String> {
        let Device::Cuda(index) = device else {
            return Err("they are for NVIDIA GPUs".into());
        };
        let bf16 = match dtype {
            Dtype::Bf16 => "-DBF16=1",
            Dtype::F16 => "-DBF16=0",
            Dtype::F32 => return Err("they are for `bf16` and `f16`".into()),
        };
        let driver = Driver::open()?;
        let compute_capability = driver.compute_capability(index)?;
        if compute_capability < (8, 0) {
            let (major, minor) = compute_capability;
            return Err(format!("the GPU has compute capability {major}.{minor}; they need 8.0"));
        }
        let (major, minor) = compute_capability;
        let source = Source {
            text: include_str!("kernels.cu"),
            options: &[bf16],
            architecture: &format!("sm_{major}{minor}"),
            driver: driver.version()?,
        };
        let _stream = stream::OnStream::enter(device).map_err(|error| error.to_string())?;
        let arrived =
            Tensor::f_zeros([MAX_IMAGES], (Kind::Int, device.tch())).map_err(|error| error.to_string())?;
        let cubin = nvrtc::cubin(&source)?;
        let module = driver.load(&cubin)?;
        let linear_geglu = match compute_capability {
            (9, 0) => {
                let source =
                    Source { text: include_str!("linear_geglu.cu"), architecture: "sm_90a", ..source };
                let function = driver.load(&nvrtc::cubin(&source)?)?.function("linear_geglu")?;
                driver.allow_shared(function, GEGLU_SHARED_BYTES)?;
                Some(function)
            }
            _ => None,
        };
        let of_each_width = |name: &str| -> std::result::Result<[Function; 4], String> {
            let [a, b, c, d] = LAYER_NORMS.map(|vectors| module.function(&format!("{name}_{vectors}")));
            Ok([a?, b?, c?, d?])
        };
        let (layer_norms, layer_norms_e4m3) =
            (of_each_width("layer_norm")?, of_each_width("layer_norm_e4m3")?);
        let rounds_e4m3 = of_each_width("round_e4m3")?;
        let function = |name| module.function(name);
        let geglu_e4m3 = function("geglu_e4m3")?;
        let cross_attentions = [function("cross_attention_80")?, function("cross_attention_128")?];
        let group_stats = [function("group_stats_plain")?, function("group_stats_open")?];
        let group_norm = [function("group_norm_plain")?, function("group_norm_open")?];
        let (geglu, add, upsample) = (function("geglu")?, function("add")?, function("upsample")?);
        let fast = mode != Mode::Exact;
        let gpu = format!("{}, driver {}", driver.gpu(index)?.name, source.driver);
        let matmul = MatMul::new(dtype.kind(), device.tch(), &gpu, fast);
        if let Err(reason) = &matmul {
            tracing::warn!("matrix products are libtorch's: {reason}");
        }
        let multiprocessors = i64::from(driver.multiprocessors(index)?);
        let mut kernels = Kernels {
            driver,
            index,
            kind: dtype.kind(),
            multiprocessors,
            early: compute_capability >= (9, 0),
            group_stats,
            group_norm,
            layer_norms,
            layer_norms_e4m3,
            rounds_e4m3,
            geglu,
            geglu_e4m3,
            cross_attentions,
            linear_geglu,
            add,
            upsample,
            matmul: matmul.ok(),
            arrived,
            fast,
            fp8: false,
            records: Cell::new(false),
        };
        if mode == Mode::Fp8 {
            match kernels.try_fp8(compute_capability) {
                Ok(()) => kernels.fp8 = true,
                Err(reason) => tracing::warn!(
                    "products are of {dtype}, as those of 8-bit floats cannot be had: {reason}"
                ),
            }
        }
        Ok(Arc::new(kernels))
    }

    /// Whether a small product of 8-bit floats works here.
    fn try_fp8(&self, compute_capability: (u32, u32)) -> std::result::Result<(), String> {
        if compute_capability < (8, 9) {
            let (major, minor) = compute_capability;
            return Err(format!("the GPU has compute capability {major}.{minor}; they need 8.9"));
        }
        let device = tch::Device::Cuda(self.index);
        let trial = || -> Result<Option<Tensor>> {
            let ones = Tensor::f_ones([256, 256], (self.kind, device))?;
            let (weight, bias) = (Fp8::of_weight(&ones)?, Tensor::f_zeros([256], (self.kind, device))?);
            let Some(input) = self.round_fp8(&ones)? else { return Ok(None) };
            let into = self.linear_fp8(&input, &weight, Some(&bias), None)?;
            into.map_or(Ok(None), |into| self.linear_fp8(&input, &weight, Some(&bias), Some(&into)))
        };
        match trial() {
            Ok(Some(product))
                if product.f_double_value(&[0, 0]).is_ok_and(|value| (500.0..=524.0).contains(&value)) =>
            {
                Ok(())
            }
            Ok(_) => Err("a product of them comes out wrong".into()),
            Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
        }
    }

    /// Whether linear layers that can are to be of 8-bit floats.
    pub(in crate::torch) fn is_fp8(&self) -> bool {
        self.fp8
    }

    /// What they compute in.
    pub(in crate::torch) fn dtype(&self) -> Dtype {
        if self.kind == Kind::Half { Dtype::F16 } else { Dtype::Bf16 }
    }

    /// Whether sums may be rounded once less than in diffusers.
    pub(in crate::torch) fn is_fast(&self) -> bool {
        self.fast && self.matmul.is_some()
    }

    /// While a graph is recorded nothing is timed.
    pub(in crate::torch) fn set_records(&self, records: bool) {
        self.records.set(records);
    }

    fn launch(&self, function: Function, launch: Launch, arguments: &mut [*mut c_void]) -> Result<()> {
        let stream = stream::handle(self.index)?;
        // SAFETY: each caller below passes what its kernel in `kernels.cu` takes.
        unsafe { self.driver.launch(function, launch, stream, arguments) }.map_err(TchError::Torch)
    }

    /// Threads of a block for pixels of so many channels, in groups; `None` if they do not fit.
    fn pixel_threads(&self, a: &Tensor, channels: i64, groups: i64) -> Result<Option<i64>> {
        let (images, _, h, w) = a.size4()?;
        let columns = channels / 8;
        let fits = channels % 8 == 0
            && columns <= PIXEL_THREADS
            && channels % groups == 0
            && images <= MAX_IMAGES
            && h * w <= i64::from(i32::MAX)
            && a.kind() == self.kind;
        // Whole warps: sums of groups are a warp's.
        let whole = || {
            (1..=PIXEL_THREADS / columns).rev().map(|rows| rows * columns).find(|threads| threads % 32 == 0)
        };
        Ok(if fits { whole() } else { None })
    }

    /// Group norm of `parts.whole()`, with SiLU behind it if `activate`; `None` where it does not fit.
    pub(in crate::torch) fn group_norm(
        &self,
        parts: Parts,
        (weight, bias): (&Tensor, &Tensor),
        groups: i64,
        eps: f64,
        activate: bool,
    ) -> Result<Option<Tensor>> {
        let channels_a = parts.a.size4()?.1;
        let channels = channels_a + parts.b.map_or(Ok(0), |b| b.size4().map(|size| size.1))?;
        let Some(threads) = self.pixel_threads(parts.a, channels, groups)? else { return Ok(None) };
        if channels_a % 8 != 0 {
            return Ok(None);
        }
        let a = channels_last(parts.a)?;
        let b = parts.b.map(channels_last).transpose()?;
        let (_, _, h, w) = a.size4()?;
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
        let images = a.size()[0];
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
        let out =
            Tensor::f_empty([images, h, w, channels], (self.kind, a.device()))?.f_permute([0, 3, 1, 2])?;

        let which = usize::from(parts.bias.is_some() || parts.time.is_some());
        let (mut pixels, mut stats_pixels, mut norm_pixels) =
            ((h * w) as i32, stats_pixels as i32, norm_pixels as i32);
        let (mut groups, mut eps, mut activate) = (groups as i32, eps as f32, i32::from(activate));
        let (mut partial_at, mut arrived_at) = (partial.data_ptr(), self.arrived.data_ptr());
        let (mut stats_at, mut weight_at, mut bias_at, mut out_at) =
            (stats.data_ptr(), weight.data_ptr(), bias.data_ptr(), out.data_ptr());
        let threads = threads as u32;
        // Two sums for each of a thread's eight channels.
        let shared_bytes = threads * 8 * 2 * 4;
        self.launch(
            self.group_stats[which],
            Launch { grid: (stats_chunks as u32, images as u32), threads, shared_bytes, early: self.early },
            &mut [
                (&raw mut source).cast(),
                (&raw mut pixels).cast(),
                (&raw mut stats_pixels).cast(),
                (&raw mut groups).cast(),
                (&raw mut eps).cast(),
                (&raw mut partial_at).cast(),
                (&raw mut arrived_at).cast(),
                (&raw mut stats_at).cast(),
            ],
        )?;
        self.launch(
            self.group_norm[which],
            Launch { grid: (norm_chunks as u32, images as u32), threads, shared_bytes: 0, early: self.early },
            &mut [
                (&raw mut source).cast(),
                (&raw mut pixels).cast(),
                (&raw mut norm_pixels).cast(),
                (&raw mut groups).cast(),
                (&raw mut activate).cast(),
                (&raw mut stats_at).cast(),
                (&raw mut weight_at).cast(),
                (&raw mut bias_at).cast(),
                (&raw mut out_at).cast(),
            ],
        )?;
        Ok(Some(out))
    }

    /// Adds to `x [.., width]` what is missing of it, in its place, and norms the sum over the last dimension: `early [width]` is missing
    /// in the first rows, `residual` in those that it has, the last. `None` where it does not fit.
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
        let Some(which) = LAYER_NORMS.iter().position(|most| vectors <= *most) else { return Ok(false) };
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
            &mut [
                (&raw mut x_at).cast(),
                (&raw mut residual_at).cast(),
                (&raw mut early_at).cast(),
                (&raw mut early_rows).cast(),
                (&raw mut weight_at).cast(),
                (&raw mut bias_at).cast(),
                (&raw mut rows_argument).cast(),
                (&raw mut width).cast(),
                (&raw mut eps).cast(),
                (&raw mut sum_at).cast(),
                (&raw mut out_at).cast(),
                (&raw mut scales_at).cast(),
            ],
        )?;
        Ok(true)
    }

    fn vectors(&self, vectors: i64) -> Launch {
        const THREADS: i64 = 256;
        let blocks = ((vectors + THREADS - 1) / THREADS).min(self.multiprocessors * BLOCKS_EACH * 4);
        Launch { grid: (blocks as u32, 1), threads: THREADS as u32, shared_bytes: 0, early: self.early }
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
        self.launch(
            self.geglu,
            self.vectors(i64::from(vectors)),
            &mut [
                (&raw mut x_at).cast(),
                (&raw mut width).cast(),
                (&raw mut vectors).cast(),
                (&raw mut out_at).cast(),
            ],
        )?;
        Ok(Some(out))
    }

    /// A linear layer and the [`geglu`](Kernels::geglu) of its output, which is nowhere written: `input [.., c_in]`, `weight [2 * width, c_in]` →
    /// `[.., width]`. `None` where it does not fit, or where there is too little to do for it.
    pub(in crate::torch) fn linear_geglu(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        const TILE: i64 = 128;
        const STEP: i64 = 64;
        let (Some(function), Some(bias)) = (self.linear_geglu, bias) else { return Ok(None) };
        let mut size = input.size();
        let last = size.len() - 1;
        let (outer, inner) = weight.size2()?;
        let (rows, width) = (size[..last].iter().product::<i64>(), outer / 2);
        let tiles = (rows + TILE - 1) / TILE * (width / TILE);
        let fits = size[last] == inner
            && inner % STEP == 0
            && width % TILE == 0
            && tiles >= self.multiprocessors
            && rows <= i64::from(i32::MAX)
            && input.kind() == self.kind
            && weight.kind() == self.kind
            && input.is_contiguous()
            && weight.is_contiguous();
        if !fits {
            return Ok(None);
        }
        size[last] = width;
        let out = Tensor::f_empty(&size, (self.kind, input.device()))?;
        let bf16 = self.kind == Kind::BFloat16;
        let map = |tensor: &Tensor, size, boxes| {
            // SAFETY: the tensors are contiguous, of these sizes, and live until the stream is there.
            unsafe { self.driver.tensor_map(bf16, tensor.data_ptr(), size, boxes) }.map_err(TchError::Torch)
        };
        let mut of_input = map(input, (rows, inner), (128, 64))?;
        let mut of_weight = map(weight, (outer, inner), (128, 64))?;
        let mut of_out = map(&out, (rows, width), (16, 64))?;
        let mut bias_at = bias.data_ptr();
        let (mut rows, mut inner, mut width) = (rows as i32, inner as i32, width as i32);
        self.launch(
            function,
            Launch {
                grid: (tiles.min(self.multiprocessors) as u32, 1),
                threads: 384,
                shared_bytes: GEGLU_SHARED_BYTES,
                early: self.early,
            },
            &mut [
                (&raw mut of_input).cast(),
                (&raw mut of_weight).cast(),
                (&raw mut of_out).cast(),
                (&raw mut bias_at).cast(),
                (&raw mut rows).cast(),
                (&raw mut inner).cast(),
                (&raw mut width).cast(),
            ],
        )?;
        Ok(Some(out))
    }

    /// Softmax attention to few keys, in heads of 64: `query [b, n, heads * 64]`, `key` and `value` `[b, heads, tokens, 64]`, of which those
    /// of one token lie beside each other → as `query`. `None` where it does not fit.
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
            &mut [
                (&raw mut query_at).cast(),
                (&raw mut key_at).cast(),
                (&raw mut value_at).cast(),
                (&raw mut stride).cast(),
                (&raw mut rows).cast(),
                (&raw mut tokens).cast(),
                (&raw mut heads).cast(),
                (&raw mut out_at).cast(),
            ],
        )?;
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
            &mut [
                (&raw mut x_at).cast(),
                (&raw mut width).cast(),
                (&raw mut out_at).cast(),
                (&raw mut scales_at).cast(),
            ],
        )?;
        Ok(Some(out))
    }

    /// `x + bias`, or that and `residual`; all but `bias [c]` are `[b, c, h, w]` with channels last. In the place of `x`, which is used up;
    /// `None` where it does not fit.
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
            &mut [
                (&raw mut x_at).cast(),
                (&raw mut bias_at).cast(),
                (&raw mut residual_at).cast(),
                (&raw mut channels).cast(),
                (&raw mut vectors).cast(),
                (&raw mut out_at).cast(),
            ],
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
            &mut [
                (&raw mut x_at).cast(),
                (&raw mut width).cast(),
                (&raw mut channels).cast(),
                (&raw mut vectors).cast(),
                (&raw mut out_at).cast(),
            ],
        )?;
        Ok(Some(out))
    }

    /// `input [.., c_in] · weightᵀ [c_in, c_out] + bias`, added to `into [.., c_out]` where that is given, in its place; `None` where it does
    /// not fit. A weight's rows may lie in a wider one.
    pub(in crate::torch) fn linear(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        into: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let fits = input.kind() == self.kind && weight.kind() == self.kind;
        if fits { self.product(input, weight, None, bias, into) } else { Ok(None) }
    }

    /// As [`linear`](Kernels::linear), of 8-bit floats.
    pub(in crate::torch) fn linear_fp8(
        &self,
        input: &Fp8,
        weight: &Fp8,
        bias: Option<&Tensor>,
        into: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        self.product(&input.values, &weight.values, Some((&weight.scales, &input.scales)), bias, into)
    }

    fn product(
        &self,
        input: &Tensor,
        weight: &Tensor,
        scales: Option<(&Tensor, &Tensor)>,
        bias: Option<&Tensor>,
        into: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let Some(matmul) = &self.matmul else { return Ok(None) };
        let mut size = input.size();
        let last = size.len() - 1;
        let (outer, inner) = weight.size2()?;
        // Rows of 16 bytes.
        let even = if scales.is_some() { 16 } else { 8 };
        let fits = size[last] == inner
            && inner % even == 0
            && outer % even == 0
            && weight.stride()[1] == 1
            && input.is_contiguous()
            && into.is_none_or(|into| into.is_contiguous());
        if !fits {
            return Ok(None);
        }
        let rows = size[..last].iter().product::<i64>();
        size[last] = outer;
        let out = match into {
            Some(into) => into.shallow_clone(),
            None => Tensor::f_empty(&size, (self.kind, input.device()))?,
        };
        let product = Product {
            input: input.data_ptr(),
            input_stride: inner,
            weight: weight.data_ptr(),
            weight_stride: weight.stride()[0],
            bias,
            out: out.data_ptr(),
            rows,
            inner,
            outer,
            adds: into.is_some(),
            scales,
        };
        let handle = stream::handle(self.index)?;
        let clock = |once: &dyn Fn() -> std::result::Result<(), String>| self.clock(once);
        let stream = Stream { handle, records: self.records.get(), clock: Some(&clock) };
        // SAFETY: shapes, strides and kinds were checked above; the tensors lie on this GPU, as its kernels were given to their layer.
        unsafe { matmul.run(&product, &stream) }.map_err(TchError::Torch)?;
        Ok(Some(out))
    }

    /// Milliseconds of the fastest of a few runs of `once`, after one that warms up.
    pub(super) fn clock(
        &self,
        once: &dyn Fn() -> std::result::Result<(), String>,
    ) -> std::result::Result<f64, String> {
        const RUNS: usize = 5;
        let stream = stream::handle(self.index).map_err(|error| error.to_string())?;
        once()?;
        let mut best = f64::INFINITY;
        for _ in 0..RUNS {
            best = best.min(self.driver.time(stream, once)?);
        }
        Ok(best)
    }
}
