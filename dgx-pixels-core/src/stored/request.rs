//! A submission as the journal keeps it, and its parts, which PNG files have too.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::picture_file::MadeError;
use crate::pixel::{
    Anchor, Detail, Dither, GridChoice, MaxColors, Outline, Palette, PixelOptions, Transparent, Unsure, Wrap,
};
use crate::request::{Crop, GenerateRequest, ImageSize, ResolvedRequest};
use crate::scheduler::SchedulerName;
use crate::submission::Priority;

/// A request for an image. In a PNG file every default is filled in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Request {
    prompt: String,
    negative_prompt: Option<String>,
    /// Since version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    clip_skip: Option<u8>,
    seed: u64,
    steps: Option<usize>,
    guidance_scale: Option<f64>,
    guidance_rescale: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    guidance_interval: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deep_cache: Option<usize>,
    scheduler: Option<SchedulerName>,
    size: Option<ImageSize>,
    original_size: Option<ImageSize>,
    crop: Crop,
    target_size: Option<ImageSize>,
}

impl Request {
    /// The newest version of a record that has a request, as this program reads it.
    pub(super) const NEWEST: u32 = 3;

    /// Returns the oldest version that can hold this request: records do not change with the program.
    pub(super) fn version(&self) -> u32 {
        if self.clip_skip.is_some() { 2 } else { 1 }
    }
}

impl From<GenerateRequest> for Request {
    fn from(request: GenerateRequest) -> Request {
        let size = request.width.zip(request.height).map(|(width, height)| ImageSize { width, height });
        Request {
            prompt: request.prompt,
            negative_prompt: request.negative_prompt,
            clip_skip: request.clip_skip,
            seed: request.seed,
            steps: request.steps,
            guidance_scale: request.guidance_scale,
            guidance_rescale: request.guidance_rescale,
            guidance_interval: request.guidance_interval,
            deep_cache: request.deep_cache,
            scheduler: request.scheduler,
            size,
            original_size: request.original_size,
            crop: request.crop,
            target_size: request.target_size,
        }
    }
}

impl From<Request> for GenerateRequest {
    fn from(stored: Request) -> GenerateRequest {
        GenerateRequest {
            prompt: stored.prompt,
            negative_prompt: stored.negative_prompt,
            clip_skip: stored.clip_skip,
            seed: stored.seed,
            steps: stored.steps,
            guidance_scale: stored.guidance_scale,
            guidance_rescale: stored.guidance_rescale,
            guidance_interval: stored.guidance_interval,
            deep_cache: stored.deep_cache,
            scheduler: stored.scheduler,
            width: stored.size.map(|size| size.width),
            height: stored.size.map(|size| size.height),
            original_size: stored.original_size,
            crop: stored.crop,
            target_size: stored.target_size,
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
            clip_skip: stored.clip_skip,
            seed: stored.seed,
            steps: stored.steps.ok_or_else(|| missing("steps"))?,
            guidance_scale: stored.guidance_scale.ok_or_else(|| missing("guidance_scale"))?,
            guidance_rescale: stored.guidance_rescale,
            guidance_interval: stored.guidance_interval,
            deep_cache: stored.deep_cache,
            scheduler: stored.scheduler.ok_or_else(|| missing("scheduler"))?,
            size,
            // The sketch did not fill these in once.
            original_size: stored.original_size.unwrap_or(size),
            crop: stored.crop,
            target_size: stored.target_size.unwrap_or(size),
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
