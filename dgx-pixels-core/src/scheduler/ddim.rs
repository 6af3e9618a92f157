//! `ddim`: denoising diffusion implicit models, without noise (`eta` 0).

use super::betas::{self, DDPM, ZeroSnr};
use super::euler::PICTURE_PREDICTIONS;
use super::level::Level;
use super::sigmas::Spread;
use super::{
    Mix, Noised, PredictionType, Readout, Scheduler, SchedulerConfig, SchedulerError, Step, TimestepSpacing,
};

/// Takes picture and noise apart and puts them together again with less noise.
///
/// Source: diffusers 0.42.1, `schedulers/scheduling_ddim.py`, `DDIMScheduler`.
/// Paper: Song et al. 2020, "Denoising Diffusion Implicit Models", equation 12 with sigma 0.
pub(super) struct Ddim {
    timesteps: Vec<f64>,
    /// For each step the level it begins at and the level it leads to.
    levels: Vec<(Level, Level)>,
    prediction: PredictionType,
    clip: Option<f64>,
}

impl Ddim {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, SchedulerError> {
        config.no_thresholding()?;
        let prediction = config.prediction(&PICTURE_PREDICTIONS)?;
        let alphas_cumprod = betas::alphas_cumprod(config, &DDPM, ZeroSnr::Exact)?;
        let train = alphas_cumprod.len();
        if steps > train {
            let expected = format!("1 to {train}, the timesteps of training");
            return Err(SchedulerError::Steps { steps, expected });
        }
        let level = |timestep: f64| Level::of_alpha_cumprod(f64::from(alphas_cumprod[timestep as usize]));
        let last =
            if config.set_alpha_to_one.unwrap_or(true) { Level::of_alpha_cumprod(1.0) } else { level(0.0) };

        let timesteps = Spread::new(config, TimestepSpacing::Leading).to_the_end(steps);
        let timesteps: Vec<f64> = timesteps.into_iter().map(f64::round_ties_even).collect();
        let mut levels = Vec::new();
        for &timestep in &timesteps {
            if !(0.0..train as f64).contains(&timestep) {
                let expected =
                    format!("a number that leads to no timestep {timestep}, outside 0 to {}", train - 1);
                return Err(SchedulerError::Steps { steps, expected });
            }
            let next = timestep - (train / steps) as f64;
            levels.push((level(timestep), if next >= 0.0 { level(next) } else { last }));
        }
        Ok(Ddim { timesteps, levels, prediction, clip: config.clip(true) })
    }
}

impl Scheduler for Ddim {
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
        Readout { clip: self.clip, ..self.levels[i].0.picture(self.prediction) }
    }

    fn noised(&self, i: usize) -> Noised {
        self.levels[i].0.noised()
    }

    fn skip(&mut self, evaluations: usize) {
        self.timesteps.drain(..evaluations);
        self.levels.drain(..evaluations);
    }

    fn step(&self, i: usize) -> Step {
        let (from, to) = self.levels[i];
        let noise = from.noise(self.prediction);
        Mix {
            denoised: to.alpha,
            sample: to.sigma * noise.sample,
            output: to.sigma * noise.output,
            ..Mix::ZERO
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerName;
    use super::*;

    #[test]
    fn more_steps_than_training_had_are_refused() {
        let ddim = SchedulerConfig::sdxl_base().with_name(SchedulerName::Ddim);
        let error = ddim.build(1001).err().unwrap();
        assert_eq!(error.to_string(), "`steps` is 1001; expected 1 to 1000, the timesteps of training");
    }

    #[test]
    fn steps_that_leave_the_training_schedule_are_refused() {
        let config = SchedulerConfig::sdxl_base().with_name(SchedulerName::Ddim);
        let trailing = SchedulerConfig { timestep_spacing: Some(TimestepSpacing::Trailing), ..config };
        let error = trailing.build(61).err().unwrap();
        assert_eq!(
            error.to_string(),
            "`steps` is 61; expected a number that leads to no timestep -1, outside 0 to 999"
        );
    }

    #[test]
    fn set_alpha_to_one_leaves_no_noise() {
        let config = SchedulerConfig { set_alpha_to_one: Some(true), ..SchedulerConfig::sdxl_base() };
        let ddim = Ddim::new(&config, 4).unwrap();
        assert_eq!(ddim.step(3).next, Mix { denoised: 1.0, ..Mix::ZERO });
    }
}
