//! `edm_euler` and `edm_dpmpp_2m`: Euler's method and DPM-Solver++ for models that were trained by
//! EDM.

use super::euler::continuous;
use super::level::Level;
use super::multistep::Multistep;
use super::sigmas::{linspace, linspace_f32, rounded_to_f32};
use super::{
    FinalSigmas, Mix, Noised, PredictionType, Readout, Scheduler, SchedulerConfig, SchedulerError,
    SigmaSchedule, Step,
};

/// What an EDM model is told of a noise level, and how its answer is read.
///
/// Paper: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models",
/// table 1.
struct Preconditioning {
    sigma_max: f64,
    sigma_data: f64,
    /// The sign of the answer: `v_prediction` turns it.
    sign: f64,
}

impl Preconditioning {
    fn new(config: &SchedulerConfig) -> Result<Preconditioning, SchedulerError> {
        let prediction = config.prediction(&[PredictionType::Epsilon, PredictionType::VPrediction])?;
        Ok(Preconditioning {
            sigma_max: config.sigma_max.unwrap_or(SIGMA_MAX),
            sigma_data: config.sigma_data.unwrap_or(0.5),
            sign: if prediction == PredictionType::VPrediction { -1.0 } else { 1.0 },
        })
    }

    fn initial_sigma(&self) -> f64 {
        (self.sigma_max * self.sigma_max + 1.0).sqrt()
    }

    fn input_scale(&self, sigma: f64) -> f64 {
        1.0 / self.size(sigma)
    }

    fn picture(&self, sigma: f64) -> Readout {
        let size = self.size(sigma);
        Readout {
            sample: (self.sigma_data / size).powi(2),
            output: self.sign * sigma * self.sigma_data / size,
            clip: None,
        }
    }

    /// The size of a sample, picture and noise together.
    fn size(&self, sigma: f64) -> f64 {
        self.sigma_data.hypot(sigma)
    }
}

const SIGMA_MIN: f64 = 0.002;
const SIGMA_MAX: f64 = 80.0;

/// The noise levels without the last: the greatest first, in `f32`. `in_f32` computes as far as
/// possible in `f32`.
fn levels(config: &SchedulerConfig, steps: usize, in_f32: bool) -> Vec<f64> {
    let (min, max) = (config.sigma_min.unwrap_or(SIGMA_MIN), config.sigma_max.unwrap_or(SIGMA_MAX));
    let levels: Vec<f64> = match config.sigma_schedule.unwrap_or(SigmaSchedule::Karras) {
        SigmaSchedule::Karras => {
            let rho = config.rho.unwrap_or(7.0);
            let (min, max) = (min.powf(1.0 / rho), max.powf(1.0 / rho));
            let roots: Vec<f64> = match in_f32 {
                true => {
                    let ramp = linspace_f32(0.0, 1.0, steps);
                    let root = |ramp: f32| f64::from(max as f32 + ramp * (min - max) as f32);
                    ramp.into_iter().map(root).collect()
                }
                false => {
                    let root = |ramp: f64| max + ramp * (min - max);
                    linspace(0.0, 1.0, steps).into_iter().map(root).collect()
                }
            };
            roots.into_iter().map(|root| root.powf(rho)).collect()
        }
        SigmaSchedule::Exponential => {
            let logs = linspace_f32(min.ln() as f32, max.ln() as f32, steps);
            logs.into_iter().rev().map(|log| f64::from(log).exp()).collect()
        }
    };
    rounded_to_f32(levels)
}

/// Follows the derivative at each noise level straight to the next level.
///
/// Source: diffusers 0.42.1, `schedulers/scheduling_edm_euler.py`, `EDMEulerScheduler`.
pub(super) struct EdmEuler {
    timesteps: Vec<f64>,
    /// One more than timesteps, greatest first.
    sigmas: Vec<f64>,
    model: Preconditioning,
}

impl EdmEuler {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, SchedulerError> {
        let model = Preconditioning::new(config)?;
        let mut sigmas = levels(config, steps, false);
        sigmas.push(match config.final_sigmas_type.unwrap_or(FinalSigmas::Zero) {
            FinalSigmas::Zero => 0.0,
            FinalSigmas::SigmaMin => sigmas[sigmas.len() - 1],
        });
        Ok(EdmEuler { timesteps: continuous(&sigmas), sigmas, model })
    }
}

impl Scheduler for EdmEuler {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn initial_sigma(&self) -> f64 {
        self.model.initial_sigma()
    }

    fn input_scale(&self, i: usize) -> f64 {
        self.model.input_scale(self.sigmas[i])
    }

    fn denoised(&self, i: usize) -> Readout {
        self.model.picture(self.sigmas[i])
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

/// The solver of [`Multistep`] over the levels of an EDM model.
///
/// Source: diffusers 0.42.1, `schedulers/scheduling_edm_dpmsolver_multistep.py`,
/// `EDMDPMSolverMultistepScheduler` with `algorithm_type` `dpmsolver++`.
pub(super) struct EdmDpmpp2m {
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    solver: Multistep,
    model: Preconditioning,
}

impl EdmDpmpp2m {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, SchedulerError> {
        config.no_thresholding()?;
        let model = Preconditioning::new(config)?;
        let mut sigmas = levels(config, steps, true);
        sigmas.push(match config.final_sigmas_type.unwrap_or(FinalSigmas::Zero) {
            FinalSigmas::Zero => 0.0,
            FinalSigmas::SigmaMin => f64::from(config.sigma_min.unwrap_or(SIGMA_MIN) as f32),
        });
        let unscaled = sigmas.iter().copied().map(Level::of_unscaled_sigma).collect();
        let solver = Multistep::new(config, unscaled, false)?;
        Ok(EdmDpmpp2m { timesteps: continuous(&sigmas), sigmas, solver, model })
    }
}

impl Scheduler for EdmDpmpp2m {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn initial_sigma(&self) -> f64 {
        self.model.initial_sigma()
    }

    fn input_scale(&self, i: usize) -> f64 {
        self.model.input_scale(self.sigmas[i])
    }

    fn denoised(&self, i: usize) -> Readout {
        self.model.picture(self.sigmas[i])
    }

    fn noised(&self, i: usize) -> Noised {
        Noised { image: 1.0, noise: self.sigmas[i] }
    }

    fn skip(&mut self, evaluations: usize) {
        self.timesteps.drain(..evaluations);
        self.sigmas.drain(..evaluations);
        self.solver.levels.drain(..evaluations);
    }

    fn step(&self, i: usize) -> Step {
        self.solver.step(i).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::SchedulerName;

    #[test]
    fn the_last_step_returns_the_denoised_sample() {
        for name in [SchedulerName::EdmEuler, SchedulerName::EdmDpmpp2m] {
            let scheduler = SchedulerConfig::new(name).build(5).unwrap();
            assert_eq!(scheduler.step(4).next, Mix { denoised: 1.0, ..Mix::ZERO }, "{name}");
            assert_eq!(scheduler.initial_sigma(), 6401f64.sqrt(), "{name}");
        }
    }

    #[test]
    fn a_prediction_of_the_picture_itself_is_refused() {
        let config = SchedulerConfig {
            prediction_type: Some(PredictionType::Sample),
            ..SchedulerConfig::new(SchedulerName::EdmEuler)
        };
        assert_eq!(
            config.build(5).err().unwrap().to_string(),
            "`prediction_type` is `sample`; expected `epsilon` or `v_prediction` for `edm_euler`"
        );
    }

    #[test]
    fn a_stochastic_solver_is_refused_until_another_is_chosen() {
        let text =
            r#"{"_class_name": "EDMDPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}"#;
        let config = SchedulerConfig::from_json(text).unwrap();
        assert_eq!(config.label(), "EDMDPMSolverMultistepScheduler");
        assert_eq!(
            config.build(5).err().unwrap().to_string(),
            "`algorithm_type` is `sde-dpmsolver++`; expected `dpmsolver++`"
        );
        assert!(config.with_name(SchedulerName::EdmDpmpp2m).build(5).is_ok());
    }
}
