//! Palettes: well-known, from files, or from pictures themselves.

mod extract;
mod file;
mod known;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Oklab;
use super::option::{parse_rgb, show_rgb};
use crate::error::{Cause, Reason, because};
use crate::files;

/// The longest file that is read as a palette.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The most colors of a palette.
pub const MAX_COLORS: usize = 256;

/// One to 256 different opaque colours, in order.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::Palette;
/// let palette = Palette::load("game-boy")?;
/// assert_eq!(palette.colors()[0], [0x0f, 0x38, 0x0f]);
/// assert_eq!(palette.nearest([0, 0, 0]), 0);
/// assert_eq!(Palette::load("#000000,#FFFFFF")?.colors().len(), 2);
/// # Ok::<(), dgx_pixels_core::pixel::PaletteError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Listed", into = "Vec<String>")]
pub struct Palette {
    colors: Vec<[u8; 3]>,
    oklab: Vec<Oklab>,
}

/// The reason why there is no palette.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::{Palette, PaletteError};
/// assert!(matches!(Palette::new([]), Err(PaletteError::Count { count: 0 })));
/// assert!(matches!(Palette::of_text("no-such-name"), Err(PaletteError::Unknown { .. })));
/// assert!(matches!(Palette::load("no-such-file.gpl"), Err(PaletteError::NoFile { .. })));
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PaletteError {
    /// Neither a name nor colors.
    #[error("`palette` is `{text}`; expected colors such as `#1A1C2C,#5D275D`, or one of {}", known_names())]
    Unknown {
        /// The text as given.
        text: String,
    },
    /// Neither a name, nor a file, nor colors.
    #[error(
        "`palette` is `{text}`; expected a file, colors such as `#1A1C2C,#5D275D`, or one of {}",
        known_names()
    )]
    NoFile {
        /// The text as given.
        text: String,
    },
    /// None or too many.
    #[error("a palette has {count} colours; expected 1 to {MAX_COLORS}")]
    Count {
        /// Different colours.
        count: usize,
    },
    /// The file cannot be read or is no palette.
    #[error("cannot read the palette in `{}`{}", path.display(), because(reason))]
    File {
        /// The file.
        path: PathBuf,
        /// The reason, and what would be right.
        reason: String,
        /// The error that caused it, if another did.
        #[source]
        cause: Option<Cause>,
    },
}

fn known_names() -> String {
    known::names().collect::<Vec<_>>().join(", ")
}

impl Palette {
    /// Returns a palette of `colors`; a color that comes again is left out.
    ///
    /// # Errors
    /// [`PaletteError::Count`].
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::pixel::Palette;
    /// let palette = Palette::new([[0; 3], [255; 3], [0; 3]])?;
    /// assert_eq!(palette.colors(), [[0; 3], [255; 3]]);
    /// # Ok::<(), dgx_pixels_core::pixel::PaletteError>(())
    /// ```
    pub fn new(colors: impl IntoIterator<Item = [u8; 3]>) -> Result<Palette, PaletteError> {
        let mut seen = std::collections::HashSet::new();
        let colors: Vec<_> = colors.into_iter().filter(|color| seen.insert(*color)).collect();
        if !(1..=MAX_COLORS).contains(&colors.len()) {
            return Err(PaletteError::Count { count: colors.len() });
        }
        Ok(Palette { oklab: colors.iter().map(|color| Oklab::from_rgb(*color)).collect(), colors })
    }

    /// The palette that a user names: a well-known name (`-`, `_`, spaces and case do not matter),
    /// colors such as `#1A1C2C,#5D275D`, or a file (see [`read`](Self::read)).
    ///
    /// # Errors
    /// [`PaletteError`].
    pub fn load(text: &str) -> Result<Palette, PaletteError> {
        match Palette::of_text(text) {
            Err(PaletteError::Unknown { .. }) if Path::new(text).exists() => Palette::read(Path::new(text)),
            Err(PaletteError::Unknown { text }) => Err(PaletteError::NoFile { text }),
            answer => answer,
        }
    }

    /// Returns the same as [`load`](Self::load), but never reads a file: the text may come from a
    /// client that may not read files.
    ///
    /// # Errors
    /// [`PaletteError::Unknown`]; [`PaletteError::Count`].
    pub fn of_text(text: &str) -> Result<Palette, PaletteError> {
        if let Some(palette) = known::find(text) {
            return Ok(palette);
        }
        // A comma at the end says nothing.
        let list = text.trim().trim_end_matches(',');
        let listed: Option<Vec<_>> = list.split(',').map(|color| parse_rgb(color.trim())).collect();
        match listed {
            Some(colors) => Palette::new(colors),
            None => Err(PaletteError::Unknown { text: text.to_owned() }),
        }
    }

    /// A file: a list of hexadecimal colors, GIMP's or Aseprite's GPL, JASC's and Microsoft's PAL,
    /// Adobe's ACT, ASE and ACO, Paint.NET's text, or any PNG, whose visible colors it is. Its
    /// content says which. Text may be UTF-8 or UTF-16.
    ///
    /// # Errors
    /// [`PaletteError::File`].
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::pixel::Palette;
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("mine.hex");
    /// std::fs::write(&path, "1a1c2c\n5d275d\n")?;
    /// assert_eq!(Palette::read(&path)?.colors(), [[0x1a, 0x1c, 0x2c], [0x5d, 0x27, 0x5d]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(path: &Path) -> Result<Palette, PaletteError> {
        let fault =
            |Reason { words: reason, cause }| PaletteError::File { path: path.to_owned(), reason, cause };
        let bytes = files::read_regular(path, MAX_FILE_BYTES).map_err(|error| fault(error.into()))?;
        let colors = file::parse(&bytes).map_err(fault)?;
        Palette::new(colors).map_err(|error| fault(Cause::from(error).into()))
    }

    /// Names that [`load`](Self::load) knows.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::pixel::Palette;
    /// assert!(Palette::names().any(|name| name == "pico-8"));
    /// assert!(Palette::names().all(|name| Palette::load(name).is_ok()));
    /// ```
    pub fn names() -> impl Iterator<Item = &'static str> {
        known::names()
    }

    /// The colours in order.
    pub fn colors(&self) -> &[[u8; 3]] {
        &self.colors
    }

    /// The index of the colour nearest in Oklab; of equals the first.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::pixel::Palette;
    /// let palette = Palette::load("#000000,#ff0000,#ffffff")?;
    /// assert_eq!(palette.nearest([200, 30, 20]), 1);
    /// # Ok::<(), dgx_pixels_core::pixel::PaletteError>(())
    /// ```
    pub fn nearest(&self, color: [u8; 3]) -> usize {
        self.nearest_to(Oklab::from_rgb(color))
    }

    pub(super) fn nearest_to(&self, color: Oklab) -> usize {
        let distances = self.oklab.iter().map(|other| other.distance_squared(color));
        let nearest = distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        nearest.map_or(0, |(i, _)| i)
    }

    pub(super) fn oklab(&self) -> &[Oklab] {
        &self.oklab
    }
}

/// A palette in JSON: a list of colors, or a text as [`Palette::of_text`] takes it.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a palette's name or colors, for example `pico-8` or `#1a1c2c,#5d275d`"
)]
enum Listed {
    Colors(Vec<String>),
    Text(String),
}

impl TryFrom<Listed> for Palette {
    type Error = PaletteError;

    fn try_from(listed: Listed) -> Result<Self, PaletteError> {
        match listed {
            Listed::Text(text) => Palette::of_text(&text),
            Listed::Colors(colors) => {
                let parse = |text: String| parse_rgb(&text).ok_or(PaletteError::Unknown { text });
                Palette::new(colors.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?)
            }
        }
    }
}

impl From<Palette> for Vec<String> {
    fn from(palette: Palette) -> Self {
        palette.colors.into_iter().map(show_rgb).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_palette_has_between_1_and_256_colours() {
        let grey = |count: u32| (0..count).map(|i| [(i >> 8) as u8, i as u8, 0]);
        assert!(Palette::new(grey(256)).is_ok());
        assert_eq!(
            Palette::new(grey(257)).unwrap_err().to_string(),
            "a palette has 257 colours; expected 1 to 256"
        );
        assert_eq!(Palette::new([]).unwrap_err().to_string(), "a palette has 0 colours; expected 1 to 256");
        assert_eq!(Palette::new([[1; 3], [2; 3], [1; 3]]).unwrap().colors(), [[1; 3], [2; 3]]);
    }

    #[test]
    fn colors_are_listed_in_three_or_six_digits_of_either_case() {
        let colors = |text: &str| Palette::load(text).unwrap().colors().to_vec();
        assert_eq!(colors("#fff,#000"), [[255; 3], [0; 3]]);
        assert_eq!(colors(" #1A1c2C, #f0A, "), [[0x1a, 0x1c, 0x2c], [255, 0, 170]]);
        assert!(Palette::load("#ffff").is_err() && Palette::load("#+ff").is_err());
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_there_are() {
        let error = Palette::load("picotron").unwrap_err().to_string();
        assert!(error.starts_with("`palette` is `picotron`; expected a file, colors"), "{error}");
        assert!(error.contains("pico-8, "), "{error}");
    }

    #[test]
    fn json_is_a_list_of_colours() {
        let palette = Palette::load("1-bit").unwrap();
        let json = serde_json::to_string(&palette).unwrap();
        assert_eq!(json, r##"["#000000","#FFFFFF"]"##);
        assert_eq!(serde_json::from_str::<Palette>(&json).unwrap(), palette);
        assert!(serde_json::from_str::<Palette>(r#"["red"]"#).is_err());
    }
}
