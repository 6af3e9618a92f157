//! The words that options of a scheduler take, as diffusers writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::value_error::ValueError;

/// The way in which beta grows over the training schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// Evenly.
    Linear,
    /// The square root of beta grows evenly: the latent diffusion models' schedule.
    ScaledLinear,
    /// The signal falls as a squared cosine (Nichol and Dhariwal 2021).
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredCos,
    /// The signal falls exponentially. Only `heun` has it.
    Exp,
}

/// The meaning of the UNet's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// The noise in the sample.
    Epsilon,
    /// The picture in the sample. Not for `euler_ancestral`.
    Sample,
    /// The velocity (Salimans and Ho 2022).
    VPrediction,
    /// The way from picture to noise. Only `dpmpp_2m`, `dpmpp_2m_sde` and `unipc` have it.
    FlowPrediction,
}

/// The way in which timesteps are spread over the training schedule (Lin et al. 2023, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// Evenly, both ends included.
    Linspace,
    /// Multiples of a whole number from 0, plus the offset.
    Leading,
    /// Evenly back from the last.
    Trailing,
}

impl TimestepSpacing {
    /// All ways.
    pub const ALL: [TimestepSpacing; 3] =
        [TimestepSpacing::Linspace, TimestepSpacing::Leading, TimestepSpacing::Trailing];

    /// The word, for example `trailing`.
    pub fn as_str(self) -> &'static str {
        match self {
            TimestepSpacing::Linspace => "linspace",
            TimestepSpacing::Leading => "leading",
            TimestepSpacing::Trailing => "trailing",
        }
    }
}

impl fmt::Display for TimestepSpacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TimestepSpacing {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<TimestepSpacing, ValueError> {
        let found = TimestepSpacing::ALL.into_iter().find(|spacing| spacing.as_str() == text);
        found.ok_or_else(|| ValueError::new("timestep_spacing", text, "`linspace`, `leading` or `trailing`"))
    }
}

crate::words::schema_of_words!(TimestepSpacing, TimestepSpacing::ALL.map(TimestepSpacing::as_str));

/// The noise left by the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigmas {
    /// None.
    Zero,
    /// The least of training; `unipc` with its own levels: the last of these.
    SigmaMin,
}

/// The interpolation of noise levels between training timesteps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Straight lines between training timesteps.
    Linear,
    /// Equal ratios from the greatest to the least of training, whatever the timesteps.
    LogLinear,
}

/// The form in which the UNet is given the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepType {
    /// The training timestep.
    Discrete,
    /// A quarter of the noise level's logarithm, with `v_prediction`.
    Continuous,
}

/// A formula of the multistep solvers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SolverType {
    /// DPM-Solver++'s own.
    Midpoint,
    /// DPM-Solver++ as Heun's method.
    Heun,
    /// DEIS' own: midpoint, or bh2.
    Logrho,
    /// UniPC with B(h) = h.
    Bh1,
    /// UniPC with B(h) = exp(h) - 1.
    Bh2,
}

/// The formula of the noise levels of an EDM model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigmaSchedule {
    /// Karras et al. 2022, equation 5.
    Karras,
    /// Equal ratios, as CosXL has them.
    Exponential,
}
