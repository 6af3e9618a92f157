//! `euler`: Euler's method on the probability flow.

use super::betas::{self, DDPM, ZeroSnr};
use super::level::Level;
use super::sigmas::{Curve, Spread, TrainingSigmas, linspace_f32, rounded_to_f32};
use super::steps::Steps;
use super::{
    FinalSigmas, Interpolation, Mix, Noised, PredictionType, Readout, Scheduler, SchedulerConfig,
    SchedulerError, Step, TimestepSpacing, TimestepType,
};

/// Follows the derivative at each noise level straight to the next level.
///
/// Source: diffusers 0.42.1, `schedulers/scheduling_euler_discrete.py`, `EulerDiscreteScheduler`.
/// Paper: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models",
/// algorithm 2 without churn.
pub(super) struct Euler {
    timesteps: Vec<f64>,
    /// One more than timesteps, greatest first.
    sigmas: Vec<f64>,
    spacing: TimestepSpacing,
    prediction: PredictionType,
}

impl Euler {
    pub(super) fn new(config: &SchedulerConfig, steps: &Steps) -> Result<Self, SchedulerError> {
        let prediction = config.prediction(&PICTURE_PREDICTIONS)?;
        let spread = Spread::new(config, TimestepSpacing::Linspace);
        let training = TrainingSigmas::new(&betas::alphas_cumprod(config, &DDPM, ZeroSnr::Floored)?);

        if let Steps::Sigmas(sigmas) = steps {
            return Ok(Euler::of_sigmas(config, sigmas, &training, prediction));
        }

        // 1. evenly spread timesteps, or the caller's, and their levels
        let mut timesteps = rounded_to_f32(spread.to_the_end_or_given(steps));
        let mut sigmas: Vec<f64> = match config.interpolation_type.unwrap_or(Interpolation::Linear) {
            Interpolation::Linear => timesteps.iter().map(|&timestep| training.at(timestep)).collect(),
            Interpolation::LogLinear => {
                let (max, min) = training.log_bounds();
                let logs = linspace_f32(max, min, steps.number() + 1);
                logs.into_iter().map(|log| f64::from(f64::from(log).exp() as f32)).collect()
            }
        };

        // 2. or levels of their own, and timesteps to suit
        if let Some(curve) = Curve::chosen(config)? {
            sigmas = curve.sigmas(config, sigmas[0], sigmas[sigmas.len() - 1], steps.number());
            timesteps = sigmas.iter().map(|&sigma| training.timestep(sigma)).collect();
        }

        // 3. the level that the last step leads to
        sigmas.push(match config.final_sigmas_type.unwrap_or(FinalSigmas::Zero) {
            FinalSigmas::Zero => 0.0,
            FinalSigmas::SigmaMin => training.least(),
        });
        let sigmas = rounded_to_f32(sigmas);
        if is_continuous(config, prediction) {
            timesteps = continuous(&sigmas);
        }
        Ok(Euler { timesteps: rounded_to_f32(timesteps), sigmas, spacing: spread.spacing, prediction })
    }

    /// Steps between the caller's own levels, the last of which is where the image ends.
    fn of_sigmas(
        config: &SchedulerConfig,
        sigmas: &[f64],
        training: &TrainingSigmas,
        prediction: PredictionType,
    ) -> Euler {
        let sigmas = rounded_to_f32(sigmas.to_vec());
        let timesteps = match is_continuous(config, prediction) {
            true => continuous(&sigmas),
            false => {
                let levels = sigmas[..sigmas.len() - 1].iter();
                levels.map(|sigma| training.timestep_of_f32(*sigma as f32)).collect()
            }
        };
        let spacing = Spread::new(config, TimestepSpacing::Linspace).spacing;
        Euler { timesteps: rounded_to_f32(timesteps), sigmas, spacing, prediction }
    }
}

/// `true` if the UNet is given the level's logarithm for a time.
fn is_continuous(config: &SchedulerConfig, prediction: PredictionType) -> bool {
    config.timestep_type == Some(TimestepType::Continuous) && prediction == PredictionType::VPrediction
}

/// A quarter of the logarithm of each level but the last.
pub(super) fn continuous(sigmas: &[f64]) -> Vec<f64> {
    sigmas[..sigmas.len() - 1].iter().map(|sigma| 0.25 * f64::from(sigma.ln() as f32)).collect()
}

/// What the UNet of a model without flow matching may answer.
pub(super) const PICTURE_PREDICTIONS: [PredictionType; 3] =
    [PredictionType::Epsilon, PredictionType::Sample, PredictionType::VPrediction];

/// The size of the first sample where it is picture + noise: leading spacing counts the picture in.
pub(super) fn initial_sigma(sigmas: &[f64], spacing: TimestepSpacing) -> f64 {
    let max = sigmas.iter().copied().fold(0.0, f64::max);
    if spacing == TimestepSpacing::Leading { (max * max + 1.0).sqrt() } else { max }
}

impl Scheduler for Euler {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn initial_sigma(&self) -> f64 {
        initial_sigma(&self.sigmas, self.spacing)
    }

    fn input_scale(&self, i: usize) -> f64 {
        Level::of_sigma(self.sigmas[i]).alpha
    }

    fn denoised(&self, i: usize) -> Readout {
        Level::of_sigma(self.sigmas[i]).picture_unscaled(self.prediction)
    }

    fn noised(&self, i: usize) -> Noised {
        Noised { image: 1.0, noise: self.sigmas[i] }
    }

    fn skip(&mut self, evaluations: usize) {
        self.timesteps.drain(..evaluations);
        self.sigmas.drain(..evaluations);
    }

    fn step(&self, i: usize) -> Step {
        let r = self.sigmas[i + 1] / self.sigmas[i];
        Mix { sample: r, denoised: 1.0 - r, ..Mix::ZERO }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_euler_step_returns_the_denoised_sample() {
        let euler = SchedulerConfig::sdxl_base().build(5).unwrap();
        assert_eq!(euler.step(4).next, Mix { denoised: 1.0, ..Mix::ZERO });
    }

    #[test]
    fn two_curves_at_once_are_refused() {
        let config = SchedulerConfig {
            use_karras_sigmas: Some(true),
            use_beta_sigmas: Some(true),
            ..SchedulerConfig::sdxl_base()
        };
        let error = config.build(5).err().unwrap();
        assert_eq!(
            error.to_string(),
            "`use_beta_sigmas` is true; expected false, since `use_karras_sigmas` is true"
        );
    }
}
