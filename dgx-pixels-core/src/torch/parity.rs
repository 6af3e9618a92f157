//! Equality with diffusers, stage by stage, against what `tests/fixtures/make_tiny_sdxl.py`
//! recorded, and against a model that `tests/fixtures/live_sdxl.py` makes during the test.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use image::{Rgba, RgbaImage};
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::blocks::Conditioning;
use super::canvas::SdxlCanvas;
use super::clip::TextEncoder;
use super::device::{Generator, InferenceMode};
use super::sdxl::Sdxl;
use super::tokenizer::Tokenizer;
use super::unet::UNet;
use super::vae::Vae;
use super::weights::Weights;
use crate::backend::{Backend, Canvas, begin, paint};
use crate::device::{Device, Dtype};
use crate::model::{Component, Model, Options};
use crate::prompt::PromptSyntax;
use crate::request::{GenerateRequest, ImageSize, Mask, SourceImage};

/// Largest difference in `f32` on the CPU, before decoding.
const TOLERANCE: f64 = 1e-4;
const MODELS: [&str; 3] = ["a", "b", "c"];
/// Those, and a model for inpainting, which draws nothing without a mask.
const ALL_MODELS: [&str; 4] = ["a", "b", "c", "d"];

/// A model folder and what diffusers computed with it.
struct Golden {
    name: String,
    model: Model,
    tensors: HashMap<String, Tensor>,
    told: Told,
    committed: bool,
}

#[derive(Deserialize)]
struct Told {
    tokens: Vec<HashMap<String, serde_json::Value>>,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    name: String,
    requests: Vec<GenerateRequest>,
}

#[derive(Deserialize)]
struct TokenRow {
    ids: Vec<i64>,
    dropped: Option<String>,
}

impl Golden {
    fn committed(letter: &str) -> Golden {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
        let model = fixtures.join(format!("tiny_sdxl_{letter}"));
        let golden = fixtures.join("golden").join(letter);
        Golden { committed: true, ..Golden::open(format!("tiny_sdxl_{letter}"), &model, &golden) }
    }

    fn open(name: String, model: &Path, stem: &Path) -> Golden {
        // The models are tiny: more threads only wait for each other.
        tch::set_num_threads(1);
        let told = std::fs::read_to_string(stem.with_extension("json")).expect("the golden JSON is readable");
        let tensors = Tensor::read_safetensors(stem.with_extension("safetensors"));
        Golden {
            name,
            model: Model::open(model).expect("the fixture is a model"),
            tensors: tensors.expect("the golden tensors are readable").into_iter().collect(),
            told: serde_json::from_str(&told).expect("the golden JSON has the fields we read"),
            committed: false,
        }
    }

    fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no golden tensor `{name}`", self.name))
    }

    fn weights(&self, component: Component) -> Weights<'static> {
        Weights::new(self.model.weights(component, false).unwrap(), Device::Cpu, Dtype::F32, &|_| ())
    }

    fn sdxl(&self) -> Sdxl {
        let options = Options { device: Device::Cpu, ..Default::default() };
        Sdxl::load(&self.model, &options).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn assert_close(&self, stage: &str, ours: &Tensor, tolerance: f64) {
        assert_close(&format!("{}: {stage}", self.name), ours, self.get(stage), tolerance);
    }

    fn check_tokenizers(&self) {
        for (folder, config) in
            [("tokenizer", &self.model.text_encoder), ("tokenizer_2", &self.model.text_encoder_2)]
        {
            let folder_path = self.model.path.join(folder);
            let tokenizer =
                Tokenizer::open(&folder_path, config.max_position_embeddings, config.vocab_size).unwrap();
            for row in &self.told.tokens {
                let text = row["text"].as_str().unwrap();
                let theirs: TokenRow = serde_json::from_value(row[folder].clone()).unwrap();
                let ours = tokenizer.encode(text).unwrap();
                assert_eq!(ours.ids, theirs.ids, "{}: {folder}: {text:?}", self.name);
                assert_eq!(ours.dropped, theirs.dropped, "{}: {folder}: dropped of {text:?}", self.name);
            }
        }
    }

    fn check_text_encoders(&self) {
        let _guard = InferenceMode::enter();
        for (component, config, suffix) in [
            (Component::TextEncoder, &self.model.text_encoder, ""),
            (Component::TextEncoder2, &self.model.text_encoder_2, "_2"),
        ] {
            let weights = self.weights(component);
            let text_encoder = TextEncoder::load(&weights, config, suffix == "_2").unwrap();
            weights.finish().unwrap();
            let encoded = text_encoder.forward(self.get(&format!("text.ids{suffix}")), None, 0).unwrap();
            self.assert_close(&format!("text.penultimate{suffix}"), &encoded.hidden, TOLERANCE);
            self.assert_close(&format!("text.pooled{suffix}"), &encoded.pooled, TOLERANCE);
        }
    }

    fn check_unet(&self) {
        let _guard = InferenceMode::enter();
        let weights = self.weights(Component::UNet);
        let unet = UNet::load(weights.root(), &self.model.unet).unwrap();
        weights.finish().unwrap();
        let timesteps = self.get("unet.timesteps");
        let added = unet.embed_added(self.get("unet.text_embeds"), self.get("unet.time_ids")).unwrap();
        let row = |tensor: &Tensor, row: i64| tensor.narrow(0, row, 1);
        let time = (0..timesteps.size()[0]).map(|n| {
            let guidance = self.tensors.get("unet.timestep_cond").map(|guidance| row(guidance, n));
            unet.embed_time(&row(timesteps, n), &row(&added, n), guidance.as_ref()).unwrap()
        });
        let texts = self.get("unet.encoder_hidden_states");
        let conditioning = Conditioning {
            time: &Tensor::cat(&time.collect::<Vec<_>>(), 0),
            texts: &unet.keys_values(texts).unwrap(),
            tokens: texts.size()[1],
        };
        let (output, deep) = unet.forward(self.get("unet.sample"), &conditioning, None).unwrap();
        self.assert_close("unet.output", &output, TOLERANCE);
        // With its own inner levels a step without them is the same step.
        let shallow = unet.forward_shallow(self.get("unet.sample"), &conditioning, None, &deep).unwrap();
        assert_close(&format!("{}: shallow", self.name), &shallow, &output, 0.0);
    }

    fn check_vae(&self) {
        let _guard = InferenceMode::enter();
        let weights = self.weights(Component::Vae);
        let vae = Vae::load(weights.root(), &self.model.vae, false).unwrap();
        weights.finish().unwrap();
        self.assert_close("vae.moments", &vae.encode(self.get("vae.image")).unwrap(), TOLERANCE);
        self.assert_close("vae.decoded", &vae.decode(self.get("vae.latents")).unwrap(), TOLERANCE);
    }

    fn check_runs(&self) {
        let mut sdxl = self.sdxl();
        let mut compared = vec![];
        for Run { name, requests } in &self.told.runs {
            // diffusers takes every character for itself, and drops words past the tokenizers'
            // length.
            let prompt_syntax = Some(PromptSyntax::Plain);
            let requests: Vec<_> =
                requests.iter().map(|request| GenerateRequest { prompt_syntax, ..request.clone() }).collect();
            let mut canvases = begin(&mut sdxl, &requests).unwrap();
            while canvases.iter().any(|canvas| canvas.steps_done() < canvas.steps()) {
                sdxl.step(&mut canvases.iter_mut().collect::<Vec<_>>()).unwrap();
            }
            let latents: Vec<f32> =
                canvases.iter().flat_map(|canvas| canvas.latents().unwrap().values).collect();
            let latents = Tensor::from_slice(&latents);
            let stage = format!("runs.{name}.latents");
            let theirs = self.get(&stage);
            let tolerance = if name.starts_with("image_") || name.starts_with("mask_") {
                // Of the largest latent, as `f32` has seven digits.
                1e-5 * theirs.abs().max().double_value(&[]).max(1.0)
            } else if self.committed {
                TOLERANCE
            } else {
                // Nobody has looked at this model's latents: they may be large, and `f32` has seven
                // digits.
                TOLERANCE.max(3e-6 * theirs.abs().max().double_value(&[]))
            };
            self.assert_close(&stage, &latents.view_as(theirs), tolerance);

            let images = sdxl.finish(&canvases.iter().collect::<Vec<_>>()).unwrap().wait().unwrap();
            assert_eq!(images.len(), requests.len(), "{}: images of {name}", self.name);
            let bytes: Vec<u8> = images.into_iter().flat_map(|image| image.into_raw()).collect();
            let stage = format!("runs.{name}.image");
            if let Some(theirs) = self.tensors.get(&stage) {
                self.assert_close(&stage, &Tensor::from_slice(&bytes).view_as(theirs), 1.0);
                compared.push(name.as_str());
            }
        }
        let expected: Vec<&str> = match self.committed {
            true if self.name.ends_with('d') => vec!["mask_euler", "mask_wrap"],
            true => {
                // diffusers has no masks for the 8 channels of the third model.
                let last = if self.name.ends_with('c') { "image_lcm" } else { "mask_lcm" };
                vec!["default_scheduler", "wide", "wrap", "three", "image_euler", last]
            }
            false => self.told.runs.iter().map(|run| run.name.as_str()).collect(),
        };
        assert_eq!(compared, expected, "{}: runs whose images were compared", self.name);
    }
}

fn begun<const N: usize>(sdxl: &mut Sdxl, requests: &[GenerateRequest; N]) -> [SdxlCanvas; N] {
    begin(sdxl, requests).unwrap().try_into().unwrap_or_else(|_| panic!("as many canvases as requests"))
}

/// Fails with the largest and the mean difference, and where the largest is.
fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.size(), theirs.size(), "{what}: shapes differ");
    let difference = (ours.to_kind(Kind::Double) - theirs.to_kind(Kind::Double)).abs();
    let largest = difference.max().double_value(&[]);
    assert!(
        largest <= tolerance,
        "{what}: differs by {largest:.3e} at most (allowed {tolerance:.0e}) at flat index {}, {:.3e} in the mean",
        difference.flatten(0, -1).argmax(0, false).int64_value(&[]),
        difference.mean(Kind::Double).double_value(&[]),
    );
}

#[test]
fn noise_is_drawn_as_pytorch_draws_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden/randn.safetensors");
    let golden: HashMap<String, Tensor> = Tensor::read_safetensors(path).unwrap().into_iter().collect();
    for seed in [0, 7, (1 << 32) + 5, (1 << 63) + 1] {
        for (word, kind) in [("f32", Kind::Float), ("f16", Kind::Half), ("bf16", Kind::BFloat16)] {
            let mut generator = Generator::new(seed);
            for draw in ["first", "second", "odd", "few"] {
                let name = format!("randn.{seed}.{word}.{draw}");
                let theirs = &golden[&name];
                let ours = generator.randn(&theirs.size(), kind).unwrap();
                assert_close(&name, &ours, theirs, 0.0);
            }
        }
    }
}

#[test]
fn tokenizers_match_transformers() {
    for letter in ALL_MODELS {
        Golden::committed(letter).check_tokenizers();
    }
}

#[test]
fn text_encoders_match_transformers() {
    for letter in ALL_MODELS {
        Golden::committed(letter).check_text_encoders();
    }
}

#[test]
fn unet_matches_diffusers() {
    for letter in ALL_MODELS {
        Golden::committed(letter).check_unet();
    }
}

#[test]
fn vae_matches_diffusers() {
    for letter in ALL_MODELS {
        Golden::committed(letter).check_vae();
    }
}

#[test]
fn every_schedulers_full_loop_and_picture_match_diffusers() {
    for letter in ALL_MODELS {
        Golden::committed(letter).check_runs();
    }
}

#[test]
fn live_diffusers_model_made_just_now_matches() {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join(".venv/bin/python");
    let seed = std::process::id().to_string();
    let made = Command::new(&python)
        .arg(root.join("tests/fixtures/live_sdxl.py"))
        .arg(folder.path())
        .args(["--seed", &seed])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; `make test` sets Python up", python.display()));
    assert!(made.status.success(), "live_sdxl.py failed:\n{}", String::from_utf8_lossy(&made.stderr));

    let golden = Golden::open(
        format!("live model of seed {seed}"),
        &folder.path().join("model"),
        &folder.path().join("golden"),
    );
    golden.check_tokenizers();
    golden.check_text_encoders();
    golden.check_unet();
    golden.check_vae();
    golden.check_runs();
}

#[test]
fn three_together_equal_three_alone() {
    for letter in MODELS {
        let golden = Golden::committed(letter);
        let mut sdxl = golden.sdxl();
        // Different lengths, guidance and schedules: they meet at different steps.
        let requests: Vec<GenerateRequest> = serde_json::from_value(serde_json::json!([
            {"prompt": "a brass key", "seed": 1, "steps": 4},
            {"prompt": "a frog", "seed": 2, "steps": 7, "guidance_scale": 1.0, "scheduler": "euler_ancestral"},
            {"prompt": "a red potion", "negative_prompt": "blurry", "seed": 3, "steps": 5, "scheduler": "unipc"},
        ]))
        .unwrap();
        let picture = RgbaImage::from_fn(9, 9, |x, y| Rgba([(x * 28) as u8, (y * 28) as u8, 90, 255]));
        let mask = RgbaImage::from_fn(9, 9, |x, _| Rgba(if x < 4 { [255; 4] } else { [0, 0, 0, 255] }));
        let [picture, mask] = [picture, mask].map(SourceImage::new);
        // Two of them begin from an image, one with a mask: all share their steps.
        let mut requests: Vec<_> = requests
            .into_iter()
            .map(|request| request.with_size(ImageSize { width: 72, height: 72 }))
            .collect();
        requests[1] = GenerateRequest { init_image: Some(picture.clone()), ..requests[1].clone() };
        let mask = Some(Mask::Image(mask));
        requests[2] = GenerateRequest { init_image: Some(picture), mask, ..requests[2].clone() };
        let draw = |sdxl: &mut Sdxl, requests: &[GenerateRequest]| {
            let mut canvases = begin(sdxl, requests).unwrap();
            while canvases.iter().any(|canvas| canvas.steps_done() < canvas.steps()) {
                sdxl.step(&mut canvases.iter_mut().collect::<Vec<_>>()).unwrap();
            }
            canvases
                .iter()
                .map(|canvas| Tensor::from_slice(&canvas.latents().unwrap().values))
                .collect::<Vec<_>>()
        };
        let together = draw(&mut sdxl, &requests);
        for (i, together) in together.iter().enumerate() {
            let alone = draw(&mut sdxl, &requests[i..=i]).remove(0);
            // Of the largest latent: real models' end below 4, these random ones' near 40.
            let tolerance = 1e-5 * alone.abs().max().double_value(&[]).max(1.0);
            assert_close(&format!("{}: picture {i}", golden.name), together, &alone, tolerance);
        }
    }
}

#[test]
fn the_same_request_gives_the_same_bytes() {
    let mut sdxl = Golden::committed("a").sdxl();
    let request =
        GenerateRequest { prompt: "a brass key".into(), seed: 7, steps: Some(3), ..Default::default() };
    let mut draw =
        || paint(&mut sdxl, std::slice::from_ref(&request), |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(draw()[0].image, draw()[0].image);
}

#[test]
fn texts_read_together_equal_texts_read_alone() {
    for letter in MODELS {
        let golden = Golden::committed(letter);
        // More texts than go together, and than are kept; some twice.
        let requests: Vec<_> = (0..20)
            .map(|i| GenerateRequest {
                prompt: format!("{} frog", ["a", "a red", "a small green"][i % 3]).repeat(1 + i % 7),
                negative_prompt: (i % 4 > 0).then(|| format!("blurry {}", i % 8)),
                seed: i as u64,
                steps: Some(1),
                ..Default::default()
            })
            .collect();
        let mut together = begin(&mut golden.sdxl(), &requests).unwrap();
        let mut sdxl = golden.sdxl();
        sdxl.step(&mut together.iter_mut().collect::<Vec<_>>()).unwrap();
        for (i, (request, together)) in requests.into_iter().zip(&together).enumerate() {
            let mut alone = golden.sdxl();
            let [mut canvas] = begun(&mut alone, &[request]);
            alone.step(&mut [&mut canvas]).unwrap();
            assert_eq!(canvas.dropped_words(), together.dropped_words(), "{}: picture {i}", golden.name);
            let [ours, theirs] =
                [together, &canvas].map(|canvas| Tensor::from_slice(&canvas.latents().unwrap().values));
            let tolerance = 1e-5 * theirs.abs().max().double_value(&[]).max(1.0);
            assert_close(&format!("{}: picture {i}", golden.name), &ours, &theirs, tolerance);
        }
    }
}

#[test]
fn one_invalid_request_begins_none() {
    let mut sdxl = Golden::committed("a").sdxl();
    let good = GenerateRequest { prompt: "a brass key".into(), ..Default::default() };
    let bad = GenerateRequest { steps: Some(0), ..good.clone() };
    let error = begin(&mut sdxl, &[good.clone(), bad]).err().unwrap();
    assert_eq!(error.to_string(), "`steps` is 0; expected 1 to 1000");
    let [canvas] = begun(&mut sdxl, &[good]);
    assert_eq!((canvas.steps_done(), canvas.rows()), (0, 2));
}

#[test]
fn a_failed_step_moves_no_canvas() {
    let mut sdxl = Golden::committed("a").sdxl();
    let request = GenerateRequest {
        prompt: "a brass key".into(),
        seed: 7,
        steps: Some(3),
        scheduler: Some(crate::scheduler::SchedulerName::EulerAncestral),
        ..Default::default()
    };
    let [mut undisturbed, mut retried] = begun(&mut sdxl, &[request.clone(), request]);
    let before = retried.latents().unwrap();
    retried.break_conditioning();
    assert!(sdxl.step(&mut [&mut retried]).is_err());
    assert_eq!((retried.steps_done(), retried.latents().unwrap()), (0, before));
    retried.break_conditioning();
    sdxl.step(&mut [&mut retried]).unwrap();
    sdxl.step(&mut [&mut undisturbed]).unwrap();
    assert_eq!(retried.latents().unwrap(), undisturbed.latents().unwrap());
}

#[test]
fn tiled_decoding_is_near_the_whole() {
    let golden = Golden::committed("a");
    let options = Options { device: Device::Cpu, vae_tiling: true, ..Default::default() };
    let tiled = Sdxl::load(&golden.model, &options).unwrap();
    let mut values = Vec::new();
    for i in 0..4 * 12 * 20 {
        values.push((i as f32 * 0.37).sin());
    }
    let latents = crate::backend::Latents { values, shape: [4, 12, 20] };
    let (tiled, whole) =
        (tiled.decode_latents(&latents).unwrap(), golden.sdxl().decode_latents(&latents).unwrap());
    assert_eq!(tiled.dimensions(), (160, 96));
    let off: u64 = tiled.as_raw().iter().zip(whole.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    assert!(off as f64 / (tiled.as_raw().len() as f64) < 24.0, "mean difference {off} in all");
}

/// The latents of requests drawn together.
fn latents(sdxl: &mut Sdxl, requests: &[GenerateRequest]) -> Vec<Tensor> {
    let mut canvases = begin(sdxl, requests).unwrap();
    while canvases.iter().any(|canvas| canvas.steps_done() < canvas.steps()) {
        sdxl.step(&mut canvases.iter_mut().collect::<Vec<_>>()).unwrap();
    }
    canvases.iter().map(|canvas| Tensor::from_slice(&canvas.latents().unwrap().values)).collect()
}

#[test]
fn guidance_in_an_interval_is_guidance_there_and_none_elsewhere() {
    let mut sdxl = Golden::committed("a").sdxl();
    let request = GenerateRequest { prompt: "a key".into(), steps: Some(4), ..Default::default() };
    let with = |guidance_interval| GenerateRequest { guidance_interval, ..request.clone() };
    let unguided = GenerateRequest { guidance_scale: Some(1.0), ..request.clone() };
    let mut drawn = |request: GenerateRequest| latents(&mut sdxl, &[request]).remove(0);
    let (whole, half, none) = (drawn(with(None)), drawn(with(Some([0.0, 0.5]))), drawn(unguided));
    assert_close("all steps", &drawn(with(Some([0.0, 1.0]))), &whole, 0.0);
    assert_close("no step", &drawn(with(Some([0.0, 0.0]))), &none, 0.0);
    for (what, other) in [("guided", &whole), ("unguided", &none)] {
        assert!((&half - other).abs().max().double_value(&[]) > 1e-3, "half of the steps is as {what}");
    }
    let mut canvas = begin(&mut sdxl, &[with(Some([0.0, 0.5]))]).unwrap().remove(0);
    let mut rows = vec![];
    while canvas.steps_done() < canvas.steps() {
        rows.push(canvas.rows());
        sdxl.step(&mut [&mut canvas]).unwrap();
    }
    assert_eq!(rows, [2, 2, 1, 1]);
}

#[test]
fn a_picture_with_a_deep_cache_is_near_in_company_too_and_disturbs_nobody() {
    for letter in MODELS {
        let mut sdxl = Golden::committed(letter).sdxl();
        let request = |deep_cache, seed| GenerateRequest {
            prompt: "a key".into(),
            steps: Some(6),
            deep_cache,
            seed,
            ..Default::default()
        };
        let requests = [request(None, 1), request(Some(2), 1), request(Some(3), 2)];
        let alone: Vec<_> =
            requests.iter().map(|one| latents(&mut sdxl, std::slice::from_ref(one)).remove(0)).collect();
        for (i, together) in latents(&mut sdxl, &requests).iter().enumerate() {
            let largest = alone[i].abs().max().double_value(&[]);
            assert_close(&format!("{letter}: picture {i}"), together, &alone[i], 1e-5 * largest.max(1.0));
        }
        let off = (&alone[0] - &alone[1]).norm().double_value(&[]) / alone[0].norm().double_value(&[]);
        assert!((1e-6..0.5).contains(&off), "{letter}: with a cache it is off by {off:.3}");
    }
}
