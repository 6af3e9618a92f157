//! Parsers of flags on a command line. Ranges are checked later, with the same words for every
//! door.

use std::error::Error;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::input_image;
use crate::pixel::Palette;
use crate::request::{ControlChoice, Mask, SourceImage};

/// Parses a whole number without a sign.
///
/// # Errors
/// The range of `T`.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::flags::whole;
/// assert_eq!(whole::<u8>("255"), Ok(255));
/// assert!(whole::<u8>("256").is_err());
/// assert!(whole::<u8>("a few").is_err());
/// ```
pub fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    let largest = u64::MAX >> (64 - 8 * size_of::<T>());
    text.parse().map_err(|_| format!("expected a whole number from 0 to {largest}"))
}

/// Parses a number.
///
/// # Errors
/// If it is none.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::flags::number;
/// assert_eq!(number("7.5"), Ok(7.5));
/// assert!(number("strong").is_err());
/// ```
pub fn number(text: &str) -> Result<f64, &'static str> {
    text.parse().map_err(|_| "expected a number")
}

/// Parses two numbers with a comma between them.
///
/// # Errors
/// If they are not two.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::flags::interval;
/// assert_eq!(interval("0.1,0.8"), Ok([0.1, 0.8]));
/// assert!(interval("0.1").is_err());
/// ```
pub fn interval(text: &str) -> Result<[f64; 2], &'static str> {
    let parts = text
        .split_once(',')
        .and_then(|(from, to)| Some([from.trim().parse().ok()?, to.trim().parse().ok()?]));
    parts.ok_or("expected two numbers, for example `0.1,0.8`")
}

/// Loads a palette by name, from colors, or from a file.
///
/// # Errors
/// The error of [`Palette::load`] with its causes.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::flags::palette;
/// assert_eq!(palette("#000,#fff")?.colors(), [[0, 0, 0], [255, 255, 255]]);
/// assert_eq!(palette("pico-8")?.colors().len(), 16);
/// assert!(palette("no-such-palette").is_err());
/// # Ok::<(), String>(())
/// ```
pub fn palette(text: &str) -> Result<Palette, String> {
    Palette::load(text).map_err(|error| error.to_string())
}

/// Reads the image at a path, or of its bytes.
///
/// # Errors
/// The value, and the reason why it gives no image.
pub(crate) fn image(text: &str) -> Result<SourceImage, String> {
    input_image::source(text, input_image::any_file)
}

/// Reads a control: the word that [`ControlChoice::of_word`] reads, or an object in JSON as a line
/// of a batch has it.
///
/// # Errors
/// The form that is expected, or the reason why the image cannot be read.
pub(crate) fn control(text: &str) -> Result<ControlChoice, String> {
    if !text.trim_start().starts_with('{') {
        return ControlChoice::of_word(text, image);
    }
    let mut json: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if let Some(serde_json::Value::String(image)) = json.get_mut("image") {
        *image = input_image::text(image, input_image::any_file)?;
    }
    serde_json::from_value(json).map_err(|error| error.to_string())
}

/// Reads a mask: `alpha`, or an image.
///
/// # Errors
/// The errors of [`image`].
pub(crate) fn mask(text: &str) -> Result<Mask, String> {
    input_image::mask(text, input_image::any_file)
}

/// Parses numbers with commas between them.
///
/// # Errors
/// If one is none.
pub fn list<T: FromStr>(text: &str) -> Result<Vec<T>, &'static str> {
    let numbers: Option<_> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    numbers.ok_or("expected numbers with commas between them, for example `999,499`")
}

/// Returns a parser of a type whose values are words, which `--help` lists.
pub(crate) fn words<T, const N: usize>(
    all: [T; N],
    word: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Error + Send + Sync + 'static> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(all.map(word)).try_map(|word| word.parse::<T>())
}
