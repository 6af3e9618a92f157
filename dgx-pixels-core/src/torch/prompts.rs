//! Prompts as the UNet reads them, kept for pictures to come.

use std::collections::VecDeque;

use tch::Tensor;

use super::clip::TextEncoder;
use super::device::place;
use super::failed;
use super::layers::Result as TorchResult;
use super::tokenizer::{Tokenizer, Tokens};
use super::unet::UNet;
use crate::device::Device;
use crate::error::Error;

/// Of full-size SDXL each takes 26 MB in half precision.
const KEPT: usize = 8;

/// A prompt as the UNet reads it; one row each.
pub(super) struct Text {
    /// `None` for zeros.
    pub(super) keys_values: Option<Tensor>,
    pub(super) pooled: Tensor,
    pub(super) dropped_words: Option<String>,
}

/// Both tokenizers and text encoders, and the last few texts.
pub(super) struct Prompts {
    device: Device,
    tokenizers: [Tokenizer; 2],
    text_encoders: [TextEncoder; 2],
    /// Newest first, by their words; no words are zeros.
    texts: VecDeque<(Option<String>, Text)>,
}

impl Prompts {
    pub(super) fn new(
        device: Device,
        tokenizers: [Tokenizer; 2],
        text_encoders: [TextEncoder; 2],
    ) -> Prompts {
        Prompts { device, tokenizers, text_encoders, texts: VecDeque::new() }
    }

    /// Of every text.
    pub(super) fn tokens(&self) -> i64 {
        self.tokenizers[0].max_length() as i64
    }

    /// Brings all texts to the front of those that are kept, and encodes the new ones. `texts`: for each picture its prompt, and what to keep away
    /// from where guidance needs it; no words are zeros.
    pub(super) fn read(&mut self, texts: &[&[Option<String>]], unet: &UNet) -> Result<(), Error> {
        let mut new: Vec<Option<&str>> = Vec::new();
        // The prompts first: what to keep away from is more often the same again, and so is kept longer.
        for i in [0, 1] {
            for words in texts.iter().filter_map(|texts| texts.get(i)) {
                match self.texts.iter().position(|(known, _)| known == words) {
                    Some(place) => {
                        let known = self.texts.remove(place).expect("a place just found");
                        self.texts.push_front(known);
                    }
                    None if new.contains(&words.as_deref()) => {}
                    None => new.push(words.as_deref()),
                }
            }
        }
        for words in new {
            let text = self.encode(words, unet)?;
            self.texts.push_front((words.map(str::to_owned), text));
        }
        Ok(())
    }

    /// The text for `words`, which [`read`](Prompts::read) has read and [`forget`](Prompts::forget) not yet forgotten.
    pub(super) fn text(&self, words: &Option<String>) -> &Text {
        let found = self.texts.iter().find(|(known, _)| known == words);
        &found.expect("all texts are read before one is asked for; this is a bug").1
    }

    /// All but the newest few.
    pub(super) fn forget(&mut self) {
        self.texts.truncate(KEPT);
    }

    /// `words` through both tokenizers and text encoders; none are zeros, as wide as any text. Each text goes alone: in company
    /// it would be rounded otherwise, and is kept for pictures to come.
    fn encode(&self, words: Option<&str>, unet: &UNet) -> Result<Text, Error> {
        let tokens = self
            .tokenizers
            .iter()
            .map(|tokenizer| tokenizer.encode(words.unwrap_or_default()))
            .collect::<Result<Vec<Tokens>, _>>()?;
        let encode = || -> TorchResult<(Option<Tensor>, Tensor)> {
            let encoded = self
                .text_encoders
                .iter()
                .zip(&tokens)
                .map(|(text_encoder, tokens)| {
                    let ids = Tensor::f_from_slice(&tokens.ids)?.f_unsqueeze(0)?;
                    text_encoder.forward(&place(&ids, self.device.tch())?)
                })
                .collect::<TorchResult<Vec<_>>>()?;
            let pooled = &encoded[1].pooled;
            if words.is_none() {
                return Ok((None, pooled.f_zeros_like()?));
            }
            let hidden = Tensor::f_cat(&[&encoded[0].penultimate, &encoded[1].penultimate], -1)?;
            Ok((Some(unet.keys_values(&hidden)?), pooled.shallow_clone()))
        };
        let (keys_values, pooled) =
            encode().map_err(|error| failed(error, self.device, "encoding the prompt"))?;
        let dropped_words = tokens.into_iter().find_map(|tokens| tokens.dropped);
        Ok(Text { keys_values, pooled, dropped_words })
    }
}
