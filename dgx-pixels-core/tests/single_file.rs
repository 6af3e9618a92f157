//! A model in one file draws what the same model in a folder draws, and a file that is no whole
//! model is refused.

#![cfg(feature = "torch")]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use dgx_pixels_core::backend::paint;
use dgx_pixels_core::model::Component;
use dgx_pixels_core::scheduler::PredictionType;
use dgx_pixels_core::torch::{Device, Dtype, Options, Sdxl};
use dgx_pixels_core::{GenerateRequest, ImageSize, Model, SourceImage, one_line};
use safetensors::tensor::TensorView;
use safetensors::{Dtype as StoredDtype, SafeTensors};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

fn folder() -> Model {
    Model::open(fixture("tiny_sdxl_a")).unwrap()
}

fn options(dtype: Option<Dtype>) -> Options {
    Options { device: Device::Cpu, dtype, ..Default::default() }
}

fn image(model: &Model, options: &Options) -> Vec<u8> {
    let request =
        GenerateRequest { prompt: "a goblin".into(), seed: 3, steps: Some(3), ..Default::default() };
    let request = request.with_size(ImageSize { width: 64, height: 64 });
    let mut sdxl = Sdxl::load(model, options).unwrap();
    paint(&mut sdxl, &[request], |_| ControlFlow::Continue(())).unwrap().remove(0).image.into_raw()
}

/// The file in the fixtures with its tensors changed.
struct Edited {
    dir: TempDir,
}

impl Edited {
    fn new(edit: impl Fn(&str, &TensorView) -> Vec<(String, StoredDtype, Vec<usize>, Vec<u8>)>) -> Edited {
        let bytes = fs::read(fixture("tiny_sdxl_a.safetensors")).unwrap();
        let whole = SafeTensors::deserialize(&bytes).unwrap();
        let edited: Vec<_> = whole.iter().flat_map(|(name, view)| edit(name, &view)).collect();
        let views = edited.iter().map(|(name, dtype, shape, bytes)| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap())
            .unwrap();
        Edited { dir }
    }

    /// Without the tensors whose names begin so.
    fn without(start: &str) -> Edited {
        Edited::new(|name, view| if name.starts_with(start) { vec![] } else { vec![kept(name, view)] })
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("model.safetensors")
    }

    fn error(&self) -> String {
        let opened = Model::open_on(self.path(), Some(&folder()));
        let error = opened.and_then(|model| Sdxl::load(&model, &options(None)).map(drop)).unwrap_err();
        one_line(&error).replace(&self.path().display().to_string(), "FILE")
    }
}

fn kept(name: &str, view: &TensorView) -> (String, StoredDtype, Vec<usize>, Vec<u8>) {
    (name.to_owned(), view.dtype(), view.shape().to_vec(), view.data().to_vec())
}

#[test]
fn a_file_draws_what_the_folder_draws_to_the_bit() {
    let (folder, file) =
        (folder(), Model::open_on(fixture("tiny_sdxl_a.safetensors"), Some(&folder())).unwrap());
    for dtype in [None, Some(Dtype::Bf16)] {
        assert_eq!(image(&file, &options(dtype)), image(&folder, &options(dtype)), "{dtype:?}");
    }
    // Text encoders in the folder have a table of positions besides.
    for component in [Component::UNet, Component::Vae] {
        let [file, folder] = [&file, &folder].map(|model| model.weights(component, false).unwrap());
        assert_eq!(file.parameters(), folder.parameters(), "{component:?}");
    }
    let single = file.single_file().unwrap();
    assert_eq!((single.averages, single.unknown.as_slice()), (1, &[][..]));
    assert_eq!((file.name().as_str(), file.licence.as_deref()), ("tiny_sdxl_a", Some("openrail++")));
    assert_ne!(file.hash().unwrap(), folder.hash().unwrap());
}

#[test]
fn without_a_base_what_tensors_do_not_show_is_sdxls() {
    let model = Model::open(fixture("tiny_sdxl_a.safetensors"));
    // 32 groups, as SDXL has, do not divide the few channels of this model.
    let error = one_line(&model.unwrap_err());
    assert!(error.ends_with("`block_out_channels` has 8, which 32 groups do not divide"), "{error}");
}

/// The number that two bytes are in half precision.
fn of_half(bytes: [u8; 2]) -> f32 {
    let bits = u16::from_le_bytes(bytes);
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023) / 1024.0);
    let size =
        if exponent == 0 { fraction * 2f32.powi(-14) } else { (1.0 + fraction) * 2f32.powi(exponent - 15) };
    if bits >> 15 == 1 { -size } else { size }
}

#[test]
fn the_precision_of_the_file_changes_nothing_that_it_can_hold() {
    let edited = Edited::new(|name, view| match view.dtype() {
        StoredDtype::F16 => {
            let numbers = view.data().chunks_exact(2).map(|bytes| of_half(bytes.try_into().unwrap()));
            let bytes = numbers.flat_map(f32::to_le_bytes).collect();
            vec![(name.to_owned(), StoredDtype::F32, view.shape().to_vec(), bytes)]
        }
        _ => vec![kept(name, view)],
    });
    let model = Model::open_on(edited.path(), Some(&folder())).unwrap();
    assert_eq!(model.weights(Component::UNet, false).unwrap().dtypes(), ["f32"]);
    assert_eq!(folder().weights(Component::UNet, false).unwrap().dtypes(), ["f16"]);
    assert_eq!(image(&model, &options(None)), image(&folder(), &options(None)));
}

#[test]
fn what_a_file_lacks_comes_from_the_base() {
    for start in ["first_stage_model.", "conditioner.embedders.0", "conditioner.embedders.1"] {
        let edited = Edited::without(start);
        // A request may name a VAE, so that its absence is no fault yet.
        if start != "first_stage_model." {
            let alone = one_line(&Model::open(edited.path()).unwrap_err());
            assert!(alone.contains("it lacks `") && alone.ends_with("with `--base`"), "{alone}");
        }
        let model = Model::open_on(edited.path(), Some(&folder())).unwrap();
        assert_eq!(image(&model, &options(None)), image(&folder(), &options(None)), "{start}");
    }
}

/// The bytes of a first layer with five input channels more, of zeros: it computes the same.
fn for_inpainting(view: &TensorView) -> (Vec<usize>, Vec<u8>) {
    let [c_out, c_in, h, w] = view.shape() else { panic!("a convolution has four sides") };
    let row = c_in * h * w * 2;
    let rows = view.data().chunks_exact(row);
    let bytes = rows.flat_map(|row| [row, &vec![0; 5 * h * w * 2]].concat()).collect();
    (vec![*c_out, c_in + 5, *h, *w], bytes)
}

#[test]
fn a_model_for_inpainting_in_one_file_fills_a_mask_and_takes_a_plain_base() {
    const CONV_IN: &str = "model.diffusion_model.input_blocks.0.0.weight";
    let edited = Edited::new(|name, view| {
        if name != CONV_IN {
            return vec![kept(name, view)];
        }
        let (shape, bytes) = for_inpainting(view);
        vec![(name.to_owned(), view.dtype(), shape, bytes)]
    });
    let alone = edited.dir.path().join("unet.safetensors");
    let bytes = fs::read(fixture("tiny_sdxl_a/unet/diffusion_pytorch_model.safetensors")).unwrap();
    let unet = SafeTensors::deserialize(&bytes).unwrap();
    let (shape, conv_in) = for_inpainting(&unet.tensor("conv_in.weight").unwrap());
    let views = unet.iter().map(|(name, view)| match name {
        "conv_in.weight" => (name, TensorView::new(view.dtype(), shape.clone(), &conv_in).unwrap()),
        _ => (name, view),
    });
    fs::write(&alone, safetensors::serialize(views, None).unwrap()).unwrap();

    let picture = image::RgbaImage::from_fn(8, 8, |x, y| image::Rgba([x as u8 * 30, y as u8 * 30, 9, 255]));
    let request = GenerateRequest {
        prompt: "a goblin".into(),
        init_image: Some(SourceImage::new(picture)),
        mask: Some("2,2,4x4".parse().unwrap()),
        steps: Some(3),
        ..Default::default()
    };
    let request = request.with_size(ImageSize { width: 64, height: 64 });
    let mut draws = vec![];
    for path in [edited.path(), alone] {
        let model = Model::open_on(&path, Some(&folder())).unwrap();
        assert_eq!((model.unet.in_channels, model.defaults().needs_mask), (9, true));
        let mut sdxl = Sdxl::load(&model, &options(None)).unwrap();
        let requests = std::slice::from_ref(&request);
        draws.push(paint(&mut sdxl, requests, |_| ControlFlow::Continue(())).unwrap().remove(0).image);
        let without = GenerateRequest { init_image: None, mask: None, ..request.clone() };
        let error = paint(&mut sdxl, &[without], |_| ControlFlow::Continue(())).unwrap_err();
        assert!(one_line(&error).starts_with("`init_image` is missing"), "{error}");
    }
    assert_eq!(draws[0], draws[1]);
}

#[test]
fn the_vae_may_have_another_prefix_and_the_unet_none() {
    let edited = Edited::new(|name, view| {
        let name = name.replace("first_stage_model.", "vae.").replace("model.diffusion_model.", "");
        vec![kept(&name, view)]
    });
    let model = Model::open_on(edited.path(), Some(&folder())).unwrap();
    assert_eq!(image(&model, &options(None)), image(&folder(), &options(None)));
}

#[test]
fn a_unet_under_diffusers_names_goes_with_a_base() {
    let unet = fixture("tiny_sdxl_a/unet/diffusion_pytorch_model.safetensors");
    let model = Model::open_on(&unet, Some(&folder())).unwrap();
    assert_eq!(image(&model, &options(None)), image(&folder(), &options(None)));
    assert!(
        one_line(&Model::open(&unet).unwrap_err()).contains("`text_encoder` and `text_encoder_2` and `vae`")
    );
}

#[test]
fn marks_say_what_the_unet_predicts() {
    for (marks, zero_snr) in [(&["v_pred"][..], None), (&["v_pred", "ztsnr"], Some(true))] {
        let edited = Edited::new(|name, view| {
            let marks = marks.iter().map(|mark| ((*mark).to_owned(), StoredDtype::F32, vec![0], vec![]));
            let first = name.ends_with("denoiser.sigmas");
            marks.filter(|_| first).chain([kept(name, view)]).collect()
        });
        let scheduler = Model::open_on(edited.path(), Some(&folder())).unwrap().scheduler;
        assert_eq!(scheduler.prediction_type, Some(PredictionType::VPrediction));
        assert_eq!(scheduler.rescale_betas_zero_snr.filter(|zero| *zero), zero_snr);
    }
}

#[test]
fn a_number_that_is_none_is_named() {
    let edited = Edited::new(|name, view| {
        let mut tensor = kept(name, view);
        if name.ends_with("output_blocks.2.1.proj_in.bias") {
            // All bits set is not a number, in each float format.
            tensor.3[4..8].fill(0xff);
        }
        vec![tensor]
    });
    let error = edited.error();
    assert!(
        error.contains("`up_blocks.0.attentions.2.proj_in.bias` has numbers that are not finite"),
        "{error}"
    );
}

#[test]
fn a_foreign_tensor_of_the_unet_is_named_and_others_are_listed() {
    let extra = |extra: &'static str| {
        Edited::new(move |name, view| {
            let added = name.ends_with("denoiser.sigmas").then(|| kept(extra, view));
            [kept(name, view)].into_iter().chain(added).collect()
        })
    };
    let error = extra("model.diffusion_model.input_blocks.4.2.weight").error();
    assert!(
        error.ends_with(
            "its UNet has `model.diffusion_model.input_blocks.4.2.weight`, which no SDXL model has"
        ),
        "{error}"
    );
    let listed = Model::open_on(extra("safety.weight").path(), Some(&folder())).unwrap();
    assert_eq!(listed.single_file().unwrap().unknown, ["safety.weight"]);
}

#[test]
fn files_that_are_no_model_are_named_for_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(fixture("tiny_sdxl_a.safetensors")).unwrap();
    for (bytes, expected) in [
        (&b"PK\x03\x04 archive/data.pkl"[..], "it is a pickle"),
        (b"GGUF\x03\0\0\0", "it is in the format GGUF"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (&whole[..whole.len() - 1], "truncated or corrupt ("),
        (&whole[..5000], "truncated or corrupt (5000 bytes): its header ends at byte "),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = one_line(&Model::open(&path).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
}
