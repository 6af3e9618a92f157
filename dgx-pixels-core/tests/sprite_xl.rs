//! Claims about the model that the project brings along.

#![cfg(feature = "torch")]

use std::path::{Path, PathBuf};

use dgx_pixels_core::backend::{Backend, begin};
use dgx_pixels_core::backend::{ModelInfo, Models, Variant};
use dgx_pixels_core::torch::{Checkpoints, Device, Dtype, Options, Sdxl};
use dgx_pixels_core::{ErrorKind, GenerateRequest, Model};
use image::RgbImage;
use image::imageops::{FilterType, resize};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/sprite-xl")
}

/// Pearson's correlation of all values.
fn correlation(a: &RgbImage, b: &RgbImage) -> f64 {
    let mean = |image: &RgbImage| {
        image.iter().map(|value| f64::from(*value)).sum::<f64>() / image.as_raw().len() as f64
    };
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b.iter()) {
        let (a, b) = (f64::from(*a) - mean_a, f64::from(*b) - mean_b);
        (ab, aa, bb) = (ab + a * b, aa + a * a, bb + b * b);
    }
    ab / (aa * bb).sqrt()
}

#[test]
fn previews_are_like_the_picture_and_more_so_toward_the_end() {
    let options = Options { device: Device::Cpu, ..Default::default() };
    let mut sdxl = Sdxl::load(&Model::open(folder()).unwrap(), &options).unwrap();
    for (prompt, seed) in [("a red potion", 1), ("a green tree", 2), ("a brick wall", 3)] {
        let request = GenerateRequest { prompt: prompt.into(), seed, steps: Some(10), ..Default::default() };
        let mut canvas = begin(&mut sdxl, &[request]).unwrap().remove(0);
        let mut previews = vec![sdxl.preview(&canvas).unwrap()];
        for _ in 0..10 {
            sdxl.step(&mut [&mut canvas]).unwrap();
            previews.push(sdxl.preview(&canvas).unwrap());
        }
        let picture = sdxl.finish(&[&canvas]).unwrap().wait().unwrap().remove(0);
        let small = resize(&picture, 32, 32, FilterType::Triangle);
        let alike: Vec<f64> = previews.iter().map(|preview| correlation(preview, &small)).collect();
        assert_eq!(previews[0].dimensions(), (32, 32));
        assert!(alike[10] > 0.95, "{prompt}: {alike:.3?}");
        assert!(alike[5] > 0.85, "{prompt}: {alike:.3?}");
    }
}

fn checkpoints(options: Options) -> Checkpoints {
    Checkpoints::open([("sprite-xl", folder()), ("again", folder())], "sprite-xl", options).unwrap()
}

#[test]
fn a_checkpoint_is_described_from_its_configs_and_headers() {
    let models = checkpoints(Options { vae_tiling: true, ..Default::default() });
    let ModelInfo { weight_bytes, mode, .. } = models.describe(None, "cpu").unwrap();
    assert_eq!(mode, None, "a mode makes no difference on a CPU");
    // The same for both names.
    let ModelInfo { architecture, .. } = models.describe(None, "cuda:0").unwrap();
    let expected = ModelInfo {
        name: "again".into(),
        architecture,
        dtype: "bf16".into(),
        weight_bytes: weight_bytes / 2,
        defaults: Model::open(folder()).unwrap().defaults(),
        vae_tiling: true,
        mode: Some("fast".into()),
        libtorch: Some("2.11.0".into()),
        licence: Some("MIT OR Apache-2.0".into()),
        variant: Variant::default(),
    };
    assert_eq!(models.describe(Some("again"), "cuda:0").unwrap(), expected);
}

#[test]
fn loading_tells_each_byte_of_the_weights() {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let models = checkpoints(Options { dtype: Some(dtype), ..Default::default() });
        let mut told = vec![0];
        let sdxl = models.load("again", "cpu", &mut |bytes| told.push(bytes)).unwrap();
        assert_eq!(sdxl.dtype(), dtype);
        assert!(told.is_sorted());
        assert_eq!(*told.last().unwrap(), models.describe(None, "cpu").unwrap().weight_bytes);
    }
}

#[test]
fn a_checkpoints_hash_is_its_models() {
    let models = checkpoints(Options::default());
    let hash = models.hash("again").unwrap();
    assert_eq!(hash, Some(Model::open(folder()).unwrap().hash().unwrap()));
    assert_eq!(models.hash("again").unwrap(), hash);
}

#[test]
fn a_name_that_is_not_there_lists_those_that_are() {
    let models = checkpoints(Options::default());
    let error = models.describe(Some("sdxl"), "cpu").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidModel);
    let expected = "cannot load the model in `sdxl`: no model has this name; there are `sprite-xl`, `again`";
    assert_eq!(error.to_string(), expected);
    assert_eq!(models.load("sdxl", "cpu", &mut |_| ()).err().unwrap().to_string(), expected);
    assert_eq!(models.hash("sdxl").unwrap_err().to_string(), expected);
    let error = models.describe(None, "gpu").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeviceUnavailable);
    let twice = Checkpoints::open([("a", folder()), ("a", folder())], "a", Options::default());
    let expected = "cannot load the model in `a`: two models have this name; expected one";
    assert_eq!(twice.err().unwrap().to_string(), expected);
}
