//! Names of assets, and the ids made of them: words that are safe as names of files.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::value_error::ValueError;

const MAX_LEN: usize = 64;

/// The length of a name that is made of a prompt.
const PROMPT_LEN: usize = 40;

/// Characters of a wrong value that an error repeats.
const SHOWN: usize = 80;

/// The name wanted for an asset: 1 to 64 of `a-z`, `0-9`, `_` and `-`, the first not `-`.
///
/// # Example
/// ```
/// use dgx_pixels_core::library::AssetName;
/// assert_eq!(AssetName::from_prompt("A brass key!").as_str(), "a-brass-key");
/// let error = "../Brass Key".parse::<AssetName>().unwrap_err().to_string();
/// assert!(error.ends_with("as `brass-key`"), "{error}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AssetName(String);

impl AssetName {
    /// A name of whole words of `prompt`, at most 40 characters; `sprite` if none of them can be
    /// kept.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::library::AssetName;
    /// assert_eq!(AssetName::from_prompt("鍵").as_str(), "sprite");
    /// assert!(AssetName::from_prompt(&"a very long prompt ".repeat(9)).as_str().len() <= 40);
    /// ```
    pub fn from_prompt(prompt: &str) -> AssetName {
        AssetName(mended(prompt, PROMPT_LEN))
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the `n`th asset of this name: the name itself, then `name-2`. A long name is cut
    /// to leave room.
    pub(super) fn id(&self, n: u64) -> AssetId {
        let suffix = if n == 1 { String::new() } else { format!("-{n}") };
        let kept = self.0.len().min(MAX_LEN - suffix.len());
        AssetId(format!("{}{suffix}", &self.0[..kept]))
    }
}

/// An asset's name in its library, unlike all others there: an [`AssetName`], with `-2`, `-3` and
/// so on where the name was taken. It never changes, and is never a path.
///
/// # Example
/// ```
/// use dgx_pixels_core::library::AssetId;
/// assert!("a-brass-key-2".parse::<AssetId>().is_ok());
/// assert!("../a-brass-key".parse::<AssetId>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AssetId(String);

impl AssetId {
    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets a map with ids as keys be searched for a text.
impl Borrow<str> for AssetId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

macro_rules! word {
    ($word:ident, $field:literal) => {
        impl FromStr for $word {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<$word, ValueError> {
                checked($field, text).map($word)
            }
        }

        impl TryFrom<String> for $word {
            type Error = ValueError;

            fn try_from(text: String) -> Result<$word, ValueError> {
                text.parse()
            }
        }

        impl From<$word> for String {
            fn from(word: $word) -> String {
                word.0
            }
        }

        impl fmt::Display for $word {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

word!(AssetName, "name");
word!(AssetId, "id");

fn checked(field: &'static str, text: &str) -> Result<String, ValueError> {
    let is_plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    // One that begins with `-` is a flag to every program that it is handed to.
    let fits = (1..=MAX_LEN).contains(&text.len()) && text.bytes().all(is_plain) && !text.starts_with('-');
    if fits {
        return Ok(text.to_owned());
    }
    let mended = mended(text, MAX_LEN);
    let expected = format!("1 to {MAX_LEN} of `a-z`, `0-9`, `_` and `-`, the first not `-`, as `{mended}`");
    Err(ValueError::new(field, shown(text), expected))
}

/// The words of `text` that fit, joined by `-`.
fn mended(text: &str, max_len: usize) -> String {
    let text = text.to_ascii_lowercase().replace(['\'', '’'], "");
    let mut name = String::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty()) {
        if name.is_empty() {
            name += &word[..word.len().min(max_len)];
        } else if name.len() + 1 + word.len() <= max_len {
            name.push('-');
            name += word;
        } else {
            break;
        }
    }
    if name.is_empty() { "sprite".into() } else { name }
}

/// A value as an error repeats it: in one line, and not all of a long one.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(SHOWN) {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_be_a_path_or_a_flag_is_no_name() {
        let long = "x".repeat(65);
        let wrong = [
            "",
            ".",
            "..",
            "../key",
            "a/b",
            "/key",
            "a\\b",
            "A",
            "Key",
            "key.png",
            "schlüssel",
            "ключ",
            "key\0",
            "-rf",
            "key ",
            "a:b",
            "~",
            "%2e%2e",
            "key\n",
            &long,
        ];
        for text in wrong {
            let error = text.parse::<AssetName>().unwrap_err();
            assert_eq!(error.field, "name");
            assert!(error.to_string().starts_with("`name` is `"), "{error}");
            assert!(!error.to_string().contains(['\0', '\n']), "{error:?}");
            assert!(text.parse::<AssetId>().unwrap_err().to_string().starts_with("`id` is `"));
            assert!(serde_json::from_value::<AssetId>(text.into()).is_err());
        }
        for text in ["a", "_", "0", "brass-key_2", &long[1..]] {
            assert_eq!(text.parse::<AssetName>().unwrap().as_str(), text);
            assert_eq!(text.parse::<AssetId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn names_of_prompts_are_whole_words() {
        let name = |prompt| AssetName::from_prompt(prompt).0;
        assert_eq!(name("A brass key!"), "a-brass-key");
        assert_eq!(name("  the knight's\tsword, 32x32 "), "the-knights-sword-32x32");
        assert_eq!(name("золотой ключ"), "sprite");
        assert_eq!(name(""), "sprite");
        assert_eq!(name("--help"), "help");
        assert_eq!(
            name("a very small green slime with two big eyes"),
            "a-very-small-green-slime-with-two-big"
        );
        assert_eq!(name(&"x".repeat(1 << 20)), "x".repeat(40));
    }

    #[test]
    fn a_long_name_leaves_room_for_its_number() {
        let name: AssetName = "x".repeat(64).parse().unwrap();
        assert_eq!(name.id(1).as_str(), name.as_str());
        assert_eq!(name.id(12).as_str(), format!("{}-12", "x".repeat(61)));
    }

    #[test]
    fn a_long_wrong_value_is_not_repeated_whole() {
        let error = "é".repeat(1 << 20).parse::<AssetName>().unwrap_err();
        assert!(error.to_string().len() < 400, "{error}");
    }

    proptest! {
        #[test]
        fn whatever_the_words_the_mended_name_and_its_ids_are_right(text in ".{0,200}", n in 1_u64..) {
            let name = AssetName::from_prompt(&text);
            prop_assert!(name.as_str().parse::<AssetName>().is_ok() && name.as_str().len() <= PROMPT_LEN);
            prop_assert!(mended(&text, MAX_LEN).parse::<AssetName>().is_ok());
            prop_assert!(name.id(n).as_str().parse::<AssetId>().is_ok());
        }
    }
}
