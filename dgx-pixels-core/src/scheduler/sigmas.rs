//! Timesteps and noise levels of an inference schedule, rounded as NumPy and diffusers round them.

use statrs::function::beta::inv_beta_reg;

use super::steps::Steps;
use super::{SchedulerConfig, SchedulerError, TimestepSpacing};

/// `numpy.linspace`: `len` numbers from `start` to `stop`, both included.
pub(super) fn linspace(start: f64, stop: f64, len: usize) -> Vec<f64> {
    let step = (stop - start) / (len.max(2) - 1) as f64;
    let mut numbers: Vec<f64> = (0..len).map(|i| start + i as f64 * step).collect();
    if len > 1 {
        numbers[len - 1] = stop;
    }
    numbers
}

/// `torch.linspace` in `f32`: counted from both ends, each number rounded once.
pub(super) fn linspace_f32(start: f32, stop: f32, len: usize) -> Vec<f32> {
    if len == 1 {
        return vec![start];
    }
    let step = (stop - start) / (len.max(2) - 1) as f32;
    let at = |i: usize| match i < len / 2 {
        true => step.mul_add(i as f32, start),
        false => step.mul_add(-((len - 1 - i) as f32), stop),
    };
    (0..len).map(at).collect()
}

/// Timesteps that a class spreads evenly, falling.
pub(super) struct Spread {
    pub(super) spacing: TimestepSpacing,
    pub(super) train_timesteps: usize,
    pub(super) offset: i64,
}

impl Spread {
    pub(super) fn new(config: &SchedulerConfig, default: TimestepSpacing) -> Spread {
        Spread {
            spacing: config.timestep_spacing.unwrap_or(default),
            train_timesteps: config.train_timesteps(),
            offset: config.steps_offset.unwrap_or(0),
        }
    }

    /// As one-step solvers spread them: the last timestep is 0 or near.
    ///
    /// Trailing spacing has one timestep too many, -1, for a few numbers of steps (61 is the
    /// first), as NumPy's `arange` counts them.
    pub(super) fn to_the_end(&self, steps: usize) -> Vec<f64> {
        let train = self.train_timesteps as f64;
        match self.spacing {
            TimestepSpacing::Linspace => reversed(linspace(0.0, train - 1.0, steps)),
            TimestepSpacing::Leading => self.multiples(self.train_timesteps / steps, steps),
            TimestepSpacing::Trailing => back_from(train, train / steps as f64),
        }
    }

    /// The caller's own timesteps, or those of [`to_the_end`](Self::to_the_end).
    pub(super) fn to_the_end_or_given(&self, steps: &Steps) -> Vec<f64> {
        match steps {
            Steps::Timesteps(given) => given.iter().copied().map(f64::from).collect(),
            _ => self.to_the_end(steps.number()),
        }
    }

    /// As multistep solvers spread them: over one step more, of which the last is left out. `last`
    /// is the number of training timesteps that are in use.
    pub(super) fn short_of_the_end(&self, steps: usize, last: usize) -> Vec<f64> {
        match self.spacing {
            TimestepSpacing::Linspace => {
                let mut timesteps = linspace(0.0, last as f64 - 1.0, steps + 1);
                timesteps.iter_mut().for_each(|timestep| *timestep = timestep.round_ties_even());
                timesteps.remove(0);
                reversed(timesteps)
            }
            TimestepSpacing::Leading => {
                let mut timesteps = self.multiples(last / (steps + 1), steps + 1);
                timesteps.pop();
                timesteps
            }
            TimestepSpacing::Trailing => back_from(last as f64, self.train_timesteps as f64 / steps as f64),
        }
    }

    fn multiples(&self, ratio: usize, len: usize) -> Vec<f64> {
        (0..len).rev().map(|i| (i * ratio) as f64 + self.offset as f64).collect()
    }
}

/// `numpy.arange(last, 0, -step)`, rounded, less 1.
fn back_from(last: f64, step: f64) -> Vec<f64> {
    let len = (last / step).ceil() as usize;
    // NumPy counts in the difference of the first two, which rounding has changed.
    let step = (last - step) - last;
    (0..len).map(|i| (last + i as f64 * step).round_ties_even() - 1.0).collect()
}

fn reversed(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.reverse();
    numbers
}

/// Each number rounded to `f32`.
pub(super) fn rounded_to_f32(numbers: Vec<f64>) -> Vec<f64> {
    numbers.into_iter().map(|number| f64::from(number as f32)).collect()
}

/// The noise levels of training, least first, with what is needed to find a timestep for a level.
pub(super) struct TrainingSigmas {
    pub(super) sigmas: Vec<f32>,
    log_sigmas: Vec<f32>,
}

impl TrainingSigmas {
    pub(super) fn new(alphas_cumprod: &[f32]) -> TrainingSigmas {
        let sigmas: Vec<f32> = alphas_cumprod.iter().map(|alpha| ((1.0 - alpha) / alpha).sqrt()).collect();
        TrainingSigmas { log_sigmas: sigmas.iter().copied().map(numpy_ln).collect(), sigmas }
    }

    pub(super) fn least(&self) -> f64 {
        f64::from(self.sigmas[0])
    }

    pub(super) fn greatest(&self) -> f64 {
        f64::from(self.sigmas[self.sigmas.len() - 1])
    }

    /// Natural logarithms of the greatest and the least.
    pub(super) fn log_bounds(&self) -> (f32, f32) {
        (self.log_sigmas[self.log_sigmas.len() - 1], self.log_sigmas[0])
    }

    /// The level at a timestep, on straight lines between the training timesteps.
    pub(super) fn at(&self, timestep: f64) -> f64 {
        let last = self.sigmas.len() - 1;
        let timestep = timestep.clamp(0.0, last as f64);
        let below = (timestep as usize).min(last - 1);
        let (low, high) = (f64::from(self.sigmas[below]), f64::from(self.sigmas[below + 1]));
        if timestep == last as f64 { high } else { (high - low) * (timestep - below as f64) + low }
    }

    /// The timestep at a level, on straight lines between the logarithms of the training levels.
    pub(super) fn timestep(&self, sigma: f64) -> f64 {
        let log_sigma = sigma.max(1e-10).ln();
        let reached = self.log_sigmas.iter().rposition(|&level| log_sigma >= f64::from(level));
        let below = reached.unwrap_or(0).min(self.log_sigmas.len() - 2);
        let (low, high) = (self.log_sigmas[below], self.log_sigmas[below + 1]);
        let share = ((f64::from(low) - log_sigma) / f64::from(low - high)).clamp(0.0, 1.0);
        (1.0 - share) * below as f64 + share * (below + 1) as f64
    }
}

impl TrainingSigmas {
    /// The timestep at a level in `f32`, whose logarithm NumPy rounds to `f32` too.
    pub(super) fn timestep_of_f32(&self, sigma: f32) -> f64 {
        let log_sigma = numpy_ln(sigma.max(1e-10));
        let reached = self.log_sigmas.iter().rposition(|&level| log_sigma - level >= 0.0);
        let below = reached.unwrap_or(0).min(self.log_sigmas.len() - 2);
        let (low, high) = (self.log_sigmas[below], self.log_sigmas[below + 1]);
        let share = ((low - log_sigma) / (low - high)).clamp(0.0, 1.0);
        f64::from(1.0 - share) * below as f64 + f64::from(share) * (below + 1) as f64
    }
}

/// Noise levels chosen by a formula between two bounds, whatever the timesteps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Curve {
    /// Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models",
    /// equation 5.
    Karras,
    /// Equal ratios.
    Exponential,
    /// Lee et al. 2024, "Beta Sampling is All You Need".
    Beta,
}

impl Curve {
    /// The one that the config chooses, if any.
    pub(super) fn chosen(config: &SchedulerConfig) -> Result<Option<Curve>, SchedulerError> {
        let curves = [
            ("use_karras_sigmas", config.use_karras_sigmas, Curve::Karras),
            ("use_exponential_sigmas", config.use_exponential_sigmas, Curve::Exponential),
            ("use_beta_sigmas", config.use_beta_sigmas, Curve::Beta),
        ];
        let mut chosen = curves.into_iter().filter(|(_, used, _)| *used == Some(true));
        let first = chosen.next();
        match (first, chosen.next()) {
            (Some((first, ..)), Some((second, ..))) => {
                Err(SchedulerError::option(second, true, format!("false, since `{first}` is true")))
            }
            _ => Ok(first.map(|(.., curve)| curve)),
        }
    }

    /// `steps` levels from `max` to `min`, or the config's own bounds.
    pub(super) fn sigmas(self, config: &SchedulerConfig, max: f64, min: f64, steps: usize) -> Vec<f64> {
        let (max, min) = (config.sigma_max.unwrap_or(max), config.sigma_min.unwrap_or(min));
        match self {
            Curve::Karras => {
                const RHO: f64 = 7.0;
                let (max, min) = (max.powf(1.0 / RHO), min.powf(1.0 / RHO));
                linspace(0.0, 1.0, steps).iter().map(|ramp| (max + ramp * (min - max)).powf(RHO)).collect()
            }
            Curve::Exponential => linspace(max.ln(), min.ln(), steps).into_iter().map(f64::exp).collect(),
            Curve::Beta => {
                const SHAPE: f64 = 0.6;
                let quantile = |ramp: &f64| inv_beta_reg(SHAPE, SHAPE, 1.0 - ramp);
                linspace(0.0, 1.0, steps).iter().map(|ramp| min + quantile(ramp) * (max - min)).collect()
            }
        }
    }
}

/// Natural logarithm as NumPy has it for `f32` on x86-64, up to 4 units in the last place beside
/// the true one.
///
/// Integer timesteps hang on those units: at the greatest level the timestep is 999 or 998, by the
/// side that this logarithm errs on. Source: numpy 2.4.6,
/// `_core/src/umath/loops_exponent_log.dispatch.c.src`, `simd_log_f32`.
fn numpy_ln(x: f32) -> f32 {
    const P: [f32; 6] = [0.0, 1.0, 2.112_677_6, 1.480_000_6, 0.380_883_78, 0.025_899_792];
    const Q: [f32; 6] = [1.0, 2.612_677_6, 2.453_006, 0.986_494_3, 0.154_647_63, 0.005_875_095_3];
    if !x.is_normal() || x < 0.0 {
        return x.ln();
    }
    // 1. x = m · 2^k, with m near 1
    let exponent = (x.to_bits() >> 23) as i32 - 126;
    let mantissa = f32::from_bits(x.to_bits() & 0x007f_ffff | 0x3f00_0000);
    let (m, k) = if mantissa <= std::f32::consts::FRAC_1_SQRT_2 {
        (mantissa * 2.0, exponent - 1)
    } else {
        (mantissa, exponent)
    };
    // 2. ln m as a ratio of polynomials in m - 1
    let at = |factors: [f32; 6]| factors.into_iter().rev().reduce(|sum, factor| sum.mul_add(m - 1.0, factor));
    let ratio = at(P).zip(at(Q)).map_or(0.0, |(p, q)| p / q);
    (k as f32).mul_add(std::f32::consts::LN_2, ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_numpys_to_the_last_bit() {
        // `numpy.log(numpy.float32(x))` on x86-64, which for the first four is not the nearest
        // number.
        let known: [(f32, f32); 8] = [
            (4.698117, 1.5471618),
            (0.62270534, -0.4736818),
            (2.2443929, 0.8084351),
            (13.15176, 2.5765557),
            (14.614641, 2.6820238),
            (4096.0, 8.317766),
            (1.0, 0.0),
            (0.5, -std::f32::consts::LN_2),
        ];
        for (x, ln) in known {
            assert_eq!(numpy_ln(x), ln, "ln {x}");
        }
    }

    #[test]
    fn a_levels_timestep_has_that_level() {
        let alphas: Vec<f32> = (1..=100).map(|i| 1.0 - i as f32 / 101.0).collect();
        let training = TrainingSigmas::new(&alphas);
        for timestep in [0.0, 7.0, 50.0, 98.0, 99.0] {
            assert!((training.timestep(training.at(timestep)) - timestep).abs() < 1e-3, "{timestep}");
        }
        assert_eq!(training.timestep(1e9), 99.0);
        assert_eq!(training.timestep(0.0), 0.0);
    }
}
