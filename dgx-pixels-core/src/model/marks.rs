//! The marks in a single file that say how its UNet was trained. They are tensors without weights,
//! and notes.
//!
//! Source of the marks: ComfyUI, `comfy/supported_models.py`.

use safetensors::Dtype;

use super::Model;
use super::files::Shard;
use crate::scheduler::{PredictionType, SchedulerConfig, SchedulerName, SigmaSchedule, TimestepSpacing};

/// The names of all marks.
pub(super) const NAMES: [&str; 6] =
    ["v_pred", "ztsnr", "edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min"];

/// Gives `model` the noise schedule that the marks of its file stand for.
///
/// # Errors
/// A sentence that names a mark whose numbers are not what they should be.
pub(super) fn apply(file: &Shard, model: &mut Model) -> Result<(), String> {
    let has = |name: &str| file.header.tensor(name).is_some();
    let note = |name: &str| file.header.notes.get(name).map(|note| &**note);
    // NoobAI and Illustrious. Other models leave no mark of what they predict.
    if has("v_pred") || matches!(note("modelspec.prediction_type"), Some("v" | "v_prediction")) {
        model.scheduler.prediction_type = Some(PredictionType::VPrediction);
    }
    if has("ztsnr") {
        model.scheduler.rescale_betas_zero_snr = Some(true);
        model.scheduler.timestep_spacing = Some(TimestepSpacing::Trailing);
    }
    // CosXL. Source: ComfyUI, `comfy/model_sampling.py`, `ModelSamplingContinuousEDM` with a spread
    // of 1; the levels lie at equal ratios there too.
    if has("edm_vpred.sigma_max") {
        let one = |name: &str| match numbers(file, name)?.as_deref() {
            None => Ok(None),
            Some([sigma]) if *sigma > 0.0 && *sigma < 1e6 => Ok(Some(*sigma)),
            Some(found) => Err(format!("`{name}` is {found:?}; expected one number above 0")),
        };
        model.scheduler = SchedulerConfig {
            prediction_type: Some(PredictionType::VPrediction),
            sigma_data: Some(1.0),
            sigma_min: one("edm_vpred.sigma_min")?.or(Some(0.002)),
            sigma_max: one("edm_vpred.sigma_max")?,
            sigma_schedule: Some(SigmaSchedule::Exponential),
            ..SchedulerConfig::new(SchedulerName::EdmEuler)
        };
    }
    // Playground v2.5. Source: the config files of playgroundai/playground-v2.5-1024px-aesthetic.
    if has("edm_mean") || has("edm_std") {
        let channels = usize::try_from(model.vae.latent_channels).unwrap_or(0);
        let all = |name: &str| {
            let found = numbers(file, name)?.unwrap_or_default();
            if found.len() == channels {
                return Ok(Some(found));
            }
            Err(format!("`{name}` has {} numbers; expected {channels}, one for each channel", found.len()))
        };
        model.vae.latents_mean = all("edm_mean")?;
        model.vae.latents_std = all("edm_std")?;
        model.vae.scaling_factor = 0.5;
        model.generation.guidance_scale = 3.0;
        model.scheduler = SchedulerConfig {
            prediction_type: Some(PredictionType::Epsilon),
            sigma_data: Some(0.5),
            sigma_min: Some(0.002),
            sigma_max: Some(80.0),
            rho: Some(7.0),
            ..SchedulerConfig::new(SchedulerName::EdmDpmpp2m)
        };
        model.vae.check()?;
    }
    Ok(())
}

/// The numbers of a small tensor; `None` if the file has none of this name.
fn numbers(file: &Shard, name: &str) -> Result<Option<Vec<f64>>, String> {
    let Some(tensor) = file.header.tensor(name) else { return Ok(None) };
    let bytes = &file.bytes[tensor.bytes.clone()];
    if bytes.len() > 1024 {
        return Err(format!("`{name}` is {:?}; expected a few numbers", tensor.shape));
    }
    let read: Vec<f64> = match tensor.dtype {
        Dtype::F64 => bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect(),
        Dtype::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes).into()).collect(),
        Dtype::BF16 => {
            let wide = |[low, high]: [u8; 2]| f32::from_le_bytes([0, 0, low, high]).into();
            bytes.as_chunks().0.iter().copied().map(wide).collect()
        }
        Dtype::F16 => bytes.as_chunks().0.iter().map(|bytes| of_half(u16::from_le_bytes(*bytes))).collect(),
        other => return Err(format!("`{name}` is in {other:?}; expected a float")),
    };
    match read.iter().find(|number| !number.is_finite()) {
        Some(number) => Err(format!("`{name}` has {number}; expected finite numbers")),
        None => Ok(Some(read)),
    }
}

/// The number that 16 bits are in half precision (IEEE 754).
pub(super) fn of_half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    let size = match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use safetensors::tensor::TensorView;

    use super::*;

    /// The model in a file that has these tensors besides.
    fn marked(marks: &[(&str, Dtype, &[u8])]) -> Result<Model, String> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
        let bytes = fs::read(fixtures.join("tiny_sdxl_a.safetensors")).unwrap();
        let whole = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let views = marks.iter().map(|(name, dtype, bytes)| {
            let count = bytes.len() * 8 / dtype.bitsize();
            ((*name).to_owned(), TensorView::new(*dtype, vec![count], bytes).unwrap())
        });
        let views: Vec<_> = whole.iter().map(|(name, view)| (name.to_owned(), view)).chain(views).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        let base = Model::open(fixtures.join("tiny_sdxl_a")).unwrap();
        Model::open_on(&path, Some(&base)).map_err(|error| error.to_string())
    }

    fn singles(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().copied().flat_map(f32::to_le_bytes).collect()
    }

    #[test]
    fn cosxl_and_playground_have_the_schedules_that_they_were_trained_with() {
        let cosxl = marked(&[
            ("edm_vpred.sigma_max", Dtype::F32, &singles(&[120.0])),
            ("edm_vpred.sigma_min", Dtype::F16, &[0x19, 0x18]),
        ])
        .unwrap();
        assert_eq!(cosxl.single_file().unwrap().unknown, [] as [&str; 0]);
        let scheduler = &cosxl.scheduler;
        assert_eq!((scheduler.name, scheduler.sigma_max), (SchedulerName::EdmEuler, Some(120.0)));
        assert!((scheduler.sigma_min.unwrap() - 0.002).abs() < 1e-6);
        assert_eq!(scheduler.prediction_type, Some(PredictionType::VPrediction));
        let schedule = scheduler.build(4).unwrap();
        assert_eq!(schedule.initial_sigma(), 14401f64.sqrt());
        // With a spread of 1 it is sample / (1 + sigma²) - output * sigma / sqrt(1 + sigma²).
        let first = schedule.denoised(0);
        assert!((first.sample - 1.0 / 14401.0).abs() < 1e-9);
        assert!((first.output + 120.0 / 14401f64.sqrt()).abs() < 1e-6);

        let (mean, std) = ([-1.6574, 1.886, -1.383, 2.5155], [8.4927, 5.9022, 6.5498, 5.2299]);
        let playground =
            marked(&[("edm_mean", Dtype::F32, &singles(&mean)), ("edm_std", Dtype::F32, &singles(&std))])
                .unwrap();
        assert_eq!(playground.scheduler.name, SchedulerName::EdmDpmpp2m);
        assert_eq!(playground.vae.latents_mean, Some(mean.map(f64::from).to_vec()));
        assert_eq!((playground.vae.scaling_factor, playground.defaults().guidance_scale), (0.5, 3.0));
    }

    #[test]
    fn marks_with_other_numbers_are_named() {
        for (marks, reason) in [
            (("edm_vpred.sigma_max", Dtype::F32, singles(&[f32::NAN])), "has NaN; expected finite numbers"),
            (("edm_vpred.sigma_max", Dtype::F32, singles(&[-1.0])), "is [-1.0]; expected one number above 0"),
            (("edm_vpred.sigma_max", Dtype::U8, vec![1]), "is in U8; expected a float"),
            (("edm_mean", Dtype::F32, singles(&[1.0])), "has 1 numbers; expected 4, one for each channel"),
        ] {
            let (name, dtype, bytes) = &marks;
            let error = marked(&[(name, *dtype, bytes)]).unwrap_err();
            assert!(error.contains(&format!("`{name}` {reason}")), "{error}");
        }
    }

    #[test]
    fn half_precision_is_read_to_the_bit() {
        for (bits, number) in [(0x3c00, 1.0), (0xc000, -2.0), (0x0001, 2f64.powi(-24)), (0x7bff, 65504.0)] {
            assert_eq!(of_half(bits), number);
        }
        assert!(of_half(0x7e00).is_nan() && of_half(0xfc00) == f64::NEG_INFINITY);
    }
}
