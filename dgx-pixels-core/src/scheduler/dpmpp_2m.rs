//! `dpmpp_2m` and `dpmpp_2m_sde`: DPM-Solver++, multistep, of order 1 to 3.

use super::betas::{self, DDPM, ZeroSnr};
use super::multistep::Multistep;
use super::sigmas::{Curve, Spread, TrainingSigmas, linspace, rounded_to_f32};
use super::steps::Steps;
use super::{
    BetaSchedule, FinalSigmas, Noised, PredictionType, Readout, Scheduler, SchedulerConfig, SchedulerError,
    SchedulerName, Step, TimestepSpacing,
};

/// The solver of [`Multistep`] over the levels of a diffusion model.
///
/// Source: diffusers 0.42.1, `schedulers/scheduling_dpmsolver_multistep.py`,
/// `DPMSolverMultistepScheduler` with `algorithm_type` `dpmsolver++` or `sde-dpmsolver++`.
pub(super) struct Dpmpp2m {
    timesteps: Vec<f64>,
    solver: Multistep,
    prediction: PredictionType,
}

impl Dpmpp2m {
    pub(super) fn new(config: &SchedulerConfig, steps: &Steps) -> Result<Self, SchedulerError> {
        config.no_thresholding()?;
        config.no_dynamic_shifting()?;
        if let Some(variance @ ("learned" | "learned_range")) = config.variance_type.as_deref() {
            return Err(SchedulerError::option("variance_type", variance, "null: it is not computed"));
        }
        let prediction = config.prediction(&PREDICTIONS)?;
        let (timesteps, sigmas) = schedule(config, steps)?;
        let stochastic = config.name == SchedulerName::Dpmpp2mSde;
        let solver = Multistep::new(config, config.levels(&sigmas), stochastic)?;
        Ok(Dpmpp2m { timesteps, solver, prediction })
    }
}

/// What the UNet of any model may answer.
pub(super) const PREDICTIONS: [PredictionType; 4] = [
    PredictionType::Epsilon,
    PredictionType::Sample,
    PredictionType::VPrediction,
    PredictionType::FlowPrediction,
];

/// Timesteps, and noise levels with the final one.
fn schedule(config: &SchedulerConfig, given: &Steps) -> Result<(Vec<f64>, Vec<f64>), SchedulerError> {
    let alphas_cumprod = betas::alphas_cumprod(config, &DDPM, ZeroSnr::Floored)?;
    let training = TrainingSigmas::new(&alphas_cumprod);
    let steps = given.number();
    let spread = Spread::new(config, TimestepSpacing::Linspace);
    let lu = config.use_lu_lambdas == Some(true);
    let curve = Curve::chosen(config)?.filter(|curve| !lu || *curve == Curve::Karras);
    // A squared-cosine schedule's timesteps are cut off instead of rounded, whatever its betas.
    let whole = config.beta_schedule != Some(BetaSchedule::SquaredCos);
    let timestep = |sigma: &f64| training.timestep(*sigma);
    let rounded = |sigma: &f64| if whole { timestep(sigma).round_ties_even() } else { timestep(sigma) };

    let (timesteps, mut sigmas): (Vec<f64>, Vec<f64>) = if let Some(curve) = curve {
        let sigmas = curve.sigmas(config, training.greatest(), training.least(), steps);
        let karras = curve == Curve::Karras;
        (sigmas.iter().map(|sigma| if karras { rounded(sigma) } else { timestep(sigma) }).collect(), sigmas)
    } else if lu {
        let (max, min) = training.log_bounds();
        let ramp = linspace(0.0, 1.0, steps);
        let (max, min) = (f64::from(max), f64::from(min));
        let sigmas: Vec<f64> = ramp.into_iter().map(|ramp| (max + ramp * (min - max)).exp()).collect();
        (sigmas.iter().map(rounded).collect(), sigmas)
    } else if config.use_flow_sigmas == Some(true) {
        let train = config.train_timesteps() as f64;
        let shift = config.flow_shift.unwrap_or(1.0);
        let mut sigmas = linspace(1.0, 1.0 / train, steps + 1);
        sigmas.iter_mut().for_each(|sigma| *sigma = 1.0 - *sigma);
        sigmas.iter_mut().for_each(|sigma| *sigma = shift * *sigma / (1.0 + (shift - 1.0) * *sigma));
        sigmas.reverse();
        sigmas.pop();
        (sigmas.iter().map(|sigma| sigma * train).collect(), sigmas)
    } else {
        // `lambda_min_clipped` leaves out the noisiest timesteps.
        let least = config.lambda_min_clipped.unwrap_or(f64::NEG_INFINITY);
        let clipped = alphas_cumprod.iter().filter(|&&alpha| lambda_f32(alpha) < least).count();
        let timesteps = match given {
            Steps::Timesteps(given) => given.iter().copied().map(f64::from).collect(),
            _ => spread.short_of_the_end(steps, alphas_cumprod.len() - clipped),
        };
        let sigmas = timesteps.iter().map(|&timestep| training.at(timestep)).collect();
        (timesteps, sigmas)
    };
    sigmas.push(match config.final_sigmas_type.unwrap_or(FinalSigmas::Zero) {
        FinalSigmas::Zero => 0.0,
        FinalSigmas::SigmaMin => training.least(),
    });
    Ok((timesteps.into_iter().map(f64::trunc).collect(), rounded_to_f32(sigmas)))
}

fn lambda_f32(alpha_cumprod: f32) -> f64 {
    f64::from(alpha_cumprod.sqrt().ln() - (1.0 - alpha_cumprod).sqrt().ln())
}

impl Scheduler for Dpmpp2m {
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
        self.solver.levels[i].picture(self.prediction)
    }

    fn noised(&self, i: usize) -> Noised {
        self.solver.levels[i].noised()
    }

    fn skip(&mut self, evaluations: usize) {
        self.timesteps.drain(..evaluations);
        self.solver.levels.drain(..evaluations);
    }

    fn step(&self, i: usize) -> Step {
        self.solver.step(i).into()
    }

    fn noise_in_f32(&self) -> bool {
        self.solver.stochastic
    }
}

#[cfg(test)]
mod tests {
    use super::super::SolverType;
    use super::*;

    #[test]
    fn the_first_step_and_the_last_have_order_1() {
        let config = SchedulerConfig { solver_order: Some(3), ..SchedulerConfig::sdxl_base() };
        let orders = |steps| {
            let scheduler = Dpmpp2m::new(&config, &Steps::Number(steps)).unwrap();
            (0..steps).map(|i| scheduler.solver.order(i)).collect::<Vec<_>>()
        };
        assert_eq!(orders(1), [1]);
        assert_eq!(orders(6), [1, 2, 3, 3, 2, 1]);
        assert_eq!(orders(15)[12..], [3, 3, 1]);
    }

    #[test]
    fn a_still_picture_stays_whatever_the_order() {
        for name in [SchedulerName::Dpmpp2m, SchedulerName::Dpmpp2mSde] {
            for (order, solver) in [(1, None), (2, None), (2, Some(SolverType::Heun)), (3, None)] {
                let config = SchedulerConfig {
                    name,
                    solver_order: Some(order),
                    solver_type: solver,
                    ..SchedulerConfig::sdxl_base()
                };
                let scheduler = Dpmpp2m::new(&config, &Steps::Number(6)).unwrap();
                for i in 0..6 {
                    // A sample of nothing but the picture, with alpha its size.
                    let mix = scheduler.step(i).next;
                    let next = mix.sample * scheduler.solver.levels[i].alpha
                        + mix.denoised
                        + mix.previous.iter().sum::<f64>();
                    assert!(
                        (next - scheduler.solver.levels[i + 1].alpha).abs() < 1e-12,
                        "{name} {order} {i}: {next}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_learned_variance_is_refused() {
        let config = SchedulerConfig {
            variance_type: Some("learned".into()),
            ..SchedulerConfig::new(SchedulerName::Dpmpp2m)
        };
        let error = config.build(5).err().unwrap();
        assert_eq!(error.to_string(), "`variance_type` is `learned`; expected null: it is not computed");
    }
}
