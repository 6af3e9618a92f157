//! Times a model's stages and keeps what it drew, to be set beside `benches/diffusers_run.py`.
//!
//! `cargo run --release --package dgx-pixels-torch --example measure -- MODEL --steps 20 --runs 5 [--save OURS.safetensors]`
//!
//! Prints one JSON line of medians in milliseconds. Model loading and one warm-up run are not in
//! them.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use dgx_pixels_core::backend::{Backend, Canvas, begin, paint};
use dgx_pixels_core::model::Component;
use dgx_pixels_core::scheduler::SchedulerName;
use dgx_pixels_core::torch::{Device, Dtype, Mode, Options, Sdxl, memory_stats, own_process};
use dgx_pixels_core::{GenerateRequest, Model};
use safetensors::Dtype as StoredDtype;
use safetensors::tensor::TensorView;

#[derive(Parser)]
struct Arguments {
    model: PathBuf,
    #[arg(long, default_value = "a brass key on a wooden table")]
    prompt: String,
    #[arg(long)]
    negative_prompt: Option<String>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[arg(long, default_value_t = 20)]
    steps: usize,
    #[arg(long, default_value_t = 5.0)]
    guidance_scale: f64,
    #[arg(long)]
    scheduler: Option<SchedulerName>,
    #[arg(long)]
    size: Option<u32>,
    /// Pictures drawn together.
    #[arg(long, default_value_t = 1)]
    count: u64,
    #[arg(long, default_value_t = 5)]
    runs: usize,
    #[arg(long, default_value = "auto")]
    device: Device,
    #[arg(long)]
    dtype: Option<Dtype>,
    /// How much may be done differently from diffusers, on a GPU.
    #[arg(long, default_value_t = Mode::Fast)]
    mode: Mode,
    /// Writes the first picture's final latents and pixels here.
    #[arg(long)]
    save: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    own_process()?;
    let options = Options {
        device: arguments.device,
        dtype: arguments.dtype,
        mode: arguments.mode,
        ..Default::default()
    };
    let model = Model::open(&arguments.model)?;
    let mut weights_bytes = 0;
    for component in Component::ALL {
        weights_bytes += model.weights(component, arguments.dtype == Some(Dtype::F16))?.bytes();
    }
    let resident_before = memory_of_process("VmRSS")?;
    let before = Instant::now();
    let mut sdxl = Sdxl::load(&model, &options)?;
    let load = before.elapsed();
    let load_peak_bytes = memory_of_process("VmHWM")?.saturating_sub(resident_before);

    let requests: Vec<_> = (0..arguments.count)
        .map(|i| GenerateRequest {
            prompt: arguments.prompt.clone(),
            negative_prompt: arguments.negative_prompt.clone(),
            seed: arguments.seed + i,
            steps: Some(arguments.steps),
            guidance_scale: Some(arguments.guidance_scale),
            scheduler: arguments.scheduler,
            width: arguments.size,
            height: arguments.size,
            ..Default::default()
        })
        .collect();

    let mut times: HashMap<&str, Vec<Duration>> = HashMap::new();
    for run in 0..=arguments.runs {
        let mut steps = Vec::new();
        let started = Instant::now();
        let drawn = paint(&mut sdxl, &requests, |progress| {
            if progress.steps_done > 0 {
                steps.push(progress.step_time);
            }
            ControlFlow::Continue(())
        })?;
        let whole = started.elapsed();
        if run > 0 {
            let timings = drawn[0].timings;
            for (name, time) in [
                ("begin", timings.begin),
                ("denoise", timings.denoise),
                ("finish", timings.finish),
                ("step", median(&mut steps)),
                ("whole", whole),
            ] {
                times.entry(name).or_default().push(time);
            }
        }
    }

    if let Some(path) = &arguments.save {
        let mut canvas = begin(&mut sdxl, &requests[..1])?.remove(0);
        while canvas.steps_done() < canvas.steps() {
            sdxl.step(&mut [&mut canvas])?;
        }
        let latents = canvas.latents()?;
        let image = sdxl.finish(&[&canvas])?.wait()?.remove(0);
        let bytes: Vec<u8> = latents.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let [channels, height, width] = latents.shape;
        let picture = vec![image.height() as usize, image.width() as usize, 3];
        let views = [
            ("latents", TensorView::new(StoredDtype::F32, vec![1, channels, height, width], &bytes)?),
            ("image", TensorView::new(StoredDtype::U8, picture, image.as_raw())?),
        ];
        safetensors::serialize_to_file(views, None, path)?;
    }

    let milliseconds = |time: Duration| (time.as_secs_f64() * 1e5).round() / 100.0;
    let mut line = serde_json::json!({
        "engine": "dgx-pixels",
        "device": sdxl.device().to_string(),
        "dtype": sdxl.dtype().to_string(),
        "mode": arguments.mode.to_string(),
        "steps": arguments.steps,
        "count": arguments.count,
        "runs": arguments.runs,
        "load_ms": milliseconds(load),
        "weights_bytes": weights_bytes,
        "load_peak_bytes": load_peak_bytes,
    });
    for (name, mut times) in times {
        line[format!("{name}_ms")] = milliseconds(median(&mut times)).into();
    }
    line["peak_bytes"] = memory_stats(sdxl.device())?.peak_bytes.into();
    println!("{line}");
    Ok(())
}

/// A field of `/proc/self/status` in bytes: `VmRSS` is what is resident, `VmHWM` the most that ever
/// was.
fn memory_of_process(field: &str) -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()).ok_or("no such field")?;
    Ok(kibibytes.parse::<u64>()? * 1024)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
