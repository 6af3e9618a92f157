//! Style presets: what a word as `8bit` adds to a request. They are data, `styles.json`, which clients may read too.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// The file, as clients read it.
pub const STYLES_JSON: &str = include_str!("styles.json");

/// What a style adds where a request does not say otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Style {
    /// As `8bit`.
    pub name: String,
    /// What comes out, in a sentence.
    pub description: String,
    /// Added to the prompt of a model that draws other things than pixel art too.
    pub words: String,
    /// For such a model, where none is asked for.
    pub negative_prompt: String,
    /// Colours at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_colors: Option<u32>,
    /// A palette's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub palette: Option<String>,
    /// What becomes of the outline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outline: Option<String>,
    /// Whether the background is cut out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transparent: Option<bool>,
    /// Whether the left edge meets the right one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tile_x: Option<bool>,
    /// Whether the top edge meets the bottom one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tile_y: Option<bool>,
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
    use dgx_pixels_core::pixel::{Outline, Palette};

    use super::*;

    #[test]
    fn every_value_of_a_style_is_one() {
        for style in all() {
            if let Some(palette) = &style.palette {
                Palette::load(palette).unwrap();
            }
            if let Some(outline) = &style.outline {
                outline.parse::<Outline>().unwrap();
            }
            assert!(style.max_colors.is_none_or(|colors| (1..=256).contains(&colors)), "{style:?}");
        }
    }
}
