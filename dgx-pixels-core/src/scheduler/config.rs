//! `scheduler_config.json`: diffusers' options under diffusers' names.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::bounds::{check_steps, first_not_finite};
use super::ddim::Ddim;
use super::dpmpp_2m::Dpmpp2m;
use super::euler::Euler;
use super::euler_ancestral::EulerAncestral;
use super::heun::Heun;
use super::lcm::Lcm;
use super::level::Level;
use super::unipc::UniPc;
use super::{Scheduler, SchedulerError, SchedulerName};

/// The options of diffusers' scheduler classes, each as its config has it.
///
/// `None` leaves an option to the default of the class that [`build`](SchedulerConfig::build) makes, and an option
/// that this class does not have is passed over, so that a config may be given to another class as with diffusers'
/// `from_config`. An option that the class has and that we do not compute is an error.
///
/// # Example
/// ```
/// use dgx_pixels_core::scheduler::{SchedulerConfig, SchedulerName, TimestepSpacing};
///
/// let text = r#"{"_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear", "steps_offset": 1}"#;
/// let config = SchedulerConfig::from_json(text)?;
/// assert_eq!(config.name(), SchedulerName::Euler);
///
/// let trailing = SchedulerConfig { timestep_spacing: Some(TimestepSpacing::Trailing), ..config };
/// assert_eq!(trailing.with_name(SchedulerName::Ddim).build(2)?.timesteps(), [999.0, 499.0]);
/// # Ok::<(), dgx_pixels_core::scheduler::SchedulerError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    /// The scheduler to make.
    pub name: SchedulerName,
    /// The reason why the class in the config is none of ours, if it is not. `name` then stands in, and
    /// [`build`](SchedulerConfig::build) returns this until [`with_name`](SchedulerConfig::with_name) chooses one.
    pub refused: Option<SchedulerError>,
    /// Timesteps of the training schedule. Every class: 1000.
    pub num_train_timesteps: Option<usize>,
    /// First beta of the training schedule. 0.0001; `heun` and `lcm`: 0.00085.
    pub beta_start: Option<f64>,
    /// Last beta of the training schedule. 0.02; `heun` and `lcm`: 0.012.
    pub beta_end: Option<f64>,
    /// The way in which beta grows between them. Linear; `lcm`: scaled linear.
    pub beta_schedule: Option<BetaSchedule>,
    /// All betas, one a training timestep, in place of the three options before.
    pub trained_betas: Option<Vec<f64>>,
    /// The meaning of the UNet's answer. Every class: epsilon.
    pub prediction_type: Option<PredictionType>,
    /// The way in which timesteps are spread over the training schedule. Linspace; `ddim`: leading;
    /// `lcm` has its own way.
    pub timestep_spacing: Option<TimestepSpacing>,
    /// Added to every timestep of leading spacing. Every class: 0.
    pub steps_offset: Option<i64>,
    /// `true` if training ends in pure noise (Lin et al. 2023, algorithm 1). `heun` has no such
    /// option. False.
    pub rescale_betas_zero_snr: Option<bool>,
    /// The noise left by the last step: none, or the least of training. `euler`, `dpmpp_2m`, `unipc`: zero.
    pub final_sigmas_type: Option<FinalSigmas>,
    /// The interpolation of noise levels between training timesteps. `euler`: linear.
    pub interpolation_type: Option<Interpolation>,
    /// The form in which the UNet is given the time. `euler`: discrete.
    pub timestep_type: Option<TimestepType>,
    /// Noise levels of Karras et al. 2022, equation 5. `euler`, `heun`, `dpmpp_2m`, `unipc`: false.
    pub use_karras_sigmas: Option<bool>,
    /// Noise levels at equal ratios. `euler`, `heun`, `dpmpp_2m`, `unipc`: false.
    pub use_exponential_sigmas: Option<bool>,
    /// Noise levels by a beta distribution. `euler`, `heun`, `dpmpp_2m`, `unipc`: false.
    pub use_beta_sigmas: Option<bool>,
    /// Equal steps of log signal-to-noise (Lu et al. 2022). `dpmpp_2m`: false.
    pub use_lu_lambdas: Option<bool>,
    /// Noise levels of flow matching. `dpmpp_2m`, `unipc`: false.
    pub use_flow_sigmas: Option<bool>,
    /// The shift of flow levels toward noise. `dpmpp_2m`, `unipc`: 1.
    pub flow_shift: Option<f64>,
    /// The last flow level. `unipc`: as it falls.
    pub shift_terminal: Option<f64>,
    /// The least level of Karras, exponential and beta levels. As it falls.
    pub sigma_min: Option<f64>,
    /// Greatest level of Karras, exponential and beta levels. As it falls.
    pub sigma_max: Option<f64>,
    /// `true` to clamp the denoised sample. `ddim`: true; `heun`, `lcm`: false.
    pub clip_sample: Option<bool>,
    /// The limit that the denoised sample is clamped to, positive and negative. `ddim`, `heun`,
    /// `lcm`: 1.
    pub clip_sample_range: Option<f64>,
    /// `true` if the last step leaves no noise, instead of the least of training. `ddim`: true.
    pub set_alpha_to_one: Option<bool>,
    /// Order of the solver, 1 to 3. `dpmpp_2m`, `unipc`: 2.
    pub solver_order: Option<usize>,
    /// Formula of the second order. `dpmpp_2m`: midpoint; `unipc`: bh2; the other's words mean these.
    pub solver_type: Option<SolverType>,
    /// `true` if the order falls to 1 over the last steps; `dpmpp_2m`: only below 15 steps. Both:
    /// true.
    pub lower_order_final: Option<bool>,
    /// `true` if the last step has order 1. `dpmpp_2m`: false.
    pub euler_at_final: Option<bool>,
    /// The least half logarithm of signal-to-noise to start from. `dpmpp_2m`: minus infinity.
    pub lambda_min_clipped: Option<f64>,
    /// `true` to solve for the image instead of the noise. `unipc`: true.
    pub predict_x0: Option<bool>,
    /// Steps, from 0, whose result is not corrected. `unipc`: none.
    pub disable_corrector: Option<Vec<usize>>,
    /// Steps of the distillation's schedule, of which inference takes some. `lcm`: 50.
    pub original_inference_steps: Option<usize>,
    /// Factor of timesteps in the boundary condition. `lcm`: 10.
    pub timestep_scaling: Option<f64>,
    /// Dynamic thresholding, for models of pixels. `ddim`, `dpmpp_2m`, `unipc`, `lcm`: only false is computed.
    pub thresholding: Option<bool>,
    /// A variance among the UNet's answers. `dpmpp_2m`: `learned` and `learned_range` are not computed.
    pub variance_type: Option<String>,
    /// Flow levels that shift with the picture's size. `dpmpp_2m`, `unipc`: only false is computed.
    pub use_dynamic_shifting: Option<bool>,
    /// A second scheduler that predicts. `unipc`: only none is computed.
    pub solver_p: Option<Value>,
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// Evenly, both ends included.
    Linspace,
    /// Multiples of a whole number from 0, plus the offset.
    Leading,
    /// Evenly back from the last.
    Trailing,
}

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

impl SchedulerConfig {
    /// The class of this name with all its defaults.
    pub fn new(name: SchedulerName) -> Self {
        SchedulerConfig {
            name,
            refused: None,
            num_train_timesteps: None,
            beta_start: None,
            beta_end: None,
            beta_schedule: None,
            trained_betas: None,
            prediction_type: None,
            timestep_spacing: None,
            steps_offset: None,
            rescale_betas_zero_snr: None,
            final_sigmas_type: None,
            interpolation_type: None,
            timestep_type: None,
            use_karras_sigmas: None,
            use_exponential_sigmas: None,
            use_beta_sigmas: None,
            use_lu_lambdas: None,
            use_flow_sigmas: None,
            flow_shift: None,
            shift_terminal: None,
            sigma_min: None,
            sigma_max: None,
            clip_sample: None,
            clip_sample_range: None,
            set_alpha_to_one: None,
            solver_order: None,
            solver_type: None,
            lower_order_final: None,
            euler_at_final: None,
            lambda_min_clipped: None,
            predict_x0: None,
            disable_corrector: None,
            original_inference_steps: None,
            timestep_scaling: None,
            thresholding: None,
            variance_type: None,
            use_dynamic_shifting: None,
            solver_p: None,
        }
    }

    /// Returns SDXL base 1.0's config, `stabilityai/stable-diffusion-xl-base-1.0`,
    /// `scheduler/scheduler_config.json`.
    pub fn sdxl_base() -> Self {
        SchedulerConfig {
            num_train_timesteps: Some(1000),
            beta_start: Some(0.00085),
            beta_end: Some(0.012),
            beta_schedule: Some(BetaSchedule::ScaledLinear),
            prediction_type: Some(PredictionType::Epsilon),
            timestep_spacing: Some(TimestepSpacing::Leading),
            steps_offset: Some(1),
            interpolation_type: Some(Interpolation::Linear),
            use_karras_sigmas: Some(false),
            clip_sample: Some(false),
            set_alpha_to_one: Some(false),
            ..SchedulerConfig::new(SchedulerName::Euler)
        }
    }

    /// Reads a `scheduler_config.json`. Python's `Infinity` is understood; `null` and keys listed in
    /// `_use_default_values` are as if left out; keys that no scheduler here has are passed over.
    ///
    /// # Errors
    /// [`SchedulerError::Json`], or [`SchedulerError::Option`] for a value that no scheduler here takes. Whether this one takes
    /// it, [`build`](SchedulerConfig::build) says; a class that is none of ours is [kept](SchedulerConfig::refused).
    pub fn from_json(text: &str) -> Result<Self, SchedulerError> {
        let parsed: Result<Map<String, Value>, _> = serde_json::from_str(&with_finite_numbers(text));
        let mut options =
            Options(parsed.map_err(|error| SchedulerError::Json { reason: error.to_string() })?);
        for option in
            options.read::<Vec<String>>("_use_default_values", "a list of words")?.unwrap_or_default()
        {
            options.0.remove(&option);
        }
        let (name, refused) = match options.name() {
            Ok(name) => (name, None),
            Err(error @ SchedulerError::Class { .. }) => (SchedulerName::Euler, Some(error)),
            // `algorithm_type` says another formula of the same class.
            Err(error) => (SchedulerName::Dpmpp2m, Some(error)),
        };

        const FLAG: &str = "true or false";
        const NUMBER: &str = "a number";
        const COUNT: &str = "a whole number of 0 or more";
        let schedules = "`linear`, `scaled_linear`, `squaredcos_cap_v2` or `exp`";
        let predictions = "`epsilon`, `sample`, `v_prediction` or `flow_prediction`";
        let config = SchedulerConfig {
            name,
            refused,
            num_train_timesteps: options.read("num_train_timesteps", COUNT)?,
            beta_start: options.read("beta_start", NUMBER)?,
            beta_end: options.read("beta_end", NUMBER)?,
            beta_schedule: options.read("beta_schedule", schedules)?,
            trained_betas: options.read("trained_betas", "a list of numbers")?,
            prediction_type: options.read("prediction_type", predictions)?,
            timestep_spacing: options.read("timestep_spacing", "`linspace`, `leading` or `trailing`")?,
            steps_offset: options.read("steps_offset", "a whole number")?,
            rescale_betas_zero_snr: options.read("rescale_betas_zero_snr", FLAG)?,
            final_sigmas_type: options.read("final_sigmas_type", "`zero` or `sigma_min`")?,
            interpolation_type: options.read("interpolation_type", "`linear` or `log_linear`")?,
            timestep_type: options.read("timestep_type", "`discrete` or `continuous`")?,
            use_karras_sigmas: options.read("use_karras_sigmas", FLAG)?,
            use_exponential_sigmas: options.read("use_exponential_sigmas", FLAG)?,
            use_beta_sigmas: options.read("use_beta_sigmas", FLAG)?,
            use_lu_lambdas: options.read("use_lu_lambdas", FLAG)?,
            use_flow_sigmas: options.read("use_flow_sigmas", FLAG)?,
            flow_shift: options.read("flow_shift", NUMBER)?,
            shift_terminal: options.read("shift_terminal", NUMBER)?,
            sigma_min: options.read("sigma_min", NUMBER)?,
            sigma_max: options.read("sigma_max", NUMBER)?,
            clip_sample: options.read("clip_sample", FLAG)?,
            clip_sample_range: options.read("clip_sample_range", NUMBER)?,
            set_alpha_to_one: options.read("set_alpha_to_one", FLAG)?,
            solver_order: options.read("solver_order", COUNT)?,
            solver_type: options.read("solver_type", "`midpoint`, `heun`, `logrho`, `bh1` or `bh2`")?,
            lower_order_final: options.read("lower_order_final", FLAG)?,
            euler_at_final: options.read("euler_at_final", FLAG)?,
            lambda_min_clipped: options.read("lambda_min_clipped", NUMBER)?,
            predict_x0: options.read("predict_x0", FLAG)?,
            disable_corrector: options.read("disable_corrector", "a list of whole numbers")?,
            original_inference_steps: options.read("original_inference_steps", COUNT)?,
            timestep_scaling: options.read("timestep_scaling", NUMBER)?,
            thresholding: options.read("thresholding", FLAG)?,
            variance_type: options.read("variance_type", "a word")?,
            use_dynamic_shifting: options.read("use_dynamic_shifting", FLAG)?,
            solver_p: options.read("solver_p", "null")?,
        };
        config.check()?;
        Ok(config)
    }

    /// The word of the scheduler that is made where none is chosen, or diffusers' class where that is none of ours.
    pub fn label(&self) -> String {
        match &self.refused {
            None => self.name.to_string(),
            Some(SchedulerError::Class { class }) => class.clone(),
            Some(_) => self.name.class().to_owned(),
        }
    }

    /// The scheduler to make.
    pub fn name(&self) -> SchedulerName {
        self.name
    }

    /// The same options for another scheduler. Options that both have carry over, as diffusers' `from_config` does. It may
    /// replace a class that is none of ours.
    pub fn with_name(self, name: SchedulerName) -> Self {
        SchedulerConfig { name, refused: None, ..self }
    }

    /// Works the schedule out for `steps` steps.
    ///
    /// # Errors
    /// [`SchedulerError::Class`] for a class that is none of ours;
    /// [`SchedulerError::Steps`] for a number that the schedule cannot be cut into, [`SchedulerError::Option`] for
    /// an option that this scheduler does not take or that we do not compute, [`SchedulerError::NotFinite`] where
    /// diffusers would make NaN.
    pub fn build(&self, steps: usize) -> Result<Box<dyn Scheduler>, SchedulerError> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        check_steps(steps)?;
        self.check()?;
        let scheduler: Box<dyn Scheduler> = match self.name {
            SchedulerName::Euler => Box::new(Euler::new(self, steps)?),
            SchedulerName::EulerAncestral => Box::new(EulerAncestral::new(self, steps)?),
            SchedulerName::Heun => Box::new(Heun::new(self, steps)?),
            SchedulerName::Ddim => Box::new(Ddim::new(self, steps)?),
            SchedulerName::Dpmpp2m | SchedulerName::Dpmpp2mSde => Box::new(Dpmpp2m::new(self, steps)?),
            SchedulerName::UniPc => Box::new(UniPc::new(self, steps)?),
            SchedulerName::Lcm => Box::new(Lcm::new(self, steps)?),
        };
        if scheduler.timesteps().is_empty() {
            let expected = "a number that leads to one timestep or more".into();
            return Err(SchedulerError::Steps { steps, expected });
        }
        match first_not_finite(&*scheduler) {
            Some(i) => Err(SchedulerError::NotFinite {
                scheduler: self.name,
                step: i + 1,
                steps: scheduler.timesteps().len(),
            }),
            None => Ok(scheduler),
        }
    }

    /// The meaning of the UNet's answer, if it is one of `known`.
    pub(super) fn prediction(&self, known: &[PredictionType]) -> Result<PredictionType, SchedulerError> {
        let prediction = self.prediction_type.unwrap_or(PredictionType::Epsilon);
        if known.contains(&prediction) {
            return Ok(prediction);
        }
        let words: Vec<String> =
            known.iter().map(|prediction| format!("`{}`", prediction.as_str())).collect();
        let expected = format!("{} for `{}`", words.join(" or "), self.name);
        Err(SchedulerError::option("prediction_type", prediction.as_str(), expected))
    }

    /// An error for dynamic thresholding, which divides each picture by a quantile of its own.
    pub(super) fn no_thresholding(&self) -> Result<(), SchedulerError> {
        match self.thresholding {
            Some(true) => Err(SchedulerError::option("thresholding", true, "false: it is not computed")),
            _ => Ok(()),
        }
    }

    /// An error for flow levels that depend on the picture's size, which a schedule is not told.
    pub(super) fn no_dynamic_shifting(&self) -> Result<(), SchedulerError> {
        match self.use_dynamic_shifting {
            Some(true) => {
                Err(SchedulerError::option("use_dynamic_shifting", true, "false: it is not computed"))
            }
            _ => Ok(()),
        }
    }

    /// Order of a multistep solver.
    pub(super) fn solver_order(&self) -> Result<usize, SchedulerError> {
        match self.solver_order.unwrap_or(2) {
            order @ 1..=3 => Ok(order),
            order => Err(SchedulerError::option("solver_order", order, "1, 2 or 3")),
        }
    }

    /// The sigmas of a multistep solver as levels.
    pub(super) fn levels(&self, sigmas: &[f64]) -> Vec<Level> {
        let level = if self.use_flow_sigmas == Some(true) { Level::of_flow } else { Level::of_sigma };
        sigmas.iter().copied().map(level).collect()
    }

    /// `clip_sample` and its range as one limit.
    pub(super) fn clip(&self, default: bool) -> Option<f64> {
        self.clip_sample.unwrap_or(default).then(|| self.clip_sample_range.unwrap_or(1.0))
    }

    /// Timesteps of the training schedule.
    pub(super) fn train_timesteps(&self) -> usize {
        self.num_train_timesteps.unwrap_or(1000)
    }
}

/// What a config says, by key.
struct Options(Map<String, Value>);

impl Options {
    fn read<T: DeserializeOwned>(
        &self,
        option: &'static str,
        expected: &str,
    ) -> Result<Option<T>, SchedulerError> {
        let value = self.0.get(option).unwrap_or(&Value::Null);
        Option::<T>::deserialize(value).map_err(|_| SchedulerError::option(option, value.clone(), expected))
    }

    fn name(&self) -> Result<SchedulerName, SchedulerError> {
        let class: String = self.read("_class_name", "a scheduler's class")?.unwrap_or_default();
        let name = SchedulerName::ALL.into_iter().find(|name| name.class() == class);
        let name = name.ok_or(SchedulerError::Class { class })?;
        if name != SchedulerName::Dpmpp2m {
            return Ok(name);
        }
        let algorithms = "`dpmsolver++` or `sde-dpmsolver++`";
        match self.read::<String>("algorithm_type", algorithms)?.as_deref() {
            // diffusers takes a DEIS config's word for the default too.
            None | Some("dpmsolver++" | "deis") => Ok(SchedulerName::Dpmpp2m),
            Some("sde-dpmsolver++") => Ok(SchedulerName::Dpmpp2mSde),
            Some(other) => Err(SchedulerError::option("algorithm_type", other, algorithms)),
        }
    }
}

/// Python writes infinity as `Infinity`, which JSON does not know: the largest number takes its place.
fn with_finite_numbers(text: &str) -> String {
    let mut quoted = false;
    let mut parts = Vec::new();
    for part in text.split_inclusive('"') {
        let outside = !quoted;
        parts.push(if outside {
            part.replace("Infinity", "1.7976931348623157e308")
        } else {
            part.to_owned()
        });
        // A quote after an odd number of backslashes is part of the word.
        let escaped =
            quoted && part.trim_end_matches('"').chars().rev().take_while(|c| *c == '\\').count() % 2 == 1;
        if part.ends_with('"') && !escaped {
            quoted = !quoted;
        }
    }
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let config = match SchedulerConfig::from_json(text) {
            Ok(config) => config,
            Err(error) => return error.to_string(),
        };
        config.build(4).err().expect("the config should be refused").to_string()
    }

    #[test]
    fn a_class_names_the_scheduler() {
        for name in SchedulerName::ALL {
            let algorithm = if name == SchedulerName::Dpmpp2mSde { "sde-dpmsolver++" } else { "dpmsolver++" };
            let text = format!(r#"{{"_class_name": "{}", "algorithm_type": "{algorithm}"}}"#, name.class());
            assert_eq!(SchedulerConfig::from_json(&text).unwrap().name(), name);
        }
    }

    #[test]
    fn errors_name_the_option_and_what_would_be_right() {
        assert_eq!(
            error(r#"{"_class_name": "PNDMScheduler"}"#),
            "`_class_name` is `PNDMScheduler`; expected one of `EulerDiscreteScheduler`, \
             `EulerAncestralDiscreteScheduler`, `HeunDiscreteScheduler`, `DDIMScheduler`, \
             `DPMSolverMultistepScheduler`, `UniPCMultistepScheduler`, `LCMScheduler`"
        );
        assert_eq!(
            error(r#"{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver"}"#),
            "`algorithm_type` is `dpmsolver`; expected `dpmsolver++` or `sde-dpmsolver++`"
        );
        assert_eq!(
            error(r#"{"_class_name": "DDIMScheduler", "timestep_spacing": "even"}"#),
            "`timestep_spacing` is `even`; expected `linspace`, `leading` or `trailing`"
        );
        assert_eq!(
            error(r#"{"_class_name": "DDIMScheduler", "steps_offset": 0.5}"#),
            "`steps_offset` is 0.5; expected a whole number"
        );
        assert_eq!(
            error(r#"{"_class_name": "DDIMScheduler", "thresholding": true}"#),
            "`thresholding` is true; expected false: it is not computed"
        );
        assert_eq!(
            error(r#"{"_class_name": "EulerAncestralDiscreteScheduler", "prediction_type": "sample"}"#),
            "`prediction_type` is `sample`; expected `epsilon` or `v_prediction` for `euler_ancestral`"
        );
        assert_eq!(
            error(r#"{"_class_name": "EulerDiscreteScheduler", "beta_schedule": "exp"}"#),
            "`beta_schedule` is `exp`; expected `linear`, `scaled_linear` or `squaredcos_cap_v2` for `euler`"
        );
        assert_eq!(
            error(r#"{"_class_name": "UniPCMultistepScheduler", "solver_order": 4}"#),
            "`solver_order` is 4; expected 1, 2 or 3"
        );
        assert_eq!(
            error(
                r#"{"_class_name": "UniPCMultistepScheduler", "solver_p": {"_class_name": "DDIMScheduler"}}"#
            ),
            r#"`solver_p` is {"_class_name":"DDIMScheduler"}; expected null: it is not computed"#
        );
        assert_eq!(
            error("[]"),
            "the scheduler's config is not a JSON object: invalid type: sequence, expected a map at line 1 column 0"
        );
    }

    #[test]
    fn options_of_other_schedulers_are_passed_over() {
        let text = r#"{"_class_name": "DDIMScheduler", "use_dynamic_shifting": true, "solver_order": 9, "skip_prk_steps": 1}"#;
        assert!(SchedulerConfig::from_json(text).unwrap().build(4).is_ok());
    }

    #[test]
    fn null_and_default_values_are_as_if_left_out() {
        let text = r#"{"_class_name": "LCMScheduler", "sigma_min": null, "beta_end": 0.5, "_use_default_values": ["beta_end"]}"#;
        assert_eq!(SchedulerConfig::from_json(text), Ok(SchedulerConfig::new(SchedulerName::Lcm)));
    }

    #[test]
    fn pythons_infinity_is_a_number_and_a_word_stays_a_word() {
        let text = r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity, "variance_type": "\"Infinity\\"}"#;
        let config = SchedulerConfig::from_json(text).unwrap();
        assert_eq!(config.lambda_min_clipped, Some(f64::MIN));
        assert_eq!(config.variance_type.as_deref(), Some(r#""Infinity\"#));
    }

    #[test]
    fn a_schedule_that_divides_by_zero_is_refused() {
        let config = SchedulerConfig {
            rescale_betas_zero_snr: Some(true),
            timestep_spacing: Some(TimestepSpacing::Trailing),
            ..SchedulerConfig::sdxl_base().with_name(SchedulerName::Ddim)
        };
        assert_eq!(
            config.build(4).err().unwrap().to_string(),
            "`ddim` divides by zero at step 1 of 4 with these options; expected fewer steps, or other values of \
             `timestep_spacing`, `final_sigmas_type`, `lower_order_final`, `rescale_betas_zero_snr` or \
             `prediction_type`"
        );
        assert!(
            SchedulerConfig { prediction_type: Some(PredictionType::VPrediction), ..config }.build(4).is_ok()
        );
    }

    #[test]
    fn no_steps_are_refused() {
        let error = SchedulerConfig::sdxl_base().build(0).err().unwrap();
        assert_eq!(error.to_string(), "`steps` is 0; expected 1 to 100000");
    }

    #[test]
    fn a_class_that_is_none_of_ours_may_be_replaced() {
        for (text, label) in [
            (
                r#"{"_class_name": "PNDMScheduler", "steps_offset": 1, "skip_prk_steps": true}"#,
                "PNDMScheduler",
            ),
            (
                r#"{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver", "steps_offset": 1}"#,
                "DPMSolverMultistepScheduler",
            ),
        ] {
            let config = SchedulerConfig::from_json(text).unwrap();
            assert_eq!((config.label().as_str(), config.build(4).is_err()), (label, true));
            let ddim = config.with_name(SchedulerName::Ddim).build(4).unwrap();
            assert_eq!(ddim.timesteps(), [751.0, 501.0, 251.0, 1.0]);
        }
    }
}
