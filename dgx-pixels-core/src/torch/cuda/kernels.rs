//! Kernels of a GPU: compiled, loaded, launched. What they compute stands in `pixels`, `rows` and
//! `products`, in plain tensors; `tests` hold them against that on a GPU.

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use super::convolution::Convolutions;
use super::driver::{Function, Launch, Number};
use super::fp8::{Fp8, HopperFp8};
use super::matmul::MatMul;
use super::nvrtc;
use super::pixels::MAX_IMAGES;
use super::products::GEGLU_SHARED_BYTES;
use super::rows::VECTORS;
use super::stream;
use super::texts::{self, Text};
use crate::device::{Device, Dtype, Mode};
use crate::gpu::Driver;

pub(super) type Result<T> = std::result::Result<T, TchError>;

/// Blocks that a pass which only streams is cut into, for each multiprocessor.
pub(super) const BLOCKS_EACH: i64 = 4;

/// What a kernel takes, in its order: places that outlive the launch.
macro_rules! arguments {
    ($($argument:ident),+ $(,)?) => { &mut [$((&raw mut $argument).cast()),+] };
}
pub(super) use arguments;

/// Kernels and products on one GPU in one precision. For the one thread that owns the model.
pub(in crate::torch) struct Kernels {
    pub(super) driver: Driver,
    pub(super) index: usize,
    pub(super) kind: Kind,
    pub(super) multiprocessors: i64,
    /// See [`Launch::early`].
    pub(super) early: bool,
    /// Plain, and with vectors to be added.
    pub(super) group_stats: [Function; 2],
    pub(super) group_norm: [Function; 2],
    pub(super) group_norm_e4m3: [Function; 2],
    pub(super) layer_norms: [Function; 4],
    pub(super) layer_norms_e4m3: [Function; 4],
    pub(super) rounds_e4m3: [Function; 4],
    pub(super) geglu: Function,
    pub(super) geglu_e4m3: Function,
    /// For at most 80 tokens, and for 128.
    pub(super) cross_attentions: [Function; 2],
    pub(super) hopper: Option<Hopper>,
    pub(super) add: Function,
    pub(super) upsample: Function,
    pub(super) matmul: Option<MatMul>,
    /// Counters of `group_stats`, zero between calls.
    pub(super) arrived: Tensor,
    fast: bool,
    fp8: bool,
    pub(super) records: Cell<bool>,
}

/// Kernels for Hopper alone, which multiply by `wgmma`.
pub(super) struct Hopper {
    pub(super) linear_geglu: Function,
    /// Not in [`Mode::Exact`], as they round less often.
    pub(super) convolutions: Option<Convolutions>,
    /// In [`Mode::Fp8`].
    pub(super) fp8: Option<HopperFp8>,
}

// SAFETY: nothing in it belongs to a thread: CUDA's handles may be used from any, one at a time.
// `Sync` holds because it is reached through the layers of one model, which one thread owns
// (`Backend`).
unsafe impl Send for Kernels {}
// SAFETY: as above.
unsafe impl Sync for Kernels {}

impl Hopper {
    /// `compiled` makes machine code of a text.
    fn load(
        driver: &Driver,
        compiled: &dyn Fn(Text) -> std::result::Result<Vec<u8>, String>,
        mode: Mode,
    ) -> std::result::Result<Hopper, String> {
        let cubin = compiled(Text::LinearGeglu)?;
        let linear_geglu = driver.load(&cubin)?.function("linear_geglu")?;
        driver.allow_shared(linear_geglu, GEGLU_SHARED_BYTES)?;
        let convolutions = match mode {
            Mode::Exact => None,
            _ => compiled(Text::Convolve)
                .and_then(|cubin| Convolutions::load(driver, &cubin))
                .inspect_err(|reason| tracing::warn!("convolutions are cuDNN's: {reason}"))
                .ok(),
        };
        let fp8 = match mode {
            Mode::Fp8 => compiled(Text::ProductsE4m3)
                .and_then(|cubin| HopperFp8::load(driver, &cubin))
                .inspect_err(|reason| tracing::warn!("products of 8-bit floats are cuBLASLt's: {reason}"))
                .ok(),
            _ => None,
        };
        Ok(Hopper { linear_geglu, convolutions, fp8 })
    }
}

impl Kernels {
    /// Compiles and loads them, or says why it cannot be. `mode` is not [`Mode::Exact`] where sums
    /// may be rounded once less and algorithms be tried.
    pub(in crate::torch) fn load(
        device: Device,
        dtype: Dtype,
        mode: Mode,
    ) -> std::result::Result<Arc<Kernels>, String> {
        let Device::Cuda(index) = device else {
            return Err("they are for NVIDIA GPUs".into());
        };
        let options = texts::options(dtype)?;
        let driver = Driver::open()?;
        let compute_capability = driver.compute_capability(index)?;
        let driver_version = driver.version()?;
        let compiled =
            |text: Text| nvrtc::cubin(&text.source(compute_capability, options, driver_version)?);
        let _stream = stream::OnStream::enter(device).map_err(|error| error.to_string())?;
        let arrived =
            Tensor::f_zeros([MAX_IMAGES], (Kind::Int, device.tch())).map_err(|error| error.to_string())?;
        let cubin = compiled(Text::Kernels)?;
        let module = driver.load(&cubin)?;
        let hopper = match Text::LinearGeglu.architecture(compute_capability) {
            Some(_) => Some(Hopper::load(&driver, &compiled, mode)?),
            None => None,
        };
        let of_each_width = |name: &str| -> std::result::Result<[Function; 4], String> {
            let [a, b, c, d] = VECTORS.map(|vectors| module.function(&format!("{name}_{vectors}")));
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
        let group_norm_e4m3 = [function("group_norm_e4m3_plain")?, function("group_norm_e4m3_open")?];
        let (geglu, add, upsample) = (function("geglu")?, function("add")?, function("upsample")?);
        let fast = mode != Mode::Exact;
        let gpu = format!("{}, driver {}", driver.gpu(index)?.name, driver_version);
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
            group_norm_e4m3,
            layer_norms,
            layer_norms_e4m3,
            rounds_e4m3,
            geglu,
            geglu_e4m3,
            cross_attentions,
            hopper,
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

    /// Whether it has those for Hopper.
    pub(in crate::torch) fn hopper(&self) -> bool {
        self.hopper.is_some()
    }

    /// Whether linear layers that can are to be of 8-bit floats.
    pub(in crate::torch) fn is_fp8(&self) -> bool {
        self.fp8
    }

    /// What they compute in.
    pub(in crate::torch) fn dtype(&self) -> Dtype {
        if self.kind == Kind::Half { Dtype::F16 } else { Dtype::Bf16 }
    }

    pub(super) fn number(&self) -> Number {
        if self.kind == Kind::Half { Number::F16 } else { Number::Bf16 }
    }

    /// Whether sums may be rounded once less than in diffusers.
    pub(in crate::torch) fn is_fast(&self) -> bool {
        self.fast && self.matmul.is_some()
    }

    /// While a graph is recorded nothing is timed.
    pub(in crate::torch) fn set_records(&self, records: bool) {
        self.records.set(records);
    }

    /// Gives a kernel to our stream; `arguments` are what it takes in its text.
    pub(super) fn launch(
        &self,
        function: Function,
        launch: Launch,
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        let stream = stream::handle(self.index)?;
        // SAFETY: each caller, beside the kernels' texts, passes what its kernel takes there.
        unsafe { self.driver.launch(function, launch, stream, arguments) }.map_err(TchError::Torch)
    }

    /// For a pass over so many vectors of eight numbers.
    pub(super) fn vectors(&self, vectors: i64) -> Launch {
        const THREADS: i64 = 256;
        let blocks = ((vectors + THREADS - 1) / THREADS).min(self.multiprocessors * BLOCKS_EACH * 4);
        Launch { grid: (blocks as u32, 1), threads: THREADS as u32, shared_bytes: 0, early: self.early }
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
