//! `heun`: Heun's method, two UNet evaluations a step.

use super::betas::{self, Defaults, ZeroSnr};
use super::euler::{PICTURE_PREDICTIONS, initial_sigma};
use super::level::Level;
use super::sigmas::{Curve, Spread, TrainingSigmas, rounded_to_f32};
use super::steps::Steps;
use super::{
    BetaSchedule, Mix, Noised, PredictionType, Readout, Scheduler, SchedulerConfig, SchedulerError, Step,
    TimestepSpacing,
};

const DEFAULTS: Defaults =
    Defaults { beta_start: 0.00085, beta_end: 0.012, beta_schedule: BetaSchedule::Linear };

/// Goes to the next noise level as Euler does, looks at the derivative there, and goes again from
/// where it began with the mean of both. Even evaluations are first stages, odd ones second; the
/// step to no noise has only a first.
///
/// Source: diffusers 0.42.1, `schedulers/scheduling_heun_discrete.py`, `HeunDiscreteScheduler`.
/// Paper: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models",
/// algorithm 1.
pub(super) struct Heun {
    timesteps: Vec<f64>,
    /// For each evaluation the level it is made at, then 0.
    sigmas: Vec<f64>,
    spacing: TimestepSpacing,
    prediction: PredictionType,
    clip: Option<f64>,
}

impl Heun {
    pub(super) fn new(config: &SchedulerConfig, steps: &Steps) -> Result<Self, SchedulerError> {
        let prediction = config.prediction(&PICTURE_PREDICTIONS)?;
        let spread = Spread::new(config, TimestepSpacing::Linspace);
        let training = TrainingSigmas::new(&betas::alphas_cumprod(config, &DEFAULTS, ZeroSnr::Ignored)?);
        let mut timesteps = rounded_to_f32(spread.to_the_end_or_given(steps));
        let mut sigmas: Vec<f64> = timesteps.iter().map(|&timestep| training.at(timestep)).collect();
        if let Some(curve) = Curve::chosen(config)? {
            sigmas = curve.sigmas(config, sigmas[0], sigmas[sigmas.len() - 1], steps.number());
            timesteps = sigmas.iter().map(|&sigma| training.timestep(sigma)).collect();
        }
        let mut sigmas = twice_but_the_first(rounded_to_f32(sigmas));
        sigmas.push(0.0);
        Ok(Heun {
            timesteps: twice_but_the_first(rounded_to_f32(timesteps)),
            sigmas,
            spacing: spread.spacing,
            prediction,
            clip: config.clip(false),
        })
    }
}

fn twice_but_the_first(numbers: Vec<f64>) -> Vec<f64> {
    numbers.into_iter().flat_map(|number| [number, number]).skip(1).collect()
}

impl Scheduler for Heun {
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
        Readout { clip: self.clip, ..Level::of_sigma(self.sigmas[i]).picture_unscaled(self.prediction) }
    }

    fn noised(&self, i: usize) -> Noised {
        Noised { image: 1.0, noise: self.sigmas[i] }
    }

    fn skip(&mut self, evaluations: usize) {
        self.timesteps.drain(..evaluations);
        self.sigmas.drain(..evaluations);
    }

    fn step(&self, i: usize) -> Step {
        if i.is_multiple_of(2) {
            let r = self.sigmas[i + 1] / self.sigmas[i];
            let next = Mix { sample: r, denoised: 1.0 - r, ..Mix::ZERO };
            return Step { next, keep: Some(Mix::SAMPLE) };
        }
        // Half of each derivative, (sample - denoised) / sigma, over the whole way.
        let (from, to) = (self.sigmas[i - 1], self.sigmas[i]);
        let (began, ended) = (0.5 * (to - from) / from, 0.5 * (to - from) / to);
        Mix {
            anchor: 1.0 + began,
            previous: [-began, 0.0, 0.0],
            sample: ended,
            denoised: -ended,
            ..Mix::ZERO
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_but_the_last_evaluates_twice() {
        for steps in 1..6 {
            let heun = SchedulerConfig::sdxl_base()
                .with_name(super::super::SchedulerName::Heun)
                .build(steps)
                .unwrap();
            assert_eq!(heun.timesteps().len(), 2 * steps - 1);
        }
    }

    #[test]
    fn a_second_stage_starts_again_from_the_kept_sample() {
        let heun = Heun::new(&SchedulerConfig::sdxl_base(), &Steps::Number(3)).unwrap();
        assert_eq!(heun.step(0).keep, Some(Mix::SAMPLE));
        let Step { next, keep } = heun.step(1);
        assert_eq!(keep, None);
        assert!((next.anchor + next.sample + next.denoised + next.previous[0] - 1.0).abs() < 1e-12);
    }
}
