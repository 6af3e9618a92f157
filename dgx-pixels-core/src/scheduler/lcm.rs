//! `lcm`: multistep sampling of latent consistency models.

use super::betas::{self, Defaults, ZeroSnr};
use super::euler::PICTURE_PREDICTIONS;
use super::level::Level;
use super::{BetaSchedule, Mix, PredictionType, Readout, Scheduler, SchedulerConfig, SchedulerError, Step};

const DEFAULTS: Defaults =
    Defaults { beta_start: 0.00085, beta_end: 0.012, beta_schedule: BetaSchedule::ScaledLinear };

/// Reads the finished picture at once, then adds fresh noise for the next look, of which there are few.
///
/// Source: diffusers 0.42.1, `schedulers/scheduling_lcm.py`, `LCMScheduler`.
/// Paper: Luo et al. 2023, "Latent Consistency Models", algorithm 3; boundary condition of appendix D.
pub(super) struct Lcm {
    timesteps: Vec<f64>,
    levels: Vec<Level>,
    timestep_scaling: f64,
    prediction: PredictionType,
    clip: Option<f64>,
}

impl Lcm {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, SchedulerError> {
        config.no_thresholding()?;
        let prediction = config.prediction(&PICTURE_PREDICTIONS)?;
        let alphas_cumprod = betas::alphas_cumprod(config, &DEFAULTS, ZeroSnr::Exact)?;
        let train = alphas_cumprod.len();
        let original = config.original_inference_steps.unwrap_or(50);
        if !(1..=train).contains(&original) {
            let expected = format!("1 to {train}, the timesteps of training");
            return Err(SchedulerError::option("original_inference_steps", original, expected));
        }
        if steps > original {
            let expected = format!("1 to {original}, as `original_inference_steps` says");
            return Err(SchedulerError::Steps { steps, expected });
        }
        // Every so many of the distillation's timesteps, from the last down.
        let spacing = train / original;
        let share = original as f64 / steps as f64;
        let timestep = |i: usize| (original - (i as f64 * share) as usize) * spacing - 1;
        let timesteps: Vec<usize> = (0..steps).map(timestep).collect();
        Ok(Lcm {
            levels: timesteps
                .iter()
                .map(|&t| Level::of_alpha_cumprod(f64::from(alphas_cumprod[t])))
                .collect(),
            timesteps: timesteps.into_iter().map(|timestep| timestep as f64).collect(),
            timestep_scaling: config.timestep_scaling.unwrap_or(10.0),
            prediction,
            clip: config.clip(false),
        })
    }
}

impl Scheduler for Lcm {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn initial_sigma(&self) -> f64 {
        1.0
    }

    fn input_scale(&self, _: usize) -> f64 {
        1.0
    }

    fn denoised(&self, i: usize) -> Readout {
        Readout { clip: self.clip, ..self.levels[i].picture(self.prediction) }
    }

    fn step(&self, i: usize) -> Step {
        const SIGMA_DATA: f64 = 0.5;
        let time = self.timesteps[i] * self.timestep_scaling;
        let square = time * time + SIGMA_DATA * SIGMA_DATA;
        let (skip, out) = (SIGMA_DATA * SIGMA_DATA / square, time / square.sqrt());
        let (alpha, sigma) = self.levels.get(i + 1).map_or((1.0, 0.0), |next| (next.alpha, next.sigma));
        Mix { sample: alpha * skip, denoised: alpha * out, noise: sigma, ..Mix::ZERO }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerName;
    use super::*;

    #[test]
    fn timesteps_are_some_of_the_distillations() {
        let lcm = Lcm::new(&SchedulerConfig::sdxl_base(), 4).unwrap();
        assert_eq!(lcm.timesteps(), [999.0, 759.0, 499.0, 259.0]);
    }

    #[test]
    fn more_steps_than_the_distillation_had_are_refused() {
        let error = SchedulerConfig::sdxl_base().with_name(SchedulerName::Lcm).build(51).err().unwrap();
        assert_eq!(error.to_string(), "`steps` is 51; expected 1 to 50, as `original_inference_steps` says");
    }
}
