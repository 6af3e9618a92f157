//! A model that is not whole is an error that names what is wrong, and never a wrong picture.

#![cfg(feature = "torch")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use dgx_pixels_core::backend::{begin, paint};
use dgx_pixels_core::torch::{Device, Dtype, Mode, Options, Sdxl};
use dgx_pixels_core::{Error, ErrorKind, GenerateRequest, ImageSize, Model, one_line};
use safetensors::tensor::TensorView;
use safetensors::{Dtype as StoredDtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";
const CPU: Options = Options {
    device: Device::Cpu,
    dtype: None,
    mode: Mode::Fast,
    vae_slicing: false,
    vae_tiling: false,
    prediction_type: None,
    zero_snr: None,
    lenient: false,
};

/// A copy of a tiny model that a test may spoil.
struct Copy {
    folder: TempDir,
}

impl Copy {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny_sdxl_a"), folder.path());
        Copy { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The error of loading it, with the folder's own name taken out.
    fn error(&self) -> String {
        let loaded = Model::open(self.folder.path()).and_then(|model| Sdxl::load(&model, &CPU));
        let error = loaded.err().expect("a spoiled model does not load");
        assert_eq!(error.kind(), ErrorKind::InvalidModel);
        one_line(&error).replace(&self.folder.path().display().to_string(), "MODEL")
    }

    fn edit_json(&self, name: &str, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        let mut value: Value = serde_json::from_str(&text).unwrap();
        edit(value.as_object_mut().unwrap());
        std::fs::write(self.path(name), value.to_string()).unwrap();
    }

    /// Writes the UNet's weights anew, each tensor as `edit` gives it.
    fn edit_weights(&self, edit: impl Fn(Stored) -> Vec<Stored>) {
        let bytes = std::fs::read(self.path(UNET)).unwrap();
        let edited: Vec<Stored> = SafeTensors::deserialize(&bytes)
            .unwrap()
            .iter()
            .flat_map(|(name, view)| {
                let (shape, bytes) = (view.shape().to_vec(), view.data().to_vec());
                edit(Stored { name: name.to_owned(), dtype: view.dtype(), shape, bytes })
            })
            .collect();
        let views = edited.iter().map(|stored| {
            (&stored.name, TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes).unwrap())
        });
        std::fs::write(self.path(UNET), safetensors::serialize(views, None).unwrap()).unwrap();
    }
}

/// A tensor as it lies in the file.
struct Stored {
    name: String,
    dtype: StoredDtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).map(|_| ()).unwrap()
        }
    }
}

#[test]
fn a_folder_that_is_not_a_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Model::open(folder.path()).unwrap_err();
    assert!(error.to_string().ends_with(
        "it has no `model_index.json`; expected a folder as diffusers' `save_pretrained` writes it"
    ));
    let error = Model::open(folder.path().join("absent")).unwrap_err();
    assert!(error.to_string().contains("it does not exist"), "{error}");
}

#[test]
fn another_pipeline_is_named() {
    let model = Copy::new();
    model.edit_json("model_index.json", |index| {
        index.insert("_class_name".into(), "FluxPipeline".into());
    });
    let expected = "cannot load the model in `MODEL/model_index.json`: `_class_name` is `FluxPipeline`; expected \
                    `StableDiffusionXLPipeline`";
    assert_eq!(model.error(), expected);
}

#[test]
fn a_missing_component_is_named() {
    let model = Copy::new();
    std::fs::remove_dir_all(model.path("text_encoder_2")).unwrap();
    let expected = "cannot load the model in `MODEL`: the component `text_encoder_2` is missing; expected a folder of that name";
    assert_eq!(model.error(), expected);
}

#[test]
fn missing_weights_are_named() {
    let model = Copy::new();
    std::fs::remove_file(model.path(UNET)).unwrap();
    let expected = "cannot load the model in `MODEL/unet`: no weights; expected `diffusion_pytorch_model.safetensors` \
                    or an index of shards";
    assert_eq!(model.error(), expected);
}

#[test]
fn a_truncated_file_is_named_with_its_length() {
    let model = Copy::new();
    let whole = std::fs::read(model.path(UNET)).unwrap();
    for len in [whole.len() - 1, whole.len() / 2, 100, 0] {
        std::fs::write(model.path(UNET), &whole[..len]).unwrap();
        let error = model.error();
        let expected = format!("`MODEL/{UNET}`: truncated or corrupt ({len} bytes): ");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn a_corrupt_header_is_named() {
    let model = Copy::new();
    let mut whole = std::fs::read(model.path(UNET)).unwrap();
    whole[8..40].fill(b'x');
    std::fs::write(model.path(UNET), whole).unwrap();
    assert!(model.error().contains("truncated or corrupt"), "{}", model.error());
}

#[test]
fn a_tensor_of_the_wrong_shape_is_named_with_both_shapes() {
    let model = Copy::new();
    model.edit_weights(|mut stored| {
        if stored.name == "conv_in.bias" {
            stored.bytes.truncate(stored.bytes.len() / stored.shape[0] * (stored.shape[0] - 1));
            stored.shape[0] -= 1;
        }
        vec![stored]
    });
    let error = model.error();
    assert!(error.contains(&format!("`MODEL/{UNET}`: `conv_in.bias` is [")), "{error}");
    assert!(error.contains("]; expected ["), "{error}");
}

#[test]
fn a_tensor_that_is_missing_is_named() {
    let model = Copy::new();
    model.edit_weights(
        |stored| {
            if stored.name == "add_embedding.linear_1.bias" { vec![] } else { vec![stored] }
        },
    );
    let error = model.error();
    let expected = "`MODEL/unet`: `add_embedding.linear_1.bias` is missing; its config asks for it, as [";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn tensors_that_nobody_asked_for_are_named() {
    let model = Copy::new();
    model.edit_weights(|stored| {
        let extra = Stored {
            name: "class_embedding.weight".into(),
            dtype: StoredDtype::F32,
            shape: vec![1],
            bytes: vec![0; 4],
        };
        if stored.name == "conv_in.bias" { vec![stored, extra] } else { vec![stored] }
    });
    let expected =
        "cannot load the model in `MODEL/unet`: its config has no place for `class_embedding.weight`";
    assert_eq!(model.error(), expected);
}

#[test]
fn a_config_that_asks_for_what_we_do_not_compute_is_named() {
    let model = Copy::new();
    model.edit_json("unet/config.json", |config| {
        config.insert("dual_cross_attention".into(), true.into());
    });
    let expected =
        "cannot load the model in `MODEL/unet/config.json`: `dual_cross_attention` is true; expected false";
    assert_eq!(model.error(), expected);
}

#[test]
fn components_that_do_not_fit_each_other_are_named() {
    let model = Copy::new();
    model.edit_json("unet/config.json", |config| {
        config.insert("cross_attention_dim".into(), 7.into());
    });
    let error = model.error();
    assert!(error.contains("`cross_attention_dim` is 7; expected "), "{error}");
}

#[test]
fn results_that_are_not_finite_are_an_error_and_no_black_picture() {
    let model = Copy::new();
    model.edit_weights(|mut stored| {
        if stored.name == "conv_out.bias" {
            // The largest number is finite, and a step multiplies it.
            stored.dtype = StoredDtype::F32;
            stored.bytes = f32::MAX.to_le_bytes().repeat(stored.shape[0]);
        }
        vec![stored]
    });
    let mut sdxl = Sdxl::load(&Model::open(model.folder.path()).unwrap(), &CPU).unwrap();
    let request = GenerateRequest { prompt: "a key".into(), steps: Some(2), ..Default::default() };
    let error = paint(&mut sdxl, &[request], |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFinite);
    let expected = "values that are not finite in the latents, computed in `f32`; try `bf16` or `f32`, which have more range";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_size_that_the_vae_cannot_do_is_named() {
    let model = Copy::new();
    let mut sdxl = Sdxl::load(&Model::open(model.folder.path()).unwrap(), &CPU).unwrap();
    let request = GenerateRequest::default().with_size(ImageSize { width: 64, height: 100 });
    let error = begin(&mut sdxl, &[request]).err().unwrap();
    assert_eq!(error.to_string(), "`height` is 100; expected a multiple of 8, 64 to 2048");
}

#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    let error = Device::Cuda(99).resolve().unwrap_err();
    assert!(matches!(error, Error::Device { .. }));
    assert!(error.to_string().starts_with("device `cuda:99` is not available: "), "{error}");
}

#[test]
fn halves_run_on_the_cpu_too() {
    let model = Copy::new();
    for dtype in [Dtype::Bf16, Dtype::F16] {
        let options = Options { dtype: Some(dtype), ..CPU };
        let mut sdxl = Sdxl::load(&Model::open(model.folder.path()).unwrap(), &options).unwrap();
        let request = GenerateRequest { prompt: "a key".into(), steps: Some(2), ..Default::default() };
        let drawn = paint(&mut sdxl, &[request], |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(drawn[0].image.dimensions(), (64, 64), "{dtype}");
    }
}
