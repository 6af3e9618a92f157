//! The speed at which a device multiplies matrices, to which measured speeds are compared.

use std::time::{Duration, Instant};

use tch::Tensor;

use super::Result as TorchResult;
use super::cuda::{Event, OnStream};
use super::device::InferenceMode;
use super::failed;
use crate::device::{Device, Dtype};
use crate::error::Error;

/// Products that are timed, after as many that warm up.
const RUNS: usize = 10;

/// Operations a second, of multiplications and additions together, of a product of two large random
/// matrices by libtorch: the median of several.
///
/// # Errors
/// [`Error::Device`]; [`Error::OutOfMemory`].
///
/// The matrices have 8192 rows and columns on a GPU, and 1024 on a CPU. Ten products are timed
/// after ten that warm up. A product counts as `2 * side^3` operations.
pub fn matrix_rate(device: Device, dtype: Dtype) -> Result<f64, Error> {
    let device = device.resolve()?;
    let side = if device == Device::Cpu { 1024 } else { 8192_i64 };
    let measure = || -> TorchResult<f64> {
        let _stream = OnStream::enter(device)?;
        let _guard = InferenceMode::enter();
        let random = || Tensor::f_randn([side, side], (dtype.kind(), device.tch()));
        let (a, b) = (random()?, random()?);
        let mut times: Vec<Duration> = vec![];
        for run in 0..2 * RUNS {
            let begun = Instant::now();
            let _product = a.f_matmul(&b)?;
            if let Some(end) = Event::record(device)? {
                end.synchronize()?;
            }
            if run >= RUNS {
                times.push(begun.elapsed());
            }
        }
        times.sort_unstable();
        Ok(2.0 * (side as f64).powi(3) / times[RUNS / 2].as_secs_f64())
    };
    measure().map_err(|error| failed(error, device, "multiplying matrices"))
}
