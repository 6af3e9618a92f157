//! `dgx-pixels bench`: how fast this machine draws, held against how fast it multiplies matrices.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;
use dgx_pixels_core::abi::LIBTORCH_VERSION;
use dgx_pixels_core::backend::{Backend, Canvas, DeviceMemory as _, begin, paint};
use dgx_pixels_core::device::{Device, Dtype, Mode};
use dgx_pixels_core::fields::flags::{interval, number, whole};
use dgx_pixels_core::gpu::{Gpu, gpus};
use dgx_pixels_core::loaded::{self, Libtorch, LoadedDevice, LoadedModel};
use dgx_pixels_core::model::Options;
use dgx_pixels_core::model::search::{self, Found};
use dgx_pixels_core::{Cause, Error, GenerateRequest, Model};
use image::RgbImage;
use serde::Serialize;

use crate::failure::Failure;
use crate::interrupt;
use crate::output::{note, say, say_json};

/// The text that `--help` prints after the flags.
pub(crate) const NOTES: &str = "\
Times are medians in milliseconds. A step is one forward pass of the UNet for all images together.
`share` is its rate of multiplications divided by the rate of large matrix products. `changing` is
a step at which one image is replaced by another. `whole` is an image from the prompt to pixels.
`cold` is the first image, from the start of the program to the file, with the weights in the page
cache. With --json there is one line:
{\"machine\":{...},\"model\",\"dtype\",\"steps\",\"guidance_scale\",\"width\",\"height\",\"matrix_tflops\",\"modes\":[{\"mode\",\"load_ms\",\"cold_ms\",\"psnr_db\",
 \"batches\":[{\"together\",\"step_ms\",\"share\",\"changing_ms\",\"decode_ms\",\"whole_ms\",\"images_per_second\",\"peak_bytes\"}]}]}
`psnr_db` is the peak signal-to-noise ratio of the first image, compared with that of the first
mode.";

/// The weights of a model that is not a checkpoint, and the first picture's noise.
const SEED: u64 = 0;
const PROMPT: &str = "a brass key on a wooden table, pixel art";

/// Measure how fast models draw.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A model's name or folder. Default: SDXL base at its full size, with weights drawn at random:
    /// speed does not depend on their values.
    #[arg(long, value_name = "NAME|DIR")]
    model: Option<String>,

    /// The modes to measure: how much is computed differently from diffusers for speed. Images are
    /// compared with those of the first mode.
    #[arg(long, value_name = "MODE,..", value_delimiter = ',', default_value = "exact,fast")]
    modes: Vec<Mode>,

    /// Images together.
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1", value_parser = RangedU64ValueParser::<usize>::new().range(1..=64))]
    batch: Vec<usize>,

    /// Denoising steps. Default: the model's own, or 30.
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    steps: Option<usize>,

    /// The strength of the prompt. Default: the model's own, or 5.
    #[arg(long, value_name = "X", value_parser = number)]
    guidance_scale: Option<f64>,

    /// Width and height in pixels. Default: the model's own.
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    size: Option<u32>,

    /// Guidance interval as for `generate`, in all modes but the first.
    #[arg(long, value_name = "FROM,TO", value_parser = interval)]
    guidance_interval: Option<[f64; 2]>,

    /// Deep cache as for `generate`, in all modes but the first.
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    deep_cache: Option<usize>,

    /// Images to time for each mode and batch, after one that warms up.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    runs: usize,

    /// `cpu`, `cuda:N`, or `auto`: the first GPU if there is one.
    #[arg(long, value_name = "D", default_value_t = Device::Auto)]
    device: Device,

    /// `f32`, `f16` or `bf16`. Default: `f32` on the CPU, `bf16` on a GPU.
    #[arg(long, value_name = "D")]
    dtype: Option<Dtype>,

    /// Write the first image of each mode into this folder, as `MODE.png`.
    #[arg(long, value_name = "DIR")]
    save: Option<std::path::PathBuf>,

    /// Print one JSON line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    model: String,
    dtype: &'static str,
    steps: usize,
    guidance_scale: f64,
    width: u32,
    height: u32,
    /// 10^12 operations a second of a large product.
    matrix_tflops: f64,
    modes: Vec<OfMode>,
}

#[derive(Serialize)]
struct Machine {
    device: String,
    gpu: Option<Gpu>,
    cpus: usize,
    libtorch: &'static str,
    program: &'static str,
}

#[derive(Serialize)]
struct OfMode {
    mode: Mode,
    load_ms: f64,
    /// `null` without a checkpoint: weights drawn at random are on no disk.
    cold_ms: Option<f64>,
    /// `null` for equal pictures, and for the first.
    psnr_db: Option<f64>,
    batches: Vec<OfBatch>,
}

#[derive(Serialize)]
struct OfBatch {
    together: usize,
    step_ms: f64,
    share: f64,
    /// The time like `step_ms`, but with another image in the place of one at each step.
    changing_ms: f64,
    decode_ms: f64,
    whole_ms: f64,
    images_per_second: f64,
    peak_bytes: u64,
}

/// The model that is measured.
struct Subject {
    name: String,
    model: Model,
    /// `true` if weights are drawn at random.
    random: bool,
}

/// Measures, and tells.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let shortcuts = [
        ("--guidance-interval", args.guidance_interval.is_some()),
        ("--deep-cache", args.deep_cache.is_some()),
    ];
    if let Some((flag, _)) = shortcuts.iter().find(|(_, given)| *given && args.modes.len() < 2) {
        let reason = "is for all modes but the first, and there is one; expected two or more in `--modes`";
        return Err(Failure::Flags(format!("`{flag}` {reason}")));
    }
    interrupt::listen();
    let subject = Subject::of(args.model.as_deref())?;
    let device = loaded::resolve(args.device)?;
    let dtype = args.dtype.unwrap_or(if device == Device::Cpu { Dtype::F32 } else { Dtype::Bf16 });
    let requests = |count: usize, is_first: bool| -> Vec<GenerateRequest> {
        let one = GenerateRequest {
            prompt: PROMPT.into(),
            steps: args.steps,
            guidance_scale: args.guidance_scale,
            width: args.size,
            height: args.size,
            guidance_interval: args.guidance_interval.filter(|_| !is_first),
            deep_cache: args.deep_cache.filter(|_| !is_first),
            ..Default::default()
        };
        (SEED..).take(count).map(|seed| GenerateRequest { seed, ..one.clone() }).collect()
    };
    requests(1, false)[0].validate().map_err(Error::from)?;
    let libtorch = Libtorch::load(true)?;
    let mut memory = LoadedDevice::new(device, true);
    memory.open()?;
    let matrix_rate = libtorch.matrix_rate(device, dtype)?;
    if !args.json {
        note(format_args!("measuring {} on {device} in {dtype}", subject.name));
    }

    let mut modes: Vec<OfMode> = vec![];
    let mut first: Option<RgbImage> = None;
    let mut drawn_with = None;
    for &mode in &args.modes {
        let options = Options { device, dtype: Some(dtype), mode, ..Default::default() };
        let begun = Instant::now();
        let mut model = subject.load(libtorch, &options)?;
        let load_ms = milliseconds(begun.elapsed());
        let mut batches = vec![];
        let mut picture = None;
        for &together in &args.batch {
            let requests = requests(together, first.is_none());
            let (batch, drawn) = measure(&mut model, &mut memory, &requests, args.runs, matrix_rate)?;
            batches.push(batch);
            picture.get_or_insert(drawn);
        }
        let canvas = begin(&mut model, &requests(1, true))?.remove(0);
        drawn_with = Some(canvas.request().clone());
        drop((model, canvas));
        memory.empty_cache();
        let psnr_db = match (&first, &picture) {
            (Some(first), Some(picture)) => psnr(first, picture),
            _ => None,
        };
        if let (Some(folder), Some(picture)) = (&args.save, &picture) {
            save(folder, mode, picture)?;
        }
        first = first.or(picture);
        let cold_ms = if subject.random { None } else { Some(cold(args, &subject, mode, dtype)?) };
        modes.push(OfMode { mode, load_ms, cold_ms, psnr_db, batches });
    }
    let Some(request) = drawn_with else {
        return Err(Failure::Flags("`--modes` is empty; expected one or more".into()));
    };
    let size = request.size;
    let report = Report {
        machine: Machine::of(device),
        model: subject.name,
        dtype: dtype.as_str(),
        steps: request.steps,
        guidance_scale: request.guidance_scale,
        width: size.width,
        height: size.height,
        matrix_tflops: rounded(matrix_rate / 1e12),
        modes,
    };
    if args.json {
        return say_json(&report);
    }
    report.tell()
}

impl Subject {
    fn of(wanted: Option<&str>) -> Result<Subject, Failure> {
        let places = search::places();
        if wanted.is_some() {
            let Found { name, model, .. } = search::choose(&places, wanted)?;
            return Ok(Subject { name, model: model?, random: false });
        }
        // Its tokenizers are those of every SDXL.
        let Found { path, .. } = search::choose(&places, None)?;
        Ok(Subject { name: "sdxl-base, random".into(), model: Model::sdxl_base(path), random: true })
    }

    fn load(&self, libtorch: Libtorch, options: &Options) -> Result<LoadedModel, Error> {
        match self.random {
            true => LoadedModel::random(libtorch, &self.model.path, options, SEED),
            false => LoadedModel::load(libtorch, &self.model, options, &mut |_| ()),
        }
    }
}

/// The median of several runs, and the first picture.
fn measure(
    model: &mut LoadedModel,
    memory: &mut LoadedDevice,
    requests: &[GenerateRequest],
    runs: usize,
    matrix_rate: f64,
) -> Result<(OfBatch, RgbImage), Failure> {
    let (mut steps, mut decodes, mut wholes) = (vec![], vec![], vec![]);
    let mut picture = None;
    memory.reset_peak();
    for run in 0..=runs {
        let begun = Instant::now();
        let mut step_times = vec![];
        let drawn = paint(model, requests, |progress| {
            if progress.steps_done > 0 {
                step_times.push(progress.step_time);
            }
            if interrupt::check().is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        interrupt::check()?;
        let drawn = drawn?;
        if run > 0 {
            steps.append(&mut step_times);
            wholes.push(begun.elapsed());
        }
        picture.get_or_insert(drawn.into_iter().next().expect("a picture for each request").image);
    }
    let changing = changing(model, requests)?;
    // Decoding by itself: at the end of a picture it begins while the last step is under way.
    let mut canvases = begin(model, requests)?;
    while canvases.iter().any(|canvas| canvas.steps_done() < canvas.steps()) {
        interrupt::check()?;
        model.step(&mut canvases.iter_mut().collect::<Vec<_>>())?;
    }
    let canvases: Vec<_> = canvases.iter().collect();
    for run in 0..=runs {
        let begun = Instant::now();
        model.finish(&canvases)?.wait()?;
        if run > 0 {
            decodes.push(begun.elapsed());
        }
    }
    let (step, whole) = (median(steps), median(wholes));
    let batch = OfBatch {
        together: requests.len(),
        step_ms: milliseconds(step),
        share: rounded(model.step_flops() as f64 / step.as_secs_f64() / matrix_rate),
        changing_ms: milliseconds(changing),
        decode_ms: milliseconds(median(decodes)),
        whole_ms: milliseconds(whole),
        images_per_second: rounded(requests.len() as f64 / whole.as_secs_f64()),
        peak_bytes: memory.memory().map_or(0, |memory| memory.peak_bytes),
    };
    Ok((batch, picture.expect("at least one run")))
}

/// A step while pictures come and go: at each, one that stands at its beginning takes the place of
/// one that is under way.
fn changing(model: &mut LoadedModel, requests: &[GenerateRequest]) -> Result<Duration, Failure> {
    const STEPS: usize = 24;
    // None ends meanwhile: there would be fewer.
    let long = |request: &GenerateRequest| GenerateRequest { steps: Some(2 * STEPS), ..request.clone() };
    let another = |n: usize| GenerateRequest {
        prompt: format!("{PROMPT}, number {n}"),
        seed: n as u64,
        ..long(&requests[n % requests.len()])
    };
    let mut canvases = begin(model, &requests.iter().map(long).collect::<Vec<_>>())?;
    let mut coming = begin(model, &(0..STEPS).map(another).collect::<Vec<_>>())?.into_iter();
    model.step(&mut canvases.iter_mut().collect::<Vec<_>>())?;
    let begun = Instant::now();
    for (n, canvas) in coming.by_ref().enumerate() {
        interrupt::check()?;
        let place = n % requests.len();
        canvases[place] = canvas;
        model.step(&mut canvases.iter_mut().collect::<Vec<_>>())?;
    }
    Ok(begun.elapsed() / STEPS as u32)
}

/// A first picture by a program of its own: the second of two, so that the weights are in the page
/// cache.
fn cold(args: &Args, subject: &Subject, mode: Mode, dtype: Dtype) -> Result<f64, Failure> {
    let folder = tempfile::tempdir().map_err(|error| Failure::output("", error))?;
    let program = std::env::current_exe()
        .map_err(|error| Failure::Flags(format!("this program cannot be started: {error}")))?;
    let path = folder.path().join("cold.png");
    let mut time = Duration::ZERO;
    for _ in 0..2 {
        let mut command = Command::new(&program);
        command
            .args(["generate", PROMPT, "--raw", "--force", "--quiet", "--seed", "0", "--output"])
            .arg(&path);
        command.arg("--model").arg(&subject.model.path).args([
            "--mode",
            mode.as_str(),
            "--dtype",
            dtype.as_str(),
        ]);
        command.args(["--device", &args.device.to_string()]);
        if let Some(steps) = args.steps {
            command.args(["--steps", &steps.to_string()]);
        }
        if let Some(side) = args.size {
            command.args(["--width", &side.to_string(), "--height", &side.to_string()]);
        }
        if let Some(scale) = args.guidance_scale {
            command.args(["--guidance-scale", &scale.to_string()]);
        }
        let begun = Instant::now();
        let status = command.stdout(Stdio::null()).status();
        time = begun.elapsed();
        interrupt::check()?;
        if !status.as_ref().is_ok_and(|status| status.success()) || !path.exists() {
            return Err(Failure::input(path, format!("`generate` made no first picture: {status:?}")));
        }
    }
    Ok(milliseconds(time))
}

fn save(folder: &Path, mode: Mode, picture: &RgbImage) -> Result<(), Failure> {
    let path = folder.join(format!("{mode}.png"));
    let saved =
        fs::create_dir_all(folder).map_err(image::ImageError::from).and_then(|()| picture.save(&path));
    saved.map_err(|error| Failure::output(path, Cause::from(error)))
}

impl Machine {
    fn of(device: Device) -> Machine {
        let gpu = match device {
            Device::Cuda(index) => gpus().ok().and_then(|gpus| gpus.into_iter().nth(index)),
            _ => None,
        };
        Machine {
            device: device.to_string(),
            gpu,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            libtorch: LIBTORCH_VERSION,
            program: env!("CARGO_PKG_VERSION"),
        }
    }
}

impl Report {
    fn tell(&self) -> Result<(), Failure> {
        let Report { machine, model, dtype, steps, guidance_scale, width, height, matrix_tflops, modes } =
            self;
        let device = machine.gpu.as_ref().map_or(&machine.device, |gpu| &gpu.name);
        let libtorch = &machine.libtorch;
        say(&format_args!(
            "{device}, {} CPUs, libtorch {libtorch}; {matrix_tflops:.1} TFLOP/s",
            machine.cpus
        ))?;
        say(&format_args!("{model}, {dtype}, {width}x{height}, {steps} steps, guidance {guidance_scale}"))?;
        say(&format_args!(
            "{:<7}{:>9}{:>10}{:>8}{:>10}{:>10}{:>11}{:>11}{:>9}{:>10}{:>9}",
            "mode",
            "together",
            "step ms",
            "share",
            "changing",
            "decode ms",
            "whole ms",
            "pictures/s",
            "peak GB",
            "cold ms",
            "PSNR dB"
        ))?;
        let or_none = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.1}"));
        for OfMode { mode, cold_ms, psnr_db, batches, .. } in modes {
            for batch in batches {
                say(&format_args!(
                    "{:<7}{:>9}{:>10.2}{:>8.3}{:>10.2}{:>10.1}{:>11.1}{:>11.3}{:>9.2}{:>10}{:>9}",
                    mode.as_str(),
                    batch.together,
                    batch.step_ms,
                    batch.share,
                    batch.changing_ms,
                    batch.decode_ms,
                    batch.whole_ms,
                    batch.images_per_second,
                    batch.peak_bytes as f64 / 1e9,
                    or_none(*cold_ms),
                    or_none(*psnr_db)
                ))?;
            }
        }
        Ok(())
    }
}

/// Peak signal to noise of two pictures, in decibels; `None` if they are equal.
fn psnr(a: &RgbImage, b: &RgbImage) -> Option<f64> {
    let squares =
        a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum::<f64>();
    let mean = squares / a.as_raw().len() as f64;
    (mean > 0.0).then(|| rounded(10.0 * (255.0 * 255.0 / mean).log10()))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e3)
}

/// Rounds to three decimal places.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn equal_pictures_have_no_noise_and_opposite_ones_no_signal() {
        let plain = |value| RgbImage::from_pixel(2, 2, Rgb([value; 3]));
        assert_eq!(psnr(&plain(9), &plain(9)), None);
        assert_eq!(psnr(&plain(0), &plain(255)), Some(0.0));
        assert_eq!(psnr(&plain(0), &plain(1)), Some(48.131));
    }

    #[test]
    fn a_median_lies_in_the_middle() {
        let times = [3, 1, 2].map(Duration::from_secs);
        assert_eq!(median(times.to_vec()), Duration::from_secs(2));
        assert_eq!(median(vec![]), Duration::ZERO);
    }
}
