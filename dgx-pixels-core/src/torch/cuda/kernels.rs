//! The kernels of a GPU, and how they are launched. `load` compiles and loads them. What they
//! compute stands in `pixels`, `rows` and `products`, in plain tensors; `tests` hold them against
//! that on a GPU.

use std::cell::Cell;
use std::ffi::c_void;

use tch::{Kind, TchError, Tensor};

use super::driver::{Function, Launch, Number};
use super::hopper::Hopper;
use super::matmul::MatMul;
use super::stream;
use crate::device::Dtype;
use crate::gpu::Driver;

pub(super) type Result<T> = std::result::Result<T, TchError>;

/// Blocks that a pass which only streams is cut into, for each multiprocessor.
pub(super) const BLOCKS_EACH: i64 = 4;

/// The most images of one call. Each has a counter in [`Kernels::arrived`].
pub(super) const MAX_IMAGES: i64 = 1024;

/// The part of a row that a warp can keep, in vectors of 256 numbers, by the kernel that does.
pub(super) const VECTORS: [i64; 4] = [1, 3, 5, 8];

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
    pub(super) fast: bool,
    pub(super) fp8: bool,
    pub(super) records: Cell<bool>,
}

// SAFETY: nothing in it belongs to a thread: CUDA's handles may be used from any, one at a time.
// `Sync` holds because it is reached through the layers of one model, which one thread owns
// (`Backend`).
unsafe impl Send for Kernels {}
// SAFETY: as above.
unsafe impl Sync for Kernels {}

impl Kernels {
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
