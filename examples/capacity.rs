//! What the engine makes of a device: pictures per second with so many at once, and how near
//! predictions of memory come.
//!
//! `cargo run --release --example capacity -- MODEL_FOLDER [--device D] [--together 1,2,4,8] [--sizes 1024x1024] [--steps N]`
//!
//! With `--staggered 5` also what clients of a server see who come one after the other and ask for
//! a picture whenever they have the one before, until each has five: pictures per second, how long
//! one takes, and how long a job waits from step to step.

use std::error::Error;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use dgx_pixels_core::backend::{ModelInfo, Models};
use dgx_pixels_core::device::{Device, Dtype};
use dgx_pixels_core::engine::{Budget, Engine, EngineConfig, Shutdown};
use dgx_pixels_core::job::JobEvent;
use dgx_pixels_core::loaded::{Libtorch, LoadedDevice, LoadedModel, LoadedModels, resolve};
use dgx_pixels_core::model::Options;
use dgx_pixels_core::{GenerateRequest, Model, Submission};
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
    /// Pictures of each client, at least, where clients come one after the other; the first is not
    /// counted.
    #[arg(long)]
    staggered: Option<u32>,
    /// SDXL base with weights drawn at random, `model`'s tokenizers before it.
    #[arg(long)]
    random: bool,
}

/// A checkpoint, or SDXL base with weights drawn at random in its place.
struct Subject {
    checkpoint: LoadedModels,
    random: Option<Model>,
    options: Options,
}

type Answer<T> = Result<T, dgx_pixels_core::Error>;

impl Models for Subject {
    type Backend = LoadedModel;

    fn describe(&self, model: Option<&str>, device: &str) -> Answer<ModelInfo> {
        let info = self.checkpoint.describe(model, device)?;
        Ok(match &self.random {
            None => info,
            Some(model) => ModelInfo { defaults: model.defaults(), ..info },
        })
    }

    fn load(&self, model: &str, device: &str, on_bytes: &mut dyn FnMut(u64)) -> Answer<LoadedModel> {
        match &self.random {
            None => self.checkpoint.load(model, device, on_bytes),
            Some(model) => LoadedModel::random(Libtorch::load(true)?, &model.path, &self.options, 0),
        }
    }

    fn hash(&self, model: &str) -> Answer<Option<String>> {
        if self.random.is_some() { Ok(None) } else { self.checkpoint.hash(model) }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let sizes = args.sizes.iter().map(|size| size.parse().map(Some)).collect::<Result<Vec<_>, _>>()?;
    let sizes = if sizes.is_empty() { vec![None] } else { sizes };
    println!(
        "{:>10} {:>8} {:>9} {:>14} {:>14} {:>7}",
        "size", "together", "1/s", "predicted", "peak", "ratio"
    );
    for size in sizes {
        for &together in &args.together {
            let options = Options { device: args.device, dtype: args.dtype, ..Default::default() };
            let model = Model::open(args.model.as_str())?;
            let checkpoint = LoadedModels::new([("model".to_owned(), model)], options, true);
            let random = args.random.then(|| Model::sdxl_base(args.model.as_str()));
            let models = Subject { checkpoint, random, options };
            let config = EngineConfig { max_batch: together, budget: args.budget, ..Default::default() };
            let device = LoadedDevice::new(resolve(args.device)?, true);
            let engine = Engine::start(models, vec![Box::new(device)], config)?;
            let ask = |client: usize, seed: u64| {
                let prompt = format!("a brass key, number {seed}");
                let request = GenerateRequest { prompt, seed, steps: args.steps, ..Default::default() };
                let request = size.map_or(request.clone(), |size| request.with_size(size));
                // One of each client, so that all go together.
                engine.submit(Submission { pixel: None, client: client.to_string(), ..request.into() })
            };
            let mut rates = vec![];
            let mut whole = Duration::ZERO;
            for round in 0..args.rounds {
                let started = Instant::now();
                let jobs = (0..together).map(|n| ask(n, u64::from(round) * 100 + n as u64));
                for job in jobs.collect::<Result<Vec<_>, _>>()? {
                    job.wait()?;
                }
                whole = started.elapsed();
                rates.push(together as f64 / whole.as_secs_f64());
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
            if let Some(pictures) = args.staggered {
                staggered(together, pictures, whole, &ask);
            }
            engine.shutdown(Shutdown::NextStep);
        }
    }
    Ok(())
}

/// Tells what `clients` see who come one after the other within the time of a picture, `whole`, and
/// stay until all have `pictures`.
fn staggered(
    clients: usize,
    pictures: u32,
    whole: Duration,
    ask: &(impl Fn(usize, u64) -> Answer<dgx_pixels_core::job::Job> + Sync),
) {
    let have_not = AtomicIsize::new(clients as isize);
    let client = |client: usize| -> Answer<[Vec<f64>; 2]> {
        thread::sleep(whole.mul_f64(client as f64 / clients as f64));
        let (mut totals, mut gaps) = (vec![], vec![]);
        for n in 0.. {
            let asked = Instant::now();
            let job = ask(client, 1000 * (client as u64 + 1) + u64::from(n))?;
            let mut events = job.events();
            let mut steps: Vec<Instant> = vec![];
            while let Some(event) = events.next_blocking() {
                if let JobEvent::Step { .. } = event {
                    steps.push(Instant::now());
                }
            }
            job.wait()?;
            // At the first not all are there yet, at the end some have gone.
            if n > 0 && have_not.load(Ordering::Relaxed) > 0 {
                totals.push(asked.elapsed().as_secs_f64());
                gaps.extend(steps.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()));
            }
            if n == pictures {
                have_not.fetch_sub(1, Ordering::Relaxed);
            }
            if have_not.load(Ordering::Relaxed) <= 0 {
                break;
            }
        }
        Ok([totals, gaps])
    };
    let told: Vec<_> = thread::scope(|scope| {
        let until_one_fails = |n| client(n).inspect_err(|_| have_not.store(0, Ordering::Relaxed));
        let threads: Vec<_> = (0..clients).map(|n| scope.spawn(move || until_one_fails(n))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect()
    });
    let (mut totals, mut gaps) = (vec![], vec![]);
    for answer in told {
        match answer {
            Ok([of_client, between]) => {
                totals.extend(of_client);
                gaps.extend(between);
            }
            Err(error) => println!("{:>20} {error}", "a client:"),
        }
    }
    let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len() as f64;
    gaps.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (gaps.len() as f64 * share) as usize;
        gaps.get(place.min(gaps.len().saturating_sub(1))).map_or(f64::NAN, |gap| gap * 1e3)
    };
    println!(
        "{:>10} {clients:>8} {:>9.3} of {} pictures, {:.3} s each; from step to step: median {:.1} ms, 95 % within {:.1}, longest {:.1}",
        "staggered",
        clients as f64 / mean(&totals),
        totals.len(),
        mean(&totals),
        at(0.5),
        at(0.95),
        at(1.0),
    );
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
