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
use crate::model::Model;
use crate::request::{RequestError, ResolvedRequest};

/// Of full-size SDXL each takes 26 MB in half precision.
const KEPT: usize = 8;

/// A prompt as the UNet reads it; one row each.
pub(super) struct Text {
    /// `None` for zeros.
    pub(super) keys_values: Option<Tensor>,
    pub(super) pooled: Tensor,
    pub(super) dropped_words: Option<String>,
}

/// A text that conditions an image, and the way it is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// `None` stands for zeros in place of an encoded text.
    text: Option<String>,
    /// The last layers whose output is not used, beyond the one that SDXL never uses.
    skip: u8,
}

impl Words {
    /// Returns the prompt of a request, and the negative prompt where guidance needs it.
    pub(super) fn of(request: &ResolvedRequest, model: &Model) -> Vec<Words> {
        let mut words =
            vec![Words { text: Some(request.prompt.clone()), skip: request.clip_skip.unwrap_or(0) }];
        if request.rows(&model.defaults()) > 1 {
            let zeros = request.negative_prompt.is_none() && model.force_zeros_for_empty_prompt;
            let text = (!zeros).then(|| request.negative_prompt.clone().unwrap_or_default());
            // Source: diffusers 0.42.1, `StableDiffusionXLPipeline.encode_prompt`: the negative prompt skips none.
            words.push(Words { text, skip: 0 });
        }
        words
    }
}

/// Both tokenizers and text encoders, and the last few texts.
pub(super) struct Prompts {
    device: Device,
    tokenizers: [Tokenizer; 2],
    text_encoders: [TextEncoder; 2],
    /// Newest first.
    texts: VecDeque<(Words, Text)>,
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

    /// Brings all texts to the front of those that are kept, and encodes the new ones. `texts`: those of each image, as
    /// [`Words::of`] returns them.
    pub(super) fn read(&mut self, texts: &[&[Words]], unet: &UNet) -> Result<(), Error> {
        let mut new: Vec<&Words> = Vec::new();
        // The prompts first: what to keep away from is more often the same again, and so is kept longer.
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
            let text = self.encode(words, unet)?;
            self.texts.push_front((words.clone(), text));
        }
        Ok(())
    }

    /// The text for `words`, which [`read`](Prompts::read) has read and [`forget`](Prompts::forget) not yet forgotten.
    pub(super) fn text(&self, words: &Words) -> &Text {
        let found = self.texts.iter().find(|(known, _)| known == words);
        &found.expect("all texts are read before one is asked for; this is a bug").1
    }

    /// All but the newest few.
    pub(super) fn forget(&mut self) {
        self.texts.truncate(KEPT);
    }

    /// Encodes `words` with both tokenizers and text encoders. Zeros are as wide as any text. Each text goes alone: in company
    /// it would be rounded otherwise, and it is kept for images to come.
    fn encode(&self, words: &Words, unet: &UNet) -> Result<Text, Error> {
        let tokens = self
            .tokenizers
            .iter()
            .map(|tokenizer| tokenizer.encode(words.text.as_deref().unwrap_or_default()))
            .collect::<Result<Vec<Tokens>, _>>()?;
        let skip = usize::from(words.skip);
        let layers = self.text_encoders.iter().map(TextEncoder::layers).min().unwrap_or(0);
        if skip >= layers {
            let most = u8::try_from(layers.saturating_sub(1)).unwrap_or(u8::MAX);
            return Err(RequestError::ClipSkip { layers: words.skip, most }.into());
        }
        let encode = || -> TorchResult<(Option<Tensor>, Tensor)> {
            let encoded = self
                .text_encoders
                .iter()
                .zip(&tokens)
                .map(|(text_encoder, tokens)| {
                    let ids = Tensor::f_from_slice(&tokens.ids)?.f_unsqueeze(0)?;
                    text_encoder.forward(&place(&ids, self.device.tch())?, skip)
                })
                .collect::<TorchResult<Vec<_>>>()?;
            let pooled = &encoded[1].pooled;
            if words.text.is_none() {
                return Ok((None, pooled.f_zeros_like()?));
            }
            let hidden = Tensor::f_cat(&[&encoded[0].hidden, &encoded[1].hidden], -1)?;
            Ok((Some(unet.keys_values(&hidden)?), pooled.shallow_clone()))
        };
        let (keys_values, pooled) =
            encode().map_err(|error| failed(error, self.device, "encoding the prompt"))?;
        let dropped_words = tokens.into_iter().find_map(|tokens| tokens.dropped);
        Ok(Text { keys_values, pooled, dropped_words })
    }
}
