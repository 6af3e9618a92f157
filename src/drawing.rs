//! The flags of the commands that draw.

use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use dgx_pixels_core::canvas::{self, Conflict};
use dgx_pixels_core::device::{Device, Dtype, Mode};
use dgx_pixels_core::local::{LocalModel, LocalOptions};
use dgx_pixels_core::pixel::PixelOptions;
use dgx_pixels_core::scheduler::SchedulerName;
use dgx_pixels_core::{GenerateRequest, ImageSize};

use crate::failure::Failure;
use crate::stages::Stages;

/// What draws, how, and what makes a sprite of it.
#[derive(Clone, clap::Args)]
pub(crate) struct Drawing {
    /// A name that `dgx-pixels models` lists, or a folder in diffusers' layout. `sketch` is built in: it paints a figure
    /// from the seed, and needs no model. Default: `sprite-xl`, or the only model there is.
    #[arg(short, long, value_name = "PATH|NAME")]
    pub(crate) model: Option<String>,

    #[command(flatten)]
    pub(crate) denoising: Denoising,

    #[command(flatten)]
    pub(crate) torch: TorchArgs,

    /// Write the model's images as they are, without the stages that make sprites of them.
    #[arg(long, conflicts_with_all = STAGES)]
    pub(crate) raw: bool,

    #[command(flatten)]
    pub(crate) stages: Stages,
}

/// The flags of [`Stages`].
const STAGES: [&str; 11] = [
    "size",
    "anchor",
    "max_colors",
    "palette",
    "dither",
    "transparent",
    "bleed",
    "cleanup",
    "outline",
    "tile_x",
    "tile_y",
];

impl Drawing {
    /// The image to draw with a model that draws `native` by default, and the stages that make a sprite of it, unless
    /// it is left as it is.
    ///
    /// # Errors
    /// [`Conflict`] if `--size` cannot be met with `--width` and `--height`.
    pub(crate) fn plan(
        &self,
        native: ImageSize,
    ) -> Result<(Option<ImageSize>, Option<PixelOptions>), Conflict> {
        let asked = self.denoising.size();
        if self.raw {
            return Ok((asked, None));
        }
        let mut pixel = self.stages.options_of_generated();
        Ok((canvas::plan(native, asked, &mut pixel)?, Some(pixel)))
    }
}

/// How the model draws.
#[derive(Clone, clap::Args)]
pub(crate) struct Denoising {
    /// Text that describes what the image should not show.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) negative_prompt: Option<String>,

    /// Denoising steps, 1 to 1000. Default: the model's own, or 30.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub(crate) steps: Option<usize>,

    /// How strongly the prompt steers, 0 to 100. Default: the model's own, or 5.
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = number)]
    pub(crate) guidance_scale: Option<f64>,

    /// Against washed-out pictures at strong guidance, 0 to 1.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true, value_parser = number)]
    pub(crate) guidance_rescale: f64,

    /// Apply guidance only in this part of the schedule, for example `0.1,0.8` for 10 % to 80 %. Faster, but it changes the
    /// image. Default: all steps.
    #[arg(long, value_name = "FROM,TO", value_parser = interval)]
    pub(crate) guidance_interval: Option<Interval>,

    /// Compute the UNet's inner levels at every Nth step only, 2 to 10. Much faster, but it changes details. Default: at
    /// every step.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub(crate) deep_cache: Option<usize>,

    /// The noise schedule. Default: the model's own.
    #[arg(long, value_name = "NAME", value_parser = scheduler_names())]
    pub(crate) scheduler: Option<SchedulerName>,

    /// The width of the image that the model draws, in pixels, 64 to 2048; most models need a multiple of 8. Default: what
    /// fits `--size`, or the model's own.
    #[arg(long, value_name = "N", requires = "height", allow_negative_numbers = true, value_parser = whole::<u32>)]
    pub(crate) width: Option<u32>,

    /// As `--width`.
    #[arg(long, value_name = "N", requires = "width", allow_negative_numbers = true, value_parser = whole::<u32>)]
    pub(crate) height: Option<u32>,
}

impl Denoising {
    /// The request for `prompt`, not checked yet, with seed 0.
    pub(crate) fn request(&self, prompt: String) -> GenerateRequest {
        GenerateRequest {
            prompt,
            negative_prompt: self.negative_prompt.clone(),
            steps: self.steps,
            guidance_scale: self.guidance_scale,
            guidance_rescale: self.guidance_rescale,
            guidance_interval: self.guidance_interval.map(|Interval(interval)| interval),
            deep_cache: self.deep_cache,
            scheduler: self.scheduler,
            size: self.size(),
            ..Default::default()
        }
    }

    /// Refuses options that guide, where the guidance scale turns guidance off.
    ///
    /// # Errors
    /// What is given in vain, and what would be right.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Some(scale) = self.guidance_scale.filter(|scale| *scale <= 1.0) else { return Ok(()) };
        let guiding = [
            ("negative_prompt", self.negative_prompt.is_some()),
            ("guidance_rescale", self.guidance_rescale > 0.0),
            ("guidance_interval", self.guidance_interval.is_some()),
        ];
        match guiding.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(format!(
                "`guidance_scale` is {scale}, which turns guidance off, and `{name}` is for guidance; expected more \
                 than 1, or no `{name}`"
            )),
            None => Ok(()),
        }
    }

    /// The image's size that is asked for.
    fn size(&self) -> Option<ImageSize> {
        self.width.zip(self.height).map(|(width, height)| ImageSize { width, height })
    }
}

/// How a model is computed; `sketch` is not.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct TorchArgs {
    /// `f32`, `f16` or `bf16`. Default: `f32` on the CPU, `bf16` on a GPU.
    #[arg(long, value_name = "D")]
    dtype: Option<Dtype>,

    /// `cpu`, `cuda:N`, or `auto`: the first GPU if there is one.
    #[arg(long, value_name = "D", default_value_t = Device::Auto)]
    device: Device,

    /// `fast`; `exact`, which rounds where diffusers rounds; or `fp8`, which computes in 8 bits on GPUs that can and is
    /// `fast` elsewhere. On a CPU all are the same.
    #[arg(long, value_name = "MODE", default_value_t = Mode::Fast)]
    mode: Mode,

    /// Decode in overlapping tiles: less memory for large images, and slightly other colors.
    #[arg(long)]
    vae_tiling: bool,
}

impl TorchArgs {
    /// The options of an engine that draws with `model`.
    ///
    /// # Errors
    /// [`Failure::Flags`] for flags that `sketch`, which computes nothing, would ignore.
    pub(crate) fn options(self, model: &LocalModel) -> Result<LocalOptions, Failure> {
        let TorchArgs { device, dtype, mode, vae_tiling } = self;
        for (flag, given) in [("--dtype", dtype.is_some()), ("--vae-tiling", vae_tiling)] {
            if given && model.is_sketch() {
                return Err(Failure::Flags(format!(
                    "`{flag}` is for a model, and `sketch` is none; leave it out"
                )));
            }
        }
        Ok(LocalOptions { device, dtype, mode, vae_tiling })
    }
}

pub(crate) fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    let largest = u64::MAX >> (64 - 8 * size_of::<T>());
    text.parse().map_err(|_| format!("expected a whole number from 0 to {largest}"))
}

/// Two shares.
#[derive(Clone, Copy)]
pub(crate) struct Interval(pub(crate) [f64; 2]);

pub(crate) fn interval(text: &str) -> Result<Interval, &'static str> {
    let parts = text
        .split_once(',')
        .and_then(|(from, to)| Some([from.trim().parse().ok()?, to.trim().parse().ok()?]));
    parts.map(Interval).ok_or("expected two numbers, for example `0.1,0.8`")
}

pub(crate) fn number(text: &str) -> Result<f64, &'static str> {
    text.parse().map_err(|_| "expected a number")
}

fn scheduler_names() -> impl TypedValueParser<Value = SchedulerName> {
    let names = SchedulerName::ALL.iter().map(|name| name.to_string());
    PossibleValuesParser::new(names.collect::<Vec<_>>()).try_map(|name| name.parse::<SchedulerName>())
}
