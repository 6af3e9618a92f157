//! The time that `dgx-pixels validate` takes for a project of 10,000 sprites:
//! `cargo bench --bench validate -- [SPRITES]`.

use std::fs;
use std::time::Instant;

use dgx_pixels_core::asset::{NewSprite, Project, validate};
use dgx_pixels_core::picture_file::sprite_png;
use image::{Rgba, RgbaImage};

const RUNS: usize = 7;

fn main() {
    let count = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(10_000);
    let folder = tempfile::tempdir().expect("a folder for a project");
    fs::write(folder.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"\n")
        .expect("it can be written");
    let project = Project::open(folder.path()).expect("it is a project");
    let sprites: Vec<_> = (0..count).map(sprite).collect();
    project.deploy(&sprites).expect("the project takes sprites");
    let mut times: Vec<_> = (0..RUNS)
        .map(|_| {
            let began = Instant::now();
            let report = validate(project.root()).expect("the project can be read");
            assert_eq!((report.files, report.findings), (count as usize + 1, vec![]));
            began.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{count} sprites of 32x32 on {threads} cores: median {:.3} s, most {:.3} s",
        times[RUNS / 2],
        times[RUNS - 1]
    );
}

/// 16 colours, another picture for each number.
fn sprite(n: u32) -> NewSprite {
    let picture = RgbaImage::from_fn(32, 32, |x, y| {
        let cell = (x / 3 * 31 + y / 2 * 17 + n) % 16;
        match (x + y) % 9 {
            0 => Rgba([0; 4]),
            _ => Rgba([(cell * 16) as u8, (n >> 8) as u8, n as u8, 255]),
        }
    });
    let png = sprite_png(&picture, None).expect("memory takes a PNG");
    NewSprite::new(format!("item_{n}").parse().expect("a name"), png)
}
