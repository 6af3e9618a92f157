//! What the engine makes of a device: pictures per second with so many at once, and how near predictions of memory come.
//!
//! `cargo run --release --example capacity -- MODEL_FOLDER [--device D] [--together 1,2,4,8] [--sizes 1024x1024] [--steps N]`

use std::error::Error;
use std::time::Instant;

use clap::Parser;
use dgx_pixels_core::engine::{Budget, Engine, EngineConfig, Shutdown};
use dgx_pixels_core::torch::{Checkpoints, Device, Dtype, Options, devices};
use dgx_pixels_core::{GenerateRequest, ImageSize, Submission};
use prometheus::Registry;

#[derive(Parser)]
struct Args {
    model: String,
    #[arg(long, default_value_t = Device::Auto)]
    device: Device,
    #[arg(long)]
    dtype: Option<Dtype>,
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    together: Vec<usize>,
    /// As `1024x1024`; default: the model's own.
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<String>,
    #[arg(long)]
    steps: Option<usize>,
    /// Rounds of each; the first warms up and is not counted.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    #[arg(long, default_value = "90%")]
    budget: Budget,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let sizes = args.sizes.iter().map(|size| parse(size).map(Some)).collect::<Result<Vec<_>, _>>()?;
    let sizes = if sizes.is_empty() { vec![None] } else { sizes };
    println!(
        "{:>10} {:>8} {:>9} {:>14} {:>14} {:>7}",
        "size", "together", "1/s", "predicted", "peak", "ratio"
    );
    for size in sizes {
        for &together in &args.together {
            let options = Options { dtype: args.dtype, ..Default::default() };
            let models = Checkpoints::open([("model", &args.model)], "model", options)?;
            let config = EngineConfig { max_batch: together, budget: args.budget, ..Default::default() };
            let engine = Engine::start(models, devices(&[args.device])?, config)?;
            let mut rates = vec![];
            for round in 0..args.rounds {
                let started = Instant::now();
                let jobs = (0..together).map(|n| {
                    let seed = u64::from(round) * 100 + n as u64;
                    let prompt = format!("a brass key, number {seed}");
                    let request =
                        GenerateRequest { prompt, seed, size, steps: args.steps, ..Default::default() };
                    // One of each client, so that all go together.
                    let client = n.to_string();
                    engine.submit(Submission { pixel: None, client, ..request.into() })
                });
                for job in jobs.collect::<Result<Vec<_>, _>>()? {
                    job.wait()?;
                }
                rates.push(together as f64 / started.elapsed().as_secs_f64());
            }
            let metrics = engine.metrics();
            let predicted = gauge(metrics, "dgx_pixels_memory_predicted_peak_bytes");
            let peak = gauge(metrics, "dgx_pixels_memory_peak_bytes");
            let name = size.map_or("native".into(), |size| format!("{}x{}", size.width, size.height));
            rates.remove(0);
            rates.sort_unstable_by(f64::total_cmp);
            let rate = rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN);
            println!(
                "{name:>10} {together:>8} {rate:>9.3} {predicted:>14} {peak:>14} {:>7.3}",
                predicted / peak
            );
            for (name, calls) in errors(metrics) {
                println!("{name:>20} {calls} calls");
            }
            engine.shutdown(Shutdown::NextStep);
        }
    }
    Ok(())
}

fn parse(text: &str) -> Result<ImageSize, String> {
    let sides =
        text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let (width, height) =
        sides.ok_or_else(|| format!("`sizes` has `{text}`; expected a size as `1024x1024`"))?;
    Ok(ImageSize { width, height })
}

fn gauge(metrics: &Registry, name: &str) -> f64 {
    let families = metrics.gather();
    let family = families.iter().find(|family| family.name() == name);
    family.map_or(f64::NAN, |family| family.get_metric()[0].get_gauge().get_value())
}

/// How many calls were predicted how well.
fn errors(metrics: &Registry) -> Vec<(String, u64)> {
    let families = metrics.gather();
    let Some(family) =
        families.iter().find(|family| family.name() == "dgx_pixels_memory_prediction_error_ratio")
    else {
        return vec![];
    };
    let histogram = family.get_metric()[0].get_histogram();
    let mut before = 0;
    let mut rows = vec![];
    for bucket in histogram.get_bucket() {
        let count = bucket.cumulative_count() - before;
        before = bucket.cumulative_count();
        if count > 0 {
            rows.push((format!("error up to {:+.2}:", bucket.upper_bound()), count));
        }
    }
    let above = histogram.get_sample_count() - before;
    if above > 0 {
        rows.push(("error above that:".into(), above));
    }
    rows
}
