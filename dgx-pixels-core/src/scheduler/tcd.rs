//! `tcd`: strategic stochastic sampling of trajectory consistency models.

use super::betas::{self, ZeroSnr};
use super::euler::PICTURE_PREDICTIONS;
use super::lcm::{self, DEFAULTS};
use super::level::Level;
use super::steps::Steps;
use super::{Mix, Noised, PredictionType, Readout, Scheduler, SchedulerConfig, SchedulerError, Step};

/// Goes past the next timestep to one with less noise, and adds fresh noise to come back to it.
///
/// Source: diffusers 0.42.1, `schedulers/scheduling_tcd.py`, `TCDScheduler`. Paper: Zheng et al.
/// 2024, "Trajectory Consistency Distillation", algorithm 4; `eta` is its gamma.
pub(super) struct Tcd {
    timesteps: Vec<f64>,
    levels: Vec<Levels>,
    prediction: PredictionType,
}

/// The levels of one step, each as the share of the picture's variance that is left.
struct Levels {
    from: Level,
    /// Where the UNet's answer takes the sample.
    past: Level,
    /// The share of the sample that stays when fresh noise brings it back to the next timestep.
    kept: f64,
}

impl Tcd {
    pub(super) fn new(config: &SchedulerConfig, steps: &Steps) -> Result<Self, SchedulerError> {
        let prediction = config.prediction(&PICTURE_PREDICTIONS)?;
        let eta = config.eta.unwrap_or(0.3);
        if !(0.0..=1.0).contains(&eta) {
            return Err(SchedulerError::option("eta", eta, "0 to 1"));
        }
        let alphas_cumprod = betas::alphas_cumprod(config, &DEFAULTS, ZeroSnr::Exact)?;
        let timesteps = lcm::timesteps(config, alphas_cumprod.len(), steps)?;
        let alpha = |timestep: usize| f64::from(alphas_cumprod[timestep]);
        let levels = timesteps.iter().enumerate().map(|(i, &timestep)| {
            let next = timesteps.get(i + 1).copied();
            // diffusers multiplies and cuts off in `f32`.
            let past = ((1.0 - eta) as f32 * next.unwrap_or(0) as f32) as usize;
            let kept = match next {
                Some(next) if eta > 0.0 => (alpha(next) / alpha(past)).sqrt(),
                _ => 1.0,
            };
            let level = |timestep| Level::of_alpha_cumprod(alpha(timestep));
            Levels { from: level(timestep), past: level(past), kept }
        });
        Ok(Tcd {
            levels: levels.collect(),
            timesteps: timesteps.into_iter().map(|timestep| timestep as f64).collect(),
            prediction,
        })
    }
}

impl Scheduler for Tcd {
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
        self.levels[i].from.picture(self.prediction)
    }

    fn noised(&self, i: usize) -> Noised {
        self.levels[i].from.noised()
    }

    fn skip(&mut self, evaluations: usize) {
        self.timesteps.drain(..evaluations);
        self.levels.drain(..evaluations);
    }

    fn step(&self, i: usize) -> Step {
        let Levels { from, past, kept } = &self.levels[i];
        let noise = from.noise(self.prediction);
        Mix {
            denoised: kept * past.alpha,
            sample: kept * past.sigma * noise.sample,
            output: kept * past.sigma * noise.output,
            noise: (1.0 - kept * kept).sqrt(),
            ..Mix::ZERO
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerName;
    use super::*;

    fn tcd(eta: f64, steps: usize) -> Box<dyn Scheduler> {
        let config = SchedulerConfig { eta: Some(eta), ..SchedulerConfig::sdxl_base() };
        config.with_name(SchedulerName::Tcd).build(steps).unwrap()
    }

    #[test]
    fn fresh_noise_brings_the_sample_back_to_the_next_level() {
        let (still, noisy) = (tcd(0.0, 4), tcd(0.5, 4));
        for i in 0..3 {
            assert_eq!(still.step(i).next.noise, 0.0);
            // What the picture's size is at the next level does not depend on the way there.
            let (still, noisy) = (still.step(i).next, noisy.step(i).next);
            assert!((still.denoised - noisy.denoised).abs() < 1e-12 && noisy.noise > 0.0);
        }
        assert_eq!(noisy.step(3).next.noise, 0.0);
    }

    #[test]
    fn eta_has_a_range() {
        let config = SchedulerConfig { eta: Some(1.5), ..SchedulerConfig::new(SchedulerName::Tcd) };
        assert_eq!(config.build(4).err().unwrap().to_string(), "`eta` is 1.5; expected 0 to 1");
    }
}
