//! Options as the words that people and programs write them.

use serde::Deserialize;
/// Three or six hexadecimal digits after `#`, in either case.
pub(super) fn parse_rgb(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#')?;
    // from_str_radix takes a sign.
    if !matches!(digits.len(), 3 | 6) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let value = u32::from_str_radix(digits, 16).ok()?;
    if digits.len() == 3 {
        return Some([8, 4, 0].map(|shift| 17 * (value >> shift & 15) as u8));
    }
    let [_, r, g, b] = value.to_be_bytes();
    Some([r, g, b])
}

/// The text that [`parse_rgb`] reads, in capitals.
pub(super) fn show_rgb([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// A value that stands for a word: the word, or a number or a flag, which stand for their own text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text")]
pub(crate) enum Word {
    Text(String),
    Number(serde_json::Number),
    Flag(bool),
}

impl Word {
    pub(crate) fn text(self) -> String {
        match self {
            Word::Text(text) => text,
            Word::Number(number) => number.to_string(),
            Word::Flag(flag) => flag.to_string(),
        }
    }
}

/// Serde by `FromStr` and `Display`, for `#[serde(try_from = "Word", into = "String")]`, and the
/// JSON schema of the word. Clients are poor at lists of types, so two types are `anyOf`.
macro_rules! serde_by_word {
    ($option:ty, $schema:tt) => {
        impl TryFrom<$crate::pixel::option::Word> for $option {
            type Error = $crate::ValueError;

            fn try_from(word: $crate::pixel::option::Word) -> Result<Self, Self::Error> {
                word.text().parse()
            }
        }

        impl From<$option> for String {
            fn from(option: $option) -> String {
                option.to_string()
            }
        }

        #[cfg(feature = "fields")]
        impl schemars::JsonSchema for $option {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($option).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
pub(crate) use serde_by_word;
