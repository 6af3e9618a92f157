//! Weighted and long prompts against the formulas of their references:
//! `tests/fixtures/prompts/make_prompts.py`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::device::InferenceMode;
use super::super::weights::Weights;
use super::*;
use crate::backend::{Backend, Canvas, begin};
use crate::device::Dtype;
use crate::model::search::Place;
use crate::model::{Component, Options};
use crate::request::GenerateRequest;
use crate::torch::Sdxl;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    prompt: String,
    syntax: PromptSyntax,
    skip: u8,
    /// Of both tokenizers.
    chunks: [Vec<Padded>; 2],
}

#[derive(Deserialize)]
struct Padded {
    ids: Vec<i64>,
    /// Without those of start, end and padding.
    weights: Vec<f32>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

fn model(letter: &str) -> Model {
    tch::set_num_threads(1);
    Model::open(fixtures().join(format!("tiny_sdxl_{letter}"))).unwrap()
}

fn prompts(model: &Model) -> Prompts {
    let weights =
        |component| Weights::new(model.weights(component, false).unwrap(), Device::Cpu, Dtype::F32, &|_| ());
    let (first, second) = (&model.text_encoder, &model.text_encoder_2);
    let tokenizer = |folder, positions, vocab_size| {
        Tokenizer::open(&model.path.join(folder), positions, vocab_size).unwrap()
    };
    Prompts::new(
        Device::Cpu,
        [
            tokenizer("tokenizer", first.max_position_embeddings, first.vocab_size),
            tokenizer("tokenizer_2", second.max_position_embeddings, second.vocab_size),
        ],
        [
            TextEncoder::load(&weights(Component::TextEncoder), first, false).unwrap(),
            TextEncoder::load(&weights(Component::TextEncoder2), second, true).unwrap(),
        ],
        Inversions::in_places(vec![Place::Plain(fixtures().join("prompts"))]),
    )
}

/// The states of both text encoders for `text`, side by side, and what is pooled.
fn encoded(prompts: &Prompts, text: &str, syntax: PromptSyntax, skip: u8) -> (Tensor, Tensor) {
    let states = [0, 1].map(|i| {
        let chunks = prompts.chunks(i, text, syntax).unwrap();
        prompts.states(i, &chunks.chunks, syntax, skip.into()).unwrap()
    });
    (Tensor::cat(&[&states[0].hidden, &states[1].hidden], -1), states[1].pooled.shallow_clone())
}

#[test]
fn weighted_and_long_prompts_equal_the_formulas() {
    compare("prompts");
}

/// `tests/fixtures/prompts/make_embeddings.py` puts the vectors into the text encoders' tables.
#[test]
fn textual_inversions_equal_the_formula() {
    compare("embeddings");
}

/// Compares what a prompt becomes with the numbers in `NAME.json` and `NAME.safetensors`.
fn compare(name: &str) {
    let _guard = InferenceMode::enter();
    let mut prompts = prompts(&model("b"));
    let golden = std::fs::read_to_string(fixtures().join(format!("prompts/{name}.json"))).unwrap();
    let golden: Golden = serde_json::from_str(&golden).unwrap();
    let tensors = Tensor::read_safetensors(fixtures().join(format!("prompts/{name}.safetensors"))).unwrap();
    let tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    for (n, Case { prompt, syntax, skip, chunks }) in golden.cases.iter().enumerate() {
        let what = format!("{syntax}: {prompt:?}");
        let Prompts { inversions, text_encoders, device, .. } = &mut prompts;
        inversions.load(prompt, *syntax, text_encoders, *device).unwrap();
        for (encoder, theirs) in chunks.iter().enumerate() {
            let ours = prompts.chunks(encoder, prompt, *syntax).unwrap();
            assert_eq!((ours.chunks.len(), ours.dropped), (theirs.len(), None), "{what}");
            for (ours, theirs) in ours.chunks.iter().zip(theirs) {
                assert_eq!(ours.ids, theirs.ids, "{what}");
                let weights = ours.weights.clone().unwrap_or_else(|| vec![1.0; ours.ids.len()]);
                assert_eq!(weights[1..=theirs.weights.len()], theirs.weights, "{what}");
            }
        }
        let (hidden, pooled) = encoded(&prompts, prompt, *syntax, *skip);
        for (name, ours) in [("hidden", &hidden), ("pooled", &pooled)] {
            let theirs = &tensors[&format!("{n}.{name}")];
            assert_eq!(ours.size(), theirs.size(), "{what}: {name}");
            let largest = (ours - theirs).abs().max().double_value(&[]);
            assert!(largest <= 1e-5, "{what}: {name} differs by {largest:.3e}");
        }
    }
}

#[test]
fn a_prompt_without_brackets_that_fits_is_encoded_to_the_bit_as_a_plain_one() {
    let _guard = InferenceMode::enter();
    for letter in ["a", "b", "c"] {
        let prompts = prompts(&model(letter));
        for text in ["", "a brass key", "A GREEN goblin, with a torch!", "don't 32x32"] {
            let (plain, plain_pooled) = encoded(&prompts, text, PromptSyntax::Plain, 0);
            for syntax in [PromptSyntax::Comfyui, PromptSyntax::A1111] {
                let (hidden, pooled) = encoded(&prompts, text, syntax, 0);
                assert!(hidden.equal(&plain) && pooled.equal(&plain_pooled), "{letter}: {syntax}: {text:?}");
            }
        }
    }
}

#[test]
fn words_past_the_last_chunk_are_dropped_and_told() {
    let prompts = prompts(&model("b"));
    let room = (prompts.tokens() as usize - 2) / 2;
    for syntax in [PromptSyntax::Comfyui, PromptSyntax::A1111] {
        // This word is two tokens.
        let text = "key ".repeat(10_000);
        let chunks = prompts.chunks(0, &text, syntax).unwrap();
        assert_eq!(chunks.chunks.len(), MOST_CHUNKS);
        let dropped = chunks.dropped.unwrap();
        assert_eq!(dropped.split_whitespace().count(), 10_000 - MOST_CHUNKS * room);
        // Words that just fit are not.
        let fitting = "key ".repeat(MOST_CHUNKS * room);
        assert_eq!(prompts.chunks(0, &fitting, syntax).unwrap().dropped, None);
    }
}

#[test]
fn a_textual_inversion_that_is_not_there_or_for_another_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = prompts(&model("b"));
    let width = |i: usize| prompts.text_encoders[i].width();
    let vectors = |count: i64, width: i64| Tensor::ones([count, width], (Kind::Float, tch::Device::Cpu));
    let write = |name: &str, tensors: &[(&str, Tensor)]| {
        Tensor::write_safetensors(tensors, folder.path().join(format!("{name}.safetensors"))).unwrap();
    };
    write("half", &[("clip_l", vectors(2, width(0)))]);
    write("wide", &[("clip_l", vectors(2, width(0) + 1)), ("clip_g", vectors(2, width(1)))]);
    write("long", &[("clip_l", vectors(99, width(0))), ("clip_g", vectors(2, width(1)))]);
    let none = vectors(1, width(0)) / 0.0;
    write("infinite", &[("clip_l", none), ("clip_g", vectors(2, width(1)))]);
    let load = |name: &str| {
        let mut inversions = Inversions::in_places(vec![Place::Plain(folder.path().into())]);
        let prompt = format!("a key, (embedding:{name}:1.2)");
        let loaded = inversions.load(&prompt, PromptSyntax::Comfyui, &prompts.text_encoders, Device::Cpu);
        crate::one_line(&loaded.unwrap_err())
    };
    assert_eq!(
        load("../half"),
        "`prompt` names `embedding:../half`, and no textual inversion is called so; there are `half`, `infinite`, \
         `long`, `wide`"
    );
    assert!(load("half").ends_with("it has no `clip_g`; expected vectors for both text encoders of SDXL"));
    let (wide, long) = (load("wide"), load("long"));
    let right = format!("vectors with {} numbers each", width(0));
    assert!(wide.contains(&format!("`clip_l` is [2, {}]; expected", width(0) + 1)) && wide.ends_with(&right));
    assert!(long.contains("`clip_l` is [99, ") && long.ends_with(&right), "{long}");
    assert!(load("infinite").contains("`clip_l` has numbers that are not finite"));
}

fn drawn(sdxl: &mut Sdxl, requests: &[GenerateRequest]) -> Vec<Vec<f32>> {
    let mut canvases = begin(sdxl, requests).unwrap();
    while canvases.iter().any(|canvas| canvas.steps_done() < canvas.steps()) {
        sdxl.step(&mut canvases.iter_mut().collect::<Vec<_>>()).unwrap();
    }
    canvases.iter().map(|canvas| canvas.latents().unwrap().values).collect()
}

#[test]
fn images_with_different_numbers_of_chunks_share_steps_and_change_nothing() {
    let options = Options { device: Device::Cpu, ..Default::default() };
    let mut sdxl = Sdxl::load(&model("b"), &options).unwrap();
    let long = "a big old brass key, a small iron sword, a golden shield, a red potion, a blue gem, a torch";
    let request = |prompt: &str, negative: Option<&str>, seed| GenerateRequest {
        prompt: prompt.into(),
        negative_prompt: negative.map(str::to_owned),
        seed,
        steps: Some(3),
        guidance_scale: Some(4.0),
        ..Default::default()
    };
    let requests = [
        request("a key", None, 1),
        request(long, Some("blurry"), 2),
        request("a key BREAK a (sword:1.3) BREAK a shield", Some(long), 3),
        GenerateRequest { deep_cache: Some(2), ..request(long, Some("(blurry:0.5)"), 4) },
        GenerateRequest { guidance_scale: Some(1.0), ..request(long, None, 5) },
    ];
    let together = drawn(&mut sdxl, &requests);
    for (request, together) in requests.iter().zip(&together) {
        let alone = &drawn(&mut sdxl, std::slice::from_ref(request))[0];
        let largest = alone.iter().zip(together).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest <= 1e-4, "{:?} differs by {largest:.3e}", request.prompt);
    }
    // What a long prompt says past the first chunk counts, and so do weights.
    let plain = GenerateRequest { prompt_syntax: Some(PromptSyntax::Plain), ..requests[1].clone() };
    assert_ne!(drawn(&mut sdxl, &[plain])[0], together[1]);
    let heavier = request("a key BREAK a (sword:1.5) BREAK a shield", Some(long), 3);
    assert_ne!(drawn(&mut sdxl, &[heavier])[0], together[2]);
}
