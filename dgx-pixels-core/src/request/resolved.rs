//! A request with every default filled in.

use serde::{Deserialize, Serialize};

use super::{
    ControlChoice, Crop, DEFAULT_STRENGTH, GenerateRequest, ImageSize, LoraChoice, Mask, RequestError,
    SourceImage,
};
use crate::pixel::Wrap;
use crate::prompt::PromptSyntax;
use crate::scheduler::{SchedulerError, SchedulerName, Steps, TimestepSpacing};

/// The values of a model for the fields that a request leaves open.
///
/// # Example
/// ```
/// use dgx_pixels_core::backend::{Backend, Sketch};
/// let defaults = Sketch.defaults();
/// assert_eq!((defaults.size.width, defaults.multiple, defaults.steps), (256, 8, 30));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ModelDefaults {
    /// The size of an image, in pixels.
    pub size: ImageSize,
    /// The size of the largest image that the model draws for a sprite, in pixels.
    pub largest: ImageSize,
    /// The number that both sides of an image are multiples of.
    pub multiple: u32,
    /// Denoising steps.
    pub steps: usize,
    /// The guidance scale.
    pub guidance_scale: f64,
    /// The noise schedule.
    pub scheduler: SchedulerName,
    /// `true` if the guidance scale is an input of the UNet, so that guidance takes no second row.
    pub is_distilled: bool,
    /// The color that stands for transparent pixels in an image to begin from; `None` for a model
    /// that begins from no image.
    pub matte: Option<[u8; 3]>,
    /// `true` for a model that fills the masked part of an image, and draws nothing else.
    pub needs_mask: bool,
}

/// A request with every default filled in, by one model: drawing it again with the same model gives
/// the same image.
///
/// The queue, the forecast of costs, the canvas and the record in a PNG file all carry this type,
/// so a default is decided in one place: [`GenerateRequest::resolve`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolvedRequest {
    /// The request's prompt.
    pub prompt: String,
    /// The request's negative prompt.
    pub negative_prompt: Option<String>,
    /// The rule for brackets, `BREAK` and long texts in both prompts.
    pub prompt_syntax: PromptSyntax,
    /// The last layers of the text encoders that the prompt skips, 1 or 2; `None` for none.
    pub clip_skip: Option<u8>,
    /// The LoRAs that change the model, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lora: Vec<LoraChoice>,
    /// The VAE in place of the model's own, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vae: Option<String>,
    /// The control nets, by name, with the images that they follow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub control: Vec<ControlChoice>,
    /// The request's seed.
    pub seed: u64,
    /// The image to begin from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_image: Option<SourceImage>,
    /// The part of it that is drawn anew; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Mask>,
    /// The share of the steps that the image goes through; `None` without an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// Denoising steps, 1 to 1000. A drawing from an image takes fewer
    /// ([`drawn_steps`](Self::drawn_steps)).
    pub steps: usize,
    /// The guidance scale, 0 to 100.
    pub guidance_scale: f64,
    /// The share of guidance rescale, 0 to 1.
    pub guidance_rescale: f64,
    /// The part of the schedule with guidance; `None` for all steps.
    pub guidance_interval: Option<[f64; 2]>,
    /// The UNet's inner levels are computed at every Nth step only; `None` for every step.
    pub deep_cache: Option<usize>,
    /// The noise schedule.
    pub scheduler: SchedulerName,
    /// The spread of the timesteps; `None` for the model's own.
    pub timestep_spacing: Option<TimestepSpacing>,
    /// The timesteps of the caller's own; `None` for those that the schedule spreads.
    pub timesteps: Option<Vec<u32>>,
    /// The noise levels of the caller's own; `None` for those of the schedule.
    pub sigmas: Option<Vec<f64>>,
    /// The share of fresh noise in a step of `tcd`; `None` for 0.3.
    pub eta: Option<f64>,
    /// The size of the image, in pixels.
    pub size: ImageSize,
    /// Size conditioning: the size of a training image before it was cropped.
    pub original_size: ImageSize,
    /// Size conditioning: the left top corner of the crop.
    pub crop: Crop,
    /// Size conditioning: the size that a training image was cropped to.
    pub target_size: ImageSize,
    /// The edges that meet.
    #[serde(default, skip_serializing_if = "Wrap::is_none")]
    pub wrap: Wrap,
}

impl GenerateRequest {
    /// Checks the request and fills in the defaults of a model.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate); [`RequestError::Side`] for a size that the model
    /// cannot draw; [`RequestError::Schedule`] for steps that the schedule does not take.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::backend::{Backend, Sketch};
    /// use dgx_pixels_core::GenerateRequest;
    /// let request = GenerateRequest { prompt: "a key".into(), ..Default::default() };
    /// let resolved = request.resolve(&Sketch.defaults())?;
    /// assert_eq!((resolved.steps, resolved.size.width), (30, 256));
    /// // A resolved request asks for itself.
    /// assert_eq!(GenerateRequest::from(resolved.clone()).resolve(&Sketch.defaults())?, resolved);
    /// # Ok::<(), dgx_pixels_core::RequestError>(())
    /// ```
    pub fn resolve(&self, defaults: &ModelDefaults) -> Result<ResolvedRequest, RequestError> {
        if self.preset.is_some() {
            return self.without_preset()?.resolve(defaults);
        }
        self.validate()?;
        let scheduler = self.scheduler.unwrap_or(defaults.scheduler);
        if defaults.scheduler.is_edm() && !scheduler.is_edm() {
            let expected = "`edm_euler` or `edm_dpmpp_2m`, as the model was trained by EDM".into();
            let value = format!("`{scheduler}`");
            return Err(SchedulerError::Option { option: "scheduler", value, expected }.into());
        }
        let listed = self.list_of_steps()?;
        if let Some(steps) = &listed {
            steps.check_for(scheduler)?;
        }
        if let Some(eta) = self.eta.filter(|_| scheduler != SchedulerName::Tcd) {
            let expected = format!("none with the scheduler `{scheduler}`, as only `tcd` has it");
            return Err(SchedulerError::Option { option: "eta", value: eta.to_string(), expected }.into());
        }
        let size = self.size()?.unwrap_or(defaults.size);
        size.validate(defaults.multiple)?;
        let steps = listed.map_or(self.steps.unwrap_or(defaults.steps), |steps| steps.number());
        let strength = self.strength_for(defaults, steps)?;
        Ok(ResolvedRequest {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative_prompt.clone(),
            prompt_syntax: self.prompt_syntax.unwrap_or_default(),
            clip_skip: self.clip_skip,
            lora: self.lora.clone(),
            vae: self.vae.clone(),
            control: self.control.clone(),
            seed: self.seed,
            init_image: self.init_image.clone(),
            mask: self.mask.clone(),
            strength,
            steps,
            guidance_scale: self.guidance_scale.unwrap_or(defaults.guidance_scale),
            guidance_rescale: self.guidance_rescale,
            guidance_interval: self.guidance_interval,
            deep_cache: self.deep_cache,
            scheduler,
            timestep_spacing: self.timestep_spacing,
            timesteps: self.timesteps.clone(),
            sigmas: self.sigmas.clone(),
            eta: self.eta,
            size,
            original_size: self.original_size.unwrap_or(size),
            crop: self.crop,
            target_size: self.target_size.unwrap_or(size),
            wrap: self.wrap.unwrap_or_default(),
        })
    }
}

impl GenerateRequest {
    /// The strength of an image to begin from, after checking that the model can begin from it.
    fn strength_for(&self, defaults: &ModelDefaults, steps: usize) -> Result<Option<f64>, RequestError> {
        if defaults.needs_mask {
            let is_missing = [("init_image", self.init_image.is_none()), ("mask", self.mask.is_none())];
            if let Some((field, _)) = is_missing.into_iter().find(|(_, is_missing)| *is_missing) {
                let text = "is missing, and the model fills the masked part of an image; expected `init_image` \
                            and `mask`, or a model that draws from a prompt alone";
                return Err(RequestError::image(field, text));
            }
        }
        if let Some(ControlChoice { model, image, .. }) =
            self.control.iter().find(|control| control.image.pixels().is_none())
        {
            let text = format!(
                "has `{model}` with `{image}`, which is not kept here; expected the path of the image"
            );
            return Err(RequestError::image("control", text));
        }
        let Some(image) = &self.init_image else { return Ok(None) };
        if defaults.matte.is_none() {
            let text = "is given, and the model begins from no image; expected another model, or none";
            return Err(RequestError::image("init_image", text));
        }
        let mask = self.mask.as_ref().and_then(Mask::image);
        for (field, image) in [("init_image", Some(image)), ("mask", mask)] {
            if let Some(image) = image.filter(|image| image.pixels().is_none()) {
                let text = format!("is `{image}`, which is not kept here; expected the path of the image");
                return Err(RequestError::image(field, text));
            }
        }
        let default = if self.mask.is_some() { 1.0 } else { DEFAULT_STRENGTH };
        let strength = self.strength.unwrap_or(default);
        Steps::Number(steps).of_strength(strength)?;
        Ok(Some(strength))
    }
}

impl ResolvedRequest {
    /// Returns the number of steps that the drawing takes: fewer than `steps` from an image.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::backend::{Backend, Sketch};
    /// use dgx_pixels_core::{GenerateRequest, SourceImage};
    /// let init_image = Some(SourceImage::new(image::RgbaImage::new(32, 32)));
    /// let request = GenerateRequest { init_image, strength: Some(0.5), steps: Some(9), ..Default::default() };
    /// assert_eq!(request.resolve(&Sketch.defaults())?.drawn_steps(), 4);
    /// # Ok::<(), dgx_pixels_core::RequestError>(())
    /// ```
    pub fn drawn_steps(&self) -> usize {
        let drawn = self.strength.map(|strength| Steps::Number(self.steps).of_strength(strength));
        // A strength that leaves no step was refused.
        drawn.and_then(Result::ok).unwrap_or(self.steps)
    }

    /// Returns the rows that one image takes in a forward pass with guidance: 2, or 1 where nothing
    /// guides.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::backend::{Backend, Sketch};
    /// use dgx_pixels_core::{GenerateRequest, ModelDefaults};
    ///
    /// let guided = ModelDefaults { guidance_scale: 5.0, is_distilled: false, ..Sketch.defaults() };
    /// let request = GenerateRequest::default().resolve(&guided)?;
    /// assert_eq!(request.rows(&guided), 2);
    /// // A distilled model has the guidance scale as an input of its UNet.
    /// assert_eq!(request.rows(&ModelDefaults { is_distilled: true, ..guided }), 1);
    /// # Ok::<(), dgx_pixels_core::RequestError>(())
    /// ```
    pub fn rows(&self, defaults: &ModelDefaults) -> usize {
        1 + usize::from(self.guidance_scale > 1.0 && !defaults.is_distilled)
    }

    /// Returns the steps to make a schedule for.
    pub fn schedule(&self) -> Steps {
        match (&self.timesteps, &self.sigmas) {
            (Some(timesteps), _) => Steps::Timesteps(timesteps.clone()),
            (None, Some(sigmas)) => Steps::Sigmas(sigmas.clone()),
            (None, None) => Steps::Number(self.steps),
        }
    }
}

impl From<ResolvedRequest> for GenerateRequest {
    fn from(resolved: ResolvedRequest) -> GenerateRequest {
        GenerateRequest {
            prompt: resolved.prompt,
            negative_prompt: resolved.negative_prompt,
            prompt_syntax: Some(resolved.prompt_syntax),
            clip_skip: resolved.clip_skip,
            lora: resolved.lora,
            vae: resolved.vae,
            control: resolved.control,
            seed: resolved.seed,
            init_image: resolved.init_image,
            mask: resolved.mask,
            strength: resolved.strength,
            steps: Some(resolved.steps),
            guidance_scale: Some(resolved.guidance_scale),
            guidance_rescale: resolved.guidance_rescale,
            guidance_interval: resolved.guidance_interval,
            deep_cache: resolved.deep_cache,
            preset: None,
            scheduler: Some(resolved.scheduler),
            timestep_spacing: resolved.timestep_spacing,
            timesteps: resolved.timesteps,
            sigmas: resolved.sigmas,
            eta: resolved.eta,
            width: Some(resolved.size.width),
            height: Some(resolved.size.height),
            original_size: Some(resolved.original_size),
            crop: resolved.crop,
            target_size: Some(resolved.target_size),
            wrap: Some(resolved.wrap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend as _, Sketch};

    #[test]
    fn a_distilled_model_takes_one_row_whatever_the_guidance_scale_is() {
        let defaults = Sketch.defaults();
        let resolved = GenerateRequest::default().resolve(&defaults).unwrap();
        let distilled = ModelDefaults { is_distilled: true, ..defaults.clone() };
        assert_eq!((resolved.rows(&defaults), resolved.rows(&distilled)), (2, 1));
        let unguided = ResolvedRequest { guidance_scale: 1.0, ..resolved };
        assert_eq!(unguided.rows(&defaults), 1);
    }

    #[test]
    fn a_model_that_fills_masks_names_what_is_missing() {
        let image = SourceImage::new(image::RgbaImage::new(32, 32));
        let defaults = ModelDefaults { needs_mask: true, ..Sketch.defaults() };
        let with_image = GenerateRequest { init_image: Some(image), ..Default::default() };
        for (request, field) in [(GenerateRequest::default(), "init_image"), (with_image.clone(), "mask")] {
            let error = request.resolve(&defaults).unwrap_err();
            assert_eq!(error.field(), field);
            assert_eq!(
                error.to_string(),
                format!(
                    "`{field}` is missing, and the model fills the masked part of an image; expected \
                     `init_image` and `mask`, or a model that draws from a prompt alone"
                )
            );
        }
        let request = GenerateRequest { mask: Some(Mask::Alpha), ..with_image };
        assert_eq!(request.resolve(&defaults).unwrap().strength, Some(1.0));
    }

    #[test]
    fn what_a_request_names_is_kept_and_the_rest_is_the_models() {
        let size = |width, height| ImageSize { width, height };
        let defaults = ModelDefaults {
            size: size(512, 256),
            largest: size(512, 256),
            multiple: 8,
            steps: 12,
            guidance_scale: 4.0,
            scheduler: SchedulerName::Lcm,
            is_distilled: false,
            matte: None,
            needs_mask: false,
        };
        let resolved = GenerateRequest::default().resolve(&defaults).unwrap();
        assert_eq!((resolved.steps, resolved.guidance_scale), (12, 4.0));
        assert_eq!((resolved.scheduler, resolved.size), (SchedulerName::Lcm, size(512, 256)));
        assert_eq!((resolved.original_size, resolved.target_size), (size(512, 256), size(512, 256)));

        let request = GenerateRequest { steps: Some(3), target_size: Some(size(9, 9)), ..Default::default() };
        let resolved = request.with_size(size(64, 128)).resolve(&defaults).unwrap();
        assert_eq!((resolved.steps, resolved.size), (3, size(64, 128)));
        assert_eq!((resolved.original_size, resolved.target_size), (size(64, 128), size(9, 9)));

        let edm = ModelDefaults { scheduler: SchedulerName::EdmEuler, ..defaults.clone() };
        let euler = GenerateRequest { scheduler: Some(SchedulerName::Euler), ..Default::default() };
        assert_eq!(
            euler.resolve(&edm).unwrap_err().to_string(),
            "`scheduler` is `euler`; expected `edm_euler` or `edm_dpmpp_2m`, as the model was trained by EDM"
        );
        let odd = GenerateRequest::default().with_size(size(68, 64)).resolve(&defaults).unwrap_err();
        assert_eq!(odd.to_string(), "`width` is 68; expected a multiple of 8, 64 to 2048");
    }
}
