//! The settings that few-step models and LoRAs were trained for.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{GenerateRequest, RequestError};
use crate::scheduler::{SchedulerName, TimestepSpacing};
use crate::value_error::ValueError;

/// The settings that one few-step model or LoRA was trained for.
///
/// The model or the LoRA itself is not part of a preset.
///
/// # Example
/// ```
/// use dgx_pixels_core::backend::{Backend, Sketch};
/// use dgx_pixels_core::scheduler::{SchedulerName, TimestepSpacing};
/// use dgx_pixels_core::{GenerateRequest, Preset};
///
/// let preset: Preset = "lightning-4".parse()?;
/// let request = GenerateRequest { preset: Some(preset), seed: 7, ..Default::default() };
/// let resolved = request.resolve(&Sketch.defaults())?;
/// assert_eq!((resolved.steps, resolved.guidance_scale), (4, 0.0));
/// assert_eq!(resolved.scheduler, SchedulerName::Euler);
/// assert_eq!(resolved.timestep_spacing, Some(TimestepSpacing::Trailing));
///
/// // A field that the request names wins.
/// let request = GenerateRequest { guidance_scale: Some(1.5), ..request };
/// assert_eq!(request.resolve(&Sketch.defaults())?.guidance_scale, 1.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preset {
    /// The word.
    pub name: &'static str,
    /// The number of denoising steps.
    pub steps: usize,
    /// The guidance scale. At 1 or less nothing guides.
    pub guidance_scale: f64,
    /// The noise schedule.
    pub scheduler: SchedulerName,
    /// The spread of the timesteps, where the schedule has more than one.
    pub timestep_spacing: Option<TimestepSpacing>,
    /// The timesteps, where they are not those that the schedule spreads.
    pub timesteps: &'static [u32],
    /// The share of fresh noise, for `tcd`.
    pub eta: Option<f64>,
    /// The model or LoRA, and where its authors give these settings.
    pub source: &'static str,
}

const TRAILING: Option<TimestepSpacing> = Some(TimestepSpacing::Trailing);

/// A preset without guidance whose schedule spreads its own timesteps.
const fn preset(
    name: &'static str,
    steps: usize,
    scheduler: SchedulerName,
    timestep_spacing: Option<TimestepSpacing>,
    source: &'static str,
) -> Preset {
    Preset {
        name,
        steps,
        guidance_scale: 0.0,
        scheduler,
        timestep_spacing,
        timesteps: &[],
        eta: None,
        source,
    }
}

const LIGHTNING: &str =
    "SDXL-Lightning, UNet or LoRA of this many steps: the card of ByteDance/SDXL-Lightning";
const HYPER_SD: &str = "Hyper-SD, LoRA of this many steps: the card of ByteDance/Hyper-SD";
const HYPER_SD_CFG: &str =
    "Hyper-SD, CFG LoRA of this many steps, guidance 5 to 8: the card of ByteDance/Hyper-SD";

impl Preset {
    /// All presets.
    pub const ALL: [Preset; 14] = [
        Preset {
            guidance_scale: 1.5,
            ..preset(
                "lcm",
                8,
                SchedulerName::Lcm,
                None,
                "LCM-LoRA with a pixel LoRA, 4 to 8 steps, guidance 1 to 2: the card of nerijs/pixel-art-xl",
            )
        },
        preset("lightning-2", 2, SchedulerName::Euler, TRAILING, LIGHTNING),
        preset("lightning-4", 4, SchedulerName::Euler, TRAILING, LIGHTNING),
        preset("lightning-8", 8, SchedulerName::Euler, TRAILING, LIGHTNING),
        Preset {
            eta: Some(1.0),
            ..preset(
                "hyper-sd-1",
                1,
                SchedulerName::Tcd,
                None,
                "Hyper-SD, unified LoRA, 1 to 8 steps: the card of ByteDance/Hyper-SD",
            )
        },
        Preset {
            timesteps: &[800],
            ..preset(
                "hyper-sd-1-unet",
                1,
                SchedulerName::Lcm,
                None,
                "Hyper-SD, UNet of one step: the card of ByteDance/Hyper-SD",
            )
        },
        preset("hyper-sd-2", 2, SchedulerName::Ddim, TRAILING, HYPER_SD),
        preset("hyper-sd-4", 4, SchedulerName::Ddim, TRAILING, HYPER_SD),
        preset("hyper-sd-8", 8, SchedulerName::Ddim, TRAILING, HYPER_SD),
        Preset {
            guidance_scale: 5.0,
            ..preset("hyper-sd-8-cfg", 8, SchedulerName::Ddim, TRAILING, HYPER_SD_CFG)
        },
        Preset {
            guidance_scale: 5.0,
            ..preset("hyper-sd-12-cfg", 12, SchedulerName::Ddim, TRAILING, HYPER_SD_CFG)
        },
        Preset {
            timesteps: &[999, 749, 499, 249],
            ..preset(
                "dmd2",
                4,
                SchedulerName::Lcm,
                None,
                "DMD2, UNet or LoRA of four steps: the card of tianweiy/DMD2",
            )
        },
        Preset {
            timesteps: &[399],
            ..preset(
                "dmd2-1",
                1,
                SchedulerName::Lcm,
                None,
                "DMD2, UNet of one step: the card of tianweiy/DMD2",
            )
        },
        preset(
            "turbo",
            1,
            SchedulerName::EulerAncestral,
            TRAILING,
            "SDXL-Turbo, 1 to 4 steps at 512x512: the card of stabilityai/sdxl-turbo",
        ),
    ];
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl FromStr for Preset {
    type Err = ValueError;

    fn from_str(name: &str) -> Result<Preset, ValueError> {
        Preset::ALL.into_iter().find(|preset| preset.name == name).ok_or_else(|| {
            let names = Preset::ALL.map(|preset| format!("`{}`", preset.name));
            ValueError::new("preset", name, format!("one of {}", names.join(", ")))
        })
    }
}

impl Serialize for Preset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for Preset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Preset, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

crate::words::schema_of_words!(Preset, Preset::ALL.map(|preset| preset.name));

impl GenerateRequest {
    /// Returns the request with its preset's values in the fields that it leaves open, and without
    /// the preset.
    ///
    /// A request's own `timesteps` or `sigmas` take the place of the preset's steps.
    ///
    /// # Errors
    /// [`RequestError::Preset`] if the preset has timesteps of its own, and the request has another
    /// number of steps or another scheduler.
    pub fn without_preset(&self) -> Result<GenerateRequest, RequestError> {
        let Some(preset) = self.preset else { return Ok(self.clone()) };
        let mut request = GenerateRequest { preset: None, ..self.clone() };
        let conflict = |field, value: String, expected: String| {
            Err(RequestError::Preset { field, value, preset: preset.name, expected })
        };
        let has_steps = self.timesteps.is_some() || self.sigmas.is_some();
        if !has_steps && !preset.timesteps.is_empty() {
            if let Some(steps) = self.steps.filter(|steps| *steps != preset.steps) {
                let expected = format!("{}, or `timesteps` of your own", preset.steps);
                return conflict("steps", steps.to_string(), expected);
            }
            if let Some(scheduler) = self.scheduler.filter(|scheduler| *scheduler != preset.scheduler) {
                let expected = format!("`{}`, or `timesteps` of your own", preset.scheduler);
                return conflict("scheduler", format!("`{scheduler}`"), expected);
            }
            request.timesteps = Some(preset.timesteps.to_vec());
        }
        if !has_steps {
            request.steps = self.steps.or(Some(preset.steps));
            request.timestep_spacing = self.timestep_spacing.or(preset.timestep_spacing);
        }
        request.scheduler = self.scheduler.or(Some(preset.scheduler));
        if request.scheduler == Some(SchedulerName::Tcd) {
            request.eta = self.eta.or(preset.eta);
        }
        request.guidance_scale = self.guidance_scale.or(Some(preset.guidance_scale));
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend as _, Sketch};
    use crate::scheduler::{SchedulerConfig, Steps};

    fn request(preset: &str) -> GenerateRequest {
        GenerateRequest { preset: Some(preset.parse().unwrap()), ..Default::default() }
    }

    #[test]
    fn every_preset_makes_a_schedule_of_its_number_of_steps() {
        for preset in Preset::ALL {
            assert_eq!(preset.name.parse::<Preset>(), Ok(preset));
            assert_eq!(Preset::ALL.iter().filter(|other| other.name == preset.name).count(), 1);
            let resolved = request(preset.name).resolve(&Sketch.defaults()).unwrap();
            assert_eq!(resolved.steps, preset.steps, "{preset}");
            let config = SchedulerConfig {
                eta: resolved.eta,
                timestep_spacing: resolved.timestep_spacing,
                ..SchedulerConfig::sdxl_base().with_name(resolved.scheduler)
            };
            let scheduler = config.build_for(&resolved.schedule()).unwrap();
            assert_eq!(scheduler.timesteps().len(), preset.steps, "{preset}");
            // Few steps have to begin where there is only noise.
            let first = if preset.timesteps.is_empty() { 999.0 } else { f64::from(preset.timesteps[0]) };
            assert_eq!(scheduler.timesteps()[0], first, "{preset}");
        }
    }

    #[test]
    fn a_named_field_wins_over_the_preset() {
        let named = GenerateRequest {
            steps: Some(6),
            scheduler: Some(SchedulerName::Ddim),
            timestep_spacing: Some(TimestepSpacing::Linspace),
            guidance_scale: Some(2.0),
            ..request("hyper-sd-1")
        };
        let filled = named.without_preset().unwrap();
        assert_eq!(filled, GenerateRequest { preset: None, ..named });
    }

    #[test]
    fn timesteps_of_the_callers_own_replace_the_presets_steps() {
        let own = GenerateRequest { timesteps: Some(vec![999, 499]), ..request("dmd2") };
        let resolved = own.resolve(&Sketch.defaults()).unwrap();
        assert_eq!((resolved.steps, resolved.schedule()), (2, Steps::Timesteps(vec![999, 499])));
    }

    #[test]
    fn a_field_that_contradicts_the_presets_timesteps_is_refused() {
        let steps = GenerateRequest { steps: Some(8), ..request("dmd2") };
        assert_eq!(
            steps.validate().unwrap_err().to_string(),
            "`steps` is 8 and the preset `dmd2` has timesteps of its own; expected 4, or `timesteps` of your own"
        );
        let scheduler = GenerateRequest { scheduler: Some(SchedulerName::Euler), ..request("dmd2") };
        assert_eq!(
            scheduler.validate().unwrap_err().to_string(),
            "`scheduler` is `euler` and the preset `dmd2` has timesteps of its own; expected `lcm`, or `timesteps` of \
             your own"
        );
    }

    #[test]
    fn an_unknown_preset_is_answered_with_those_there_are() {
        let error = "lightning".parse::<Preset>().unwrap_err().to_string();
        assert!(
            error.starts_with("`preset` is `lightning`; expected one of `lcm`, `lightning-2`, "),
            "{error}"
        );
    }
}
