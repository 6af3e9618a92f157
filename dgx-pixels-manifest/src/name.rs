//! Names of sprites in a game: `category_name[_variant][_frame]`.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ManifestError;

const MAX_LEN: usize = 64;

/// The name of a sprite in its game, for example `enemy_slime`, `enemy_slime_red` or
/// `tile_grass_2`.
///
/// A name has two to five words of `a-z`, `0-9` and `-`, joined by `_`, and at most 64 characters.
/// The first word is the category.
///
/// # Example
/// ```
/// use dgx_pixels_manifest::SpriteName;
/// let name = SpriteName::new("enemy", "Green Slime")?;
/// assert_eq!(name.as_str(), "enemy_green-slime");
/// assert!(name.is_of("enemy"));
/// assert!("../slime".parse::<SpriteName>().is_err());
/// # Ok::<(), dgx_pixels_manifest::ManifestError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct SpriteName(String);

impl SpriteName {
    /// Makes the name of `name` in `category`: in lower case, with `-` for all that is neither a
    /// letter nor a digit. A name that begins with its category already is kept.
    ///
    /// # Errors
    /// [`ManifestError::Category`] if `category` is not one word, and [`ManifestError::Name`] if
    /// `name` leaves no word or is too long.
    pub fn new(category: &str, name: &str) -> Result<SpriteName, ManifestError> {
        check_category(category)?;
        let name = mended(name);
        match name.strip_prefix(category) {
            Some(rest) if rest.starts_with('_') => name.parse(),
            _ => format!("{category}_{name}").parse(),
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the category, the first word.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_manifest::SpriteName;
    /// let name: SpriteName = "enemy_slime_red".parse()?;
    /// assert_eq!(name.category(), "enemy");
    /// # Ok::<(), dgx_pixels_manifest::ManifestError>(())
    /// ```
    pub fn category(&self) -> &str {
        self.0.split('_').next().unwrap_or_default()
    }

    /// Returns `true` if this is the name's category.
    pub fn is_of(&self, category: &str) -> bool {
        self.category() == category
    }
}

/// Checks that a text can be a category: a word of `a-z`, `0-9` and `-`, at most 31 characters.
///
/// # Errors
/// [`ManifestError::Category`] if it cannot.
///
/// # Example
/// ```
/// use dgx_pixels_manifest::check_category;
/// assert!(check_category("enemy").is_ok());
/// assert!(check_category("Big Enemy").is_err());
/// ```
pub fn check_category(category: &str) -> Result<(), ManifestError> {
    match is_word(category) && category.len() < MAX_LEN / 2 {
        true => Ok(()),
        false => Err(ManifestError::Category(shown(category))),
    }
}

fn is_word(text: &str) -> bool {
    let is_plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_plain)
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Returns the text in lower case, with `-` for all that is not a letter, a digit or `_`.
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
    type Err = ManifestError;

    fn from_str(text: &str) -> Result<SpriteName, ManifestError> {
        let words: Vec<_> = text.split('_').collect();
        if (2..=5).contains(&words.len()) && text.len() <= MAX_LEN && words.iter().all(|word| is_word(word)) {
            return Ok(SpriteName(text.to_owned()));
        }
        Err(ManifestError::Name(shown(text)))
    }
}

impl TryFrom<String> for SpriteName {
    type Error = ManifestError;

    fn try_from(text: String) -> Result<SpriteName, ManifestError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_two_to_five_words_and_at_most_64_characters() {
        let longest = format!("enemy_{}", "a".repeat(MAX_LEN - 6));
        for name in ["enemy_slime", "tile_grass_2", "a_b_c_d_e", "fx_green-slime", &longest] {
            assert_eq!(name.parse::<SpriteName>().unwrap().as_str(), name);
        }
        let too_long = format!("{longest}a");
        for name in [
            "",
            "enemy",
            "enemy_",
            "_slime",
            "a_b_c_d_e_f",
            "enemy_Slime",
            "enemy_-a",
            "a_b/c",
            "a_é",
            &too_long,
        ] {
            let error = name.parse::<SpriteName>().unwrap_err();
            assert!(matches!(error, ManifestError::Name(_)), "{name}");
            assert!(error.to_string().contains(&format!("`{}`", shown(name))), "{error}");
        }
    }

    #[test]
    fn a_name_is_made_of_any_words_in_a_category() {
        for (category, name, expected) in [
            ("enemy", "Green Slime", "enemy_green-slime"),
            ("enemy", "enemy_slime", "enemy_slime"),
            ("enemy", "enemyslime", "enemy_enemyslime"),
            ("tile", "  grass__2 !", "tile_grass_2"),
        ] {
            let name = SpriteName::new(category, name).unwrap();
            assert_eq!(name.as_str(), expected);
            assert!(name.is_of(category));
        }
        let too_long = "a".repeat(MAX_LEN / 2);
        for category in ["", "-", "Enemy", "two_words", &too_long] {
            let error = SpriteName::new(category, "slime").unwrap_err();
            assert!(matches!(error, ManifestError::Category(_)), "{category}: {error}");
        }
        assert!(matches!(SpriteName::new("enemy", "!").unwrap_err(), ManifestError::Name(_)));
    }

    #[test]
    fn a_name_in_json_is_checked_and_the_error_says_how_it_is() {
        let name: SpriteName = serde_json::from_str("\"enemy_slime\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"enemy_slime\"");
        let error = serde_json::from_str::<SpriteName>("\"../slime\"").unwrap_err();
        assert!(error.to_string().starts_with("`name` is `../slime`; expected two to five words"), "{error}");
    }
}
