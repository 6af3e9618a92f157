//! What a GPU's allocator tells and refuses: `cargo test --release --test cuda -- --ignored`. A
//! file of its own, and one test, since a limit holds for a process and from its first tensor on.

#![cfg(feature = "torch")]

use std::path::Path;

use dgx_pixels_core::backend::{Backend, Canvas, begin};
use dgx_pixels_core::engine::{Budget, Engine, EngineConfig, Shutdown};
use dgx_pixels_core::torch::{Checkpoints, Device, Options, Sdxl, SdxlCanvas, devices, own_process};
use dgx_pixels_core::{Error, GenerateRequest, Model, Submission};

const LIMIT: u64 = 2 << 30;

fn requests(side: u32, count: u64) -> Vec<GenerateRequest> {
    (0..count)
        .map(|seed| GenerateRequest {
            prompt: "a brass key".into(),
            seed,
            width: Some(side),
            height: Some(side),
            ..Default::default()
        })
        .collect()
}

fn step(sdxl: &mut Sdxl, canvases: &mut [SdxlCanvas]) -> Result<(), Error> {
    sdxl.step(&mut canvases.iter_mut().collect::<Vec<_>>())
}

fn pictures_do_not_depend_on_what_the_gpu_does_before_they_are_taken(sdxl: &mut Sdxl) {
    let mut canvases = begin(sdxl, &requests(512, 2)).unwrap();
    // Passes are recorded from their second time on.
    for _ in 0..3 {
        step(sdxl, &mut canvases).unwrap();
        step(sdxl, &mut canvases[1..]).unwrap();
    }
    for _ in 0..5 {
        let finished = canvases.remove(0);
        let alone = sdxl.finish(&[&finished]).unwrap().wait().unwrap();
        let decoding = sdxl.finish(&[&finished]).unwrap();
        drop(finished);
        step(sdxl, &mut canvases).unwrap();
        canvases.extend(begin(sdxl, &requests(512, 1)).unwrap());
        step(sdxl, &mut canvases).unwrap();
        assert!(decoding.wait().unwrap() == alone, "a picture taken later is another");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_gpu_tells_what_it_holds_refuses_what_is_past_its_limit_and_goes_on() {
    own_process().unwrap();
    let device = Device::Cuda(0);
    let mut gpu = devices(&[device]).unwrap().remove(0);
    let before = gpu.memory().unwrap();
    assert_eq!((before.used_bytes, before.peak_bytes), (0, 0));
    assert!(before.available_bytes <= before.total_bytes);
    gpu.limit(LIMIT);

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/sprite-xl");
    let model = Model::open(&path).unwrap();
    let options = Options { device, ..Default::default() };
    let mut sdxl = Sdxl::load(&model, &options).unwrap();
    let loaded = gpu.memory().unwrap();
    assert!((30 << 20..400 << 20).contains(&loaded.used_bytes), "{loaded:?}");
    // What the driver misses holds the tensors, and what CUDA itself takes.
    let missed = before.available_bytes - loaded.available_bytes;
    assert!((loaded.used_bytes..loaded.used_bytes + (2 << 30)).contains(&missed), "{before:?} {loaded:?}");

    let mut many = begin(&mut sdxl, &requests(2048, 16)).unwrap();
    let error = step(&mut sdxl, &mut many).unwrap_err();
    assert_eq!(error.to_string(), "out of memory on `cuda:0` while denoising");
    assert!(many.iter().all(|canvas| canvas.steps_done() == 0));
    assert!(gpu.memory().unwrap().peak_bytes <= LIMIT);
    gpu.empty_cache();
    let mut few = many.split_off(15);
    drop(many);
    step(&mut sdxl, &mut few).unwrap();
    drop(few);
    pictures_do_not_depend_on_what_the_gpu_does_before_they_are_taken(&mut sdxl);
    drop(sdxl);

    let models = Checkpoints::open([("sprite-xl", &path)], "sprite-xl", options).unwrap();
    let config = EngineConfig { max_batch: 16, budget: Budget::Bytes(LIMIT / 2), ..Default::default() };
    let engine = Engine::start(models, devices(&[device]).unwrap(), config).unwrap();
    let jobs = requests(1024, 24).into_iter().enumerate().map(|(n, request)| {
        let submission = Submission { pixel: None, client: n.to_string(), ..request.into() };
        engine.submit(submission).unwrap()
    });
    for job in jobs.collect::<Vec<_>>() {
        job.wait().unwrap();
    }
    engine.shutdown(Shutdown::NextStep);
    let peak = gpu.memory().unwrap().peak_bytes;
    assert!((loaded.used_bytes..=LIMIT / 2).contains(&peak), "{peak}");
}
