//! The instructions of what runs between two calls of a model: pixel stages, the queue, and the
//! plans of requests, noise schedules and deploys.
//!
//! `make bench-counts` runs it and compares the counts with `benches/counts.json`. Callgrind counts
//! them, so they do not depend on the load of the machine. Nothing here needs libtorch.

use std::hint::black_box;

use dgx_pixels_core::asset::{Change, NewSprite, Project};
use dgx_pixels_core::backend::{Backend, Sketch};
use dgx_pixels_core::picture_file::sprite_png;
use dgx_pixels_core::pixel::{PixelOptions, pixelize};
use dgx_pixels_core::scheduler::{SchedulerConfig, SchedulerName, Step};
use dgx_pixels_core::{ImageSize, Submission};
use dgx_pixels_counts::{JOBS, Jobs, Line};
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};
use image::{Rgba, RgbaImage};
use tempfile::TempDir;

#[path = "../../pictures/mod.rs"]
mod pictures;

// 1. pixels

#[library_benchmark(setup = pictures::picture)]
#[bench::nearest("nearest")]
#[bench::lanczos("lanczos")]
#[bench::lanczos_noise("lanczos_noise")]
#[bench::bicubic("bicubic_7.6")]
#[bench::no_grid("no_grid")]
fn pixelize_1024(picture: RgbaImage) -> u32 {
    pixelize(black_box(&picture), &PixelOptions::default()).expect("it is a picture").sprite.width()
}

// 2. the queue

// A thousand jobs each get a place, and then their lane.
#[library_benchmark(setup = Jobs::of)]
#[bench::one_client(1)]
#[bench::hundred_clients(100)]
fn accept_1000(jobs: Jobs) -> Line {
    jobs.accept()
}

// A thousand jobs are chosen and taken one after another, eight at a time.
#[library_benchmark(setup = Line::full)]
#[bench::one_client(1)]
#[bench::hundred_clients(100)]
fn take_1000(line: Line) -> usize {
    line.take_all()
}

// Every waiting job learns its position.
#[library_benchmark(setup = Line::full)]
#[bench::one_client(1)]
#[bench::hundred_clients(100)]
fn position_of_1000(line: Line) -> usize {
    line.positions()
}

// 3. plans

fn submissions(_: usize) -> Vec<Submission> {
    let side = |n: usize| [16, 24, 32, 64][n % 4];
    (0..JOBS)
        .map(|n| {
            let size = ImageSize { width: side(n), height: side(n / 2) };
            let pixel = PixelOptions { size: (n % 5 != 0).then_some(size), ..Default::default() };
            Submission { pixel: Some(pixel), ..Submission::of("a brass key on a red cushion") }
        })
        .collect()
}

// A thousand submissions are checked, and get all their defaults.
#[library_benchmark(setup = submissions)]
#[bench::all(1)]
fn resolve_1000(submissions: Vec<Submission>) -> u32 {
    let defaults = Sketch.defaults();
    submissions.iter().map(|one| one.resolve(&defaults).expect("it is valid").request.size.width).sum()
}

// The noise schedule of each scheduler for 30 steps, and the factors of each step.
#[library_benchmark]
fn schedules_of_30() -> Vec<Step> {
    let steps = SchedulerName::ALL.into_iter().flat_map(|name| {
        let scheduler = SchedulerConfig::sdxl_base().with_name(name).build(30).expect("it has 30 steps");
        (0..scheduler.timesteps().len()).map(|i| scheduler.step(i)).collect::<Vec<_>>()
    });
    steps.collect()
}

/// A project with a hundred sprites, and a hundred others for it, of which half are the same.
fn game(sprites: u32) -> (TempDir, Project, Vec<NewSprite>) {
    let folder = tempfile::tempdir().expect("a folder for a project");
    std::fs::write(folder.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"\n")
        .expect("it can be written");
    let project = Project::open(folder.path()).expect("it is a project");
    let deployed: Vec<_> = (0..sprites).map(|n| new_sprite(n, 0)).collect();
    project.deploy(&deployed).expect("the project takes sprites");
    (folder, project, (0..sprites).map(|n| new_sprite(n, n % 2)).collect())
}

/// 16 colors, a picture for each number and edition.
fn new_sprite(n: u32, edition: u32) -> NewSprite {
    let picture = RgbaImage::from_fn(32, 32, |x, y| {
        let cell = (x / 3 * 31 + y / 2 * 17 + n) % 16;
        match (x + y) % 9 {
            0 => Rgba([0; 4]),
            _ => Rgba([(cell * 16) as u8, edition as u8, n as u8, 255]),
        }
    });
    let png = sprite_png(&picture, None).expect("memory takes a PNG");
    NewSprite::new(format!("item_{n}").parse().expect("it is a name"), png)
}

// The plan of a deploy: which of a hundred sprites are new, and the manifest that there will be.
#[library_benchmark(setup = game)]
#[bench::hundred(100)]
fn deploy_plan((folder, project, sprites): (TempDir, Project, Vec<NewSprite>)) -> (TempDir, usize) {
    let planned = project.plan(black_box(&sprites)).expect("the project takes them");
    let replaced = planned.sprites.iter().filter(|sprite| sprite.change == Change::Replaced);
    let replaced = replaced.count();
    // The folder is returned, so that it is removed where nothing is counted.
    (folder, replaced)
}

library_benchmark_group!(name = pixel, benchmarks = pixelize_1024);
library_benchmark_group!(name = queue, benchmarks = [accept_1000, take_1000, position_of_1000]);
library_benchmark_group!(name = plan, benchmarks = [resolve_1000, schedules_of_30, deploy_plan]);
main!(
    // Instructions alone are compared, so the cache need not be simulated.
    config = LibraryBenchmarkConfig::default()
        .tool(Callgrind::with_args(["--cache-sim=no"]).format([EventKind::Ir])),
    library_benchmark_groups = [pixel, queue, plan]
);
