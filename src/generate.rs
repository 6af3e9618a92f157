//! `dgx-pixels generate`: a prompt goes in, pictures and one line for each come out.

use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use dgx_pixels_core::backend::{Backend, Progress, Sketch, paint};
use dgx_pixels_core::picture_file::{Made, picture_png, sidecar, sprite_png};
use dgx_pixels_core::pixel::{Certificate, PixelOptions, Pixelized, Verdict, pixelize};
use dgx_pixels_core::scheduler::SchedulerName;
use dgx_pixels_core::{Error, GenerateRequest, Generated, ImageSize};
#[cfg(feature = "torch")]
use dgx_pixels_core::{Model, torch};
use image::DynamicImage;
use serde::Serialize;

use crate::failure::Failure;
use crate::interrupt;
#[cfg(feature = "torch")]
use crate::interrupt::Beside;
use crate::output;
use crate::pixelize::Stages;
use crate::progress::Bar;
use crate::search::{self, Choice};
use crate::terminal;

/// Pictures drawn together at most. More gain little (an H100 takes 33 ms for a full-size step of one picture and 126 ms
/// for four), and each takes gigabytes while it is decoded. Halved when memory runs short.
const TOGETHER: usize = 4;

/// Most pictures of one call.
pub(crate) const MAX_COUNT: u64 = 10_000;

/// What `--help` says after the flags.
pub(crate) const NOTES: &str = "\
Standard output holds the path of each picture, or with --json one line a picture:
  {\"path\",\"prompt\",\"seed\",\"width\",\"height\",\"steps\",\"guidance_scale\",\"scheduler\",\"model\",
   \"model_hash\",\"dtype\",\"device\",\"verdict\":\"grid\"|\"no_grid\",\"certificate\":{...},
   \"timings_ms\":{\"load\",\"begin\",\"denoise\",\"finish\",\"pixel\"}}
Width and height are the sprite's. Its certificate is also written beside it, as `NAME.json`. All else goes to standard error.

Ctrl-C stops between two steps. Pictures that were finished before stay.";

/// Draw sprites from a prompt.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to draw. Words past the model's length, 77 tokens for SDXL, are dropped, with a warning.
    prompt: String,

    /// A name that `dgx-pixels models` lists, or a folder in diffusers' layout. `sketch` is built in: it paints a figure
    /// from the seed, and needs no model. Default: `sprite-xl`, or the only model there is.
    #[arg(long, value_name = "PATH|NAME")]
    model: Option<String>,

    #[command(flatten)]
    drawing: Drawing,

    /// Same seed, same picture. Default: drawn at random, and told.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u64>)]
    seed: Option<u64>,

    /// How many pictures, 1 to 10000, with seeds from `--seed` upwards.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = whole::<u64>)]
    count: u64,

    #[cfg(feature = "torch")]
    #[command(flatten)]
    torch: TorchArgs,

    /// Write the model's picture as it is, with neither of the stages that make a sprite of it.
    #[arg(long, conflicts_with_all = ["size", "palette", "cleanup", "bleed", "tile_x", "tile_y"])]
    raw: bool,

    #[command(flatten)]
    stages: Stages,

    /// A file that ends in `.png` (for several pictures the seed is added to its name), or a folder, made if absent.
    /// Default: the current folder, named from prompt and seed.
    #[arg(long, value_name = "PATH|DIR")]
    output: Option<PathBuf>,

    /// Replace pictures that exist.
    #[arg(long)]
    force: bool,

    /// Print one JSON line a picture, see below.
    #[arg(long)]
    pub(crate) json: bool,

    /// Nothing on standard error but warnings and errors.
    #[arg(long)]
    quiet: bool,
}

/// How the model draws. The flags that `batch` has too.
#[derive(Clone, clap::Args)]
pub(crate) struct Drawing {
    /// What to keep away from.
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

    /// The noise schedule. Default: the model's own.
    #[arg(long, value_name = "NAME", value_parser = scheduler_names())]
    pub(crate) scheduler: Option<SchedulerName>,

    /// In pixels, 64 to 2048; most models need a multiple of 8. Default: the model's own.
    #[arg(long, value_name = "N", requires = "height", allow_negative_numbers = true, value_parser = whole::<u32>)]
    pub(crate) width: Option<u32>,

    /// As `--width`.
    #[arg(long, value_name = "N", requires = "width", allow_negative_numbers = true, value_parser = whole::<u32>)]
    pub(crate) height: Option<u32>,
}

impl Drawing {
    /// The request for `prompt`, not checked yet, with seed 0.
    pub(crate) fn request(&self, prompt: String) -> GenerateRequest {
        GenerateRequest {
            prompt,
            negative_prompt: self.negative_prompt.clone(),
            steps: self.steps,
            guidance_scale: self.guidance_scale,
            guidance_rescale: self.guidance_rescale,
            scheduler: self.scheduler,
            size: self.width.zip(self.height).map(|(width, height)| ImageSize { width, height }),
            ..Default::default()
        }
    }
}

/// How a model is computed; `sketch` is not.
#[cfg(feature = "torch")]
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct TorchArgs {
    /// `f32`, `f16` or `bf16`. Default: `f32` on the CPU, `bf16` on a GPU.
    #[arg(long, value_name = "D")]
    pub(crate) dtype: Option<torch::Dtype>,

    /// `cpu`, `cuda:N`, or `auto`: the first GPU if there is one.
    #[arg(long, value_name = "D", default_value_t = torch::Device::Auto)]
    pub(crate) device: torch::Device,

    /// Decode in overlapping tiles: less memory for large pictures, and slightly other colours.
    #[arg(long)]
    pub(crate) vae_tiling: bool,
}

/// Checks all that can be checked, loads the model, draws.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let requests = args.requests()?;
    let seeds: Vec<_> = requests.iter().map(|request| request.seed).collect();
    let paths = output::paths(args.output.as_deref(), &args.prompt, &seeds);
    let sidecars = paths.iter().filter(|_| !args.raw).map(|path| sidecar(path));
    let written: Vec<_> = paths.iter().cloned().chain(sidecars).collect();
    output::check(args.output.as_deref(), &written, args.force)?;

    let job = Job { args, requests, paths };
    let choice = search::choose(args.model.as_deref())?;
    interrupt::listen();
    match choice {
        Choice::Sketch => job.draw(&mut Sketch, Painter::sketch()),
        #[cfg(feature = "torch")]
        Choice::Folder(name, model) => {
            if let Some(size) = job.requests.first().and_then(|request| request.size) {
                size.validate(model.vae.scale_factor()).map_err(Error::from)?;
            }
            let (mut sdxl, painter) = load(args.torch, args.quiet, name, *model)?;
            job.draw(&mut sdxl, painter)
        }
    }
}

/// Loads the model, with its hash read beside that.
#[cfg(feature = "torch")]
pub(crate) fn load(
    torch: TorchArgs,
    quiet: bool,
    name: String,
    model: Model,
) -> Result<(torch::Sdxl, Painter), Failure> {
    let started = std::time::Instant::now();
    let TorchArgs { dtype, device, vae_tiling } = torch;
    let options = torch::Options { device: device.resolve()?, dtype, vae_tiling, ..Default::default() };
    let hashed = model.clone();
    let hash = Beside::start(move || hashed.hash());
    let _bar = Bar::waiting(quiet, format!("loading {name}"));
    let sdxl = Beside::start(move || torch::Sdxl::load(&model, &options)).wait()??;
    let painter = Painter {
        model: name,
        hash: Hash::Pending(hash),
        dtype: sdxl.dtype().to_string(),
        device: sdxl.device().to_string(),
        vae_tiling,
        libtorch: Some(torch::libtorch_version()),
        load: started.elapsed(),
    };
    Ok((sdxl, painter))
}

impl Args {
    /// One valid request for each picture.
    fn requests(&self) -> Result<Vec<GenerateRequest>, Failure> {
        // 32 bits: exact in every JSON reader, and short enough to type.
        let seed = self.seed.unwrap_or_else(|| fastrand::u32(..).into());
        let seeds = seeds(seed, self.count)?;
        let request = self.drawing.request(self.prompt.clone());
        request.validate().map_err(Error::from)?;
        Ok(seeds.map(|seed| GenerateRequest { seed, ..request.clone() }).collect())
    }
}

/// The seeds of `count` pictures.
///
/// # Errors
/// [`Failure::Count`]; [`Failure::Seed`].
pub(crate) fn seeds(seed: u64, count: u64) -> Result<RangeInclusive<u64>, Failure> {
    if !(1..=MAX_COUNT).contains(&count) {
        return Err(Failure::Count { count });
    }
    let last = seed.checked_add(count - 1).ok_or(Failure::Seed { seed, count })?;
    Ok(seed..=last)
}

pub(crate) fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    let largest = u64::MAX >> (64 - 8 * size_of::<T>());
    text.parse().map_err(|_| format!("expected a whole number from 0 to {largest}"))
}

pub(crate) fn number(text: &str) -> Result<f64, &'static str> {
    text.parse().map_err(|_| "expected a number")
}

fn scheduler_names() -> impl TypedValueParser<Value = SchedulerName> {
    let names = SchedulerName::ALL.iter().map(|name| name.to_string());
    PossibleValuesParser::new(names.collect::<Vec<_>>()).try_map(|name| name.parse::<SchedulerName>())
}

/// What to draw and where each picture goes.
struct Job<'a> {
    args: &'a Args,
    requests: Vec<GenerateRequest>,
    /// As many as requests, in their order.
    paths: Vec<PathBuf>,
}

/// What draws, in the words of the JSON line.
pub(crate) struct Painter {
    model: String,
    hash: Hash,
    dtype: String,
    device: String,
    vae_tiling: bool,
    libtorch: Option<String>,
    load: Duration,
}

/// The model's hash takes seconds to read; it is waited for when the first picture is to be written.
enum Hash {
    None,
    #[cfg(feature = "torch")]
    Pending(Beside<Result<String, Error>>),
}

impl Hash {
    fn wait(self) -> Result<Option<String>, Failure> {
        match self {
            Hash::None => Ok(None),
            #[cfg(feature = "torch")]
            Hash::Pending(hash) => Ok(Some(hash.wait()??)),
        }
    }
}

impl Painter {
    pub(crate) fn sketch() -> Self {
        Painter {
            model: search::SKETCH.into(),
            hash: Hash::None,
            dtype: "none".into(),
            device: "cpu".into(),
            vae_tiling: false,
            libtorch: None,
            load: Duration::ZERO,
        }
    }

    /// What a picture says of how it was made, when the model's hash has been read.
    pub(crate) fn made(self, request: GenerateRequest, pixel: Option<PixelOptions>) -> Result<Made, Failure> {
        let device = self.device.split(':').next().unwrap_or(&self.device).to_owned();
        Ok(Made {
            request,
            pixel,
            model: self.model,
            model_hash: self.hash.wait()?,
            dtype: self.dtype,
            device,
            vae_tiling: self.vae_tiling,
            program: env!("CARGO_PKG_VERSION").into(),
            libtorch: self.libtorch,
        })
    }
}

impl Job<'_> {
    fn draw<B: Backend>(&self, backend: &mut B, painter: Painter) -> Result<(), Failure> {
        let (device, load) = (painter.device.clone(), painter.load);
        let quiet = self.args.quiet;
        if !quiet {
            output::note(format_args!("drawing with {} ({} on {device})", painter.model, painter.dtype));
        }
        let options = (!self.args.raw).then(|| self.args.stages.options_of_generated());
        let mut painter = Some(painter);
        let mut made_first = None;
        let mut together = TOGETHER;
        let mut done = 0;
        while done < self.requests.len() {
            let count = self.requests.len();
            let doing = if count > 1 { format!("{done} of {count} done") } else { "drawing".into() };
            let bar = Bar::steps(quiet, doing);
            let asked_together = together;
            let drawn = paint_some(backend, &self.requests[done..], &mut together, |progress| {
                bar.show(progress);
                if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            drop(bar);
            if let (Some(painter), Some(one)) = (painter.take(), drawn.first()) {
                made_first = Some(painter.made(one.request.clone(), options.clone())?);
            }
            let Some(made_first) = &made_first else { continue };
            if together < asked_together {
                output::note(format_args!("warning: out of memory; drawing {together} at a time"));
            }
            if let Some(words) =
                drawn.first().filter(|_| done == 0).and_then(|one| one.dropped_words.as_ref())
            {
                output::note(format_args!(
                    "warning: past the model's length, these words are dropped: {words}"
                ));
            }
            for (one, path) in drawn.iter().zip(&self.paths[done..]) {
                interrupt::check()?;
                let made = Made { request: one.request.clone(), ..made_first.clone() };
                let sprite = Drawn::new(one, &made)?;
                sprite.write(path, self.args.force)?;
                if self.args.json {
                    let line = Line::new(path.display().to_string(), one, &sprite, &made, &device, load);
                    let line =
                        serde_json::to_string(&line).expect("plain data turns into JSON; this is a bug");
                    output::say(&line)?;
                } else {
                    output::say(&path.display())?;
                }
                if !quiet {
                    if let Some(pixelized) = &sprite.pixelized {
                        terminal::show(&pixelized.sprite);
                    }
                    let (seed, steps) = (one.request.seed, one.request.steps());
                    let (width, height) = sprite.size;
                    let seconds =
                        (one.timings.begin + one.timings.denoise + one.timings.finish).as_secs_f64();
                    output::note(format_args!(
                        "seed {seed}, {width}x{height}, {steps} steps, {seconds:.1} s"
                    ));
                }
            }
            done += drawn.len();
        }
        Ok(())
    }
}

/// A picture's file, before it is written.
pub(crate) struct Drawn {
    pub(crate) bytes: Vec<u8>,
    size: (u32, u32),
    pixelized: Option<Pixelized>,
}

impl Drawn {
    /// The sprite, or the picture as it is, whichever was `made`.
    pub(crate) fn new(one: &Generated, made: &Made) -> Result<Drawn, Failure> {
        let Some(options) = &made.pixel else {
            let bytes = picture_png(&one.image, made)?;
            return Ok(Drawn { bytes, size: one.image.dimensions(), pixelized: None });
        };
        let picture = DynamicImage::ImageRgb8(one.image.clone()).into_rgba8();
        let pixelized = pixelize(&picture, options).map_err(Error::from)?;
        let bytes = sprite_png(&pixelized.sprite, Some(made))?;
        Ok(Drawn { bytes, size: pixelized.sprite.dimensions(), pixelized: Some(pixelized) })
    }

    fn write(&self, path: &Path, force: bool) -> Result<(), Failure> {
        match &self.pixelized {
            Some(pixelized) => output::write_sprite(path, &self.bytes, &pixelized.certificate, force),
            None => output::write(path, &self.bytes, force),
        }
    }
}

/// Draws the first of `requests`: `together`, or fewer if memory runs short, which `together` then remembers.
fn paint_some<B: Backend>(
    backend: &mut B,
    requests: &[GenerateRequest],
    together: &mut usize,
    mut on_step: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Vec<Generated>, Error> {
    loop {
        let batch = &requests[..requests.len().min(*together)];
        match paint(backend, batch, &mut on_step) {
            Err(Error::OutOfMemory { .. }) if batch.len() > 1 => *together = batch.len() / 2,
            answer => return answer,
        }
    }
}

/// What `--json` prints for a picture. Order and names are a promise.
#[derive(Serialize)]
struct Line<'a> {
    path: String,
    prompt: &'a str,
    seed: u64,
    width: u32,
    height: u32,
    steps: usize,
    guidance_scale: f64,
    scheduler: Option<SchedulerName>,
    model: &'a str,
    model_hash: Option<&'a str>,
    dtype: &'a str,
    device: &'a str,
    verdict: Option<Verdict>,
    certificate: Option<&'a Certificate>,
    timings_ms: TimingsMs,
}

/// In milliseconds; pictures drawn together each report the whole batch's.
#[derive(Serialize)]
struct TimingsMs {
    load: f64,
    begin: f64,
    denoise: f64,
    finish: f64,
    pixel: f64,
}

impl<'a> Line<'a> {
    fn new(
        path: String,
        one: &'a Generated,
        sprite: &'a Drawn,
        made: &'a Made,
        device: &'a str,
        load: Duration,
    ) -> Self {
        let ms = |time: Duration| time.as_micros() as f64 / 1000.0;
        let request = &one.request;
        Line {
            path,
            prompt: &request.prompt,
            seed: request.seed,
            width: sprite.size.0,
            height: sprite.size.1,
            steps: request.steps(),
            guidance_scale: request.guidance_scale(),
            scheduler: request.scheduler,
            model: &made.model,
            model_hash: made.model_hash.as_deref(),
            dtype: &made.dtype,
            device,
            verdict: sprite.pixelized.as_ref().map(|made| made.verdict),
            certificate: sprite.pixelized.as_ref().map(|made| &made.certificate),
            timings_ms: TimingsMs {
                load: ms(load),
                begin: ms(one.timings.begin),
                denoise: ms(one.timings.denoise),
                finish: ms(one.timings.finish),
                pixel: ms(sprite.pixelized.as_ref().map_or(Duration::ZERO, |made| made.find + made.draw)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use dgx_pixels_core::backend::SketchCanvas;
    use image::RgbImage;

    use super::*;

    /// A sketch on a device that holds two pictures.
    struct Narrow;

    impl Backend for Narrow {
        type Canvas = SketchCanvas;

        fn begin(&mut self, requests: &[GenerateRequest]) -> Result<Vec<SketchCanvas>, Error> {
            Sketch.begin(requests)
        }

        fn step(&mut self, canvases: &mut [&mut SketchCanvas]) -> Result<(), Error> {
            match canvases.len() {
                0..=2 => Sketch.step(canvases),
                _ => Err(Error::OutOfMemory { device: "cpu".into(), doing: "denoising" }),
            }
        }

        fn finish(&mut self, canvases: &[&SketchCanvas]) -> Result<Vec<RgbImage>, Error> {
            Sketch.finish(canvases)
        }

        fn preview(&mut self, canvas: &SketchCanvas) -> Result<RgbImage, Error> {
            Sketch.preview(canvas)
        }
    }

    #[test]
    fn a_batch_that_does_not_fit_is_halved() {
        let requests = vec![GenerateRequest { steps: Some(2), ..Default::default() }; 5];
        let mut together = 5;
        let drawn = paint_some(&mut Narrow, &requests, &mut together, |_| ControlFlow::Continue(())).unwrap();
        assert_eq!((drawn.len(), together), (2, 2));
    }
}
