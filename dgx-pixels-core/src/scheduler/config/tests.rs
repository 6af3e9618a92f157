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
         `DPMSolverMultistepScheduler`, `UniPCMultistepScheduler`, `LCMScheduler`, `TCDScheduler`, \
         `EDMEulerScheduler`, `EDMDPMSolverMultistepScheduler`"
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
        error(r#"{"_class_name": "UniPCMultistepScheduler", "solver_p": {"_class_name": "DDIMScheduler"}}"#),
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
        (r#"{"_class_name": "PNDMScheduler", "steps_offset": 1, "skip_prk_steps": true}"#, "PNDMScheduler"),
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
