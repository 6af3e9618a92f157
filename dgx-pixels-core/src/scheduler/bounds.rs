//! The ranges of a scheduler's config, which comes from anywhere: a schedule is worked out for each
//! picture, and holds a number for each timestep.

use super::{SchedulerConfig, SchedulerError};

/// The most timesteps of a training schedule, and of an inference schedule. Models have 1000.
pub(super) const MAX_TIMESTEPS: usize = 100_000;

impl SchedulerConfig {
    /// Checks what a schedule's size hangs on.
    pub(super) fn check(&self) -> Result<(), SchedulerError> {
        let timesteps = self.train_timesteps();
        if !(2..=MAX_TIMESTEPS).contains(&timesteps) {
            let expected = format!("2 to {MAX_TIMESTEPS}");
            return Err(SchedulerError::option("num_train_timesteps", timesteps, expected));
        }
        let offset = self.steps_offset.unwrap_or(0);
        if offset.unsigned_abs() > MAX_TIMESTEPS as u64 {
            let expected = format!("-{MAX_TIMESTEPS} to {MAX_TIMESTEPS}");
            return Err(SchedulerError::option("steps_offset", offset, expected));
        }
        for (option, len) in [
            ("trained_betas", self.trained_betas.as_ref().map_or(0, Vec::len)),
            ("disable_corrector", self.disable_corrector.as_ref().map_or(0, Vec::len)),
        ] {
            if len > MAX_TIMESTEPS {
                return Err(SchedulerError::Option {
                    option,
                    value: format!("a list of {len}"),
                    expected: format!("at most {MAX_TIMESTEPS} numbers"),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::scheduler::SchedulerName;
    use crate::scheduler::build::first_not_finite;

    fn error(text: &str, steps: usize) -> String {
        let made = SchedulerConfig::from_json(text).and_then(|config| config.build(steps).map(|_| ()));
        made.unwrap_err().to_string()
    }

    #[test]
    fn a_schedule_that_would_take_terabytes_is_refused_when_it_is_read() {
        for name in SchedulerName::ALL {
            let of = |field: &str| format!(r#"{{"_class_name": "{}", {field}}}"#, name.class());
            assert_eq!(
                SchedulerConfig::from_json(&of(r#""num_train_timesteps": 1000000000000"#))
                    .unwrap_err()
                    .to_string(),
                "`num_train_timesteps` is 1000000000000; expected 2 to 100000"
            );
            assert!(error(&of(r#""num_train_timesteps": 0"#), 4).ends_with("is 0; expected 2 to 100000"));
            assert!(error(&of(r#""num_train_timesteps": 1"#), 4).ends_with("is 1; expected 2 to 100000"));
            assert!(error(&of(r#""num_train_timesteps": -1"#), 4).contains("`num_train_timesteps` is -1"));
            assert!(
                error(&of(r#""steps_offset": 9223372036854775807"#), 4)
                    .contains("expected -100000 to 100000")
            );
            assert!(
                error(&of(r#""steps_offset": -9223372036854775808"#), 4)
                    .contains("expected -100000 to 100000")
            );
        }
        let config =
            SchedulerConfig { num_train_timesteps: Some(usize::MAX), ..SchedulerConfig::sdxl_base() };
        assert!(config.build(4).is_err());
        for steps in [0, 100_001, usize::MAX] {
            let error = SchedulerConfig::sdxl_base().build(steps).err().unwrap().to_string();
            assert_eq!(error, format!("`steps` is {steps}; expected 1 to 100000"));
        }
    }

    #[test]
    fn a_schedule_without_timesteps_is_refused() {
        let text = r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": 1e9,
            "timestep_spacing": "trailing"}"#;
        assert_eq!(error(text, 4), "`steps` is 4; expected a number that leads to one timestep or more");
    }

    #[test]
    fn a_clamp_to_a_range_below_zero_is_refused() {
        let text = r#"{"_class_name": "DDIMScheduler", "clip_sample": true, "clip_sample_range": -1}"#;
        assert!(error(text, 4).starts_with("`ddim` divides by zero at step 1 of 4"));
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<f64>().prop_map(|number| json!(number)),
            any::<i64>().prop_map(|number| json!(number)),
            (0i64..1200).prop_map(|number| json!(number)),
            (-2.0..2.0f64).prop_map(|number| json!(number)),
            any::<bool>().prop_map(Value::Bool),
            prop::sample::select(vec![
                "linear",
                "scaled_linear",
                "squaredcos_cap_v2",
                "exp",
                "epsilon",
                "sample",
                "v_prediction",
                "flow_prediction",
                "linspace",
                "leading",
                "trailing",
                "zero",
                "sigma_min",
                "log_linear",
                "discrete",
                "continuous",
                "midpoint",
                "heun",
                "logrho",
                "bh1",
                "bh2",
                "",
                "learned",
                "karras",
                "exponential",
            ])
            .prop_map(Value::from),
            prop::collection::vec(-1.0..2.0f64, 0..5).prop_map(|numbers| json!(numbers)),
            prop::collection::vec(0usize..5, 0..5).prop_map(|numbers| json!(numbers)),
        ]
    }

    /// Every option, whatever its value; those that cannot be read are left out one by one.
    const OPTIONS: [&str; 41] = [
        "num_train_timesteps",
        "beta_start",
        "beta_end",
        "beta_schedule",
        "trained_betas",
        "prediction_type",
        "timestep_spacing",
        "steps_offset",
        "rescale_betas_zero_snr",
        "final_sigmas_type",
        "interpolation_type",
        "timestep_type",
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "use_lu_lambdas",
        "use_flow_sigmas",
        "flow_shift",
        "shift_terminal",
        "sigma_min",
        "sigma_max",
        "clip_sample",
        "clip_sample_range",
        "set_alpha_to_one",
        "solver_order",
        "solver_type",
        "lower_order_final",
        "euler_at_final",
        "lambda_min_clipped",
        "predict_x0",
        "disable_corrector",
        "original_inference_steps",
        "timestep_scaling",
        "sigma_data",
        "sigma_schedule",
        "rho",
        "thresholding",
        "variance_type",
        "use_dynamic_shifting",
        "solver_p",
        "algorithm_type",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn any_config_makes_a_finite_schedule_or_an_error(
            name in prop::sample::select(SchedulerName::ALL.to_vec()),
            options in prop::collection::vec((prop::sample::select(OPTIONS.to_vec()), values()), 0..8),
            steps in prop_oneof![0usize..70, any::<usize>()],
        ) {
            let mut text = json!({ "_class_name": name.class() });
            for (option, value) in options {
                let before = text[option].take();
                text[option] = value;
                if SchedulerConfig::from_json(&text.to_string()).is_err() {
                    text[option] = before;
                }
            }
            let config = SchedulerConfig::from_json(&text.to_string()).unwrap();
            for config in SchedulerName::ALL.map(|name| config.clone().with_name(name)) {
                if let Ok(scheduler) = config.build(steps) {
                    prop_assert!(scheduler.initial_sigma().is_finite());
                    prop_assert!(!scheduler.timesteps().is_empty());
                    prop_assert_eq!(first_not_finite(&*scheduler), None);
                }
            }
        }
    }
}
