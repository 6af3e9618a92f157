//! The kernels of a GPU compiled, loaded and tried.

use std::cell::Cell;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::driver::Function;
use super::fp8::Fp8;
use super::hopper::Hopper;
use super::kernels::{Kernels, MAX_IMAGES, Result, VECTORS};
use super::matmul::MatMul;
use super::nvrtc;
use super::stream;
use super::texts::{self, Text};
use crate::device::{Device, Dtype, Mode};
use crate::gpu::Driver;

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

    /// Tries a small product of 8-bit floats.
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
}
