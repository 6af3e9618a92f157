//! Prompts as the UNet reads them, kept for pictures to come.

use std::collections::VecDeque;

use tch::{Kind, Tensor};

use super::Result as TorchResult;
use super::clip::{Encoded, TextEncoder};
use super::controls::Controls;
use super::device::place;
use super::failed;
use super::inversions::Inversions;
use super::tokenizer::{Chunks, PaddedChunk, Tokenizer};
use super::unet::UNet;
use crate::device::Device;
use crate::error::Error;
use crate::model::Model;
use crate::prompt::PromptSyntax;
use crate::request::{RequestError, ResolvedRequest};

/// Chunks of texts. Of full-size SDXL each takes 26 MB in half precision.
const KEPT: i64 = 8;

/// The most chunks of a text, 600 words of SDXL. Of full-size SDXL each takes 26 MB more in half
/// precision for each row.
const MOST_CHUNKS: usize = 8;

/// A prompt as the UNet reads it; one row each.
pub(super) struct Text {
    /// `None` for zeros.
    pub(super) keys_values: Option<Tensor>,
    /// The same for each control net, in the order of the model's; empty for zeros.
    pub(super) of_controls: Vec<Tensor>,
    pub(super) pooled: Tensor,
    /// The tokens of all chunks together.
    pub(super) tokens: i64,
    pub(super) dropped_words: Option<String>,
}

/// A text that conditions an image, and the way it is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// `None` stands for zeros in place of an encoded text.
    text: Option<String>,
    syntax: PromptSyntax,
    /// The last layers whose output is not used, beyond the one that SDXL never uses.
    skip: u8,
}

impl Words {
    /// Returns the prompt of a request, and the negative prompt where guidance needs it.
    pub(super) fn of(request: &ResolvedRequest, model: &Model) -> Vec<Words> {
        let (syntax, skip) = (request.prompt_syntax, request.clip_skip.unwrap_or(0));
        let mut words = vec![Words { text: Some(request.prompt.clone()), syntax, skip }];
        if request.rows(&model.defaults()) > 1 {
            let zeros = request.negative_prompt.is_none() && model.force_zeros_for_empty_prompt;
            let text = (!zeros).then(|| request.negative_prompt.clone().unwrap_or_default());
            // Source: diffusers 0.42.1, `StableDiffusionXLPipeline.encode_prompt`: the negative
            // prompt skips none.
            words.push(Words { text, syntax, skip: 0 });
        }
        words
    }
}

/// Both tokenizers and text encoders, and the last few texts.
pub(super) struct Prompts {
    device: Device,
    tokenizers: [Tokenizer; 2],
    text_encoders: [TextEncoder; 2],
    inversions: Inversions,
    /// Newest first.
    texts: VecDeque<(Words, Text)>,
}

impl Prompts {
    pub(super) fn new(
        device: Device,
        tokenizers: [Tokenizer; 2],
        text_encoders: [TextEncoder; 2],
        inversions: Inversions,
    ) -> Prompts {
        Prompts { device, tokenizers, text_encoders, inversions, texts: VecDeque::new() }
    }

    /// The tokens of a chunk.
    pub(super) fn tokens(&self) -> i64 {
        self.tokenizers[0].max_length() as i64
    }

    /// Brings all texts to the front of those that are kept, and encodes the new ones. `texts`:
    /// those of each image, as [`Words::of`] returns them.
    pub(super) fn read(&mut self, texts: &[&[Words]], unet: &UNet, controls: &Controls) -> Result<(), Error> {
        if self.inversions.forget_changed() {
            self.texts.clear();
        }
        let mut new: Vec<&Words> = Vec::new();
        // The prompts first: what to keep away from is more often the same again, and so is kept
        // longer.
        for i in [0, 1] {
            for words in texts.iter().filter_map(|texts| texts.get(i)) {
                match self.texts.iter().position(|(known, _)| known == words) {
                    Some(place) => {
                        let known = self.texts.remove(place).expect("a place just found");
                        self.texts.push_front(known);
                    }
                    None if new.contains(&words) => {}
                    None => new.push(words),
                }
            }
        }
        for words in new {
            let prompt = words.text.as_deref().unwrap_or_default();
            self.inversions.load(prompt, words.syntax, &self.text_encoders, self.device)?;
            let text = self.encode(words, unet, controls)?;
            self.texts.push_front((words.clone(), text));
        }
        Ok(())
    }

    /// The text for `words`, which [`read`](Prompts::read) has read and [`forget`](Prompts::forget)
    /// not yet forgotten.
    pub(super) fn text(&self, words: &Words) -> &Text {
        let found = self.texts.iter().find(|(known, _)| known == words);
        &found.expect("all texts are read before one is asked for; this is a bug").1
    }

    /// All but the newest few, and fewer of long ones.
    pub(super) fn forget(&mut self) {
        let (mut kept, most) = (0, KEPT * self.tokens());
        self.texts.retain(|(_, text)| {
            kept += text.tokens;
            kept <= most
        });
    }

    /// Encodes `words` with both tokenizers and text encoders. Zeros are as wide as any text. Each
    /// chunk of a text goes alone: in company it would be rounded otherwise, and it is kept for
    /// images to come.
    fn encode(&self, words: &Words, unet: &UNet, controls: &Controls) -> Result<Text, Error> {
        let text = words.text.as_deref().unwrap_or_default();
        let chunks = [self.chunks(0, text, words.syntax)?, self.chunks(1, text, words.syntax)?];
        // ComfyUI cuts the longer one too, where the vocabularies differ.
        let count = chunks.iter().map(|one| one.chunks.len()).min().unwrap_or(1);
        let skip = usize::from(words.skip);
        let layers = self.text_encoders.iter().map(TextEncoder::layers).min().unwrap_or(0);
        if skip >= layers {
            let most = u8::try_from(layers.saturating_sub(1)).unwrap_or(u8::MAX);
            return Err(RequestError::ClipSkip { layers: words.skip, most }.into());
        }
        let encode = || -> TorchResult<(Option<Tensor>, Vec<Tensor>, Tensor)> {
            let mut states = vec![];
            for (i, one) in chunks.iter().enumerate() {
                states.push(self.states(i, &one.chunks[..count], words.syntax, skip)?);
            }
            let pooled = &states[1].pooled;
            if words.text.is_none() {
                return Ok((None, vec![], pooled.f_zeros_like()?));
            }
            let hidden = Tensor::f_cat(&[&states[0].hidden, &states[1].hidden], -1)?;
            let of_controls = controls.keys_values(&hidden)?;
            Ok((Some(unet.keys_values(&hidden)?), of_controls, pooled.shallow_clone()))
        };
        let (keys_values, of_controls, pooled) =
            encode().map_err(|error| failed(error, self.device, "encoding the prompt"))?;
        let tokens = self.tokens() * count as i64;
        let dropped_words = chunks.into_iter().find_map(|chunks| chunks.dropped);
        Ok(Text { keys_values, of_controls, pooled, tokens, dropped_words })
    }

    /// The chunks of a text for one of the text encoders.
    fn chunks(&self, encoder: usize, text: &str, syntax: PromptSyntax) -> Result<Chunks, Error> {
        let rows = |name: &str| self.inversions.rows(encoder, name);
        self.tokenizers[encoder].chunks(text, syntax, MOST_CHUNKS, &rows)
    }

    /// What one of the text encoders makes of chunks: their weighed states one after the other, and
    /// what it pools of the first.
    fn states(
        &self,
        encoder: usize,
        chunks: &[PaddedChunk],
        syntax: PromptSyntax,
        skip: usize,
    ) -> TorchResult<Encoded> {
        let forward = |ids: &[i64]| -> TorchResult<Encoded> {
            let (first, text_encoder) = (self.tokenizers[encoder].vocab_size(), &self.text_encoders[encoder]);
            let has_vectors = ids.iter().any(|id| *id >= first);
            let vectors = self.inversions.table(encoder).filter(|_| has_vectors);
            let ids = Tensor::f_from_slice(ids)?.f_unsqueeze(0)?;
            text_encoder.forward(&place(&ids, self.device.tch())?, vectors, skip)
        };
        let is_weighed = chunks.iter().any(|chunk| chunk.weights.is_some());
        let empty = match syntax {
            PromptSyntax::Comfyui if is_weighed => Some(forward(&self.tokenizers[encoder].empty())?.hidden),
            _ => None,
        };
        let mut encoded = vec![];
        for PaddedChunk { ids, weights } in chunks {
            let Encoded { hidden, pooled } = forward(ids)?;
            let hidden = match weights {
                Some(weights) => weighed(&hidden, weights, empty.as_ref())?,
                None => hidden,
            };
            encoded.push(Encoded { hidden, pooled });
        }
        if encoded.len() > 1 {
            let all: Vec<&Tensor> = encoded.iter().map(|one| &one.hidden).collect();
            encoded[0].hidden = Tensor::f_cat(&all, 1)?;
        }
        Ok(encoded.swap_remove(0))
    }
}

/// `hidden [1, tokens, width]` with each token's weight, computed in `f32`: the distance from the
/// `empty` text's state at its place, or without one the whole state, is multiplied. A weight of 1
/// changes no bit.
///
/// Source: ComfyUI, `comfy/sd1_clip.py`, `ClipTokenWeightEncoder`; AUTOMATIC1111's web UI,
/// `modules/sd_emphasis.py`, `EmphasisOriginalNoNorm`.
fn weighed(hidden: &Tensor, weights: &[f32], empty: Option<&Tensor>) -> TorchResult<Tensor> {
    let kind = hidden.kind();
    let factors = place(&Tensor::f_from_slice(weights)?.f_view([1, -1, 1])?, hidden.device())?;
    let wide = hidden.f_to_kind(Kind::Float)?;
    let weighed = match empty {
        Some(empty) => {
            let empty = empty.f_to_kind(Kind::Float)?;
            wide.f_sub(&empty)?.f_mul(&factors)?.f_add(&empty)?
        }
        None => wide.f_mul(&factors)?,
    };
    let is_plain = factors.f_eq(1.0)?;
    hidden.f_where_self(&is_plain, &weighed.f_to_kind(kind)?)
}

#[cfg(test)]
#[path = "prompts_tests.rs"]
mod tests;
