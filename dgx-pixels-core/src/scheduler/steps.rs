//! The steps of a schedule: their number, or the steps themselves.

use super::bounds::MAX_TIMESTEPS;
use super::{SchedulerConfig, SchedulerError, SchedulerName};

/// The steps of a schedule: their number, or the steps themselves, as diffusers' `set_timesteps`
/// takes them.
///
/// # Example
/// ```
/// use dgx_pixels_core::scheduler::{SchedulerConfig, SchedulerName, Steps};
///
/// let lcm = SchedulerConfig::sdxl_base().with_name(SchedulerName::Lcm);
/// assert_eq!(lcm.build(4)?.timesteps(), [999.0, 759.0, 499.0, 259.0]);
/// let dmd2 = lcm.build_for(&Steps::Timesteps(vec![999, 749, 499, 249]))?;
/// assert_eq!(dmd2.timesteps(), [999.0, 749.0, 499.0, 249.0]);
/// # Ok::<(), dgx_pixels_core::scheduler::SchedulerError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Steps {
    /// This many steps, which the schedule spreads.
    Number(usize),
    /// A step at each of these timesteps of training, falling.
    Timesteps(Vec<u32>),
    /// A step from each of these noise levels to the next, falling. The last is what the last step
    /// leaves, mostly 0.
    Sigmas(Vec<f64>),
}

impl Steps {
    /// The number of steps.
    pub fn number(&self) -> usize {
        match self {
            Steps::Number(number) => *number,
            Steps::Timesteps(timesteps) => timesteps.len(),
            Steps::Sigmas(sigmas) => sigmas.len().saturating_sub(1),
        }
    }

    /// The number of steps that a drawing from an image takes: the whole part of the number of
    /// steps times `strength`, as diffusers computes it.
    ///
    /// # Errors
    /// [`SchedulerError::Option`] for a strength that is not above 0 and at most 1, or leaves no
    /// step.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::scheduler::Steps;
    /// // The product is 28.999999999999996 in binary.
    /// assert_eq!(Steps::Number(50).of_strength(0.58)?, 28);
    /// assert!(Steps::Number(12).of_strength(0.05).is_err());
    /// # Ok::<(), dgx_pixels_core::scheduler::SchedulerError>(())
    /// ```
    pub fn of_strength(&self, strength: f64) -> Result<usize, SchedulerError> {
        let wrong = |expected: String| Err(SchedulerError::option("strength", strength, expected));
        if !(strength > 0.0 && strength <= 1.0) {
            return wrong("more than 0, and at most 1".into());
        }
        let number = self.number();
        match (number as f64 * strength) as usize {
            0 => {
                let least = (1000.0 / number as f64).ceil() / 1000.0;
                wrong(format!("at least {least}, so that one of {number} steps is left"))
            }
            drawn => Ok(drawn.min(number)),
        }
    }

    /// Checks everything that can be checked without a scheduler.
    ///
    /// # Errors
    /// [`SchedulerError::Steps`] for too few or too many; [`SchedulerError::Option`] for lists that
    /// are empty, do not fall, or hold something else than noise levels.
    pub fn check(&self) -> Result<(), SchedulerError> {
        let wrong = |option, value: String, expected: &str| {
            Err(SchedulerError::Option { option, value, expected: expected.into() })
        };
        match self {
            Steps::Number(steps) if (1..=MAX_TIMESTEPS).contains(steps) => Ok(()),
            Steps::Number(steps) => {
                Err(SchedulerError::Steps { steps: *steps, expected: format!("1 to {MAX_TIMESTEPS}") })
            }
            Steps::Timesteps(list) if list.is_empty() || list.len() > MAX_TIMESTEPS => {
                let expected = format!("1 to {MAX_TIMESTEPS} timesteps");
                wrong("timesteps", format!("a list of {}", list.len()), &expected)
            }
            Steps::Sigmas(list) if list.len() < 2 || list.len() > MAX_TIMESTEPS => {
                let expected = format!("2 to {MAX_TIMESTEPS} noise levels, the last mostly 0");
                wrong("sigmas", format!("a list of {}", list.len()), &expected)
            }
            Steps::Timesteps(list) => match list.windows(2).find(|pair| pair[1] >= pair[0]) {
                Some(pair) => wrong("timesteps", format!("{} after {}", pair[1], pair[0]), FALLING),
                None => Ok(()),
            },
            Steps::Sigmas(list) => {
                if let Some(sigma) = list.iter().find(|sigma| !(0.0..=MAX_SIGMA).contains(*sigma)) {
                    return wrong("sigmas", sigma.to_string(), &format!("numbers from 0 to {MAX_SIGMA}"));
                }
                match list.windows(2).find(|pair| pair[1] >= pair[0]) {
                    Some(pair) => wrong("sigmas", format!("{} after {}", pair[1], pair[0]), FALLING),
                    None => Ok(()),
                }
            }
        }
    }

    /// Checks the steps, and that a scheduler takes them.
    ///
    /// # Errors
    /// As [`check`](Self::check); [`SchedulerError::Option`] for a list that this scheduler does
    /// not take.
    pub fn check_for(&self, name: SchedulerName) -> Result<(), SchedulerError> {
        self.check()?;
        let (option, takes): (_, &[SchedulerName]) = match self {
            Steps::Number(_) => return Ok(()),
            Steps::Timesteps(_) => ("timesteps", &TAKE_TIMESTEPS),
            Steps::Sigmas(_) => ("sigmas", &[SchedulerName::Euler]),
        };
        if takes.contains(&name) {
            return Ok(());
        }
        let names: Vec<String> = takes.iter().map(|name| format!("`{name}`")).collect();
        let expected = format!("none with the scheduler `{name}`, as only {} can", names.join(", "));
        Err(SchedulerError::Option { option, value: self.length(), expected })
    }

    /// The number of values in words.
    fn length(&self) -> String {
        match self {
            Steps::Number(number) => number.to_string(),
            Steps::Timesteps(list) => format!("a list of {}", list.len()),
            Steps::Sigmas(list) => format!("a list of {}", list.len()),
        }
    }
}

impl From<usize> for Steps {
    fn from(number: usize) -> Steps {
        Steps::Number(number)
    }
}

const FALLING: &str = "falling numbers";
/// Far above the levels of any model: a schedule whose training ends in pure noise begins at 4096.
const MAX_SIGMA: f64 = 1e6;
/// The schedulers whose class in diffusers takes `timesteps`.
const TAKE_TIMESTEPS: [SchedulerName; 6] = [
    SchedulerName::Euler,
    SchedulerName::Heun,
    SchedulerName::Dpmpp2m,
    SchedulerName::Dpmpp2mSde,
    SchedulerName::Lcm,
    SchedulerName::Tcd,
];

impl SchedulerConfig {
    /// Checks that timesteps of the caller's own are timesteps of training, and that no other
    /// option asks for levels of its own.
    pub(super) fn check_steps_of_training(&self, steps: &Steps) -> Result<(), SchedulerError> {
        let Steps::Timesteps(timesteps) = steps else { return Ok(()) };
        let train = self.train_timesteps();
        if let Some(timestep) = timesteps.iter().find(|timestep| **timestep as usize >= train) {
            let expected = format!("0 to {}, the timesteps of training", train - 1);
            return Err(SchedulerError::option("timesteps", *timestep, expected));
        }
        let is_continuous = self.timestep_type == Some(super::TimestepType::Continuous)
            && self.prediction_type == Some(super::PredictionType::VPrediction);
        let curves = [
            ("use_karras_sigmas", self.use_karras_sigmas),
            ("use_exponential_sigmas", self.use_exponential_sigmas),
            ("use_beta_sigmas", self.use_beta_sigmas),
        ];
        let dpm = [("use_lu_lambdas", self.use_lu_lambdas), ("use_flow_sigmas", self.use_flow_sigmas)];
        let set: Vec<_> = match self.name {
            SchedulerName::Euler => {
                let continuous = ("timestep_type` as `continuous", Some(is_continuous));
                curves.into_iter().chain([continuous]).collect()
            }
            SchedulerName::Heun => curves.to_vec(),
            SchedulerName::Dpmpp2m | SchedulerName::Dpmpp2mSde => curves.into_iter().chain(dpm).collect(),
            _ => vec![],
        };
        match set.into_iter().find(|(_, used)| *used == Some(true)) {
            None => Ok(()),
            Some((option, _)) => {
                let expected = format!("none, since the model's schedule has `{option}`");
                Err(SchedulerError::Option { option: "timesteps", value: steps.length(), expected })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(name: SchedulerName, steps: Steps) -> String {
        SchedulerConfig::sdxl_base().with_name(name).build_for(&steps).err().unwrap().to_string()
    }

    #[test]
    fn steps_that_no_schedule_has_are_named() {
        let timesteps = |list: &[u32]| error(SchedulerName::Lcm, Steps::Timesteps(list.to_vec()));
        assert_eq!(timesteps(&[]), "`timesteps` is a list of 0; expected 1 to 100000 timesteps");
        assert_eq!(timesteps(&[249, 499]), "`timesteps` is 499 after 249; expected falling numbers");
        assert_eq!(timesteps(&[249, 249]), "`timesteps` is 249 after 249; expected falling numbers");
        assert_eq!(timesteps(&[1000]), "`timesteps` is 1000; expected 0 to 999, the timesteps of training");
        let sigmas = |list: &[f64]| error(SchedulerName::Euler, Steps::Sigmas(list.to_vec()));
        assert_eq!(
            sigmas(&[1.0]),
            "`sigmas` is a list of 1; expected 2 to 100000 noise levels, the last mostly 0"
        );
        assert_eq!(sigmas(&[1.0, f64::NAN]), "`sigmas` is NaN; expected numbers from 0 to 1000000");
        assert_eq!(sigmas(&[1.0, 2.0]), "`sigmas` is 2 after 1; expected falling numbers");
        assert_eq!(sigmas(&[1.0, -0.5]), "`sigmas` is -0.5; expected numbers from 0 to 1000000");
    }

    #[test]
    fn a_strength_leaves_as_many_steps_as_in_diffusers() {
        let text = include_str!("../../../tests/fixtures/golden/strengths.json");
        let table: Vec<(usize, f64, usize)> = serde_json::from_str(text).unwrap();
        assert_eq!(table.len(), 1000);
        for (steps, strength, drawn) in table {
            let ours = Steps::Number(steps).of_strength(strength);
            assert_eq!(ours.ok().unwrap_or(0), drawn, "{steps} steps of strength {strength}");
        }
    }

    #[test]
    fn a_strength_that_leaves_no_step_is_told_the_least_that_does() {
        let error = |steps, strength| Steps::Number(steps).of_strength(strength).unwrap_err().to_string();
        assert_eq!(
            error(12, 0.05),
            "`strength` is 0.05; expected at least 0.084, so that one of 12 steps is left"
        );
        for strength in [0.0, -1.0, 1.01, f64::NAN] {
            assert!(error(12, strength).ends_with("expected more than 0, and at most 1"));
        }
        for steps in 1..=1000 {
            let least = (1000.0 / steps as f64).ceil() / 1000.0;
            assert!(Steps::Number(steps).of_strength(least).is_ok(), "{steps}");
        }
    }

    #[test]
    fn what_is_left_of_a_schedule_is_its_end() {
        for name in SchedulerName::ALL.into_iter().filter(|name| !name.is_edm()) {
            let config = SchedulerConfig::sdxl_base().with_name(name);
            let (whole, half) =
                (config.build(8).unwrap(), config.build_from(&Steps::Number(8), 0.5).unwrap());
            let skipped = 4 * name.order();
            assert_eq!(half.timesteps(), &whole.timesteps()[skipped..], "{name}");
            for i in 0..half.timesteps().len() {
                assert_eq!(half.noised(i), whole.noised(skipped + i), "{name}");
                assert_eq!(half.input_scale(i), whole.input_scale(skipped + i), "{name}");
            }
            // There is no evaluation before the first.
            assert_eq!(half.step(0).next.previous, [0.0; super::super::HISTORY], "{name}");
            assert_eq!(half.step(0).next.anchor, 0.0, "{name}");
        }
    }

    #[test]
    fn a_scheduler_that_takes_no_list_says_which_do() {
        assert_eq!(
            error(SchedulerName::Ddim, Steps::Timesteps(vec![999, 499])),
            "`timesteps` is a list of 2; expected none with the scheduler `ddim`, as only `euler`, `heun`, `dpmpp_2m`, \
             `dpmpp_2m_sde`, `lcm`, `tcd` can"
        );
        assert_eq!(
            error(SchedulerName::Lcm, Steps::Sigmas(vec![14.6, 0.0])),
            "`sigmas` is a list of 2; expected none with the scheduler `lcm`, as only `euler` can"
        );
    }

    #[test]
    fn a_model_with_levels_of_its_own_takes_no_timesteps() {
        let config = SchedulerConfig { use_karras_sigmas: Some(true), ..SchedulerConfig::sdxl_base() };
        let steps = Steps::Timesteps(vec![999, 499]);
        assert_eq!(
            config.build_for(&steps).err().unwrap().to_string(),
            "`timesteps` is a list of 2; expected none, since the model's schedule has `use_karras_sigmas`"
        );
        assert!(config.with_name(SchedulerName::Lcm).build_for(&steps).is_ok());
    }
}
