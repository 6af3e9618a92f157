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
    )
}

/// The states of both text encoders for `text`, side by side, and what is pooled.
fn encoded(prompts: &Prompts, text: &str, syntax: PromptSyntax, skip: u8) -> (Tensor, Tensor) {
    let states = [0, 1].map(|i| {
        let chunks = prompts.tokenizers[i].chunks(text, syntax, MOST_CHUNKS).unwrap();
        prompts.states(i, &chunks.chunks, syntax, skip.into()).unwrap()
    });
    (Tensor::cat(&[&states[0].hidden, &states[1].hidden], -1), states[1].pooled.shallow_clone())
}

#[test]
fn weighted_and_long_prompts_equal_the_formulas() {
    let _guard = InferenceMode::enter();
    let prompts = prompts(&model("b"));
    let golden = std::fs::read_to_string(fixtures().join("prompts/prompts.json")).unwrap();
    let golden: Golden = serde_json::from_str(&golden).unwrap();
    let tensors = Tensor::read_safetensors(fixtures().join("prompts/prompts.safetensors")).unwrap();
    let tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    for (n, Case { prompt, syntax, skip, chunks }) in golden.cases.iter().enumerate() {
        let what = format!("{syntax}: {prompt:?}");
        for (tokenizer, theirs) in prompts.tokenizers.iter().zip(chunks) {
            let ours = tokenizer.chunks(prompt, *syntax, MOST_CHUNKS).unwrap();
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
        let chunks = prompts.tokenizers[0].chunks(&text, syntax, MOST_CHUNKS).unwrap();
        assert_eq!(chunks.chunks.len(), MOST_CHUNKS);
        let dropped = chunks.dropped.unwrap();
        assert_eq!(dropped.split_whitespace().count(), 10_000 - MOST_CHUNKS * room);
        // Words that just fit are not.
        let fitting = "key ".repeat(MOST_CHUNKS * room);
        assert_eq!(prompts.tokenizers[0].chunks(&fitting, syntax, MOST_CHUNKS).unwrap().dropped, None);
    }
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
