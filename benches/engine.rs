//! The time of the engine itself: the bookkeeping of a step, choosing among 10,000 jobs that wait,
//! and accepting jobs into a journal.

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

/// Jobs that are on the disk before they are accepted; they wait behind others.
fn accept(c: &mut Criterion) {
    const JOBS: u64 = 64;
    for together in [false, true] {
        let how = if together { "one call" } else { "a call each" };
        c.bench_function(&format!("{JOBS} jobs accepted with a journal, {how}"), |b| {
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let folder = tempfile::tempdir().unwrap();
                    let config = EngineConfig { journal: Some(folder.path().into()), ..Default::default() };
                    let devices = vec![Box::new(Unmetered("cpu".into())) as _];
                    let engine = Engine::start(Sketches, devices, config).unwrap();
                    let raw = |seed| Submission { pixel: None, ..request(seed, STEPS).into() };
                    let start = Instant::now();
                    match together {
                        true => engine
                            .submit_all((0..JOBS).map(raw))
                            .into_iter()
                            .for_each(|job| drop(job.unwrap())),
                        false => (0..JOBS).for_each(|seed| drop(engine.submit(raw(seed)).unwrap())),
                    }
                    spent += start.elapsed();
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
    targets = step, choose, accept
}
criterion_main!(benches);
