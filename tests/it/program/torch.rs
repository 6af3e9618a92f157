//! What only a real model shows: its faults, its device, and Ctrl-C while it works.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;

use super::Desk;

/// The weights of a text encoder of the model `tiny`, which are 32-bit floats.
const TEXT_ENCODER: &str = "models/tiny/text_encoder/model.safetensors";

fn desk() -> Desk {
    let desk = Desk::new();
    desk.add_model("models/tiny");
    desk
}

#[test]
fn the_only_model_is_taken_and_its_hash_told() {
    let desk = desk();
    let draw = ["generate", "a key", "--seed", "7", "--steps", "2", "--device", "cpu", "--json", "--output"];
    let [first] = desk.run(draw.iter().chain(&["one.png"])).json().try_into().unwrap();
    let [second] = desk.run(draw.iter().chain(&["two.png"])).json().try_into().unwrap();
    assert_eq!(
        (&first["model"], &first["dtype"], &first["device"]),
        (&"tiny".into(), &"f32".into(), &"cpu".into())
    );
    assert_eq!(first["model_hash"].as_str().unwrap().len(), 64);
    assert_eq!(first["model_hash"], second["model_hash"]);
    assert_eq!(fs::read(desk.path("one.png")).unwrap(), fs::read(desk.path("two.png")).unwrap());
}

#[test]
fn a_single_file_with_a_lora_draws_and_is_made_again() {
    let desk = Desk::new();
    desk.add_model("models/base");
    fs::create_dir(desk.path("models/loras")).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fs::copy(fixtures.join("tiny_sdxl_a.safetensors"), desk.path("frogs.safetensors")).unwrap();
    let style = desk.path("models/loras/style.safetensors");
    fs::copy(fixtures.join("lora/kohya.safetensors"), &style).unwrap();

    let model = ["--model", "frogs.safetensors", "--base", "base"];
    let draw = ["generate", "a key", "--lora", "style:0.5", "--steps", "2", "--device", "cpu", "--seed", "7"];
    let drawn = desk.run([&draw[..], &model, &["--output", "key.png"]].concat());
    assert_eq!(drawn.code, Some(0), "{drawn:?}");
    let again = |more: &[&str]| desk.run([&["reproduce", "key.png"][..], &model, more].concat());
    assert_eq!(again(&[]).stdout, "same\n");
    // Its hash says which it is, whatever it is called.
    fs::rename(&style, desk.path("models/loras/other.safetensors")).unwrap();
    assert_eq!(again(&[]).stdout, "same\n");
    fs::rename(desk.path("models/loras/other.safetensors"), desk.path("moved.safetensors")).unwrap();
    let gone = again(&[]);
    assert_eq!(gone.code, Some(3));
    assert!(
        gone.stderr.contains("the image records the LoRA `style`, and no file with its hash"),
        "{gone:?}"
    );
    assert_eq!(again(&["--lora", "moved.safetensors"]).stdout, "same\n");

    let unknown = desk.run([&draw[..], &model].concat());
    assert_eq!(unknown.code, Some(3));
    let expected = "error: no LoRA or file is called `style`; there are none in the folders `loras` of the model folders";
    assert!(unknown.stderr.contains(expected), "{unknown:?}");
}

#[test]
fn a_vae_and_a_textual_inversion_are_recorded_by_hash_and_used_again() {
    let desk = Desk::new();
    desk.add_model("models/tiny");
    for folder in ["models/vae", "models/embeddings"] {
        fs::create_dir(desk.path(folder)).unwrap();
    }
    let (thin, moved) = (desk.path("models/vae/thin.safetensors"), desk.path("moved.safetensors"));
    fs::copy(desk.path("models/tiny/vae/diffusion_pytorch_model.safetensors"), &thin).unwrap();
    let frog = desk.path("models/embeddings/frog.safetensors");
    let write_vectors = |number: f32| {
        let bytes = |width: usize| number.to_le_bytes().repeat(width);
        let (l, g) = (bytes(16), bytes(24));
        let view = |width, data| TensorView::new(Dtype::F32, vec![1, width], data).unwrap();
        let tensors = [("clip_l", view(16, &l)), ("clip_g", view(24, &g))];
        fs::write(&frog, safetensors::serialize(tensors, None).unwrap()).unwrap();
    };
    write_vectors(0.25);

    let draw =
        ["generate", "embedding:frog", "--vae", "thin", "--steps", "2", "--device", "cpu", "--seed", "7"];
    let drawn = desk.run([&draw[..], &["--output", "key.png"]].concat());
    assert_eq!(drawn.code, Some(0), "{drawn:?}");
    let again = |more: &[&str]| desk.run([&["reproduce", "key.png"][..], more].concat());
    assert_eq!(again(&[]).stdout, "same\n");
    fs::rename(&thin, &moved).unwrap();
    let gone = again(&[]);
    assert_eq!(gone.code, Some(3));
    let expected = "the image records the VAE `thin`, and no file with its hash";
    assert!(gone.stderr.contains(expected) && gone.stderr.contains("`--vae PATH`"), "{gone:?}");
    assert_eq!(again(&["--vae", "moved.safetensors"]).stdout, "same\n");

    write_vectors(-0.75);
    let changed = again(&["--vae", "moved.safetensors"]);
    assert!(changed.stderr.contains("changed since: embedding:frog "), "{changed:?}");
    let refused =
        desk.run(["generate", "a key", "--model", "sketch", "--vae", "moved.safetensors", "--quiet"]);
    refused.assert_failed(2, "`vae` is `moved.safetensors`; expected none, as `sketch` computes nothing that another file could change");
}

#[test]
fn among_several_models_one_must_be_chosen() {
    let desk = desk();
    desk.run(["generate", "key", "--model", "models/tiny", "--steps", "1", "--device", "cpu", "--quiet"]);
    desk.add_model("models/other");
    desk.run(["generate", "key"])
        .assert_failed(3, "several models were found; choose with `--model`: `other`, `tiny`");
}

#[test]
fn sprite_xl_is_taken_where_none_is_named() {
    let desk = desk();
    desk.add_model("models/sprite-xl");
    let [line] =
        desk.run(["generate", "key", "--steps", "1", "--device", "cpu", "--json"]).json().try_into().unwrap();
    assert_eq!(line["model"], "sprite-xl");
}

#[test]
fn a_model_brings_its_own_steps_and_guidance() {
    let desk = desk();
    let config = desk.path("models/tiny/generation_config.json");
    fs::write(&config, r#"{"num_inference_steps": 2, "guidance_scale": 1.5}"#).unwrap();
    let draw = ["generate", "key", "--model", "tiny", "--device", "cpu", "--json", "--seed"];
    let [own] = desk.run(draw.iter().chain(&["1"])).json().try_into().unwrap();
    assert_eq!((&own["steps"], &own["guidance_scale"]), (&2.into(), &1.5.into()));
    let [asked] = desk
        .run(draw.iter().chain(&["2", "--steps", "3", "--guidance-scale", "4"]))
        .json()
        .try_into()
        .unwrap();
    assert_eq!((&asked["steps"], &asked["guidance_scale"]), (&3.into(), &4.0.into()));

    fs::write(&config, r#"{"num_inference_steps": 5000}"#).unwrap();
    let message = "cannot load the model in `models/tiny/generation_config.json`: \
                   `num_inference_steps` is 5000; expected 1 to 1000";
    desk.run(["generate", "key", "--model", "tiny"]).assert_failed(3, message);
}

#[test]
fn the_only_model_that_is_found_is_told_where_it_is_the_folders_own() {
    let ran = desk().run(["generate", "key", "--steps", "1", "--device", "cpu", "--quiet"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (Some(0), "warning: the model `tiny` is this folder's own, `models/tiny`\n")
    );
}

#[test]
fn a_gpu_that_is_not_there_ends_with_4() {
    let ran = desk().run(["generate", "key", "--model", "tiny", "--device", "cuda:99"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""));
    assert!(ran.stderr.starts_with("error: device `cuda:99` is not available: "), "{}", ran.stderr);
}

#[test]
fn a_device_or_precision_that_none_has_ends_with_2() {
    for (flag, text) in
        [("--device", "expected `auto`, `cpu`"), ("--dtype", "expected `f32`, `f16` or `bf16`")]
    {
        let ran = desk().run(["generate", "key", flag, "x"]);
        assert_eq!(ran.code, Some(2));
        assert!(ran.stderr.contains(text), "{}", ran.stderr);
    }
}

#[test]
fn results_that_are_not_finite_end_with_6_and_no_picture() {
    let desk = desk();
    // The largest number is finite, and a layer multiplies it.
    spoil(&desk.path(TEXT_ENCODER), "text_model.embeddings.position_embedding.weight", f32::MAX);
    let ran = desk.run(["generate", "key", "--steps", "2", "--device", "cpu", "--quiet"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(6), ""), "{ran:?}");
    assert!(ran.stderr.contains("not finite"), "{}", ran.stderr);
    assert_eq!(desk.files(), ["models"]);
}

#[test]
fn weights_that_are_not_finite_end_with_3_and_no_picture() {
    let desk = desk();
    spoil(&desk.path(TEXT_ENCODER), "text_model.embeddings.position_embedding.weight", f32::NAN);
    let ran = desk.run(["generate", "key", "--steps", "2", "--device", "cpu", "--quiet"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""), "{ran:?}");
    assert!(ran.stderr.contains("numbers that are not finite"), "{}", ran.stderr);
    assert_eq!(desk.files(), ["models"]);
}

#[test]
fn a_prompt_past_the_tokenizer_is_drawn_with_a_warning() {
    let prompt = format!("{}lighthouse", "a key ".repeat(400));
    let ran = desk().run(["generate", &prompt, "--steps", "1", "--device", "cpu", "--quiet"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.starts_with("warning: ") && ran.stderr.contains("lighthouse"), "{}", ran.stderr);
}

#[test]
fn ctrl_c_stops_between_steps_and_leaves_nothing() {
    let desk = desk();
    let long =
        ["generate", "key", "--model", "tiny", "--steps", "1000", "--device", "cpu", "--output", "out"];
    let mut child = desk.command(long).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "drawing with tiny");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let said = lines.next().unwrap().unwrap();
    assert_eq!(said, "error: interrupted; no picture is left half written");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(desk.files(), ["models"]);
}

/// Overwrites a tensor of 32-bit floats with one value.
fn spoil(weights: &Path, tensor: &str, value: f32) {
    let bytes = fs::read(weights).unwrap();
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_len as usize]).unwrap();
    let [start, end] = [0, 1].map(|i| header[tensor]["data_offsets"][i].as_u64().unwrap());
    let values = value.to_le_bytes().repeat((end - start) as usize / 4);
    File::options().write(true).open(weights).unwrap().write_all_at(&values, 8 + header_len + start).unwrap();
}

#[test]
fn a_picture_of_several_drawn_together_is_made_again_alone() {
    let desk = desk();
    let draw = [
        "generate", "a key", "--seed", "7", "--count", "3", "--steps", "2", "--device", "cpu", "--output",
        "o",
    ];
    assert_eq!(desk.run(draw).code, Some(0));
    let ran = desk.run(["reproduce", "o/a-key-8.png"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "same\n"), "{}", ran.stderr);
    // Weights of another model.
    let other = desk.run(["reproduce", "o/a-key-8.png", "--model", "sketch"]);
    assert_eq!(other.code, Some(9));
    assert!(
        other.stderr.contains("model_hash") && other.stderr.contains("dtype f32 to none"),
        "{}",
        other.stderr
    );
}
