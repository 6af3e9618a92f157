//! Words to ids, with the vocabulary in the model's folder or, for a model in a single file, CLIP's
//! own.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use crate::error::{Cause, Error, Reason};
use crate::files::{MAX_TEXT_BYTES, read_regular};
use crate::model::read_text;
use crate::prompt::chunks::{self, Chunk, TokenPart};
use crate::prompt::inversions::{self, Piece};
use crate::prompt::{self, Part, PromptSyntax};
use crate::request::RequestError;

/// CLIP's byte-level BPE. Source: transformers 5.23, `models/clip/tokenization_clip.py`.
pub(super) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: u32,
    eos: u32,
    pad: u32,
    max_length: usize,
    /// Rows of the text encoder's table: a GPU that looks past them can do nothing more in this
    /// process.
    vocab_size: i64,
    dir: PathBuf,
}

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// A text as a text encoder takes it, chunk by chunk.
pub(super) struct Chunks {
    /// One or more.
    pub(super) chunks: Vec<PaddedChunk>,
    /// What did not fit.
    pub(super) dropped: Option<String>,
}

/// A chunk with start, end and padding: exactly the tokenizer's length.
pub(super) struct PaddedChunk {
    pub(super) ids: Vec<i64>,
    /// One for each id; `None` where all are 1.
    pub(super) weights: Option<Vec<f32>>,
}

/// A text as a text encoder takes it.
pub(super) struct Tokens {
    /// Always as many as the tokenizer's length.
    pub(super) ids: Vec<i64>,
    /// What did not fit.
    pub(super) dropped: Option<String>,
}

impl Tokenizer {
    /// Ids of a text.
    pub(super) fn max_length(&self) -> usize {
        self.max_length
    }

    /// The number of ids that the text encoder has.
    pub(super) fn vocab_size(&self) -> i64 {
        self.vocab_size
    }

    /// Makes texts as long as the text encoder takes, whatever the folder says.
    pub(super) fn lengthen(&mut self, positions: i64) {
        self.max_length = positions as usize;
    }

    /// Reads `tokenizer.json`, or `vocab.json` and `merges.txt`. `positions` is the most the text
    /// encoder takes, `vocab_size` the number of ids that it has.
    pub(super) fn open(dir: &Path, positions: i64, vocab_size: i64) -> Result<Self, Error> {
        let fault = |name: &str, reason: Reason| Error::model(dir.join(name), reason);
        let mut settings = optional_object(dir, "special_tokens_map.json")?;
        settings.extend(optional_object(dir, "tokenizer_config.json")?);
        let word = |name: &str, default: &str| match settings.get(name) {
            Some(Value::String(word)) => word.clone(),
            Some(Value::Object(token)) => {
                token.get("content").and_then(Value::as_str).unwrap_or(default).to_owned()
            }
            _ => default.to_owned(),
        };
        let specials = [
            word("bos_token", START),
            word("eos_token", END),
            word("pad_token", END),
            word("unk_token", END),
        ];

        let inner = if dir.join("tokenizer.json").is_file() {
            let bytes = read_regular(&dir.join("tokenizer.json"), MAX_TEXT_BYTES)
                .map_err(|error| fault("tokenizer.json", error.into()))?;
            tokenizers::Tokenizer::from_bytes(bytes)
                .map_err(|error| fault("tokenizer.json", Cause::boxed(error).into()))?
        } else {
            from_vocab(dir, &specials[3])?
        };
        let max_length = settings.get("model_max_length").and_then(Value::as_f64).unwrap_or(f64::MAX);
        let max_length = max_length.min(positions as f64) as usize;
        if max_length < 3 {
            return Err(fault(
                "tokenizer_config.json",
                format!("`model_max_length` is {max_length}; expected 3 or more").into(),
            ));
        }
        Tokenizer::new(inner, specials, max_length, vocab_size, dir)
    }

    /// CLIP's own tokenizer, which single files do not have. `is_second` for the second text
    /// encoder, which pads with `!`; `path` is the model.
    pub(super) fn clip(is_second: bool, positions: i64, vocab_size: i64, path: &Path) -> Result<Self, Error> {
        let built = clip_bpe().and_then(around);
        let inner = built.map_err(|error| Error::internal("making CLIP's tokenizer", Cause::boxed(error)))?;
        let specials = [START, END, if is_second { "!" } else { END }, END].map(str::to_owned);
        Tokenizer::new(inner, specials, positions as usize, vocab_size, path)
    }

    /// `specials` begin a text, end it, fill it up, and stand for what is unknown.
    fn new(
        mut inner: tokenizers::Tokenizer,
        specials: [String; 4],
        max_length: usize,
        vocab_size: i64,
        dir: &Path,
    ) -> Result<Self, Error> {
        let fault = |name: &str, reason: Reason| Error::model(dir.join(name), reason);
        inner
            .with_truncation(None)
            .map_err(|error| fault("tokenizer.json", Cause::boxed(error).into()))?
            .with_padding(None);
        let id = |word: &String| {
            inner
                .token_to_id(word)
                .ok_or_else(|| fault("tokenizer_config.json", format!("`{word}` has no id").into()))
        };
        let [bos, eos, pad] = [id(&specials[0])?, id(&specials[1])?, id(&specials[2])?];
        let special_tokens = specials.map(|word| AddedToken::from(word, true));
        inner.add_special_tokens(&special_tokens);

        Ok(Tokenizer { inner, bos, eos, pad, max_length, vocab_size, dir: dir.to_owned() })
    }

    /// Start, ids, end, padding: exactly the tokenizer's length. What does not fit is dropped.
    pub(super) fn encode(&self, text: &str) -> Result<Tokens, Error> {
        let ids = self.ids(text)?;
        let (kept, dropped) = ids.split_at(ids.len().min(self.max_length - 2));
        let dropped = if dropped.is_empty() { None } else { Some(self.words(dropped)?) };
        Ok(Tokens { ids: self.padded(kept), dropped })
    }

    /// The chunks of a prompt, at most `most`. What does not fit is dropped. `rows` says which rows
    /// of a table the vectors of a textual inversion are; row 0 has the first id that no word has.
    ///
    /// # Errors
    /// [`RequestError::Prompt`] for a prompt that cannot be read.
    pub(super) fn chunks(
        &self,
        text: &str,
        syntax: PromptSyntax,
        most: usize,
        rows: &dyn Fn(&str) -> Range<u32>,
    ) -> Result<Chunks, Error> {
        if syntax == PromptSyntax::Plain {
            let Tokens { ids, dropped } = self.encode(text)?;
            return Ok(Chunks { chunks: vec![PaddedChunk { ids, weights: None }], dropped });
        }
        // It says what is wrong with the special ids, where a prompt has no others.
        self.ids("")?;
        let words = u32::try_from(self.vocab_size).unwrap_or(u32::MAX);
        let mut parts = vec![];
        for part in
            prompt::parse(text, syntax).map_err(|fault| RequestError::Prompt { field: "prompt", fault })?
        {
            let Part::Text { text, weight } = part else {
                parts.push(TokenPart::Break);
                continue;
            };
            let weight = weight as f32;
            for piece in inversions::pieces(&text) {
                let ids = match piece {
                    Piece::Words(text) => self.ids(text)?,
                    Piece::Vectors(name) => rows(name).map(|row| words + row).collect(),
                };
                parts.push(TokenPart::Text { ids, weight });
            }
        }
        let comma = self.inner.token_to_id(",</w>");
        let mut chunks = chunks::lay(&parts, self.max_length - 2, comma, syntax);
        let rest: Vec<u32> = chunks.drain(most.min(chunks.len())..).flat_map(|chunk| chunk.ids).collect();
        let dropped = if rest.is_empty() { None } else { Some(self.words(&rest)?) };
        let chunks = chunks.into_iter().map(|Chunk { ids, weights }| PaddedChunk {
            ids: self.padded(&ids),
            weights: weights.iter().any(|weight| *weight != 1.0).then(|| {
                let mut padded = vec![1.0; self.max_length];
                padded[1..=weights.len()].copy_from_slice(&weights);
                padded
            }),
        });
        Ok(Chunks { chunks: chunks.collect(), dropped })
    }

    /// The ids of an empty text, padded.
    pub(super) fn empty(&self) -> Vec<i64> {
        self.padded(&[])
    }

    /// Ids of a text without start and end.
    fn ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoding = self.inner.encode_fast(text, false).map_err(failed)?;
        let ids = encoding.get_ids().to_vec();
        let specials = [self.bos, self.eos, self.pad];
        if let Some(id) = ids.iter().chain(&specials).find(|id| i64::from(**id) >= self.vocab_size) {
            let reason = format!(
                "a word has the id {id}; expected ids below the text encoder's `vocab_size`, {}",
                self.vocab_size
            );
            return Err(Error::model(&self.dir, reason));
        }
        Ok(ids)
    }

    /// Start, `ids`, end, padding.
    fn padded(&self, ids: &[u32]) -> Vec<i64> {
        let padding = std::iter::repeat_n(self.pad, self.max_length - 2 - ids.len());
        let ids = std::iter::once(self.bos).chain(ids.iter().copied()).chain([self.eos]).chain(padding);
        ids.map(i64::from).collect()
    }

    /// The words of ids.
    fn words(&self, ids: &[u32]) -> Result<String, Error> {
        Ok(self.inner.decode(ids, false).map_err(failed)?.replace("</w>", " ").trim().to_owned())
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::internal("tokenizing", Cause::boxed(error))
}

/// The merges of CLIP's tokenizer, which all models of the family have, in their order. Source:
/// `bpe_simple_vocab_16e6.txt` of OpenCLIP 3.3.0, lines 2 to 48,895 (`clip_merges.LICENSE`).
const MERGES: &str = include_str!("clip_merges.txt");

/// CLIP's vocabulary: bytes, bytes that end a word, the results of all merges, and the two marks.
fn clip_bpe() -> Result<BPE, tokenizers::Error> {
    // Bytes that are printed stand for themselves, and in order before those that are not.
    let printed = (b'!'..=b'~').chain(0xa1..=0xac).chain(0xae..=0xff);
    let printed: Vec<char> = printed.map(char::from).collect();
    let others = 256 - printed.len() as u32;
    let bytes = printed.into_iter().chain((0..others).filter_map(|i| char::from_u32(256 + i)));
    let bytes: Vec<String> = bytes.map(String::from).collect();
    let merges: Vec<(String, String)> = MERGES
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())))
        .collect();
    let words = bytes.iter().cloned().chain(bytes.iter().map(|byte| format!("{byte}</w>")));
    let words = words.chain(merges.iter().map(|(left, right)| format!("{left}{right}")));
    let words = words.chain([START, END].map(str::to_owned));
    BPE::builder()
        .vocab_and_merges(words.zip(0..).collect::<Vocab>(), merges)
        .unk_token(END.to_owned())
        .end_of_word_suffix("</w>".to_owned())
        .build()
}

fn from_vocab(dir: &Path, unk_token: &str) -> Result<tokenizers::Tokenizer, Error> {
    let fault = |error: tokenizers::Error| {
        let words = "it has no `tokenizer.json`, and `vocab.json` with `merges.txt` fail";
        Error::model(dir, Reason { words: words.into(), cause: Some(Cause::boxed(error)) })
    };
    for name in ["vocab.json", "merges.txt"] {
        // The crate would wait for a pipe's writer.
        read_regular(&dir.join(name), MAX_TEXT_BYTES).map_err(|error| fault(error.into()))?;
    }
    let [vocab, merges] =
        ["vocab.json", "merges.txt"].map(|name| dir.join(name).to_string_lossy().into_owned());
    let bpe = BPE::from_file(&vocab, &merges)
        .unk_token(unk_token.to_owned())
        .end_of_word_suffix("</w>".to_owned())
        .build()
        .map_err(fault)?;
    around(bpe).map_err(fault)
}

/// What CLIP does to a text before and after its vocabulary.
fn around(bpe: BPE) -> Result<tokenizers::Tokenizer, tokenizers::Error> {
    let words =
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    let split = Split::new(SplitPattern::Regex(words.to_owned()), SplitDelimiterBehavior::Removed, true)?;
    let spaces =
        Replace::new(tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".to_owned()), " ")?;
    let mut inner = tokenizers::Tokenizer::new(bpe);
    inner
        .with_normalizer(Some(Normalizers::new(vec![NFC.into(), spaces.into(), Lowercase.into()])))
        .with_pre_tokenizer(Some(PreTokenizers::new(vec![
            split.into(),
            ByteLevel::default().add_prefix_space(false).into(),
        ])))
        .with_decoder(Some(ByteLevel::default()));
    Ok(inner)
}

fn optional_object(dir: &Path, name: &str) -> Result<Map<String, Value>, Error> {
    let path = dir.join(name);
    if !path.is_file() {
        return Ok(Map::new());
    }
    let text = read_text(&path).map_err(|error| Error::model(&path, error))?;
    serde_json::from_str(&text).map_err(|error| Error::model(&path, ("not a JSON object", error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(is_second: bool, text: &str) -> Vec<i64> {
        Tokenizer::clip(is_second, 77, 49_408, Path::new("test")).unwrap().encode(text).unwrap().ids
    }

    /// The ids are those of transformers' documentation of CLIP, and of the configs of SDXL.
    #[test]
    fn clips_own_vocabulary_gives_clips_ids() {
        let first = ids(false, "a photo of a cat");
        assert_eq!(first[..8], [49_406, 320, 1125, 539, 320, 2368, 49_407, 49_407]);
        let second = ids(true, "a photo of a cat");
        assert_eq!((second.len(), &second[..8]), (77, &[49_406, 320, 1125, 539, 320, 2368, 49_407, 0][..]));
        assert_eq!(MERGES.lines().count(), 49_408 - 2 * 256 - 2);
    }
}
