//! `scheduler_config.json`: diffusers' options under diffusers' names.

mod json;
mod options;

use serde_json::Value;

pub use self::options::{
    BetaSchedule, FinalSigmas, Interpolation, PredictionType, SigmaSchedule, SolverType, TimestepSpacing,
    TimestepType,
};
use super::bounds::first_not_finite;
use super::ddim::Ddim;
use super::dpmpp_2m::Dpmpp2m;
use super::edm::{EdmDpmpp2m, EdmEuler};
use super::euler::Euler;
use super::euler_ancestral::EulerAncestral;
use super::heun::Heun;
use super::lcm::Lcm;
use super::level::Level;
use super::steps::Steps;
use super::tcd::Tcd;
use super::unipc::UniPc;
use super::{Scheduler, SchedulerError, SchedulerName};

/// The options of diffusers' scheduler classes, each as its config has it.
///
/// `None` leaves an option to the default of the class that [`build`](SchedulerConfig::build)
/// makes, and an option that this class does not have is passed over, so that a config may be given
/// to another class as with diffusers' `from_config`. An option that the class has and that we do
/// not compute is an error.
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
    /// The reason why the class in the config is none of ours, if it is not. `name` then stands in,
    /// and [`build`](SchedulerConfig::build) returns this until
    /// [`with_name`](SchedulerConfig::with_name) chooses one.
    pub refused: Option<SchedulerError>,
    /// Timesteps of the training schedule. Every class: 1000.
    pub num_train_timesteps: Option<usize>,
    /// First beta of the training schedule. 0.0001; `heun`, `lcm` and `tcd`: 0.00085.
    pub beta_start: Option<f64>,
    /// Last beta of the training schedule. 0.02; `heun`, `lcm` and `tcd`: 0.012.
    pub beta_end: Option<f64>,
    /// The way in which beta grows between them. Linear; `lcm` and `tcd`: scaled linear.
    pub beta_schedule: Option<BetaSchedule>,
    /// All betas, one a training timestep, in place of the three options before.
    pub trained_betas: Option<Vec<f64>>,
    /// The meaning of the UNet's answer. Every class: epsilon.
    pub prediction_type: Option<PredictionType>,
    /// The way in which timesteps are spread over the training schedule. Linspace; `ddim`: leading;
    /// `lcm`, `tcd` and those of EDM have their own way.
    pub timestep_spacing: Option<TimestepSpacing>,
    /// Added to every timestep of leading spacing. Every class: 0.
    pub steps_offset: Option<i64>,
    /// `true` if training ends in pure noise (Lin et al. 2023, algorithm 1). `heun` has no such
    /// option. False.
    pub rescale_betas_zero_snr: Option<bool>,
    /// The noise left by the last step: none, or the least of training. `euler`, `dpmpp_2m`,
    /// `unipc`: zero.
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
    /// The least level of Karras, exponential and beta levels. As it falls; `edm_euler`,
    /// `edm_dpmpp_2m`: 0.002.
    pub sigma_min: Option<f64>,
    /// The greatest level of Karras, exponential and beta levels. As it falls; `edm_euler`,
    /// `edm_dpmpp_2m`: 80.
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
    /// Formula of the second order. `dpmpp_2m`: midpoint; `unipc`: bh2; the other's words mean
    /// these.
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
    /// Steps of the distillation's schedule, of which inference takes some. `lcm`, `tcd`: 50.
    pub original_inference_steps: Option<usize>,
    /// Factor of timesteps in the boundary condition. `lcm`: 10.
    pub timestep_scaling: Option<f64>,
    /// The spread of the pictures that the model was trained on. `edm_euler`, `edm_dpmpp_2m`: 0.5.
    pub sigma_data: Option<f64>,
    /// The formula of the noise levels. `edm_euler`, `edm_dpmpp_2m`: that of Karras et al.
    pub sigma_schedule: Option<SigmaSchedule>,
    /// The exponent of the levels of Karras et al. `edm_euler`, `edm_dpmpp_2m`: 7.
    pub rho: Option<f64>,
    /// The share of fresh noise in a step, 0 to 1. `tcd`: 0.3. No file has it, because diffusers
    /// takes it as an argument of a step.
    pub eta: Option<f64>,
    /// Dynamic thresholding, for models of pixels. `ddim`, `dpmpp_2m`, `unipc`, `lcm`: only false
    /// is computed.
    pub thresholding: Option<bool>,
    /// A variance among the UNet's answers. `dpmpp_2m`: `learned` and `learned_range` are not
    /// computed.
    pub variance_type: Option<String>,
    /// Flow levels that shift with the picture's size. `dpmpp_2m`, `unipc`: only false is computed.
    pub use_dynamic_shifting: Option<bool>,
    /// A second scheduler that predicts. `unipc`: only none is computed.
    pub solver_p: Option<Value>,
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
            sigma_data: None,
            sigma_schedule: None,
            rho: None,
            eta: None,
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

    /// The word of the scheduler that is made where none is chosen, or diffusers' class where that
    /// is none of ours.
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

    /// The same options for another scheduler. Options that both have carry over, as diffusers'
    /// `from_config` does. It may replace a class that is none of ours.
    pub fn with_name(self, name: SchedulerName) -> Self {
        SchedulerConfig { name, refused: None, ..self }
    }

    /// Works the schedule out for `steps` steps.
    ///
    /// # Errors
    /// As [`build_for`](SchedulerConfig::build_for).
    pub fn build(&self, steps: usize) -> Result<Box<dyn Scheduler>, SchedulerError> {
        self.build_for(&Steps::Number(steps))
    }

    /// Works the schedule out for a number of steps, or for steps that the caller has chosen.
    ///
    /// # Errors
    /// [`SchedulerError::Class`] for a class that is none of ours; [`SchedulerError::Steps`] for a
    /// number that the schedule cannot be cut into, [`SchedulerError::Option`] for an option that
    /// this scheduler does not take or that we do not compute, and for steps of the caller's own
    /// that it does not take, [`SchedulerError::NotFinite`] where diffusers would make NaN.
    pub fn build_for(&self, steps: &Steps) -> Result<Box<dyn Scheduler>, SchedulerError> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        steps.check_for(self.name)?;
        self.check()?;
        self.check_steps_of_training(steps)?;
        let number = steps.number();
        let scheduler: Box<dyn Scheduler> = match self.name {
            SchedulerName::Euler => Box::new(Euler::new(self, steps)?),
            SchedulerName::EulerAncestral => Box::new(EulerAncestral::new(self, number)?),
            SchedulerName::Heun => Box::new(Heun::new(self, steps)?),
            SchedulerName::Ddim => Box::new(Ddim::new(self, number)?),
            SchedulerName::Dpmpp2m | SchedulerName::Dpmpp2mSde => Box::new(Dpmpp2m::new(self, steps)?),
            SchedulerName::UniPc => Box::new(UniPc::new(self, number)?),
            SchedulerName::Lcm => Box::new(Lcm::new(self, steps)?),
            SchedulerName::Tcd => Box::new(Tcd::new(self, steps)?),
            SchedulerName::EdmEuler => Box::new(EdmEuler::new(self, number)?),
            SchedulerName::EdmDpmpp2m => Box::new(EdmDpmpp2m::new(self, number)?),
        };
        if scheduler.timesteps().is_empty() {
            let expected = "a number that leads to one timestep or more".into();
            return Err(SchedulerError::Steps { steps: number, expected });
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

    /// Works out the part of a schedule that begins from an image, of which `strength` is redrawn.
    ///
    /// A drawing takes the last [`Steps::of_strength`] of all steps.
    ///
    /// # Errors
    /// As [`build_for`](Self::build_for); [`SchedulerError::Option`] for a strength that leaves no
    /// step.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::scheduler::{SchedulerConfig, Steps};
    /// let half = SchedulerConfig::sdxl_base().build_from(&Steps::Number(4), 0.5)?;
    /// assert_eq!(half.timesteps(), [251.0, 1.0]);
    /// # Ok::<(), dgx_pixels_core::scheduler::SchedulerError>(())
    /// ```
    pub fn build_from(&self, steps: &Steps, strength: f64) -> Result<Box<dyn Scheduler>, SchedulerError> {
        let mut scheduler = self.build_for(steps)?;
        let drawn = steps.of_strength(strength)?;
        let skipped = self.name.order() * (steps.number() - drawn);
        // A schedule may have fewer timesteps than steps were asked for.
        if skipped >= scheduler.timesteps().len() {
            return Err(SchedulerError::option("strength", strength, "a larger one, up to 1"));
        }
        scheduler.skip(skipped);
        Ok(scheduler)
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

#[cfg(test)]
mod tests;
