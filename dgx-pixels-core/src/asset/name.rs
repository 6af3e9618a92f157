//! Names of sprites in a game: `category_name[_variant][_frame]`.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::value_error::ValueError;

const MAX_LEN: usize = 64;

/// What a sprite is called in its game: `enemy_slime`, `enemy_slime_red`, `tile_grass_2`. Words of `a-z`, `0-9` and `-`, joined by `_`,
/// the first its category; at most 64 characters.
///
/// # Example
/// ```
/// use dgx_pixels_core::asset::SpriteName;
/// let name = SpriteName::new("enemy", "Green Slime")?;
/// assert_eq!(name.as_str(), "enemy_green-slime");
/// assert!(name.is_of("enemy"));
/// assert!("../slime".parse::<SpriteName>().is_err());
/// # Ok::<(), dgx_pixels_core::ValueError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct SpriteName(String);

impl SpriteName {
    /// The name of `name` in `category`: written in small letters, with `-` for what is neither letter nor digit. A name that begins with
    /// its category already is kept.
    ///
    /// # Errors
    /// A [`ValueError`] where nothing is left of either, or too much.
    pub fn new(category: &str, name: &str) -> Result<SpriteName, ValueError> {
        check_category(category)?;
        let name = mended(name);
        match name.strip_prefix(category) {
            Some(rest) if rest.starts_with('_') => name.parse(),
            _ => format!("{category}_{name}").parse(),
        }
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first word.
    pub fn category(&self) -> &str {
        self.0.split('_').next().unwrap_or_default()
    }

    /// Whether it begins with this category.
    pub fn is_of(&self, category: &str) -> bool {
        self.category() == category
    }
}

/// Whether a text can be a category: a word of `a-z`, `0-9` and `-`.
///
/// # Errors
/// A [`ValueError`] for other text.
pub fn check_category(category: &str) -> Result<(), ValueError> {
    let expected = "a word of `a-z`, `0-9` and `-`, for example `enemy`";
    match is_word(category) && category.len() < MAX_LEN / 2 {
        true => Ok(()),
        false => Err(ValueError::new("category", shown(category), expected)),
    }
}

fn is_word(text: &str) -> bool {
    let is_plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_plain)
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Small letters, digits, `_`, and `-` for all else.
fn mended(text: &str) -> String {
    let keep = |letter: char| match letter.to_ascii_lowercase() {
        letter @ ('a'..='z' | '0'..='9' | '_') => letter,
        _ => '-',
    };
    let text: String = text.chars().map(keep).collect();
    let words = text
        .split('_')
        .map(|word| word.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-"));
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}

impl FromStr for SpriteName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<SpriteName, ValueError> {
        let words: Vec<_> = text.split('_').collect();
        if (2..=5).contains(&words.len()) && text.len() <= MAX_LEN && words.iter().all(|word| is_word(word)) {
            return Ok(SpriteName(text.to_owned()));
        }
        let expected = "two to five words of `a-z`, `0-9` and `-`, joined by `_`, the first its category, at most 64 characters, as \
            `enemy_slime` or `tile_grass_2`";
        Err(ValueError::new("name", shown(text), expected))
    }
}

impl TryFrom<String> for SpriteName {
    type Error = ValueError;

    fn try_from(text: String) -> Result<SpriteName, ValueError> {
        text.parse()
    }
}

impl From<SpriteName> for String {
    fn from(name: SpriteName) -> String {
        name.0
    }
}

impl Borrow<str> for SpriteName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SpriteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
