//! A schedule of each class, worked out by its config.

use super::ddim::Ddim;
use super::dpmpp_2m::Dpmpp2m;
use super::edm::{EdmDpmpp2m, EdmEuler};
use super::euler::Euler;
use super::euler_ancestral::EulerAncestral;
use super::heun::Heun;
use super::lcm::Lcm;
use super::steps::Steps;
use super::tcd::Tcd;
use super::unipc::UniPc;
use super::{Scheduler, SchedulerConfig, SchedulerError, SchedulerName};

impl SchedulerConfig {
    /// Works the schedule out for `steps` steps.
    ///
    /// # Errors
    /// The errors of [`build_for`](SchedulerConfig::build_for).
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
    /// The errors of [`build_for`](Self::build_for); [`SchedulerError::Option`] for a strength that
    /// leaves no step.
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
}

/// The first evaluation with a factor that is no number.
pub(super) fn first_not_finite(scheduler: &dyn Scheduler) -> Option<usize> {
    if !scheduler.initial_sigma().is_finite() {
        return Some(0);
    }
    (0..scheduler.timesteps().len()).find(|&i| {
        let (readout, step) = (scheduler.denoised(i), scheduler.step(i));
        let scalars = [scheduler.timesteps()[i], scheduler.input_scale(i), readout.sample, readout.output];
        let keep = step.keep.iter().flat_map(|keep| keep.factors());
        let is_range = readout.clip.is_none_or(|limit| limit >= 0.0);
        !scalars.into_iter().chain(step.next.factors()).chain(keep).all(f64::is_finite) || !is_range
    })
}
