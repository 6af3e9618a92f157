//! The three stages of a request, each alone: text encoding, one UNet step, decoding.
//!
//! `make bench`, or `DGX_PIXELS_BENCH_MODEL=FOLDER cargo bench --bench stages` for another model
//! than the tiny one. The benchmark's name says machine-dependent things: device, precision,
//! picture size.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use dgx_pixels_core::backend::{Backend, Canvas, Decoding, begin};
use dgx_pixels_core::device::Device;
use dgx_pixels_core::loaded::{Libtorch, LoadedModel, resolve};
use dgx_pixels_core::model::Options;
use dgx_pixels_core::{GenerateRequest, Model};

fn stages(criterion: &mut Criterion) {
    let folder = std::env::var("DGX_PIXELS_BENCH_MODEL")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny_sdxl_a").to_owned());
    let model = Model::open(&folder).expect("the model opens");
    let libtorch = Libtorch::load(true).expect("`make torch` has built the object");
    let device = resolve(Device::Auto).expect("`auto` is always there");
    let options = Options { device, ..Default::default() };
    let mut sdxl = LoadedModel::load(libtorch, &model, &options, &mut |_| ()).expect("the model loads");
    let size = model.native_size();
    let name = format!("{} {}x{} {device}", model.name(), size.width, size.height);
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20);

    // A new prompt each time: texts are kept.
    let mut texts = 0;
    group.bench_function("text_encoding", |bencher| {
        bencher.iter(|| {
            texts += 1;
            let request = GenerateRequest { prompt: format!("a key {texts}"), ..Default::default() };
            black_box(begin(&mut sdxl, &[request]).expect("the request is valid"))
        })
    });
    let request = GenerateRequest { prompt: "a brass key".into(), steps: Some(1000), ..Default::default() };
    let fresh = |sdxl: &mut LoadedModel| {
        begin(sdxl, std::slice::from_ref(&request)).expect("the request is valid").remove(0)
    };
    let mut canvas = fresh(&mut sdxl);
    group.bench_function("unet_step", |bencher| {
        bencher.iter(|| {
            if canvas.steps_done() == canvas.steps() {
                canvas = fresh(&mut sdxl);
            }
            sdxl.step(&mut [&mut canvas]).expect("memory suffices");
        })
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            black_box(sdxl.finish(&[&canvas]).and_then(Decoding::wait).expect("the picture is finite"))
        })
    });
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
