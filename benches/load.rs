//! The worth of step-level batching: jobs that come at random, served by the engine and, on the
//! same simulated device, in whole batches as other servers do. Prints a JSON line a run and draws
//! the curve.
//!
//! The device takes `fixed + row * rows` ms a step and `decode` ms for each picture, by default as
//! measured with our own `bf16` SDXL at 1024x1024 on an H100 (docs/benchmarks.md), two rows a
//! picture; all times are divided by `--speed`. Arrivals are Poisson, the same for both.
//!
//! `cargo bench --bench load -- [--jobs N] [--loads 0.2,0.8] [--steps mixed|usual] [--speed X] [--output FILE.svg]`

use std::collections::VecDeque;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use dgx_pixels_core::backend::{Backend, Canvas, Decoding, Sketch, SketchCanvas, paint};
use dgx_pixels_core::backend::{ModelInfo, Models, Sketches, Unmetered};
use dgx_pixels_core::engine::{Engine, EngineConfig, Shutdown};
use dgx_pixels_core::job::JobEvent;
use dgx_pixels_core::{GenerateRequest, ImageSize, ModelDefaults, ResolvedRequest, Submission};
use image::RgbImage;
use plotters::prelude::*;

/// Pictures at once, for both.
const TOGETHER: usize = 8;

#[derive(Parser)]
struct Args {
    /// Jobs of each run.
    #[arg(long, default_value_t = 400)]
    jobs: usize,
    /// How many times faster than the device that is simulated.
    #[arg(long, default_value_t = 20.0)]
    speed: f64,
    /// Shares of the capacity of whole batches.
    #[arg(long, value_delimiter = ',', default_value = "0.2,0.4,0.6,0.7,0.8,0.9")]
    loads: Vec<f64>,
    /// Steps of a job: half 8 and half 25 to 50, or all 20 to 40.
    #[arg(long, default_value = "mixed", value_parser = ["mixed", "usual"])]
    steps: String,
    /// Of a step, in ms, whatever its rows.
    #[arg(long, default_value_t = 8.4)]
    fixed: f64,
    /// Of a step, in ms, for each row.
    #[arg(long, default_value_t = 18.2)]
    row: f64,
    /// Of a picture, in ms.
    #[arg(long, default_value_t = 107.0)]
    decode: f64,
    /// The curve.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Sleeps as the device would work.
#[derive(Clone, Copy)]
struct Simulated {
    fixed: f64,
    row: f64,
    decode: f64,
}

impl Simulated {
    fn step(self, rows: usize) -> Duration {
        Duration::from_secs_f64(self.fixed + self.row * rows as f64)
    }

    fn finish(self, pictures: usize) -> Duration {
        Duration::from_secs_f64(self.decode * pictures as f64)
    }
}

impl Backend for Simulated {
    type Canvas = SketchCanvas;

    fn defaults(&self) -> ModelDefaults {
        Sketch.defaults()
    }

    fn begin(&mut self, requests: &[ResolvedRequest]) -> Result<Vec<SketchCanvas>, dgx_pixels_core::Error> {
        Sketch.begin(requests)
    }

    fn step(&mut self, canvases: &mut [&mut SketchCanvas]) -> Result<(), dgx_pixels_core::Error> {
        let going = canvases.iter().filter(|canvas| canvas.steps_done() < canvas.steps());
        thread::sleep(Simulated::step(*self, going.map(|canvas| canvas.rows()).sum()));
        Sketch.step(canvases)
    }

    fn finish(&mut self, canvases: &[&SketchCanvas]) -> Result<Decoding, dgx_pixels_core::Error> {
        thread::sleep(Simulated::finish(*self, canvases.len()));
        Sketch.finish(canvases)
    }

    fn preview(&mut self, canvas: &SketchCanvas) -> Result<RgbImage, dgx_pixels_core::Error> {
        Sketch.preview(canvas)
    }
}

impl Models for Simulated {
    type Backend = Simulated;

    fn describe(&self, model: Option<&str>, device: &str) -> Result<ModelInfo, dgx_pixels_core::Error> {
        Sketches.describe(model, device)
    }

    fn load(&self, _: &str, _: &str, _: &mut dyn FnMut(u64)) -> Result<Simulated, dgx_pixels_core::Error> {
        Ok(*self)
    }

    fn hash(&self, _: &str) -> Result<Option<String>, dgx_pixels_core::Error> {
        Ok(None)
    }
}

/// Mean and 95th percentile of latency in seconds of the real device, pictures per second.
#[derive(Clone, Copy)]
struct Measured {
    mean: f64,
    p95: f64,
    rate: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let scale = 1e-3 / args.speed;
    let device = Simulated { fixed: args.fixed * scale, row: args.row * scale, decode: args.decode * scale };
    let mut curves: [Vec<(f64, Measured)>; 2] = [vec![], vec![]];
    println!(
        "load  request-level: mean s, p95 s, 1/s   step-level: mean s, p95 s, 1/s   ratio of mean, 1/s   time left off by"
    );
    for &load in &args.loads {
        let jobs = arrivals(device, &args.steps, load, args.jobs);
        let whole = measure(&jobs, args.speed, by_request(device, &jobs));
        let (finished, off) = by_step(device, &jobs)?;
        let steps = measure(&jobs, args.speed, finished);
        println!(
            "{load:.2}  {:6.2} {:6.2} {:6.3}   {:6.2} {:6.2} {:6.3}   {:.2} {:.3}   {:.0} %",
            whole.mean,
            whole.p95,
            whole.rate,
            steps.mean,
            steps.p95,
            steps.rate,
            steps.mean / whole.mean,
            steps.rate / whole.rate,
            off * 100.0
        );
        curves[0].push((load, whole));
        curves[1].push((load, steps));
    }
    match args.output {
        Some(path) => draw(&path, &curves),
        None => Ok(()),
    }
}

/// When each job comes, from the start, and what it asks for.
fn arrivals(device: Simulated, steps: &str, load: f64, count: usize) -> Vec<(Duration, GenerateRequest)> {
    let mut random = fastrand::Rng::with_seed(7);
    let steps: Vec<usize> = (0..count)
        .map(|_| match steps {
            "mixed" if random.bool() => 8,
            "mixed" => random.usize(25..=50),
            _ => random.usize(20..=40),
        })
        .collect();
    let mean_steps = steps.iter().sum::<usize>() as f64 / count as f64;
    let full = device.step(2 * TOGETHER).mul_f64(mean_steps) + device.finish(TOGETHER);
    let gap = full.as_secs_f64() / TOGETHER as f64 / load;
    let mut at = 0.0;
    let one = |(seed, steps): (usize, usize)| {
        at -= gap * (1.0 - random.f64()).ln();
        let request = GenerateRequest { seed: seed as u64, steps: Some(steps), ..Default::default() };
        let request = request.with_size(ImageSize { width: 64, height: 64 });
        (Duration::from_secs_f64(at), request)
    };
    steps.into_iter().enumerate().map(one).collect()
}

/// Waits for the time of each job, then hands it over.
fn at_their_times(jobs: &[(Duration, GenerateRequest)], mut hand: impl FnMut(usize, &GenerateRequest)) {
    let start = Instant::now();
    for (place, (at, request)) in jobs.iter().enumerate() {
        thread::sleep(at.saturating_sub(start.elapsed()));
        hand(place, request);
    }
}

/// Whole batches of those that wait; when each job was finished, from the start.
fn by_request(mut device: Simulated, jobs: &[(Duration, GenerateRequest)]) -> Vec<Duration> {
    let start = Instant::now();
    let mut finished = vec![Duration::ZERO; jobs.len()];
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            at_their_times(jobs, |place, request| drop(sender.send((place, request.clone()))))
        });
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                let Ok(one) = receiver.recv() else { break };
                waiting.push_back(one);
            }
            waiting.extend(receiver.try_iter());
            let count = waiting.len().min(TOGETHER);
            let (places, batch): (Vec<_>, Vec<_>) = waiting.drain(..count).unzip();
            paint(&mut device, &batch, |_| ControlFlow::Continue(())).expect("a sketch never fails");
            places.into_iter().for_each(|place| finished[place] = start.elapsed());
        }
    });
    finished
}

/// The engine; and how far off the time left was that it told at submission, at the median.
fn by_step(
    device: Simulated,
    jobs: &[(Duration, GenerateRequest)],
) -> Result<(Vec<Duration>, f64), dgx_pixels_core::Error> {
    let config = EngineConfig { max_batch: TOGETHER, ..Default::default() };
    let engine = Engine::start(device, vec![Box::new(Unmetered("simulated".into()))], config)?;
    let mut submitted = vec![];
    let mut answers = vec![];
    let start = Instant::now();
    at_their_times(jobs, |_, request| {
        submitted.push(start.elapsed());
        let answer = engine.submit(Submission { pixel: None, ..request.clone().into() });
        let told = answer.as_ref().ok().and_then(|job| match job.latest() {
            Some(JobEvent::Queued { eta, .. }) => eta,
            _ => None,
        });
        answers.push((answer, told));
    });
    let (mut finished, mut off) = (vec![], vec![]);
    for (submitted, (answer, told)) in submitted.into_iter().zip(answers) {
        let total = answer?.wait()?.timings.total;
        finished.push(submitted + total);
        off.extend(told.map(|told| (told.as_secs_f64() / total.as_secs_f64() - 1.0).abs()));
    }
    engine.shutdown(Shutdown::Drain);
    off.sort_unstable_by(f64::total_cmp);
    Ok((finished, off.get(off.len() / 2).copied().unwrap_or(f64::NAN)))
}

fn measure(jobs: &[(Duration, GenerateRequest)], speed: f64, finished: Vec<Duration>) -> Measured {
    let latency =
        jobs.iter().zip(&finished).map(|((at, _), finished)| (*finished - *at).as_secs_f64() * speed);
    let mut latencies: Vec<f64> = latency.collect();
    latencies.sort_unstable_by(f64::total_cmp);
    let span = finished.iter().max().copied().unwrap_or_default() - jobs[0].0;
    Measured {
        mean: latencies.iter().sum::<f64>() / latencies.len() as f64,
        p95: latencies[latencies.len() * 95 / 100],
        rate: jobs.len() as f64 / (span.as_secs_f64() * speed),
    }
}

fn draw(path: &std::path::Path, curves: &[Vec<(f64, Measured)>; 2]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (720, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = curves.iter().flatten().map(|(_, measured)| measured.p95).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(0.15..0.95, 0.0..most * 1.05)?;
    chart
        .configure_mesh()
        .x_desc("load, of the capacity of a batch of 8")
        .y_desc("latency, s")
        .x_label_formatter(&|load| format!("{:.0} %", load * 100.0))
        .light_line_style(WHITE)
        .draw()?;
    let series: [(&str, RGBColor); 2] =
        [("batches of requests", RGBColor(200, 80, 60)), ("batches of steps", RGBColor(40, 110, 180))];
    for (curve, (name, color)) in curves.iter().zip(series) {
        for (label, width, latency) in [
            ("mean", 3, (|measured: &Measured| measured.mean) as fn(&Measured) -> f64),
            ("95th percentile", 1, |measured: &Measured| measured.p95),
        ] {
            let style = color.stroke_width(width);
            let points = curve.iter().map(|(load, measured)| (*load, latency(measured)));
            chart
                .draw_series(LineSeries::new(points, style))?
                .label(format!("{name}, {label}"))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
        }
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).border_style(BLACK).draw()?;
    root.present()?;
    Ok(())
}
