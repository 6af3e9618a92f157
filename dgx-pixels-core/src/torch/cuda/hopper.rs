//! The kernels for Hopper alone: how they are loaded, how each cuts its output, and the shared
//! memory that each takes.

use super::driver::Function;
use super::texts::Text;
use crate::device::Mode;
use crate::gpu::Driver;

/// Kernels for Hopper alone, which multiply by `wgmma`.
pub(super) struct Hopper {
    pub(super) linear_geglu: Function,
    /// Not in [`Mode::Exact`], as they round less often.
    pub(super) convolutions: Option<Convolutions>,
    /// In [`Mode::Fp8`].
    pub(super) fp8: Option<HopperFp8>,
}

/// The parts into which a kernel cuts its output.
pub(super) struct Cut {
    /// Pixels of a tile, a power of two, and columns.
    pub(super) rows: i64,
    pub(super) columns: i64,
    /// Pixels that are stored at once.
    pub(super) stored: i64,
}

/// The kernels of `convolve.cu`, in the order of [`Convolutions::CUTS`].
pub(super) struct Convolutions(pub(super) [Function; 2]);

/// The kernels of `products_e4m3.cu`.
pub(super) struct HopperFp8 {
    pub(super) linear: Function,
    pub(super) linear_short: Function,
    pub(super) linear_blocks: Function,
    pub(super) linear_geglu: Function,
}

/// Columns of 8-bit floats that share a factor in the output of `linear_geglu_e4m3`.
pub(super) const BLOCK: i64 = 128;

impl Hopper {
    /// The bytes that `linear_geglu` takes of shared memory, nearly all that a multiprocessor has.
    pub(super) const GEGLU_SHARED_BYTES: u32 = 4 * 49152 + 32768 + 64;

    /// `compiled` makes machine code of a text.
    pub(super) fn load(
        driver: &Driver,
        compiled: &dyn Fn(Text) -> std::result::Result<Vec<u8>, String>,
        mode: Mode,
    ) -> std::result::Result<Hopper, String> {
        let cubin = compiled(Text::LinearGeglu)?;
        let linear_geglu = driver.load(&cubin)?.function("linear_geglu")?;
        driver.allow_shared(linear_geglu, Hopper::GEGLU_SHARED_BYTES)?;
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

impl Convolutions {
    pub(super) const CUTS: [Cut; 2] =
        [Cut { rows: 128, columns: 160, stored: 64 }, Cut { rows: 128, columns: 256, stored: 64 }];
    /// The bytes that each takes of shared memory: stages, output and barriers.
    pub(super) const SHARED_BYTES: [u32; 2] = [5 * 36_864 + 40_960 + 96, 3 * 49_152 + 65_536 + 64];

    fn load(driver: &Driver, cubin: &[u8]) -> std::result::Result<Convolutions, String> {
        let module = driver.load(cubin)?;
        let function = |i: usize| {
            let function = module.function(&format!("convolve_{}", Convolutions::CUTS[i].columns))?;
            driver.allow_shared(function, Convolutions::SHARED_BYTES[i])?;
            Ok::<_, String>(function)
        };
        Ok(Convolutions([function(0)?, function(1)?]))
    }
}

impl HopperFp8 {
    pub(super) const LINEAR: Cut = Cut { rows: 128, columns: 160, stored: 64 };
    pub(super) const GEGLU: Cut = Cut { rows: 128, columns: BLOCK, stored: 128 };
    /// For few rows.
    pub(super) const SHORT: Cut = Cut { rows: 64, columns: 160, stored: 64 };
    /// The bytes that the kernels take of shared memory.
    pub(super) const LINEAR_SHARED_BYTES: u32 = 5 * 36_864 + 40_960 + 96;
    pub(super) const SHORT_SHARED_BYTES: u32 = 5 * 28_672 + 20_480 + 96;
    pub(super) const GEGLU_SHARED_BYTES: u32 = 4 * 49_152 + 64;

    fn load(driver: &Driver, cubin: &[u8]) -> std::result::Result<HopperFp8, String> {
        let module = driver.load(cubin)?;
        let function = |name, shared_bytes| {
            let function = module.function(name)?;
            driver.allow_shared(function, shared_bytes)?;
            Ok::<_, String>(function)
        };
        Ok(HopperFp8 {
            linear: function("linear_e4m3", HopperFp8::LINEAR_SHARED_BYTES)?,
            linear_short: function("linear_e4m3_short", HopperFp8::SHORT_SHARED_BYTES)?,
            linear_blocks: function("linear_e4m3_blocks", HopperFp8::LINEAR_SHARED_BYTES)?,
            linear_geglu: function("linear_geglu_e4m3", HopperFp8::GEGLU_SHARED_BYTES)?,
        })
    }
}
