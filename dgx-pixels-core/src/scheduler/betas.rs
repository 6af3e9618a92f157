//! The noise that training added: betas and their running products, rounded as diffusers rounds
//! them.

use super::sigmas::linspace_f32;
use super::{BetaSchedule, SchedulerConfig, SchedulerError, SchedulerName};

/// What a class takes for options that the config leaves out.
pub(super) struct Defaults {
    pub(super) beta_start: f64,
    pub(super) beta_end: f64,
    pub(super) beta_schedule: BetaSchedule,
}

/// The first diffusion models' schedule, the default of most classes.
pub(super) const DDPM: Defaults =
    Defaults { beta_start: 0.0001, beta_end: 0.02, beta_schedule: BetaSchedule::Linear };

/// How a class takes `rescale_betas_zero_snr`.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum ZeroSnr {
    /// It has no such option.
    Ignored,
    /// The last level has no signal left.
    Exact,
    /// A trace of signal keeps the last sigma finite.
    Floored,
}

/// The share of signal variance left at each training timestep, in `f32`: products of 1 - beta.
///
/// Source: diffusers 0.42.1, `__init__` of every scheduler.
pub(super) fn alphas_cumprod(
    config: &SchedulerConfig,
    defaults: &Defaults,
    zero_snr: ZeroSnr,
) -> Result<Vec<f32>, SchedulerError> {
    let mut betas = betas(config, defaults)?;
    let rescale = zero_snr != ZeroSnr::Ignored && config.rescale_betas_zero_snr.unwrap_or(false);
    if rescale {
        betas = without_signal_at_the_end(&betas);
    }
    let mut alphas_cumprod = running_products(&betas);
    if rescale && zero_snr == ZeroSnr::Floored {
        *alphas_cumprod.last_mut().expect("there are two betas or more; this is a bug") = 2f32.powi(-24);
    }
    Ok(alphas_cumprod)
}

fn betas(config: &SchedulerConfig, defaults: &Defaults) -> Result<Vec<f32>, SchedulerError> {
    let len = config.train_timesteps();
    if let Some(betas) = &config.trained_betas {
        if betas.len() != len {
            return Err(SchedulerError::Option {
                option: "trained_betas",
                value: format!("a list of {}", betas.len()),
                expected: format!("{len} numbers, as many as `num_train_timesteps`"),
            });
        }
        return Ok(betas.iter().map(|beta| *beta as f32).collect());
    }
    let start = config.beta_start.unwrap_or(defaults.beta_start);
    let end = config.beta_end.unwrap_or(defaults.beta_end);
    Ok(match config.beta_schedule.unwrap_or(defaults.beta_schedule) {
        BetaSchedule::Linear => linspace_f32(start as f32, end as f32, len),
        BetaSchedule::ScaledLinear => {
            let roots = linspace_f32(start.sqrt() as f32, end.sqrt() as f32, len);
            roots.into_iter().map(|root| root * root).collect()
        }
        BetaSchedule::SquaredCos => {
            betas_for(len, |time| ((time + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2))
        }
        BetaSchedule::Exp if config.name == SchedulerName::Heun => {
            betas_for(len, |time| (-12.0 * time).exp())
        }
        BetaSchedule::Exp => {
            let expected = format!("`linear`, `scaled_linear` or `squaredcos_cap_v2` for `{}`", config.name);
            return Err(SchedulerError::option("beta_schedule", "exp", expected));
        }
    })
}

/// The betas whose running product follows `signal`, from 0 to 1, none above 0.999.
fn betas_for(len: usize, signal: impl Fn(f64) -> f64) -> Vec<f32> {
    let time = |i: usize| i as f64 / len as f64;
    let beta = |i: usize| (1.0 - signal(time(i + 1)) / signal(time(i))).min(0.999);
    (0..len).map(|i| beta(i) as f32).collect()
}

/// Products of 1 - beta. `torch.cumprod` keeps the running product in `f64`.
fn running_products(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0;
    let next = |beta: &f32| {
        product *= f64::from(1.0 - beta);
        product as f32
    };
    betas.iter().map(next).collect()
}

/// Moves and stretches the signal so that it keeps its first value and ends at 0.
///
/// Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1.
fn without_signal_at_the_end(betas: &[f32]) -> Vec<f32> {
    let signal: Vec<f32> = running_products(betas).into_iter().map(f32::sqrt).collect();
    let (first, last) = (signal[0], signal[signal.len() - 1]);
    let stretch = first / (first - last);
    let power = signal.iter().map(|signal| (signal - last) * stretch).map(|signal| signal * signal);
    let mut before = 1.0;
    let beta = |power: f32| {
        let beta = 1.0 - power / before;
        before = power;
        beta
    };
    power.map(beta).collect()
}
