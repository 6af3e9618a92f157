//! Jobs with control nets through an engine, what records say of them, and nets that do not fit.

#![cfg(all(feature = "torch", feature = "engine"))]

use std::fs;
use std::path::{Path, PathBuf};

use dgx_pixels_core::engine::{Engine, EngineConfig, Shutdown};
use dgx_pixels_core::local::LocalModels;
use dgx_pixels_core::picture_file::{Made, sprite_png};
use dgx_pixels_core::torch::{Device, Options};
use dgx_pixels_core::{
    ControlChoice, GenerateRequest, ImageSize, Preprocess, SourceImage, Submission, one_line,
};
use image::{Rgba, RgbaImage};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

fn engine(model: &Path, config: EngineConfig) -> Engine {
    let models = LocalModels::open(model.to_str()).unwrap().with_files_of_requests();
    models.with(Options { device: Device::Cpu, ..Default::default() }).unwrap().start(config).unwrap()
}

/// A disk of two colors on a transparent ground.
fn sprite(side: u32) -> RgbaImage {
    let middle = f64::from(side - 1) / 2.0;
    RgbaImage::from_fn(side, side, |x, y| {
        let (across, down) = (f64::from(x) - middle, f64::from(y) - middle);
        match across.hypot(down) < middle * 0.8 {
            true if across < 0.0 => Rgba([220, 60, 40, 255]),
            true => Rgba([40, 60, 200, 255]),
            false => Rgba([0; 4]),
        }
    })
}

fn control(net: &Path, image: &RgbaImage) -> ControlChoice {
    ControlChoice {
        model: net.to_str().unwrap().to_owned(),
        image: SourceImage::new(image.clone()),
        scale: 1.0,
        start: 0.0,
        end: 1.0,
        preprocess: Preprocess::None,
    }
}

fn request(control: Vec<ControlChoice>) -> GenerateRequest {
    GenerateRequest { prompt: "a shield".into(), steps: Some(2), control, ..Default::default() }
}

#[test]
fn nets_from_a_folder_and_a_file_draw_alike_and_records_name_them_by_hash() {
    let folder = tempfile::tempdir().unwrap();
    let config = EngineConfig { inputs: Some(folder.path().into()), ..Default::default() };
    let engine = engine(&fixture("tiny_sdxl_a"), config);
    let (image, canny, depth) = (sprite(8), fixture("control/canny"), fixture("control/depth"));
    let both = vec![control(&canny, &image), ControlChoice { scale: 0.5, ..control(&depth, &image) }];
    let turned = vec![both[1].clone(), both[0].clone()];
    let asked = [
        request(vec![control(&canny, &image)]),
        request(vec![control(&fixture("control/canny.safetensors"), &image)]),
        request(both),
        request(turned),
        // Without control the sprite has the model's own size.
        request(vec![]).with_size(ImageSize { width: 64, height: 64 }),
    ];
    let jobs = engine.submit_all(asked.map(Submission::from));
    let finished: Vec<_> = jobs.into_iter().map(|job| job.unwrap().wait().unwrap()).collect();
    assert_eq!(finished[0].image.dimensions(), (8, 8), "the size of the image that is followed");
    assert_eq!(finished[0].image, finished[1].image);
    assert_eq!(finished[2].image, finished[3].image, "the order of two nets changes nothing");
    for (one, other) in [(0, 2), (0, 4), (2, 4)] {
        assert_ne!(finished[one].image, finished[other].image);
    }

    // A record has names and hashes, not the paths of this machine.
    let made = &finished[3].made;
    let names: Vec<_> = made.request.control.iter().map(|control| control.model.as_str()).collect();
    assert_eq!((names.as_slice(), made.control_hashes.len()), (&["depth", "canny"][..], 2));
    let file = blake3::hash(&fs::read(fixture("control/canny.safetensors")).unwrap()).to_hex().to_string();
    assert_eq!(finished[1].made.control_hashes, [file]);
    assert_ne!(finished[1].made.control_hashes, finished[0].made.control_hashes);
    let read = Made::read(&sprite_png(&finished[3].image, Some(made)).unwrap()).unwrap();
    assert_eq!(read.control_hashes, made.control_hashes);
    assert_eq!(read.request.control, made.request.control);
    assert!(read.request.control.iter().all(|control| control.image.pixels().is_none()));

    // The hash is enough for an engine that keeps the image.
    let mut again = GenerateRequest::from(read.request);
    for (control, net) in again.control.iter_mut().zip([&depth, &canny]) {
        control.model = net.to_str().unwrap().into();
    }
    let again = Submission { pixel: read.pixel, ..again.into() };
    assert_eq!(engine.submit(again).unwrap().wait().unwrap().image, finished[3].image);
}

#[test]
fn a_job_with_a_control_is_taken_up_by_the_next_engine() {
    let folder = tempfile::tempdir().unwrap();
    let config = EngineConfig { journal: Some(folder.path().into()), ..Default::default() };
    let choice = ControlChoice { end: 0.5, ..control(&fixture("control/canny"), &sprite(8)) };
    let asked = GenerateRequest { steps: Some(1000), ..request(vec![choice]) };
    let first = engine(&fixture("tiny_sdxl_a"), config.clone());
    first.submit(asked.clone().into()).unwrap();
    first.shutdown(Shutdown::NextStep);
    drop(first);
    assert_eq!(fs::read_dir(folder.path().join("inputs")).unwrap().count(), 1);
    let next = engine(&fixture("tiny_sdxl_a"), config);
    let [job] = next.recovered() else { panic!("one job was left") };
    let taken_up = &job.submission().request.control;
    assert_eq!(*taken_up, asked.control);
    assert!(taken_up[0].image.pixels().is_some());
    job.cancel();
}

#[test]
fn each_preprocessing_shows_the_net_another_image() {
    let engine = engine(&fixture("tiny_sdxl_a"), EngineConfig::default());
    let of = |preprocess| {
        let choice = ControlChoice { preprocess, ..control(&fixture("control/canny"), &sprite(8)) };
        Submission { pixel: None, ..request(vec![choice]).into() }
    };
    let jobs = engine.submit_all(Preprocess::ALL.map(of));
    let images: Vec<_> = jobs.into_iter().map(|job| job.unwrap().wait().unwrap().image.clone()).collect();
    for (i, image) in images.iter().enumerate() {
        assert!(images[..i].iter().all(|other| other != image), "{}", Preprocess::ALL[i]);
    }
}

#[test]
fn a_net_that_does_not_fit_is_refused_before_it_waits() {
    let folder = tempfile::tempdir().unwrap();
    let engine_of = |model: &str| engine(&fixture(model), EngineConfig::default());
    let a = engine_of("tiny_sdxl_a");
    let error = |engine: &Engine, net: &Path| {
        one_line(&engine.submit(request(vec![control(net, &sprite(8))]).into()).expect_err("it is refused"))
    };

    // 1. nets for another base, with names and numbers
    let other = error(&engine_of("tiny_sdxl_b"), &fixture("control/canny"));
    let channels = "the list of channels of `controlnet_down_blocks` and `controlnet_mid_block` is \
                    [8, 8, 8, 8, 16, 16, 16, 16, 16, 16]; expected [12, 12, 12, 18, 18, 18, 24, 24]";
    assert!(other.contains("it is for another base: ") && other.contains(channels), "{other}");
    let edited = folder.path().join("edited");
    fs::create_dir(&edited).unwrap();
    const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
    fs::copy(fixture("control/canny").join(WEIGHTS), edited.join(WEIGHTS)).unwrap();
    let config = fs::read_to_string(fixture("control/canny/config.json")).unwrap();
    for (from, to, reason) in [
        (
            "\"cross_attention_dim\": 40",
            "\"cross_attention_dim\": 768",
            "the input of `attn2.to_k.weight` is 768; expected 40",
        ),
        ("\"text_time\"", "null", "`addition_embed_type` is null; expected \"text_time\""),
        ("\"ControlNetModel\"", "\"ControlNetUnionModel\"", "`_class_name` is \"ControlNetUnionModel\""),
        (
            "\"global_pool_conditions\": false",
            "\"global_pool_conditions\": true",
            "`global_pool_conditions` is true",
        ),
    ] {
        assert!(config.contains(from), "{from}");
        fs::write(edited.join("config.json"), config.replace(from, to)).unwrap();
        let refused = error(&a, &edited);
        assert!(refused.contains(reason), "{refused}");
    }

    // 2. what is no control net
    let lora = error(&a, &fixture("lora/kohya.safetensors"));
    assert!(lora.ends_with("it is a LoRA; expected a ControlNet of the SDXL family"), "{lora}");
    let empty = error(&a, folder.path());
    assert!(empty.contains("it has no `config.json`; expected the folder of a `ControlNetModel`"), "{empty}");
    let absent = error(&a, Path::new("no-such-net"));
    assert!(absent.starts_with("no control net, folder or file is called `no-such-net`"), "{absent}");

    // 3. images of other proportions than the canvas, and than each other
    let canny = fixture("control/canny");
    let wide = RgbaImage::new(16, 8);
    let two = request(vec![control(&canny, &sprite(8)), control(&canny, &wide)]);
    let apart = one_line(&a.submit(two.into()).unwrap_err());
    assert!(apart.contains("with an image of 16x8, and the canvas is 64x64; expected the same"), "{apart}");
    let square = ImageSize { width: 64, height: 64 };
    let stretched = a.submit(request(vec![control(&canny, &wide)]).with_size(square).into()).unwrap_err();
    assert_eq!(stretched.field(), Some("control"));

    // 4. a model that computes nothing
    let sketch = LocalModels::open(Some("sketch")).unwrap().with_files_of_requests();
    let sketch = sketch.start(EngineConfig::default()).unwrap();
    let refused = error(&sketch, &canny);
    assert!(refused.contains("`control` is ") && refused.contains("`sketch` computes nothing"), "{refused}");
}
