//! A LoRA as a request asks for it, and its word: `NAME:WEIGHT:TEXT_WEIGHT`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most LoRAs of one request.
pub(super) const MAX_LORAS: usize = 16;
/// The greatest strength of a LoRA, positive and negative. Authors recommend 0.5 to 1.5.
pub(super) const MAX_WEIGHT: f64 = 10.0;

/// A LoRA, and how strongly it changes the model. As a word: `NAME`, `NAME:WEIGHT` or
/// `NAME:WEIGHT:TEXT_WEIGHT`.
///
/// # Example
/// ```
/// use dgx_pixels_core::LoraChoice;
/// let choice: LoraChoice = "pixel-art:1.2".parse()?;
/// assert_eq!((choice.name.as_str(), choice.weight, choice.text_weight()), ("pixel-art", 1.2, 1.2));
/// assert_eq!(choice.to_string(), "pixel-art:1.2");
/// # Ok::<(), dgx_pixels_core::LoraError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LoraChoice {
    /// The name of a file in the model folders, without its ending; programs also take a path.
    pub name: String,
    /// The strength in the UNet, -10 to 10.
    pub weight: f64,
    /// The strength in the text encoders, -10 to 10; `None` for that in the UNet.
    pub text_weight: Option<f64>,
}

/// A text that is no choice of a LoRA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `NAME`, `NAME:WEIGHT` or `NAME:WEIGHT:TEXT_WEIGHT`, for example `pixel-art:1.2`")]
pub struct LoraError;

impl LoraChoice {
    /// The strength in the text encoders.
    pub fn text_weight(&self) -> f64 {
        self.text_weight.unwrap_or(self.weight)
    }
}

impl FromStr for LoraChoice {
    type Err = LoraError;

    fn from_str(text: &str) -> Result<Self, LoraError> {
        // From the end, as a path may have colons of its own.
        let mut name = text;
        let mut weights = vec![];
        while weights.len() < 2
            && let Some((start, end)) = name.rsplit_once(':')
            && let Ok(weight) = end.parse::<f64>()
        {
            weights.push(weight);
            name = start;
        }
        let first = weights.pop().unwrap_or(1.0);
        if name.trim().is_empty() {
            return Err(LoraError);
        }
        Ok(LoraChoice { name: name.to_owned(), weight: first, text_weight: weights.pop() })
    }
}

impl TryFrom<String> for LoraChoice {
    type Error = LoraError;

    fn try_from(text: String) -> Result<Self, LoraError> {
        text.parse()
    }
}

impl fmt::Display for LoraChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.weight)?;
        self.text_weight.map_or(Ok(()), |weight| write!(f, ":{weight}"))
    }
}

impl From<LoraChoice> for String {
    fn from(choice: LoraChoice) -> String {
        choice.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_from_the_end() {
        let read = |text: &str| {
            let choice: LoraChoice = text.parse().unwrap();
            assert_eq!(choice.to_string().parse(), Ok(choice.clone()), "{text}");
            (choice.name, choice.weight, choice.text_weight)
        };
        assert_eq!(read("pixel"), ("pixel".into(), 1.0, None));
        assert_eq!(read("pixel:0.5"), ("pixel".into(), 0.5, None));
        assert_eq!(read("pixel:-1:0"), ("pixel".into(), -1.0, Some(0.0)));
        assert_eq!(read("a/b:c.safetensors:1:2"), ("a/b:c.safetensors".into(), 1.0, Some(2.0)));
        assert_eq!(read("pixel:strong"), ("pixel:strong".into(), 1.0, None));
        for text in ["", ":1", " :1:1"] {
            assert_eq!(text.parse::<LoraChoice>(), Err(LoraError), "{text}");
        }
    }
}
