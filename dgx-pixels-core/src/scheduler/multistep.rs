//! DPM-Solver++'s multistep formulas, of order 1 to 3, for any noise levels.

use super::level::Level;
use super::{FinalSigmas, Mix, SchedulerConfig, SchedulerError, SolverType};

/// Solves the linear part of the equation exactly and extrapolates the picture from the last few
/// evaluations.
///
/// Source: diffusers 0.42.1, `schedulers/scheduling_dpmsolver_multistep.py`,
/// `DPMSolverMultistepScheduler` with `algorithm_type` `dpmsolver++` or `sde-dpmsolver++`. Paper:
/// Lu et al. 2022, "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic
/// Models".
pub(super) struct Multistep {
    /// One more than steps, most noise first.
    pub(super) levels: Vec<Level>,
    order: Order,
    heun: bool,
    pub(super) stochastic: bool,
}

/// What decides a step's order.
struct Order {
    solver: usize,
    last_is_first: bool,
    second_last_is_second: bool,
}

impl Multistep {
    pub(super) fn new(
        config: &SchedulerConfig,
        levels: Vec<Level>,
        stochastic: bool,
    ) -> Result<Multistep, SchedulerError> {
        let final_sigmas = config.final_sigmas_type.unwrap_or(FinalSigmas::Zero);
        let lower_order_final = config.lower_order_final.unwrap_or(true) && levels.len() - 1 < 15;
        Ok(Multistep {
            levels,
            order: Order {
                solver: config.solver_order()?,
                last_is_first: config.euler_at_final.unwrap_or(false)
                    || lower_order_final
                    || final_sigmas == FinalSigmas::Zero,
                second_last_is_second: lower_order_final,
            },
            heun: config.solver_type == Some(SolverType::Heun),
            stochastic,
        })
    }

    pub(super) fn order(&self, i: usize) -> usize {
        let left = self.levels.len() - 1 - i;
        match &self.order {
            Order { last_is_first: true, .. } if left == 1 => 1,
            Order { second_last_is_second: true, solver, .. } if left == 2 => (i + 1).min(*solver).min(2),
            Order { solver, .. } => (i + 1).min(*solver),
        }
    }

    /// Returns the factors that mix what is known at step `i` into the next sample.
    pub(super) fn step(&self, i: usize) -> Mix {
        let (from, to) = (self.levels[i], self.levels[i + 1]);
        // The stochastic equation damps twice as fast and makes up for it with noise.
        let rate = if self.stochastic { 2.0 } else { 1.0 };
        let h = to.lambda() - from.lambda();
        let fresh = -(-rate * h).exp_m1();
        let mut mix = Mix {
            sample: to.sigma / from.sigma * if self.stochastic { (-h).exp() } else { 1.0 },
            denoised: to.alpha * fresh,
            noise: if self.stochastic { to.sigma * fresh.sqrt() } else { 0.0 },
            ..Mix::ZERO
        };

        // Slope and curvature of the picture over lambda, in units of h.
        let before = |n: usize| (self.levels[i + 1 - n].lambda() - self.levels[i - n].lambda()) / h;
        let slope = to.alpha * (1.0 - fresh / (rate * h));
        match self.order(i) {
            1 => {}
            2 => {
                let slope = if self.heun { slope } else { 0.5 * to.alpha * fresh };
                let w = slope / before(1);
                mix.denoised += w;
                mix.previous[0] = -w;
            }
            _ => {
                let (r0, r1) = (before(1), before(2));
                // The sign of the last half is diffusers' own: the stochastic formula's series asks
                // for +.
                let half = if self.stochastic { -0.5 } else { 0.5 };
                let curvature = to.alpha * ((fresh - rate * h) / (rate * h).powi(2) + half);
                let apart = (slope * r0 + curvature) / (r0 + r1);
                let (recent, older) = ((slope + apart) / r0, apart / r1);
                mix.denoised += recent;
                mix.previous = [-recent - older, older, 0.0];
            }
        }
        mix
    }
}
