//! A submission as the journal keeps it, and its parts, which PNG files have too.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::picture_file::MadeError;
use crate::pixel::{
    Anchor, Detail, Dither, GridChoice, MaxColors, Outline, Palette, PixelOptions, Transparent, Unsure, Wrap,
};
use crate::prompt::PromptSyntax;
use crate::request::{
    ControlChoice, Crop, GenerateRequest, ImageSize, LoraChoice, Mask, Preprocess, Preset, ResolvedRequest,
    SourceError, SourceImage,
};
use crate::scheduler::{SchedulerName, TimestepSpacing};
use crate::submission::Priority;

/// A request for an image. In a PNG file every default is filled in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Request {
    prompt: String,
    negative_prompt: Option<String>,
    /// Since version 3. A record of an image without it is of a time when every prompt was plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_syntax: Option<PromptSyntax>,
    /// Since version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    clip_skip: Option<u8>,
    /// Since version 3. A record of an image has the values of the preset instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<Preset>,
    /// Since version 3.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lora: Vec<LoraChoice>,
    seed: u64,
    steps: Option<usize>,
    guidance_scale: Option<f64>,
    guidance_rescale: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    guidance_interval: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deep_cache: Option<usize>,
    scheduler: Option<SchedulerName>,
    /// Since version 3, as are the three that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestep_spacing: Option<TimestepSpacing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timesteps: Option<Vec<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sigmas: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eta: Option<f64>,
    size: Option<ImageSize>,
    original_size: Option<ImageSize>,
    crop: Crop,
    target_size: Option<ImageSize>,
    /// Since version 4. A record of an image without it is of a model that knew no edges.
    #[serde(skip_serializing_if = "Option::is_none")]
    wrap: Option<Wrap>,
    /// Since version 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    vae: Option<String>,
    /// Since version 5, as are the two that follow: `blake3:` and the hash of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    init_image: Option<Kept>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mask: Option<KeptMask>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strength: Option<f64>,
    /// Since version 5.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    control: Vec<KeptControl>,
}

/// A control net with the hash of the image that it follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptControl {
    model: String,
    image: Kept,
    scale: f64,
    start: f64,
    end: f64,
    preprocess: Preprocess,
}

impl From<ControlChoice> for KeptControl {
    fn from(choice: ControlChoice) -> KeptControl {
        let ControlChoice { model, image, scale, start, end, preprocess } = choice;
        KeptControl { model, image: image.into(), scale, start, end, preprocess }
    }
}

impl From<KeptControl> for ControlChoice {
    fn from(kept: KeptControl) -> ControlChoice {
        let KeptControl { model, image: Kept(image), scale, start, end, preprocess } = kept;
        ControlChoice { model, image, scale, start, end, preprocess }
    }
}

/// An image, of which a record has the hash alone: `blake3:HASH`. The engine keeps its pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Kept(SourceImage);

impl From<SourceImage> for Kept {
    /// Keeps no pixels: a journal holds every submission in memory and on disk.
    fn from(image: SourceImage) -> Kept {
        let known = SourceImage::of_hash(image.hash());
        Kept(known.expect("the hash of an image is a hash; this is a bug"))
    }
}

impl TryFrom<String> for Kept {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Kept, SourceError> {
        let hash = text.strip_prefix("blake3:").ok_or(SourceError)?;
        SourceImage::of_hash(hash).map(Kept).ok_or(SourceError)
    }
}

impl From<Kept> for String {
    fn from(kept: Kept) -> String {
        kept.0.to_string()
    }
}

/// A mask: `alpha`, rectangles, or an image of which a record has the hash alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct KeptMask(Mask);

impl From<Mask> for KeptMask {
    fn from(mask: Mask) -> KeptMask {
        match mask {
            Mask::Image(image) => KeptMask(Mask::Image(Kept::from(image).0)),
            mask => KeptMask(mask),
        }
    }
}

impl TryFrom<String> for KeptMask {
    type Error = SourceError;

    fn try_from(text: String) -> Result<KeptMask, SourceError> {
        text.parse().map(KeptMask)
    }
}

impl From<KeptMask> for String {
    fn from(kept: KeptMask) -> String {
        kept.0.to_string()
    }
}

impl Request {
    /// The newest version of a record that has a request, as this program reads it.
    pub(super) const NEWEST: u32 = 5;

    /// Returns the oldest version that can hold this request: records do not change with the
    /// program.
    pub(super) fn version(&self) -> u32 {
        let is_new_name = self.scheduler.is_some_and(|scheduler| NAMES_OF_VERSION_3.contains(&scheduler));
        let is_of_version_3 = self.prompt_syntax.is_some()
            || self.preset.is_some()
            || self.timestep_spacing.is_some()
            || self.timesteps.is_some()
            || self.sigmas.is_some()
            || self.eta.is_some()
            || is_new_name
            || !self.lora.is_empty();
        match self.clip_skip {
            _ if self.vae.is_some() || self.init_image.is_some() || !self.control.is_empty() => 5,
            _ if self.wrap.is_some() => 4,
            _ if is_of_version_3 => 3,
            Some(_) => 2,
            None => 1,
        }
    }

    /// The request of an image's record, which leaves out what older programs did by themselves.
    pub(super) fn of_image(request: ResolvedRequest) -> Request {
        let request = Request::from(GenerateRequest::from(request));
        let prompt_syntax = request.prompt_syntax.filter(|syntax| *syntax != PromptSyntax::Plain);
        let wrap = request.wrap.filter(|wrap| !wrap.is_none());
        Request { prompt_syntax, wrap, ..request }
    }
}

/// Schedulers that programs before version 3 do not have.
const NAMES_OF_VERSION_3: [SchedulerName; 3] =
    [SchedulerName::Tcd, SchedulerName::EdmEuler, SchedulerName::EdmDpmpp2m];

impl From<GenerateRequest> for Request {
    fn from(request: GenerateRequest) -> Request {
        let size = request.width.zip(request.height).map(|(width, height)| ImageSize { width, height });
        Request {
            prompt: request.prompt,
            negative_prompt: request.negative_prompt,
            prompt_syntax: request.prompt_syntax,
            clip_skip: request.clip_skip,
            preset: request.preset,
            lora: request.lora,
            seed: request.seed,
            steps: request.steps,
            guidance_scale: request.guidance_scale,
            guidance_rescale: request.guidance_rescale,
            guidance_interval: request.guidance_interval,
            deep_cache: request.deep_cache,
            scheduler: request.scheduler,
            timestep_spacing: request.timestep_spacing,
            timesteps: request.timesteps,
            sigmas: request.sigmas,
            eta: request.eta,
            size,
            original_size: request.original_size,
            crop: request.crop,
            target_size: request.target_size,
            wrap: request.wrap,
            vae: request.vae,
            init_image: request.init_image.map(Kept::from),
            mask: request.mask.map(KeptMask::from),
            strength: request.strength,
            control: request.control.into_iter().map(KeptControl::from).collect(),
        }
    }
}

impl From<Request> for GenerateRequest {
    fn from(stored: Request) -> GenerateRequest {
        GenerateRequest {
            prompt: stored.prompt,
            negative_prompt: stored.negative_prompt,
            prompt_syntax: stored.prompt_syntax,
            clip_skip: stored.clip_skip,
            preset: stored.preset,
            lora: stored.lora,
            seed: stored.seed,
            steps: stored.steps,
            guidance_scale: stored.guidance_scale,
            guidance_rescale: stored.guidance_rescale,
            guidance_interval: stored.guidance_interval,
            deep_cache: stored.deep_cache,
            scheduler: stored.scheduler,
            timestep_spacing: stored.timestep_spacing,
            timesteps: stored.timesteps,
            sigmas: stored.sigmas,
            eta: stored.eta,
            width: stored.size.map(|size| size.width),
            height: stored.size.map(|size| size.height),
            original_size: stored.original_size,
            crop: stored.crop,
            target_size: stored.target_size,
            wrap: stored.wrap,
            vae: stored.vae,
            init_image: stored.init_image.map(|kept| kept.0),
            mask: stored.mask.map(|kept| kept.0),
            strength: stored.strength,
            control: stored.control.into_iter().map(ControlChoice::from).collect(),
        }
    }
}

impl TryFrom<Request> for ResolvedRequest {
    type Error = MadeError;

    fn try_from(stored: Request) -> Result<ResolvedRequest, MadeError> {
        let missing = |field| MadeError::Lacks { field };
        let size = stored.size.ok_or_else(|| missing("size"))?;
        Ok(ResolvedRequest {
            prompt: stored.prompt,
            negative_prompt: stored.negative_prompt,
            prompt_syntax: stored.prompt_syntax.unwrap_or(PromptSyntax::Plain),
            clip_skip: stored.clip_skip,
            lora: stored.lora,
            seed: stored.seed,
            steps: stored.steps.ok_or_else(|| missing("steps"))?,
            guidance_scale: stored.guidance_scale.ok_or_else(|| missing("guidance_scale"))?,
            guidance_rescale: stored.guidance_rescale,
            guidance_interval: stored.guidance_interval,
            deep_cache: stored.deep_cache,
            scheduler: stored.scheduler.ok_or_else(|| missing("scheduler"))?,
            timestep_spacing: stored.timestep_spacing,
            timesteps: stored.timesteps,
            sigmas: stored.sigmas,
            eta: stored.eta,
            size,
            // The sketch did not fill these in once.
            original_size: stored.original_size.unwrap_or(size),
            crop: stored.crop,
            target_size: stored.target_size.unwrap_or(size),
            wrap: stored.wrap.unwrap_or_default(),
            vae: stored.vae,
            init_image: stored.init_image.map(|kept| kept.0),
            mask: stored.mask.map(|kept| kept.0),
            strength: stored.strength,
            control: stored.control.into_iter().map(ControlChoice::from).collect(),
        })
    }
}

/// The stages that make a sprite.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Pixel {
    grid: Grid,
    strip: Option<u32>,
    expected_step: Option<f64>,
    detail: Detail,
    size: Option<ImageSize>,
    anchor: Anchor,
    max_colors: MaxColors,
    palette: Option<Palette>,
    dither: Dither,
    transparent: Transparent,
    bleed: bool,
    clean_up: bool,
    outline: Outline,
    wrap: Wrap,
    /// Since version 3.
    #[serde(skip_serializing_if = "is_default")]
    unsure: Unsure,
}

fn is_default(unsure: &Unsure) -> bool {
    *unsure == Unsure::default()
}

impl Pixel {
    /// Returns the oldest version of a record that can hold these stages.
    pub(super) fn version(&self) -> u32 {
        if is_default(&self.unsure) { 1 } else { 3 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Grid {
    #[default]
    Auto,
    Cells(ImageSize),
    Step(f64),
}

impl From<PixelOptions> for Pixel {
    fn from(options: PixelOptions) -> Pixel {
        Pixel {
            grid: match options.grid {
                GridChoice::Auto => Grid::Auto,
                GridChoice::Cells(size) => Grid::Cells(size),
                GridChoice::Step(step) => Grid::Step(step),
            },
            wrap: options.wrap(),
            strip: options.strip,
            expected_step: options.expected_step,
            detail: options.detail,
            size: options.size,
            anchor: options.anchor,
            max_colors: options.max_colors,
            palette: options.palette,
            dither: options.dither,
            transparent: options.transparent,
            bleed: options.bleed,
            clean_up: options.cleanup,
            outline: options.outline,
            unsure: options.unsure,
        }
    }
}

impl From<Pixel> for PixelOptions {
    fn from(stored: Pixel) -> PixelOptions {
        PixelOptions {
            grid: match stored.grid {
                Grid::Auto => GridChoice::Auto,
                Grid::Cells(size) => GridChoice::Cells(size),
                Grid::Step(step) => GridChoice::Step(step),
            },
            strip: stored.strip,
            expected_step: stored.expected_step,
            detail: stored.detail,
            size: stored.size,
            anchor: stored.anchor,
            max_colors: stored.max_colors,
            palette: stored.palette,
            dither: stored.dither,
            transparent: stored.transparent,
            bleed: stored.bleed,
            cleanup: stored.clean_up,
            outline: stored.outline,
            tile_x: stored.wrap.x,
            tile_y: stored.wrap.y,
            unsure: stored.unsure,
        }
    }
}

/// A job as it was submitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Submission {
    request: Request,
    model: Option<String>,
    pixel: Option<Pixel>,
    output: Option<PathBuf>,
    force: bool,
    priority: Priority,
    client: String,
    deadline: Option<Duration>,
    idempotency_key: Option<String>,
    preview_every: usize,
}

impl From<crate::Submission> for Submission {
    fn from(submission: crate::Submission) -> Submission {
        Submission {
            request: submission.request.into(),
            model: submission.model,
            pixel: submission.pixel.map(Pixel::from),
            output: submission.output,
            force: submission.force,
            priority: submission.priority,
            client: submission.client,
            deadline: submission.deadline,
            idempotency_key: submission.idempotency_key,
            preview_every: submission.preview_every,
        }
    }
}

impl From<Submission> for crate::Submission {
    fn from(stored: Submission) -> crate::Submission {
        crate::Submission {
            request: stored.request.into(),
            model: stored.model,
            pixel: stored.pixel.map(PixelOptions::from),
            output: stored.output,
            force: stored.force,
            priority: stored.priority,
            client: stored.client,
            deadline: stored.deadline,
            idempotency_key: stored.idempotency_key,
            preview_every: stored.preview_every,
            // They are kept in memory, so that a job that is taken up again has none to give.
            latents: false,
        }
    }
}
