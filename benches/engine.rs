//! What the engine itself takes: a step's bookkeeping, and choosing among 10,000 that wait.
#![expect(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use dgx_pixels_core::backend::{Sketch, paint};
use dgx_pixels_core::backend::{Sketches, Unmetered};
use dgx_pixels_core::engine::{Engine, EngineConfig, Shutdown};
use dgx_pixels_core::{GenerateRequest, ImageSize, Submission};

const STEPS: usize = 1000;

fn request(seed: u64, steps: usize) -> GenerateRequest {
    GenerateRequest { seed, steps: Some(steps), ..Default::default() }
        .with_size(ImageSize { width: 64, height: 64 })
}

fn engine(queue_capacity: usize) -> Engine {
    let config = EngineConfig { queue_capacity, ..Default::default() };
    Engine::start(Sketches, vec![Box::new(Unmetered("cpu".into()))], config).unwrap()
}

/// The sketch's step does nothing: what is left is ours.
fn step(c: &mut Criterion) {
    let engine = engine(10_000);
    let raw = |seed| Submission { pixel: None, ..request(seed, STEPS).into() };
    for together in [1, 8] {
        c.bench_function(&format!("step of {together}, engine"), |b| {
            b.iter_custom(|rounds| {
                let start = Instant::now();
                for _ in 0..rounds {
                    let jobs: Vec<_> = (0..together).map(|seed| engine.submit(raw(seed)).unwrap()).collect();
                    jobs.iter().for_each(|job| drop(job.wait().unwrap()));
                }
                start.elapsed() / STEPS as u32
            });
        });
        c.bench_function(&format!("step of {together}, direct"), |b| {
            let requests: Vec<_> = (0..together).map(|seed| request(seed, STEPS)).collect();
            b.iter_custom(|rounds| {
                let start = Instant::now();
                for _ in 0..rounds {
                    paint(&mut Sketch, &requests, |_| ControlFlow::Continue(())).unwrap();
                }
                start.elapsed() / STEPS as u32
            });
        });
    }
}

/// Jobs of one step: each is taken from a queue of ten thousand, begun, stepped, decoded and told.
fn choose(c: &mut Criterion) {
    for clients in [1, 10_000] {
        c.bench_function(&format!("one of 10,000 that wait, {clients} clients"), |b| {
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let engine = engine(20_000);
                    // Holds the device while the queue fills.
                    let plug = Submission { pixel: None, ..request(0, STEPS).into() };
                    let plugs: Vec<_> = (0..8).map(|_| engine.submit(plug.clone()).unwrap()).collect();
                    let one = |n: usize| Submission {
                        pixel: None,
                        client: (n % clients).to_string(),
                        ..request(n as u64, 1).into()
                    };
                    let jobs: Vec<_> = (0..10_000).map(|n| engine.submit(one(n)).unwrap()).collect();
                    drop(plugs);
                    let waiting = jobs.iter().filter(|job| job.result().is_none()).count();
                    let start = Instant::now();
                    jobs.iter().for_each(|job| drop(job.wait()));
                    spent += start.elapsed() / waiting.max(1) as u32;
                    engine.shutdown(Shutdown::NextStep);
                }
                spent
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(3));
    targets = step, choose
}
criterion_main!(benches);
