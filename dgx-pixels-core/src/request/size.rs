//! Sizes and places in pixels, and their words: `32x32` and `0,0`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Smallest side of an image, in pixels.
pub const MIN_SIDE: u32 = 64;
/// Largest side of an image, in pixels.
pub const MAX_SIDE: u32 = 2048;

/// Width and height in pixels. As a word: `32x32`, or `32` for a square.
///
/// # Example
/// ```
/// use dgx_pixels_core::ImageSize;
/// let size: ImageSize = "48x24".parse()?;
/// assert_eq!(size, ImageSize { width: 48, height: 24 });
/// assert_eq!("16".parse::<ImageSize>()?.to_string(), "16x16");
/// # Ok::<(), dgx_pixels_core::SizeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "SizeWord")]
pub struct ImageSize {
    /// The width in pixels.
    pub width: u32,
    /// The height in pixels.
    pub height: u32,
}

/// A left top corner in pixels. As a word: `LEFT,TOP`, for example `0,0`.
///
/// # Example
/// ```
/// use dgx_pixels_core::Crop;
/// let crop: Crop = "16,0".parse()?;
/// assert_eq!((crop.left, crop.top), (16, 0));
/// assert!("16".parse::<Crop>().is_err());
/// # Ok::<(), dgx_pixels_core::SizeError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "CropWord")]
pub struct Crop {
    /// The distance from the left edge, in pixels.
    pub left: u32,
    /// The distance from the top edge, in pixels.
    pub top: u32,
}

/// A text that is no size or no corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct SizeError(&'static str);

const SIZE: SizeError = SizeError("width and height in pixels, for example `32x32`");
const CROP: SizeError = SizeError("left and top in pixels, for example `0,0`");

/// A whole number as people write it: without a sign.
fn side(text: &str) -> Option<u32> {
    text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl FromStr for ImageSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let (width, height) = text.split_once('x').unwrap_or((text, text));
        let sides = side(width).zip(side(height));
        sides.map(|(width, height)| ImageSize { width, height }).ok_or(SIZE)
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}x{}", self.width, self.height))
    }
}

impl FromStr for Crop {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let sides = text.split_once(',').and_then(|(left, top)| side(left.trim()).zip(side(top.trim())));
        sides.map(|(left, top)| Crop { left, top }).ok_or(CROP)
    }
}

impl fmt::Display for Crop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{},{}", self.left, self.top))
    }
}

/// A size in JSON: `{"width":32,"height":32}`, `"32x32"` or `32`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected width and height in pixels, for example `32x32`")]
enum SizeWord {
    Sides { width: u32, height: u32 },
    Square(u32),
    Text(String),
}

impl TryFrom<SizeWord> for ImageSize {
    type Error = SizeError;

    fn try_from(word: SizeWord) -> Result<Self, SizeError> {
        match word {
            SizeWord::Sides { width, height } => Ok(ImageSize { width, height }),
            SizeWord::Square(side) => Ok(ImageSize { width: side, height: side }),
            SizeWord::Text(text) => text.parse(),
        }
    }
}

/// A corner in JSON: `{"left":0,"top":0}` or `"0,0"`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected left and top in pixels, for example `0,0`")]
enum CropWord {
    Sides { left: u32, top: u32 },
    Text(String),
}

impl TryFrom<CropWord> for Crop {
    type Error = SizeError;

    fn try_from(word: CropWord) -> Result<Self, SizeError> {
        match word {
            CropWord::Sides { left, top } => Ok(Crop { left, top }),
            CropWord::Text(text) => text.parse(),
        }
    }
}

/// The schema of a word: clients are poor at schemas of several types, and the description has an
/// example.
#[cfg(feature = "fields")]
macro_rules! word_schema {
    ($($word:ty),*) => {$(
        impl schemars::JsonSchema for $word {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($word).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    )*};
}
#[cfg(feature = "fields")]
word_schema!(ImageSize, Crop);

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn words_and_objects_are_the_same_size() {
        let size = ImageSize { width: 48, height: 24 };
        for json in [json!("48x24"), json!({ "width": 48, "height": 24 })] {
            assert_eq!(from_value::<ImageSize>(json).unwrap(), size);
        }
        assert_eq!(from_value::<ImageSize>(json!(8)).unwrap(), ImageSize { width: 8, height: 8 });
        assert_eq!(serde_json::to_value(size).unwrap(), json!({ "width": 48, "height": 24 }));
        assert_eq!("3, 5".parse(), Ok(Crop { left: 3, top: 5 }));
        assert_eq!(from_value::<Crop>(json!("3,5")).unwrap(), Crop { left: 3, top: 5 });
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for json in [json!("48x"), json!("x"), json!("+4x4"), json!("4x-4"), json!(-1), json!([4, 4])] {
            let error = from_value::<ImageSize>(json.clone()).unwrap_err().to_string();
            assert_eq!(error, "expected width and height in pixels, for example `32x32`", "{json}");
        }
        assert_eq!(
            "5".parse::<Crop>().unwrap_err().to_string(),
            "expected left and top in pixels, for example `0,0`"
        );
    }
}
