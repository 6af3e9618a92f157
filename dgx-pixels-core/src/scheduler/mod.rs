//! Noise schedules as numbers: which timesteps the UNet sees, and how each of its answers is mixed
//! into the next sample. No tensors and no libtorch.
//!
//! Every scheduler is linear in what is known at a step, so it only hands out factors ([`Readout`],
//! [`Step`]) and whoever holds the tensors does the sums. [`SchedulerConfig`] reads
//! `scheduler_config.json` and makes one for a number of steps; switching to another scheduler
//! keeps the options that both have, as diffusers' `from_config`.
//!
//! # Example
//! ```
//! use dgx_pixels_core::scheduler::{Mix, SchedulerConfig, SchedulerName};
//!
//! let scheduler = SchedulerConfig::sdxl_base().build(4)?;
//! assert_eq!(scheduler.timesteps(), [751.0, 501.0, 251.0, 1.0]);
//! assert_eq!(scheduler.denoised(3).sample, 1.0);
//! assert_eq!(scheduler.step(3).next, Mix { denoised: 1.0, ..Mix::ZERO });
//!
//! let heun = SchedulerConfig::sdxl_base().with_name(SchedulerName::Heun).build(4)?;
//! assert_eq!(heun.timesteps().len(), 7);
//! # Ok::<(), dgx_pixels_core::scheduler::SchedulerError>(())
//! ```

mod betas;
mod bounds;
mod build;
mod config;
mod ddim;
mod dpmpp_2m;
mod edm;
mod error;
mod euler;
mod euler_ancestral;
mod heun;
mod lcm;
mod level;
mod multistep;
mod prediction;
mod sigmas;
mod steps;
mod tcd;
mod unipc;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use config::{
    BetaSchedule, FinalSigmas, Interpolation, PredictionType, SchedulerConfig, SigmaSchedule, SolverType,
    TimestepSpacing, TimestepType,
};
pub use error::SchedulerError;
pub use steps::Steps;

/// Evaluations before the present one whose denoised samples a step may weigh.
///
/// DPM-Solver++ and UniPC of order 3 look back at two, and UniPC's corrector at one more.
pub const HISTORY: usize = 3;

/// A schedule worked out for one number of steps. One value may serve many batches.
///
/// `i` counts UNet evaluations, from 0 to `timesteps().len() - 1`; other values panic.
///
/// A schedule holds numbers only. The caller keeps the tensors, and computes at each evaluation `i`
/// the UNet's answer to `input_scale(i) * sample`, then [`denoised`](Self::denoised), then the sum
/// that [`step`](Self::step) describes.
///
/// # Example
/// ```
/// use dgx_pixels_core::scheduler::{SchedulerConfig, SchedulerName};
///
/// let schedule = SchedulerConfig::sdxl_base().with_name(SchedulerName::Euler).build(30)?;
/// assert_eq!(schedule.timesteps().len(), 30);
/// assert!(schedule.timesteps().is_sorted_by(|a, b| a > b));
/// // Euler's method draws no noise of its own.
/// assert!((0..30).all(|i| schedule.step(i).next.noise == 0.0));
/// # Ok::<(), dgx_pixels_core::scheduler::SchedulerError>(())
/// ```
pub trait Scheduler: Send + Sync {
    /// One for each UNet evaluation, as the UNet is given them: falling, and exact in `f32`.
    fn timesteps(&self) -> &[f64];

    /// Factor that makes the first sample from standard normal noise.
    fn initial_sigma(&self) -> f64;

    /// Factor that makes the UNet's input from the sample.
    fn input_scale(&self, i: usize) -> f64;

    /// Returns the factors that read what the history keeps, mostly the denoised sample, out of the
    /// UNet's answer.
    fn denoised(&self, i: usize) -> Readout;

    /// Returns the factors that mix what is known into the next sample.
    fn step(&self, i: usize) -> Step;

    /// Returns the factors that make the sample of evaluation `i` from an image and noise, as
    /// diffusers' `add_noise` does.
    fn noised(&self, i: usize) -> Noised;

    /// Leaves out the first evaluations: what was number `evaluations` is number 0 then.
    ///
    /// A drawing that begins from an image begins in the middle of a schedule. A multistep method
    /// has no history there, as at a schedule's beginning.
    fn skip(&mut self, evaluations: usize);

    /// `true` if diffusers draws a step's noise in `f32` whatever the model's dtype. If not, it
    /// draws in that dtype, and another dtype means other numbers.
    fn noise_in_f32(&self) -> bool {
        false
    }
}

/// Factors of an image and of standard normal noise, whose sum is a sample.
///
/// # Example
/// ```
/// use dgx_pixels_core::scheduler::{SchedulerConfig, SchedulerName};
/// let ddim = SchedulerConfig::sdxl_base().with_name(SchedulerName::Ddim).build(4)?;
/// let noised = ddim.noised(1);
/// // The variances of both add up to 1.
/// assert!((noised.image.powi(2) + noised.noise.powi(2) - 1.0).abs() < 1e-12);
/// # Ok::<(), dgx_pixels_core::scheduler::SchedulerError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noised {
    /// The factor of the image.
    pub image: f64,
    /// The factor of the noise.
    pub noise: f64,
}

/// Factors that read a denoised sample from a sample and the UNet's answer to it.
///
/// The value is `sample * s + output * u` for a sample `s` and the UNet's answer `u`. For the noise
/// of a variance-preserving schedule this is the image's estimate `(s - sigma * u) / alpha`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Readout {
    /// The factor of the sample, before [`Scheduler::input_scale`].
    pub sample: f64,
    /// The factor of the UNet's answer.
    pub output: f64,
    /// The limit `clip`, if the result is then clamped to `-clip..=clip`.
    pub clip: Option<f64>,
}

/// Factors of a sum over what is known at a step. What has not been seen yet has factor 0.
///
/// # Example
/// ```
/// use dgx_pixels_core::scheduler::Mix;
/// let half_way = Mix { sample: 0.5, denoised: 0.5, ..Mix::ZERO };
/// assert_eq!((half_way.noise, half_way.previous), (0.0, [0.0; 3]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// The factor of the sample, before [`Scheduler::input_scale`].
    pub sample: f64,
    /// The factor of the UNet's answer.
    pub output: f64,
    /// The factor of what [`Scheduler::denoised`] made of both.
    pub denoised: f64,
    /// The factors of the same value one, two and three evaluations ago.
    pub previous: [f64; HISTORY],
    /// The factor of the sample that an earlier step asked to keep.
    pub anchor: f64,
    /// The factor of standard normal noise. Draw some if, and only if, this is not 0.
    pub noise: f64,
}

impl Mix {
    /// All factors 0.
    pub const ZERO: Mix =
        Mix { sample: 0.0, output: 0.0, denoised: 0.0, previous: [0.0; HISTORY], anchor: 0.0, noise: 0.0 };

    /// The sample itself.
    const SAMPLE: Mix = Mix { sample: 1.0, ..Mix::ZERO };

    fn factors(&self) -> [f64; 5 + HISTORY] {
        let [one, two, three] = self.previous;
        [self.sample, self.output, self.denoised, one, two, three, self.anchor, self.noise]
    }
}

/// The effect of one UNet evaluation.
///
/// # Example
/// ```
/// use dgx_pixels_core::scheduler::{Mix, Step};
/// let step = Step::from(Mix { sample: 1.0, ..Mix::ZERO });
/// assert!(step.keep.is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The next sample.
    pub next: Mix,
    /// The new anchor, made from the same terms and the old anchor; `None` leaves the anchor as it
    /// is.
    pub keep: Option<Mix>,
}

impl From<Mix> for Step {
    fn from(next: Mix) -> Step {
        Step { next, keep: None }
    }
}

/// The schedulers there are, by the words that requests use.
///
/// # Example
/// ```
/// use dgx_pixels_core::scheduler::SchedulerName;
/// assert_eq!("dpmpp_2m".parse(), Ok(SchedulerName::Dpmpp2m));
/// assert_eq!(SchedulerName::Dpmpp2m.to_string(), "dpmpp_2m");
/// assert_eq!(SchedulerName::Dpmpp2m.class(), "DPMSolverMultistepScheduler");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SchedulerName {
    /// Euler's method on the probability flow.
    Euler,
    /// Euler's method with fresh noise at every step.
    EulerAncestral,
    /// Heun's method: two UNet evaluations for each step but the last.
    Heun,
    /// Denoising diffusion implicit models, without noise.
    Ddim,
    /// DPM-Solver++, multistep.
    Dpmpp2m,
    /// DPM-Solver++ of the stochastic equation, multistep: fresh noise at every step.
    Dpmpp2mSde,
    /// Unified predictor-corrector.
    UniPc,
    /// Latent consistency models, for LCM checkpoints and LoRAs in 1 to 8 steps.
    Lcm,
    /// Trajectory consistency distillation, for TCD and Hyper-SD LoRAs in 1 to 8 steps.
    Tcd,
    /// Euler's method for models that were trained by EDM, for example CosXL and Playground v2.5.
    EdmEuler,
    /// DPM-Solver++, multistep, for models that were trained by EDM.
    EdmDpmpp2m,
}

impl SchedulerName {
    /// All of them.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::scheduler::{SchedulerConfig, SchedulerName};
    /// for name in SchedulerName::ALL {
    ///     assert_eq!(name.as_str().parse(), Ok(name));
    ///     assert!(SchedulerConfig::new(name).build(8).is_ok());
    /// }
    /// ```
    pub const ALL: [SchedulerName; 11] = [
        SchedulerName::Euler,
        SchedulerName::EulerAncestral,
        SchedulerName::Heun,
        SchedulerName::Ddim,
        SchedulerName::Dpmpp2m,
        SchedulerName::Dpmpp2mSde,
        SchedulerName::UniPc,
        SchedulerName::Lcm,
        SchedulerName::Tcd,
        SchedulerName::EdmEuler,
        SchedulerName::EdmDpmpp2m,
    ];

    /// `true` for the schedulers of models that were trained by EDM, which no other model can draw
    /// with.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::scheduler::SchedulerName;
    /// assert!(SchedulerName::EdmEuler.is_edm() && !SchedulerName::Euler.is_edm());
    /// ```
    pub fn is_edm(self) -> bool {
        matches!(self, SchedulerName::EdmEuler | SchedulerName::EdmDpmpp2m)
    }

    /// The word, as in `euler_ancestral`.
    pub fn as_str(self) -> &'static str {
        match self {
            SchedulerName::Euler => "euler",
            SchedulerName::EulerAncestral => "euler_ancestral",
            SchedulerName::Heun => "heun",
            SchedulerName::Ddim => "ddim",
            SchedulerName::Dpmpp2m => "dpmpp_2m",
            SchedulerName::Dpmpp2mSde => "dpmpp_2m_sde",
            SchedulerName::UniPc => "unipc",
            SchedulerName::Lcm => "lcm",
            SchedulerName::Tcd => "tcd",
            SchedulerName::EdmEuler => "edm_euler",
            SchedulerName::EdmDpmpp2m => "edm_dpmpp_2m",
        }
    }

    /// UNet evaluations of a step, apart from the last: 2 for `heun`, else 1.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::scheduler::SchedulerName;
    /// assert_eq!((SchedulerName::Heun.order(), SchedulerName::Euler.order()), (2, 1));
    /// ```
    pub fn order(self) -> usize {
        if self == SchedulerName::Heun { 2 } else { 1 }
    }

    /// The class in diffusers, by its `_class_name`.
    pub fn class(self) -> &'static str {
        match self {
            SchedulerName::Euler => "EulerDiscreteScheduler",
            SchedulerName::EulerAncestral => "EulerAncestralDiscreteScheduler",
            SchedulerName::Heun => "HeunDiscreteScheduler",
            SchedulerName::Ddim => "DDIMScheduler",
            SchedulerName::Dpmpp2m | SchedulerName::Dpmpp2mSde => "DPMSolverMultistepScheduler",
            SchedulerName::UniPc => "UniPCMultistepScheduler",
            SchedulerName::Lcm => "LCMScheduler",
            SchedulerName::Tcd => "TCDScheduler",
            SchedulerName::EdmEuler => "EDMEulerScheduler",
            SchedulerName::EdmDpmpp2m => "EDMDPMSolverMultistepScheduler",
        }
    }
}

impl fmt::Display for SchedulerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for SchedulerName {
    type Err = SchedulerError;

    fn from_str(name: &str) -> Result<Self, SchedulerError> {
        let known = SchedulerName::ALL.into_iter().find(|known| known.as_str() == name);
        known.ok_or_else(|| SchedulerError::Name { name: name.to_owned() })
    }
}

impl TryFrom<String> for SchedulerName {
    type Error = SchedulerError;

    fn try_from(name: String) -> Result<Self, SchedulerError> {
        name.parse()
    }
}

crate::words::schema_of_words!(SchedulerName, SchedulerName::ALL.map(SchedulerName::as_str));

impl From<SchedulerName> for String {
    fn from(name: SchedulerName) -> String {
        name.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_word_everywhere() {
        for name in SchedulerName::ALL {
            assert_eq!(name.to_string().parse(), Ok(name));
            assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
            assert_eq!(serde_json::from_value::<SchedulerName>(name.as_str().into()).unwrap(), name);
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_there_are() {
        let error = "dpm".parse::<SchedulerName>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`scheduler` is `dpm`; expected one of `euler`, `euler_ancestral`, `heun`, `ddim`, `dpmpp_2m`, \
             `dpmpp_2m_sde`, `unipc`, `lcm`, `tcd`, `edm_euler`, `edm_dpmpp_2m`"
        );
    }
}
