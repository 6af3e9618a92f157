//! `scheduler_config.json`, key by key.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::SchedulerConfig;
use crate::scheduler::{SchedulerError, SchedulerName};

impl SchedulerConfig {
    /// Reads a `scheduler_config.json`. Python's `Infinity` is understood; `null` and keys listed
    /// in `_use_default_values` are as if left out; keys that no scheduler here has are passed
    /// over.
    ///
    /// # Errors
    /// [`SchedulerError::Json`], or [`SchedulerError::Option`] for a value that no scheduler here
    /// takes. Whether this one takes it, [`build`](SchedulerConfig::build) says; a class that is
    /// none of ours is [kept](SchedulerConfig::refused).
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
            Err(error) if options.is_edm() => (SchedulerName::EdmDpmpp2m, Some(error)),
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
            sigma_data: options.read("sigma_data", NUMBER)?,
            sigma_schedule: options.read("sigma_schedule", "`karras` or `exponential`")?,
            rho: options.read("rho", NUMBER)?,
            eta: None,
            thresholding: options.read("thresholding", FLAG)?,
            variance_type: options.read("variance_type", "a word")?,
            use_dynamic_shifting: options.read("use_dynamic_shifting", FLAG)?,
            solver_p: options.read("solver_p", "null")?,
        };
        config.check()?;
        Ok(config)
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
        if !matches!(name, SchedulerName::Dpmpp2m | SchedulerName::EdmDpmpp2m) {
            return Ok(name);
        }
        let algorithms = match name {
            SchedulerName::Dpmpp2m => "`dpmsolver++` or `sde-dpmsolver++`",
            _ => "`dpmsolver++`",
        };
        match self.read::<String>("algorithm_type", algorithms)?.as_deref() {
            // diffusers takes a DEIS config's word for the default too.
            None | Some("dpmsolver++" | "deis") => Ok(name),
            Some("sde-dpmsolver++") if name == SchedulerName::Dpmpp2m => Ok(SchedulerName::Dpmpp2mSde),
            Some(other) => Err(SchedulerError::option("algorithm_type", other, algorithms)),
        }
    }

    /// `true` if the class is that of `edm_dpmpp_2m`.
    fn is_edm(&self) -> bool {
        self.0.get("_class_name").and_then(Value::as_str) == Some(SchedulerName::EdmDpmpp2m.class())
    }
}

/// Python writes infinity as `Infinity`, which JSON does not know: the largest number takes its
/// place.
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
