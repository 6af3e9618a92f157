//! Equality with diffusers' control nets and their pipelines, against what
//! `tests/fixtures/make_control.py` recorded.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use image::{Rgba, RgbaImage};
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::blocks::Conditioning;
use super::control::ControlNet;
use super::device::InferenceMode;
use super::sdxl::Sdxl;
use super::weights::Weights;
use crate::backend::{Backend as _, Canvas as _, begin};
use crate::device::{Device, Dtype};
use crate::model::{ControlUse, Model, Options};
use crate::pixel::Wrap;
use crate::prompt::PromptSyntax;
use crate::request::{ControlChoice, GenerateRequest, ImageSize, SourceImage};

#[derive(Deserialize)]
struct Told {
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    name: String,
    requests: Vec<GenerateRequest>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

fn golden() -> HashMap<String, Tensor> {
    tch::set_num_threads(1);
    Tensor::read_safetensors(fixtures().join("golden/control.safetensors")).unwrap().into_iter().collect()
}

fn runs() -> Vec<Run> {
    let told = std::fs::read_to_string(fixtures().join("golden/control.json")).unwrap();
    let runs = serde_json::from_str::<Told>(&told).unwrap().runs;
    // diffusers takes every character for itself.
    let plain = |request: &mut GenerateRequest| request.prompt_syntax = Some(PromptSyntax::Plain);
    runs.into_iter()
        .map(|mut run| {
            run.requests.iter_mut().for_each(plain);
            run
        })
        .collect()
}

/// The small model with two control nets, of which the first lies in `canny`.
fn model(canny: &str) -> Model {
    let control = |name: &str, path: &str| ControlUse {
        name: name.into(),
        path: fixtures().join("control").join(path),
        hash: String::new(),
    };
    let model = Model::open(fixtures().join("tiny_sdxl_a")).unwrap();
    model.with_controls(&[control("depth", "depth"), control("canny", canny)]).unwrap()
}

fn sdxl(canny: &str) -> Sdxl {
    Sdxl::load(&model(canny), &Options { device: Device::Cpu, ..Default::default() }).unwrap()
}

/// The latents of requests that are drawn together.
fn latents(sdxl: &mut Sdxl, requests: &[GenerateRequest]) -> Vec<Tensor> {
    let mut canvases = begin(sdxl, requests).unwrap();
    while canvases.iter().any(|canvas| canvas.steps_done() < canvas.steps()) {
        sdxl.step(&mut canvases.iter_mut().collect::<Vec<_>>()).unwrap();
    }
    canvases.iter().map(|canvas| Tensor::from_slice(&canvas.latents().unwrap().values)).collect()
}

/// Fails where the largest difference is more than 1e-5 of the largest number.
#[track_caller]
fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor) {
    let (ours, theirs) =
        (ours.to_kind(Kind::Double).flatten(0, -1), theirs.to_kind(Kind::Double).flatten(0, -1));
    assert_eq!(ours.size(), theirs.size(), "{what}: shapes differ");
    let off = (&ours - &theirs).abs().max().double_value(&[]);
    let allowed = 1e-5 * theirs.abs().max().double_value(&[]).max(1.0);
    assert!(off <= allowed, "{what}: differs by {off:.3e} at most (allowed {allowed:.1e})");
}

#[test]
fn a_control_net_matches_diffusers_from_a_folder_and_from_a_file() {
    let _guard = InferenceMode::enter();
    let golden = golden();
    let get = |name: &str| &golden[&format!("net.{name}")];
    let row = |name: &str, row: i64| get(name).narrow(0, row, 1);
    for canny in ["canny", "canny.safetensors"] {
        let model = model(canny);
        let (_, control) = &model.controls()[0];
        let weights = Weights::new(control.weights().unwrap(), Device::Cpu, Dtype::F32, &|_| ());
        let net = ControlNet::load(weights.root(), &control.config).unwrap();
        weights.finish().unwrap();
        let time =
            |n| net.embed_time(&row("timesteps", n), &row("text_embeds", n), &row("time_ids", n)).unwrap();
        let texts = get("encoder_hidden_states");
        let conditioning = Conditioning {
            time: &Tensor::cat(&[time(0), time(1)], 0),
            texts: &net.keys_values(texts).unwrap(),
            tokens: texts.size()[1],
        };
        let image = net.embed_image(get("image")).unwrap();
        let residuals = net.forward(get("sample"), &image, &conditioning, false).unwrap();
        assert_eq!(residuals.len(), 10);
        for (i, residual) in residuals.iter().enumerate() {
            assert_close(&format!("{canny}: residual {i}"), residual, get(&format!("residual.{i}")));
        }
        let outer = net.forward(get("sample"), &image, &conditioning, true).unwrap();
        assert_eq!(outer.len(), 3);
        for (outer, whole) in outer.iter().zip(&residuals) {
            assert_eq!(outer, whole);
        }
    }
}

#[test]
fn pictures_with_one_control_two_and_parts_of_the_steps_match_diffusers() {
    let golden = golden();
    let mut sdxl = sdxl("canny");
    for Run { name, requests } in runs() {
        let ours = latents(&mut sdxl, &requests).remove(0);
        assert_close(&name, &ours, &golden[&format!("runs.{name}.latents")]);
    }
}

#[test]
fn rows_with_and_without_control_share_a_step_and_do_not_change_each_other() {
    let mut sdxl = sdxl("canny");
    let of = |names: &[&str]| -> Vec<GenerateRequest> {
        let runs = runs();
        let find = |name: &&str| runs.iter().find(|run| run.name == **name).unwrap().requests[0].clone();
        names.iter().map(find).collect()
    };
    let mut requests = of(&["single", "intervals", "twice", "unguided", "image"]);
    // One without control, and one whose text is longer.
    requests.push(GenerateRequest { control: vec![], ..requests[0].clone() });
    let prompt_syntax = Some(PromptSyntax::Comfyui);
    requests.push(GenerateRequest { prompt: "a castle, ".repeat(40), prompt_syntax, ..requests[1].clone() });
    // One that goes without the inner levels at every other step.
    requests.push(GenerateRequest { deep_cache: Some(2), ..requests[0].clone() });
    let together = latents(&mut sdxl, &requests);
    for (i, together) in together.iter().enumerate() {
        let alone = latents(&mut sdxl, &requests[i..=i]).remove(0);
        assert_close(&format!("picture {i}"), together, &alone);
    }
    let apart = (&together[0] - &together[5]).abs().max().double_value(&[]);
    assert!(apart > 1e-2, "control changes a picture by {apart}");
}

#[test]
fn a_control_of_scale_0_changes_nothing_and_one_that_ends_early_only_what_it_reaches() {
    let mut sdxl = sdxl("canny");
    let asked = runs().remove(0).requests.remove(0);
    let with = |change: &dyn Fn(&mut ControlChoice)| {
        let mut request = asked.clone();
        request.control.iter_mut().for_each(change);
        request
    };
    let without = GenerateRequest { control: vec![], ..asked.clone() };
    let requests = [without, with(&|one| one.scale = 0.0), with(&|one| one.end = 0.1)];
    let drawn = latents(&mut sdxl, &requests);
    assert_close("scale 0", &drawn[1], &drawn[0]);
    // Of five steps none ends before a tenth of them.
    assert_close("no step", &drawn[2], &drawn[0]);
}

#[test]
fn a_controlled_picture_moves_with_its_noise_and_its_control_across_edges_that_meet() {
    let _mode = InferenceMode::enter();
    let mut sdxl = sdxl("canny");
    let picture = RgbaImage::from_fn(16, 16, |x, y| Rgba([(x * 15) as u8, (y * 15) as u8, 80, 255]));
    let moved = RgbaImage::from_fn(16, 16, |x, y| *picture.get_pixel((x + 8) % 16, (y + 12) % 16));
    let mut drawn = |picture: &RgbaImage, by: [i64; 2]| {
        let read = |_: &str| Ok(SourceImage::new(picture.clone()));
        let request = GenerateRequest {
            prompt: "a brick wall".into(),
            steps: Some(4),
            seed: 3,
            wrap: Some(Wrap { x: true, y: true }),
            control: vec![ControlChoice::of_word("canny:wall.png", read).unwrap()],
            ..Default::default()
        };
        let request = request.with_size(ImageSize { width: 128, height: 128 });
        let mut canvas = begin(&mut sdxl, &[request]).unwrap().remove(0);
        canvas.state.latents = canvas.state.latents.roll(by, [2, 3]);
        for _ in 0..4 {
            sdxl.step(&mut [&mut canvas]).unwrap();
        }
        canvas.state.latents.roll(by.map(|by| -by), [2, 3])
    };
    let (still, rolled) = (drawn(&picture, [0, 0]), drawn(&moved, [-12, -8]));
    let off = (still - rolled).abs().max().double_value(&[]);
    assert!(off < 1e-4, "{off}");
}

#[test]
fn a_net_that_was_not_loaded_is_named() {
    let mut sdxl = sdxl("canny");
    let mut asked = runs().remove(0).requests.remove(0);
    asked.control[0].model = "pose".into();
    let error = begin(&mut sdxl, &[asked]).err().unwrap().to_string();
    assert_eq!(error, "`control` has `pose`; the nets that were loaded with the model are `canny`, `depth`");
}
