//! Prompts as people write them: weights in brackets, `BREAK`, and texts longer than a text encoder
//! takes.
//!
//! A prompt is parsed into [`Part`]s by one of two references, or taken as it stands
//! ([`PromptSyntax`]). The parts are tokenized one by one and laid into chunks of the text
//! encoder's length. `torch` encodes the chunks and applies the weights.
//!
//! Sources of the rules: ComfyUI, `comfy/sd1_clip.py`, and AUTOMATIC1111's web UI,
//! `modules/prompt_parser.py` and `modules/sd_hijack_clip.py`.

mod a1111;
#[cfg(any(feature = "torch", test))]
pub(crate) mod chunks;
mod comfyui;
#[cfg(any(feature = "engine", feature = "torch", test))]
pub(crate) mod inversions;
#[cfg(test)]
mod tests;

use std::fmt;
#[cfg(any(feature = "engine", feature = "torch"))]
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::value_error::ValueError;

/// The rule by which a prompt is read.
///
/// # Example
/// ```
/// use dgx_pixels_core::PromptSyntax;
/// assert_eq!("a1111".parse(), Ok(PromptSyntax::A1111));
/// assert_eq!(PromptSyntax::default(), PromptSyntax::Comfyui);
/// assert_eq!(
///     "webui".parse::<PromptSyntax>().unwrap_err().to_string(),
///     "`prompt_syntax` is `webui`; expected `comfyui`, `a1111` or `plain`"
/// );
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptSyntax {
    /// ComfyUI's rule: an inner weight replaces the outer one, and a weight moves a token away from
    /// the empty text.
    #[default]
    Comfyui,
    /// The rule of AUTOMATIC1111's web UI with the emphasis "No norm": weights multiply, and a
    /// weight multiplies a token.
    A1111,
    /// Every character stands for itself, and words past the text encoder's length are dropped.
    /// diffusers reads prompts so.
    Plain,
}

impl PromptSyntax {
    /// All rules.
    pub const ALL: [PromptSyntax; 3] = [PromptSyntax::Comfyui, PromptSyntax::A1111, PromptSyntax::Plain];

    /// The word, for example `comfyui`.
    pub fn as_str(self) -> &'static str {
        match self {
            PromptSyntax::Comfyui => "comfyui",
            PromptSyntax::A1111 => "a1111",
            PromptSyntax::Plain => "plain",
        }
    }
}

impl fmt::Display for PromptSyntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PromptSyntax {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<PromptSyntax, ValueError> {
        let found = PromptSyntax::ALL.into_iter().find(|syntax| syntax.as_str() == text);
        found.ok_or_else(|| ValueError::new("prompt_syntax", text, "`comfyui`, `a1111` or `plain`"))
    }
}

crate::words::schema_of_words!(PromptSyntax, PromptSyntax::ALL.map(PromptSyntax::as_str));

/// A part of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Words that are tokenized together and have one weight.
    Text {
        /// The words, without the brackets and backslashes.
        text: String,
        /// The weight, 1 for words without one.
        weight: f64,
    },
    /// The end of a chunk: the word `BREAK`.
    Break,
}

/// A prompt that cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// A weight is out of range.
    #[error("gives `{words}` the weight {weight}; expected -{MAX_WEIGHT} to {MAX_WEIGHT}")]
    Weight {
        /// The first of the words with this weight.
        words: String,
        /// The weight as it follows from the brackets.
        weight: f64,
    },
    /// A textual inversion that no file has.
    #[error("names `embedding:{name}`, and no textual inversion is called so; there are {known}")]
    Embedding {
        /// The name in the prompt.
        name: String,
        /// The names that would be right.
        known: String,
    },
    /// Too many brackets inside each other.
    #[error("has brackets nested {depth} deep; expected at most {MAX_DEPTH}")]
    Depth {
        /// The number of brackets around the same words.
        depth: usize,
    },
}

#[cfg(any(feature = "engine", feature = "torch"))]
impl PromptError {
    /// The error for a textual inversion that is none of `known`, names and paths.
    pub(crate) fn unknown_embedding(name: String, known: &[(String, PathBuf)]) -> PromptError {
        let names: Vec<_> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
        let known = if names.is_empty() { "none".into() } else { names.join(", ") };
        PromptError::Embedding { name, known }
    }
}

/// The largest weight, positive and negative.
pub const MAX_WEIGHT: f64 = 10.0;
/// The most brackets inside each other.
pub const MAX_DEPTH: usize = 64;

/// Parses a prompt.
///
/// # Errors
/// [`PromptError`] for a weight that is out of range, and for too many brackets inside each other.
/// A bracket without its partner is no error: `comfyui` takes it for a character, and `a1111`
/// closes it at the end.
///
/// # Example
/// ```
/// use dgx_pixels_core::prompt::{Part, parse};
/// use dgx_pixels_core::PromptSyntax;
/// let text = |text: &str, weight| Part::Text { text: text.into(), weight };
/// assert_eq!(
///     parse("a (brass key:1.3) \\(old\\)", PromptSyntax::Comfyui)?,
///     [text("a ", 1.0), text("brass key", 1.3), text(" (old)", 1.0)]
/// );
/// assert_eq!(parse("a (key:1.3)", PromptSyntax::Plain)?, [text("a (key:1.3)", 1.0)]);
/// let error = parse("a (key:1e9)", PromptSyntax::Comfyui).unwrap_err();
/// assert_eq!(error.to_string(), "gives `key` the weight 1000000000; expected -10 to 10");
/// # Ok::<(), dgx_pixels_core::prompt::PromptError>(())
/// ```
pub fn parse(prompt: &str, syntax: PromptSyntax) -> Result<Vec<Part>, PromptError> {
    let parts = match syntax {
        PromptSyntax::Comfyui => comfyui::parse(prompt)?,
        PromptSyntax::A1111 => a1111::parse(prompt)?,
        PromptSyntax::Plain => vec![Part::Text { text: prompt.to_owned(), weight: 1.0 }],
    };
    for part in &parts {
        if let Part::Text { text, weight } = part
            && !(-MAX_WEIGHT..=MAX_WEIGHT).contains(weight)
        {
            let words: String = text.trim().chars().take(40).collect();
            return Err(PromptError::Weight { words, weight: *weight });
        }
    }
    Ok(parts)
}

/// Refuses brackets inside too many others.
fn check_depth(depth: usize) -> Result<(), PromptError> {
    if depth > MAX_DEPTH { Err(PromptError::Depth { depth }) } else { Ok(()) }
}

/// Adds words to the parts, and the ends of chunks that stand among them.
fn push_words(words: &str, weight: f64, parts: &mut Vec<Part>) {
    let push = |text: &str, parts: &mut Vec<Part>| {
        if !text.is_empty() {
            parts.push(Part::Text { text: text.to_owned(), weight });
        }
    };
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let (mut rest, mut from) = (words, 0);
    while let Some(place) = rest[from..].find(BREAK).map(|place| from + place) {
        let (before, after) = (&rest[..place], &rest[place + BREAK.len()..]);
        if before.ends_with(is_word) || after.starts_with(is_word) {
            from = place + BREAK.len();
            continue;
        }
        push(before.trim_end(), parts);
        parts.push(Part::Break);
        (rest, from) = (after.trim_start(), 0);
    }
    push(rest, parts);
}

/// The word that ends a chunk.
const BREAK: &str = "BREAK";
