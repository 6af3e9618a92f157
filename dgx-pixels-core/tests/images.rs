//! Jobs that begin from an image, through an engine.

#![cfg(all(feature = "torch", feature = "engine"))]

use std::path::{Path, PathBuf};

use dgx_pixels_core::engine::{Engine, EngineConfig, Shutdown};
use dgx_pixels_core::local::LocalModels;
use dgx_pixels_core::picture_file::{Made, sprite_png};
use dgx_pixels_core::torch::{Device, Options, Sdxl};
use dgx_pixels_core::{GenerateRequest, Mask, Model, SourceImage, Submission, one_line};
use image::{DynamicImage, Rgba, RgbaImage, imageops};

fn sprite_xl() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/sprite-xl")
}

fn engine(config: EngineConfig) -> Engine {
    let models = LocalModels::open(sprite_xl().to_str()).unwrap();
    let models = models.with(Options { device: Device::Cpu, ..Default::default() }).unwrap();
    models.start(config).unwrap()
}

/// A sprite of random colors, of which about a third is transparent.
fn sprite(random: &mut fastrand::Rng, side: u32) -> RgbaImage {
    let colors: Vec<_> = (0..6).map(|_| Rgba([random.u8(..), random.u8(..), random.u8(..), 255])).collect();
    RgbaImage::from_fn(side, side, |_, _| match random.u8(0..3) {
        0 => Rgba([0; 4]),
        _ => colors[random.usize(..colors.len())],
    })
}

fn request(image: &RgbaImage, mask: Option<Mask>) -> GenerateRequest {
    let init_image = Some(SourceImage::new(image.clone()));
    GenerateRequest { prompt: "a shield".into(), init_image, mask, steps: Some(2), ..Default::default() }
}

#[test]
fn no_byte_outside_a_mask_changes_with_200_masks() {
    let mut random = fastrand::Rng::with_seed(29);
    let engine = engine(EngineConfig::default());
    let mut expected = vec![];
    let submissions = (0..200).map(|seed| {
        let side = random.u32(8..=16);
        let image = sprite(&mut random, side);
        let share = random.u8(1..=9);
        let mut mask = RgbaImage::from_fn(side, side, |_, _| match random.u8(0..10) < share {
            true => Rgba([255; 4]),
            false => Rgba([0, 0, 0, 255]),
        });
        mask.put_pixel(random.u32(..side), random.u32(..side), Rgba([255; 4]));
        let asked = request(&image, Some(Mask::Image(SourceImage::new(mask.clone()))));
        let strength = Some(if seed % 2 == 0 { 1.0 } else { 0.5 });
        expected.push((image, mask));
        Submission::from(GenerateRequest { seed, strength, ..asked })
    });
    let jobs = engine.submit_all(submissions.collect::<Vec<_>>());
    let mut drawn_anew = 0;
    for (job, (image, mask)) in jobs.into_iter().zip(&expected) {
        let finished = job.unwrap().wait().unwrap();
        assert_eq!(finished.image.dimensions(), image.dimensions());
        for ((drawn, before), mask) in finished.image.pixels().zip(image.pixels()).zip(mask.pixels()) {
            assert!(mask[0] == 255 || drawn == before);
            drawn_anew += u64::from(drawn != before);
        }
    }
    // The masked parts are drawn, not copied.
    assert!(drawn_anew > 1000, "{drawn_anew} pixels");
}

#[test]
fn a_model_for_inpainting_draws_reproduces_and_refuses_a_request_without_a_mask() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny_sdxl_d");
    let models = LocalModels::open(tiny.to_str()).unwrap();
    let models = models.with(Options { device: Device::Cpu, ..Default::default() }).unwrap();
    let config = EngineConfig { inputs: Some(folder.path().into()), ..Default::default() };
    let engine = models.start(config).unwrap();
    let image = sprite(&mut fastrand::Rng::with_seed(4), 8);
    let job = engine.submit(request(&image, Some(Mask::Alpha)).into()).unwrap();
    let finished = job.wait().unwrap();
    for (drawn, before) in finished.image.pixels().zip(image.pixels()).filter(|(_, before)| before[3] == 255)
    {
        assert_eq!(drawn, before);
    }
    let made = Made::read(&sprite_png(&finished.image, Some(&finished.made)).unwrap()).unwrap();
    let again = Submission { pixel: made.pixel.clone(), ..GenerateRequest::from(made.request).into() };
    assert_eq!(engine.submit(again).unwrap().wait().unwrap().image, finished.image);

    for (asked, field) in [(GenerateRequest::default(), "init_image"), (request(&image, None), "mask")] {
        let error = engine.submit(asked.into()).unwrap_err();
        assert_eq!(error.field(), Some(field));
        assert!(one_line(&error).contains("the model fills the masked part of an image"), "{error}");
    }
}

#[test]
fn a_sprite_goes_through_the_embedded_vae_unchanged() {
    let options = Options { device: Device::Cpu, ..Default::default() };
    let sdxl = Sdxl::load(&Model::open(sprite_xl()).unwrap(), &options).unwrap();
    let image = sprite(&mut fastrand::Rng::with_seed(7), 32);
    let defaults = Model::open(sprite_xl()).unwrap().defaults();
    let resolved = Submission::from(request(&image, None)).resolve(&defaults).unwrap();
    let prepared = resolved.request.prepared(defaults.matte.unwrap()).unwrap().image;
    let again = sdxl.decode_latents(&sdxl.encode_image(&prepared).unwrap()).unwrap();
    let apart = prepared.iter().zip(again.iter()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(apart <= Some(1), "{apart:?} of 255 at most");
}

#[test]
fn a_job_from_an_image_is_taken_up_by_the_next_engine_and_needs_its_image() {
    let folder = tempfile::tempdir().unwrap();
    let config = EngineConfig { journal: Some(folder.path().into()), ..Default::default() };
    let image = sprite(&mut fastrand::Rng::with_seed(1), 16);
    let asked = GenerateRequest { steps: Some(1000), ..request(&image, Some(Mask::Alpha)) };
    let first = engine(config.clone());
    first.submit(asked.clone().into()).unwrap();
    first.shutdown(Shutdown::NextStep);
    drop(first);

    let [kept] = &std::fs::read_dir(folder.path().join("inputs")).unwrap().flatten().collect::<Vec<_>>()[..]
    else {
        panic!("the image is kept once")
    };
    let (path, hash) = (kept.path(), SourceImage::new(image.clone()).hash().to_owned());
    assert_eq!(path.file_stem().unwrap().to_str(), Some(&*hash));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let without = engine(config.clone());
    let [job] = without.recovered() else { panic!("one job was left") };
    let error = one_line(&job.wait().unwrap_err());
    assert_eq!(
        error,
        format!("`init_image` is `blake3:{hash}`, which is not kept here; expected the path of the image")
    );
    drop(without);

    std::fs::write(&path, bytes).unwrap();
    let with = engine(config);
    let [job] = with.recovered() else { panic!("the job waits for its image") };
    assert_eq!(job.submission().request.init_image, asked.init_image);
    assert!(job.submission().request.init_image.as_ref().is_some_and(|image| image.pixels().is_some()));
    job.cancel();
}

#[test]
fn the_record_of_a_sprite_names_its_image_and_draws_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = EngineConfig { inputs: Some(folder.path().into()), ..Default::default() };
    let engine = engine(config);
    let image = sprite(&mut fastrand::Rng::with_seed(2), 12);
    let job = engine.submit(request(&image, None).into()).unwrap();
    let finished = job.wait().unwrap();
    let png = sprite_png(&finished.image, Some(&finished.made)).unwrap();
    let made = Made::read(&png).unwrap();
    assert_eq!(made.request.init_image, finished.made.request.init_image);
    assert_eq!((made.request.strength, made.request.drawn_steps()), (Some(0.6), 1));
    // The hash is enough for an engine that keeps the image.
    assert!(made.request.init_image.as_ref().is_some_and(|image| image.pixels().is_none()));
    let again = Submission { pixel: made.pixel.clone(), ..GenerateRequest::from(made.request).into() };
    assert_eq!(engine.submit(again).unwrap().wait().unwrap().image, finished.image);
}

#[test]
fn a_photograph_is_reduced_to_the_models_own_area() {
    let engine = engine(EngineConfig::default());
    let photo = DynamicImage::ImageRgba8(sprite(&mut fastrand::Rng::with_seed(3), 60));
    let photo = photo.resize_exact(900, 600, imageops::FilterType::Triangle).into_rgba8();
    let submission = Submission { pixel: None, ..request(&photo, None).into() };
    let finished = engine.submit(submission).unwrap().wait().unwrap();
    assert_eq!(finished.image.dimensions(), (312, 208));
}
