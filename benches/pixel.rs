//! A picture of 1024x1024 through all pixel stages, on one core: a sprite of 128x128 cells enlarged
//! sharply, smoothly, with noise, and by a broken factor; and a picture without a grid.
//!
//! `make bench`, or `cargo bench --bench pixel`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use dgx_pixels_core::pixel::{PixelOptions, pixelize};
use image::imageops::{FilterType, crop_imm, resize};
use image::{Rgba, RgbaImage};

/// A number below 2^24 that has nothing to do with its neighbours'.
fn hash(x: u32, y: u32) -> u32 {
    ((x.wrapping_mul(73_856_093)) ^ (y.wrapping_mul(19_349_663))).wrapping_mul(2_654_435_761) >> 8
}

/// A disc of 24 colours in bands, on a plain background.
fn sprite(side: u32) -> RgbaImage {
    RgbaImage::from_fn(side, side, |x, y| {
        let (dx, dy) = (f64::from(x) - f64::from(side) / 2.0, f64::from(y) - f64::from(side) / 2.0);
        let radius = dx.hypot(dy) / f64::from(side);
        let band = (radius * 16.0) as u32 * 3 + hash(x / 2, y / 3) % 3;
        let color = if radius < 0.45 { hash(band, 7) } else { 0xeeeeee };
        let [_, r, g, b] = color.to_be_bytes();
        Rgba([r, g, b, 255])
    })
}

fn pictures() -> Vec<(&'static str, RgbaImage)> {
    let enlarged = |filter| resize(&sprite(128), 1024, 1024, filter);
    let mut noisy = enlarged(FilterType::Lanczos3);
    for (x, y, pixel) in noisy.enumerate_pixels_mut() {
        let noise = (hash(x, y) % 17) as i16 - 8;
        pixel.0[..3].iter_mut().for_each(|value| *value = (i16::from(*value) + noise).clamp(0, 255) as u8);
    }
    let broken = resize(&sprite(140), 1064, 1064, FilterType::CatmullRom);
    let wave = |value: f32| (127.0 + 120.0 * value.sin()) as u8;
    let smooth = RgbaImage::from_fn(1024, 1024, |x, y| {
        let (x, y) = (x as f32, y as f32);
        Rgba([wave(x / 61.0 + y / 97.0), wave(x / 143.0 - y / 59.0), wave((x * y).sqrt() / 71.0), 255])
    });
    vec![
        ("nearest", enlarged(FilterType::Nearest)),
        ("lanczos", enlarged(FilterType::Lanczos3)),
        ("lanczos_noise", noisy),
        ("bicubic_7.6", crop_imm(&broken, 20, 20, 1024, 1024).to_image()),
        ("no_grid", smooth),
    ]
}

fn pixel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pixelize 1024x1024");
    group.sample_size(20);
    for (name, picture) in pictures() {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(pixelize(&picture, &PixelOptions::default()).expect("it is a picture")))
        });
    }
}

criterion_group!(benches, pixel);
criterion_main!(benches);
