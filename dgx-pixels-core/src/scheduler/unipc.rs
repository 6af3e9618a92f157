//! `unipc`: the unified predictor-corrector, multistep, of order 1 to 3.

use std::collections::HashSet;

use super::betas::{self, DDPM, ZeroSnr};
use super::dpmpp_2m::PREDICTIONS;
use super::euler::PICTURE_PREDICTIONS;
use super::level::Level;
use super::sigmas::{Curve, Spread, TrainingSigmas, linspace, rounded_to_f32};
use super::{
    FinalSigmas, HISTORY, Mix, Noised, PredictionType, Readout, Scheduler, SchedulerConfig, SchedulerError,
    SolverType, Step, TimestepSpacing,
};

/// Predicts the next sample from the last few evaluations, and corrects it once the UNet has seen
/// it: the evaluation at a predicted sample serves to correct it and to predict the next.
///
/// The anchor is the corrected sample.
///
/// Source: diffusers 0.42.1, `schedulers/scheduling_unipc_multistep.py`, `UniPCMultistepScheduler`.
/// Paper: Zhao et al. 2023, "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of
/// Diffusion Models".
pub(super) struct UniPc {
    timesteps: Vec<f64>,
    /// One more than timesteps, most noise first.
    levels: Vec<Level>,
    prediction: PredictionType,
    solver_order: usize,
    lower_order_final: bool,
    /// Whether the picture is extrapolated, instead of the noise.
    of_picture: bool,
    bh1: bool,
    uncorrected: HashSet<usize>,
}

/// Factors of one update from a level to the next.
struct Update {
    /// Of the sample at the first level.
    sample: f64,
    /// Of the evaluation at the second level, which only the corrector knows.
    ahead: f64,
    /// Of the evaluation at the first level and those before it.
    known: [f64; HISTORY],
}

impl UniPc {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, SchedulerError> {
        config.no_thresholding()?;
        config.no_dynamic_shifting()?;
        if let Some(solver) = &config.solver_p {
            return Err(SchedulerError::option("solver_p", solver.clone(), "null: it is not computed"));
        }
        let of_picture = config.predict_x0.unwrap_or(true);
        let prediction = config.prediction(if of_picture { &PREDICTIONS } else { &PICTURE_PREDICTIONS })?;
        let solver_order = config.solver_order()?;
        let (timesteps, sigmas) = schedule(config, steps)?;
        Ok(UniPc {
            timesteps,
            levels: config.levels(&sigmas),
            prediction,
            solver_order,
            lower_order_final: config.lower_order_final.unwrap_or(true),
            of_picture,
            bh1: config.solver_type == Some(SolverType::Bh1),
            uncorrected: config.disable_corrector.iter().flatten().copied().collect(),
        })
    }

    /// Of the prediction that step `i` makes, and of the correction of its result.
    fn order(&self, i: usize) -> usize {
        let order = self.solver_order.min(i + 1);
        if self.lower_order_final { order.min(self.timesteps.len() - i) } else { order }
    }

    /// The way from level `i` to the next, after looking at that one too or before.
    fn update(&self, i: usize, corrects: bool) -> Update {
        let order = self.order(i);
        let (from, to) = (self.levels[i], self.levels[i + 1]);
        let h = to.lambda() - from.lambda();
        let (sample, scale, hh) = if self.of_picture {
            (to.sigma / from.sigma, to.alpha, -h)
        } else {
            (to.alpha / from.alpha, to.sigma, h)
        };
        let mut update = Update { sample, ahead: 0.0, known: [0.0; HISTORY] };
        update.known[0] = -scale * hh.exp_m1();

        // Differences to the evaluation at the first level, by how far off they were made in units
        // of h.
        let distance = |n: usize| (self.levels[i - n].lambda() - from.lambda()) / h;
        let mut distances: Vec<f64> = (1..order).map(distance).collect();
        if corrects {
            distances.push(1.0);
        }
        let b_h = if self.bh1 { hh } else { hh.exp_m1() };
        for (n, share) in shares(&distances, hh, b_h).into_iter().enumerate() {
            let factor = -scale * b_h * share / distances[n];
            update.known[0] -= factor;
            if n + 1 < order {
                update.known[n + 1] = factor;
            } else {
                update.ahead = factor;
            }
        }
        update
    }
}

/// How much each difference counts, so that the update has its order.
fn shares(distances: &[f64], hh: f64, b_h: f64) -> Vec<f64> {
    // Of one difference diffusers takes half, which is its limit at small steps.
    if distances.len() < 2 {
        return vec![0.5; distances.len()];
    }
    let mut factorial = 1.0;
    let mut phi = hh.exp_m1() / hh - 1.0;
    let mut rows = Vec::new();
    for power in 0..distances.len() {
        let mut row: Vec<f64> = distances.iter().map(|distance| distance.powi(power as i32)).collect();
        row.push(phi * factorial / b_h);
        rows.push(row);
        factorial *= power as f64 + 2.0;
        phi = phi / hh - 1.0 / factorial;
    }
    solved(rows)
}

/// Solves linear equations, each row its factors and its right-hand side.
fn solved(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let len = rows.len();
    for i in 0..len {
        let pivot = (i..len).max_by(|&a, &b| rows[a][i].abs().total_cmp(&rows[b][i].abs())).unwrap_or(i);
        rows.swap(i, pivot);
        let pivot = rows[i].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let factor = row[i] / pivot[i];
            for (entry, known) in row.iter_mut().zip(&pivot) {
                *entry -= factor * known;
            }
        }
    }
    (0..len).map(|i| rows[i][len] / rows[i][i]).collect()
}

/// Timesteps, and noise levels with the final one.
fn schedule(config: &SchedulerConfig, steps: usize) -> Result<(Vec<f64>, Vec<f64>), SchedulerError> {
    let training = TrainingSigmas::new(&betas::alphas_cumprod(config, &DDPM, ZeroSnr::Floored)?);
    let train = config.train_timesteps();
    let flow = config.use_flow_sigmas == Some(true);
    let curve = Curve::chosen(config)?;
    let shift_terminal = config.shift_terminal.filter(|_| flow);
    if config.shift_terminal != shift_terminal {
        let expected = "null, since `use_flow_sigmas` is not true";
        return Err(SchedulerError::option("shift_terminal", config.shift_terminal, expected));
    }

    let mut last_of_its_own = true;
    let (timesteps, mut sigmas): (Vec<f64>, Vec<f64>) = if let Some(curve) = curve {
        let mut sigmas = curve.sigmas(config, training.greatest(), training.least(), steps);
        if curve == Curve::Karras && flow {
            sigmas.iter_mut().for_each(|sigma| *sigma /= *sigma + 1.0);
            (sigmas.iter().map(|sigma| sigma * train as f64).collect(), sigmas)
        } else {
            let timestep = |sigma: &f64| training.timestep(*sigma);
            let rounded = |sigma: &f64| timestep(sigma).round_ties_even();
            let karras = curve == Curve::Karras;
            (
                sigmas.iter().map(|sigma| if karras { rounded(sigma) } else { timestep(sigma) }).collect(),
                sigmas,
            )
        }
    } else if flow {
        let sigmas = flow_sigmas(config, shift_terminal, steps);
        (sigmas.iter().map(|sigma| sigma * train as f64).collect(), sigmas)
    } else {
        last_of_its_own = false;
        let timesteps = Spread::new(config, TimestepSpacing::Linspace).short_of_the_end(steps, train);
        let sigmas = timesteps.iter().map(|&timestep| training.at(timestep)).collect();
        (timesteps, sigmas)
    };
    sigmas.push(match config.final_sigmas_type.unwrap_or(FinalSigmas::Zero) {
        FinalSigmas::Zero => 0.0,
        FinalSigmas::SigmaMin if last_of_its_own => sigmas[sigmas.len() - 1],
        FinalSigmas::SigmaMin => training.least(),
    });
    Ok((timesteps.into_iter().map(f64::trunc).collect(), rounded_to_f32(sigmas)))
}

fn flow_sigmas(config: &SchedulerConfig, terminal: Option<f64>, steps: usize) -> Vec<f64> {
    let shift = config.flow_shift.unwrap_or(1.0);
    let mut sigmas = linspace(1.0, 1.0 / config.train_timesteps() as f64, steps + 1);
    sigmas.pop();
    sigmas.iter_mut().for_each(|sigma| *sigma = shift * *sigma / (1.0 + (shift - 1.0) * *sigma));
    if let Some(terminal) = terminal.filter(|terminal| *terminal != 0.0) {
        let stretch = (1.0 - sigmas[sigmas.len() - 1]) / (1.0 - terminal);
        sigmas.iter_mut().for_each(|sigma| *sigma = 1.0 - (1.0 - *sigma) / stretch);
    }
    // Pure noise has no finite signal-to-noise ratio.
    const TRACE: f64 = 1e-6;
    if (sigmas[0] - 1.0).abs() < TRACE {
        sigmas[0] -= TRACE;
    }
    sigmas
}

impl Scheduler for UniPc {
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
        let level = self.levels[i];
        if self.of_picture { level.picture(self.prediction) } else { level.noise(self.prediction) }
    }

    fn noised(&self, i: usize) -> Noised {
        self.levels[i].noised()
    }

    fn skip(&mut self, evaluations: usize) {
        self.timesteps.drain(..evaluations);
        self.levels.drain(..evaluations);
        let left = self.uncorrected.iter().filter_map(|i| i.checked_sub(evaluations));
        self.uncorrected = left.collect();
    }

    fn step(&self, i: usize) -> Step {
        // 1. the sample, corrected by what the UNet said about it
        let corrected = if i == 0 || self.uncorrected.contains(&(i - 1)) {
            Mix::SAMPLE
        } else {
            let Update { sample, ahead, known } = self.update(i - 1, true);
            Mix { anchor: sample, denoised: ahead, previous: known, ..Mix::ZERO }
        };
        // 2. the next one, from there
        let Update { sample, known: [now, one, two], .. } = self.update(i, false);
        let [once, twice, thrice] = corrected.previous.map(|factor| factor * sample);
        let next = Mix {
            sample: corrected.sample * sample,
            anchor: corrected.anchor * sample,
            denoised: corrected.denoised * sample + now,
            previous: [once + one, twice + two, thrice],
            ..Mix::ZERO
        };
        Step { next, keep: Some(corrected) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unipc(config: &SchedulerConfig) -> UniPc {
        UniPc::new(config, 6).unwrap()
    }

    #[test]
    fn orders_rise_from_1_and_fall_to_1() {
        let config = SchedulerConfig { solver_order: Some(3), ..SchedulerConfig::sdxl_base() };
        let scheduler = unipc(&config);
        assert_eq!((0..6).map(|i| scheduler.order(i)).collect::<Vec<_>>(), [1, 2, 3, 3, 2, 1]);
    }

    #[test]
    fn a_step_without_corrector_keeps_the_sample() {
        let config = SchedulerConfig { disable_corrector: Some(vec![0, 2]), ..SchedulerConfig::sdxl_base() };
        let kept = [0, 1, 2, 3, 4, 5].map(|i| unipc(&config).step(i).keep == Some(Mix::SAMPLE));
        assert_eq!(kept, [true, true, false, true, false, false]);
    }

    #[test]
    fn a_still_picture_stays_whatever_the_order() {
        for (order, solver) in [(1, SolverType::Bh2), (2, SolverType::Bh1), (3, SolverType::Bh2)] {
            let scheduler = unipc(&SchedulerConfig {
                solver_order: Some(order),
                solver_type: Some(solver),
                ..SchedulerConfig::sdxl_base()
            });
            for i in 0..6 {
                // Samples of nothing but the picture, with alpha their size.
                let (now, next) = (scheduler.levels[i].alpha, scheduler.levels[i + 1].alpha);
                let before = scheduler.levels[i.saturating_sub(1)].alpha;
                let value = |mix: Mix| {
                    mix.sample * now + mix.anchor * before + mix.denoised + mix.previous.iter().sum::<f64>()
                };
                let step = scheduler.step(i);
                assert!((value(step.next) - next).abs() < 1e-12, "next of {i}, order {order}");
                assert!((value(step.keep.unwrap()) - now).abs() < 1e-12, "kept of {i}, order {order}");
            }
        }
    }

    #[test]
    fn a_flow_option_without_flow_is_refused() {
        let config = SchedulerConfig { shift_terminal: Some(0.1), ..SchedulerConfig::sdxl_base() };
        let error = UniPc::new(&config, 6).err().unwrap();
        assert_eq!(
            error.to_string(),
            "`shift_terminal` is 0.1; expected null, since `use_flow_sigmas` is not true"
        );
    }
}
