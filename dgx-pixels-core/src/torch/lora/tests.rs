//! Merged weights against the formulas in `tests/fixtures/make_loras.py`, and what they draw.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype as StoredDtype, SafeTensors};
use tch::Tensor;

use super::*;
use crate::backend::paint;
use crate::device::Dtype;
use crate::error::one_line;
use crate::model::lora::LoraUse;
use crate::model::{Model, Options};
use crate::torch::Sdxl;
use crate::torch::weights::Weights;
use crate::{GenerateRequest, ImageSize};

const CPU: Options = Options {
    device: Device::Cpu,
    dtype: None,
    mode: crate::device::Mode::Fast,
    vae_slicing: false,
    vae_tiling: false,
    prediction_type: None,
    zero_snr: None,
    lenient: false,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

fn model() -> Model {
    Model::open(fixture("tiny_sdxl_a")).unwrap()
}

fn lora_at(path: PathBuf, weight: f64, text_weight: f64) -> LoraUse {
    LoraUse { name: "test".into(), path, hash: String::new(), weight, text_weight }
}

fn lora(name: &str) -> LoraUse {
    lora_at(fixture("lora").join(format!("{name}.safetensors")), 0.8, 0.6)
}

/// The model's tensor as `loras` change it.
fn weight(loras: &[LoraUse], component: &str, name: &str, dtype: Dtype) -> Tensor {
    let model = model();
    let set = LoraSet::open(&model, loras, &CPU).unwrap();
    let component = Component::ALL.into_iter().find(|one| one.name() == component).unwrap();
    let files = model.weights(component, false).unwrap();
    let shape: Vec<i64> = files.get(name).unwrap().0.shape.iter().map(|side| *side as i64).collect();
    let weights = Weights::new(files, Device::Cpu, dtype, &|_| ()).with_loras(&set, component);
    let (parent, end) = name.rsplit_once('.').unwrap();
    (weights.root() / parent).tensor(end, &shape).unwrap()
}

fn expected() -> BTreeMap<String, Tensor> {
    let tensors = Tensor::read_safetensors(fixture("lora/expected.safetensors")).unwrap();
    tensors.into_iter().collect()
}

#[test]
fn each_format_gives_the_weights_of_its_formula() {
    let mut formats = std::collections::BTreeSet::new();
    for (key, expected) in expected() {
        let [format, component, name] = key.split('/').collect::<Vec<_>>().try_into().unwrap();
        let found = weight(&[lora(format)], component, name, Dtype::F32);
        let difference = (&found - &expected).abs().max().double_value(&[]);
        let change = (&expected - weight(&[], component, name, Dtype::F32)).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "{key}: {difference}");
        assert!(change > 1e-3, "{key} changes the weight by {change} alone");
        formats.insert(format.to_owned());
    }
    let files = fs::read_dir(fixture("lora")).unwrap().count() - 1;
    assert_eq!(formats.len(), files, "{formats:?}");
}

#[test]
fn several_changes_add_up_in_any_order() {
    let name = "down_blocks.1.resnets.0.conv1.weight";
    let [one, other] = ["kohya", "oft"].map(lora);
    let pristine = weight(&[], "unet", name, Dtype::F32);
    let deltas =
        [&one, &other].map(|lora| weight(std::slice::from_ref(lora), "unet", name, Dtype::F32) - &pristine);
    let together = weight(&[one.clone(), other.clone()], "unet", name, Dtype::F32);
    let difference = (&together - (&pristine + &deltas[0] + &deltas[1])).abs().max().double_value(&[]);
    assert!(difference < 1e-5, "{difference}");
    let reversed = weight(&[other, one], "unet", name, Dtype::F32);
    assert!((together - reversed).abs().max().double_value(&[]) < 1e-6);
}

#[test]
fn the_sum_is_rounded_once() {
    let name = "down_blocks.1.resnets.0.conv1.weight";
    let loras = ["kohya", "loha", "full"].map(lora);
    let in_half = weight(&loras, "unet", name, Dtype::Bf16);
    let rounded = weight(&loras, "unet", name, Dtype::F32).to_kind(Precision::BFloat16);
    assert!(in_half.equal(&rounded));
}

fn image(loras: &[LoraUse]) -> Vec<u8> {
    let request =
        GenerateRequest { prompt: "a goblin".into(), seed: 3, steps: Some(2), ..Default::default() };
    let request = request.with_size(ImageSize { width: 64, height: 64 });
    let mut sdxl = Sdxl::load_merged(&model(), &CPU, loras, &mut |_| ()).unwrap();
    paint(&mut sdxl, &[request], |_| ControlFlow::Continue(())).unwrap().remove(0).image.into_raw()
}

#[test]
fn a_hundred_sets_and_then_none_leave_the_model_as_it_was() {
    let names: Vec<_> = fs::read_dir(fixture("lora"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "expected")
        .collect();
    let name = "down_blocks.1.resnets.0.conv1.weight";
    let (before, drawn) = (weight(&[], "unet", name, Dtype::Bf16), image(&[]));
    assert_ne!(image(&[lora("kohya")]), drawn);
    for i in 0..100 {
        let set = [0, 7, 11].map(|n| lora(&names[(i + n) % names.len()]));
        drop(weight(&set, "unet", name, Dtype::Bf16));
    }
    assert!(weight(&[], "unet", name, Dtype::Bf16).equal(&before));
    assert_eq!(image(&[]), drawn);
    // No strength is no change.
    let none = LoraUse { weight: 0.0, text_weight: 0.0, ..lora("kohya") };
    assert_eq!(image(&[none]), drawn);
}

/// A file like one of the fixtures, with its tensors changed.
fn edited(
    name: &str,
    edit: impl Fn(&str, &mut Vec<usize>, &mut Vec<u8>) -> String,
) -> (tempfile::TempDir, LoraUse) {
    let bytes = fs::read(lora(name).path).unwrap();
    let whole = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<_> = whole
        .iter()
        .map(|(name, view)| {
            let (mut shape, mut data) = (view.shape().to_vec(), view.data().to_vec());
            (edit(name, &mut shape, &mut data), view.dtype(), shape, data)
        })
        .collect();
    let views = tensors.iter().map(|(name, dtype, shape, data): &(String, StoredDtype, _, _)| {
        (name.as_str(), TensorView::new(*dtype, Vec::clone(shape), data).unwrap())
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edited.safetensors");
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let lora = lora_at(path, 1.0, 1.0);
    (dir, lora)
}

fn error((dir, lora): &(tempfile::TempDir, LoraUse)) -> String {
    let loaded = Sdxl::load_merged(&model(), &CPU, std::slice::from_ref(lora), &mut |_| ());
    one_line(&loaded.err().expect("a spoiled LoRA is not merged"))
        .replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn a_lora_that_does_not_fit_is_named_with_what_would() {
    const DOWN: &str = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight";
    let kept = |name: &str, _: &mut Vec<usize>, _: &mut Vec<u8>| name.to_owned();

    // 1. another rank in one half
    let ranks = edited("kohya", |name, shape, data| {
        if name == DOWN {
            shape[0] -= 1;
            data.truncate(data.len() - 4 * shape[1]);
        }
        name.to_owned()
    });
    let expected = "`lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k` has `up` and `down` of the ranks 4 and 3; \
                    expected the same";
    assert!(error(&ranks).ends_with(expected), "{}", error(&ranks));

    // 2. another base, by the width of its text
    let base = edited("kohya", |name, shape, data| {
        if name == DOWN {
            shape[1] = 768;
            *data = vec![0; 4 * 4 * 768];
        }
        name.to_owned()
    });
    let expected = "changes a weight of 16 rows of 768, and the model's \
                    `down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k` is [16, 40]; it is for Stable Diffusion 1";
    assert!(error(&base).ends_with(expected), "{}", error(&base));

    // 3. modules of a deeper model: an error, or with `lenient` passed over
    let deeper = edited("kohya", |name, _, _| {
        name.replace("transformer_blocks_0_attn2", "transformer_blocks_9_attn2")
    });
    let text = error(&deeper);
    let expected = "the model has no `lora_unet_input_blocks_4_1_transformer_blocks_9_attn2_to_k`; `lenient` passes over them";
    assert!(text.ends_with(expected), "{text}");
    let lenient = Options { lenient: true, ..CPU };
    assert!(Sdxl::load_merged(&model(), &lenient, std::slice::from_ref(&deeper.1), &mut |_| ()).is_ok());
    let nothing = edited("peft_noted", |name, _, _| format!("other.{name}"));
    assert!(Sdxl::load_merged(&model(), &lenient, std::slice::from_ref(&nothing.1), &mut |_| ()).is_err());

    // 4. no number
    let nan = edited("kohya", |name, _, data| {
        if name == DOWN {
            data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        name.to_owned()
    });
    assert!(error(&nan).contains("attn2_to_k` has numbers that are not finite"), "{}", error(&nan));

    // 5. half of a pair
    let half = edited("kohya", |name, _, _| if name == DOWN { format!("x{name}") } else { name.to_owned() });
    assert!(error(&half).contains("is not whole: of its parts there are "), "{}", error(&half));

    // 6. a model, and a file that is cut
    let mut model = edited("kohya", kept);
    model.1.path = fixture("tiny_sdxl_a.safetensors");
    assert!(error(&model).ends_with("it is an SDXL checkpoint; expected a LoRA"), "{}", error(&model));
    let cut = edited("kohya", kept);
    let bytes = fs::read(&cut.1.path).unwrap();
    fs::write(&cut.1.path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(error(&cut).contains("truncated or corrupt"), "{}", error(&cut));
}
