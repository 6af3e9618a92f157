//! Style presets: what a word as `8bit` adds to a request. They are data, `styles.json`, which
//! clients may read too.

use std::sync::LazyLock;

use dgx_pixels_core::fields::json::Object;
use serde::{Deserialize, Serialize};

/// The file, as clients read it.
pub const STYLES_JSON: &str = include_str!("styles.json");

/// The additions of a style, where a request does not say otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Style {
    /// The name, for example `8bit`.
    pub name: String,
    /// A sentence that describes the result.
    pub description: String,
    /// Added to the prompt of a model that draws other things than pixel art too.
    pub words: String,
    /// The negative prompt for such a model, where none is asked for.
    pub negative_prompt: String,
    /// The fields of a request that the style sets, where the request does not.
    #[serde(flatten)]
    pub fields: Object,
}

static STYLES: LazyLock<Vec<Style>> =
    LazyLock::new(|| serde_json::from_str(STYLES_JSON).expect("a test reads this file; this is a bug"));

/// All of them.
///
/// # Example
/// ```
/// assert!(dgx_pixels_mcp::styles::all().iter().any(|style| style.name == "8bit"));
/// ```
pub fn all() -> &'static [Style] {
    &STYLES
}

/// The style of this name.
pub fn find(name: &str) -> Option<&'static Style> {
    all().iter().find(|style| style.name == name)
}

#[cfg(test)]
mod tests {
    use dgx_pixels_core::fields::SpriteFields;

    use super::*;

    #[test]
    fn every_field_of_a_style_is_one_of_a_request() {
        for style in all() {
            let mut fields = style.fields.clone();
            fields.insert("prompt".into(), "a key".into());
            SpriteFields::take(&mut fields).unwrap();
            assert!(fields.is_empty(), "{style:?}");
        }
    }
}
