//! `lcm`: multistep sampling of latent consistency models.

use super::betas::{self, Defaults, ZeroSnr};
use super::euler::PICTURE_PREDICTIONS;
use super::level::Level;
use super::steps::Steps;
use super::{
    BetaSchedule, Mix, Noised, PredictionType, Readout, Scheduler, SchedulerConfig, SchedulerError, Step,
};

/// What the classes of consistency models take for options that the config leaves out.
pub(super) const DEFAULTS: Defaults =
    Defaults { beta_start: 0.00085, beta_end: 0.012, beta_schedule: BetaSchedule::ScaledLinear };

/// Reads the finished picture at once, then adds fresh noise for the next look, of which there are
/// few.
///
/// Source: diffusers 0.42.1, `schedulers/scheduling_lcm.py`, `LCMScheduler`. Paper: Luo et al.
/// 2023, "Latent Consistency Models", algorithm 3; boundary condition of appendix D.
pub(super) struct Lcm {
    timesteps: Vec<f64>,
    levels: Vec<Level>,
    timestep_scaling: f64,
    prediction: PredictionType,
    clip: Option<f64>,
}

impl Lcm {
    pub(super) fn new(config: &SchedulerConfig, steps: &Steps) -> Result<Self, SchedulerError> {
        config.no_thresholding()?;
        let prediction = config.prediction(&PICTURE_PREDICTIONS)?;
        let alphas_cumprod = betas::alphas_cumprod(config, &DEFAULTS, ZeroSnr::Exact)?;
        let timesteps = timesteps(config, alphas_cumprod.len(), steps)?;
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

/// The caller's own timesteps, or some of the distillation's: every so many, from the last down.
pub(super) fn timesteps(
    config: &SchedulerConfig,
    train: usize,
    steps: &Steps,
) -> Result<Vec<usize>, SchedulerError> {
    let original = config.original_inference_steps.unwrap_or(50);
    if !(1..=train).contains(&original) {
        let expected = format!("1 to {train}, the timesteps of training");
        return Err(SchedulerError::option("original_inference_steps", original, expected));
    }
    if let Steps::Timesteps(timesteps) = steps {
        return Ok(timesteps.iter().map(|timestep| *timestep as usize).collect());
    }
    let steps = steps.number();
    if steps > original {
        let expected = format!("1 to {original}, as `original_inference_steps` says");
        return Err(SchedulerError::Steps { steps, expected });
    }
    let (spacing, share) = (train / original, original as f64 / steps as f64);
    let timestep = |i: usize| (original - (i as f64 * share) as usize) * spacing - 1;
    Ok((0..steps).map(timestep).collect())
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

    fn noised(&self, i: usize) -> Noised {
        self.levels[i].noised()
    }

    fn skip(&mut self, evaluations: usize) {
        self.timesteps.drain(..evaluations);
        self.levels.drain(..evaluations);
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
        let lcm = Lcm::new(&SchedulerConfig::sdxl_base(), &Steps::Number(4)).unwrap();
        assert_eq!(lcm.timesteps(), [999.0, 759.0, 499.0, 259.0]);
    }

    #[test]
    fn more_steps_than_the_distillation_had_are_refused() {
        let error = SchedulerConfig::sdxl_base().with_name(SchedulerName::Lcm).build(51).err().unwrap();
        assert_eq!(error.to_string(), "`steps` is 51; expected 1 to 50, as `original_inference_steps` says");
    }
}
