//! A picture of 1024x1024 through all pixel stages, on one core: a sprite of 128x128 cells enlarged
//! sharply, smoothly, with noise, and by a broken factor; and a picture without a grid.
//!
//! `make bench`, or `cargo bench --bench pixel`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use dgx_pixels_core::pixel::{PixelOptions, pixelize};

mod pictures;

fn pixel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pixelize 1024x1024");
    group.sample_size(20);
    for name in pictures::NAMES {
        let picture = pictures::picture(name);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(pixelize(&picture, &PixelOptions::default()).expect("it is a picture")))
        });
    }
}

criterion_group!(benches, pixel);
criterion_main!(benches);
