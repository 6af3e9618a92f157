//! `euler_ancestral`: Euler's method with fresh noise at every step.

use super::betas::{self, DDPM, ZeroSnr};
use super::euler::initial_sigma;
use super::level::Level;
use super::sigmas::{Spread, TrainingSigmas, rounded_to_f32};
use super::{
    Mix, Noised, PredictionType, Readout, Scheduler, SchedulerConfig, SchedulerError, Step, TimestepSpacing,
};

/// Steps below the next noise level and adds noise up to it, as much as ancestral sampling would.
///
/// Source: diffusers 0.42.1, `schedulers/scheduling_euler_ancestral_discrete.py`,
/// `EulerAncestralDiscreteScheduler`. Paper: Karras et al. 2022, "Elucidating the Design Space of
/// Diffusion-Based Generative Models"; the split of the noise is k-diffusion's
/// `get_ancestral_step`.
pub(super) struct EulerAncestral {
    timesteps: Vec<f64>,
    /// One more than timesteps, greatest first.
    sigmas: Vec<f64>,
    spacing: TimestepSpacing,
    prediction: PredictionType,
}

impl EulerAncestral {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, SchedulerError> {
        let prediction = config.prediction(&[PredictionType::Epsilon, PredictionType::VPrediction])?;
        let spread = Spread::new(config, TimestepSpacing::Linspace);
        let training = TrainingSigmas::new(&betas::alphas_cumprod(config, &DDPM, ZeroSnr::Floored)?);
        let timesteps = rounded_to_f32(spread.to_the_end(steps));
        let mut sigmas: Vec<f64> = timesteps.iter().map(|&timestep| training.at(timestep)).collect();
        sigmas.push(0.0);
        Ok(EulerAncestral { timesteps, sigmas: rounded_to_f32(sigmas), spacing: spread.spacing, prediction })
    }
}

impl Scheduler for EulerAncestral {
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
        let (from, to) = (self.sigmas[i], self.sigmas[i + 1]);
        let up = to * (from * from - to * to).sqrt() / from;
        let down = to * to / from;
        let r = down / from;
        Mix { sample: r, denoised: 1.0 - r, noise: up, ..Mix::ZERO }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_parts_of_the_noise_make_the_next_level() {
        let scheduler = EulerAncestral::new(&SchedulerConfig::sdxl_base(), 7).unwrap();
        for i in 0..7 {
            let mix = scheduler.step(i).next;
            let left = mix.sample * scheduler.sigmas[i];
            assert!((left.hypot(mix.noise) - scheduler.sigmas[i + 1]).abs() < 1e-12);
        }
    }

    #[test]
    fn the_last_step_adds_no_noise() {
        let scheduler = EulerAncestral::new(&SchedulerConfig::sdxl_base(), 7).unwrap();
        assert_eq!(scheduler.step(6).next, Mix { denoised: 1.0, ..Mix::ZERO });
    }
}
