//! A control of a request: a control net, the image that it follows, and its strength.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{RequestError, SourceImage};
use crate::value_error::ValueError;

/// The most controls of one request.
pub(super) const MAX_CONTROLS: usize = 8;
/// The greatest scale of a control. Authors recommend 0.3 to 1.
pub(super) const MAX_SCALE: f64 = 10.0;

/// A control net (ControlNet), the image that it follows, and its strength.
///
/// # Example
/// ```
/// use dgx_pixels_core::{ControlChoice, Preprocess};
/// let json = r#"{"model": "canny", "image": "blake3:HASH", "end": 0.6, "preprocess": "edges"}"#;
/// let control: ControlChoice = serde_json::from_str(&json.replace("HASH", &"0a".repeat(32)))?;
/// assert_eq!((control.scale, control.start, control.end), (1.0, 0.0, 0.6));
/// assert_eq!(control.preprocess, Preprocess::Edges);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "fields",
    derive(schemars::JsonSchema),
    schemars(description = "A control net, the image that it follows, and its strength.")
)]
#[serde(deny_unknown_fields)]
pub struct ControlChoice {
    /// The name of a control net in the folders `controlnet` of the model folders; the program and
    /// Python also take a path.
    pub model: String,
    /// The image to follow, as `init_image` takes one. It is scaled to the image that the model
    /// draws, and transparent pixels are black.
    #[cfg_attr(feature = "fields", schemars(with = "String"))]
    pub image: SourceImage,
    /// The strength, 0 to 10: diffusers' `controlnet_conditioning_scale`. Default: 1.
    #[serde(default = "one")]
    #[cfg_attr(feature = "fields", schemars(range(min = 0, max = 10)))]
    pub scale: f64,
    /// The share of the steps after which it begins to act, 0 to 1: diffusers'
    /// `control_guidance_start`. Default: 0.
    #[serde(default)]
    #[cfg_attr(feature = "fields", schemars(range(min = 0, max = 1)))]
    pub start: f64,
    /// The share of the steps after which it acts no more, 0 to 1: diffusers'
    /// `control_guidance_end`. Default: 1.
    #[serde(default = "one")]
    #[cfg_attr(feature = "fields", schemars(range(min = 0, max = 1)))]
    pub end: f64,
    /// The image that is made of `image`: `edges`, its edges in white (Canny); `silhouette`, its
    /// visible pixels in white; `outline`, the border of these. Default: `none`.
    #[serde(default)]
    pub preprocess: Preprocess,
}

fn one() -> f64 {
    1.0
}

/// The image that is made of a control's image before the control net sees it.
///
/// # Example
/// ```
/// use dgx_pixels_core::Preprocess;
/// assert_eq!("edges".parse(), Ok(Preprocess::Edges));
/// assert_eq!(
///     "depth".parse::<Preprocess>().unwrap_err().to_string(),
///     "`preprocess` is `depth`; expected `none`, `edges`, `silhouette` or `outline`"
/// );
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preprocess {
    /// The image as it is.
    #[default]
    None,
    /// The edges of its shapes and colors, white on black, one pixel wide.
    Edges,
    /// Its visible pixels in white, those with an alpha of 128 or more, and the others in black.
    Silhouette,
    /// The visible pixels that touch one that is not visible, white on black, one pixel wide.
    Outline,
}

crate::words::schema_of_words!(Preprocess, Preprocess::ALL.map(Preprocess::as_str));

impl Preprocess {
    /// All of them.
    pub const ALL: [Preprocess; 4] =
        [Preprocess::None, Preprocess::Edges, Preprocess::Silhouette, Preprocess::Outline];

    /// The word, for example `edges`.
    pub fn as_str(self) -> &'static str {
        match self {
            Preprocess::None => "none",
            Preprocess::Edges => "edges",
            Preprocess::Silhouette => "silhouette",
            Preprocess::Outline => "outline",
        }
    }
}

impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Preprocess {
    type Err = ValueError;

    fn from_str(word: &str) -> Result<Self, ValueError> {
        Preprocess::ALL
            .into_iter()
            .find(|one| one.as_str() == word)
            .ok_or_else(|| ValueError::new("preprocess", word, "`none`, `edges`, `silhouette` or `outline`"))
    }
}

impl ControlChoice {
    /// Reads the word of a command line: `NAME:IMAGE`, then up to three numbers, for scale, start
    /// and end, and the name of a preprocessing, each after a colon. `read` reads the image.
    ///
    /// # Errors
    /// The form that is expected, or the error of `read`.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::{ControlChoice, Preprocess, SourceImage};
    /// let read = |path: &str| {
    ///     assert_eq!(path, "a:b.png");
    ///     Ok(SourceImage::new(image::RgbaImage::new(16, 16)))
    /// };
    /// let control = ControlChoice::of_word("canny:a:b.png:0.8:0:0.6:edges", read)?;
    /// assert_eq!((control.model.as_str(), control.scale, control.end), ("canny", 0.8, 0.6));
    /// assert_eq!(control.preprocess, Preprocess::Edges);
    /// # Ok::<(), String>(())
    /// ```
    pub fn of_word(
        text: &str,
        read: impl FnOnce(&str) -> Result<SourceImage, String>,
    ) -> Result<ControlChoice, String> {
        // From the end, as the path of an image may have colons of its own.
        let (mut rest, mut preprocess, mut numbers) = (text, Preprocess::None, vec![]);
        if let Some((start, end)) = rest.rsplit_once(':')
            && let Ok(found) = end.parse()
        {
            (rest, preprocess) = (start, found);
        }
        while numbers.len() < 3
            && let Some((start, end)) = rest.rsplit_once(':')
            && let Ok(number) = end.parse::<f64>()
        {
            numbers.push(number);
            rest = start;
        }
        let parts = rest.split_once(':').filter(|(name, image)| !name.is_empty() && !image.is_empty());
        let (name, image) = parts.ok_or(
            "expected `NAME:IMAGE`, `NAME:IMAGE:SCALE:START:END` or a JSON object, for example \
             `canny:sword.png:0.8`",
        )?;
        let mut number = |default: f64| numbers.pop().unwrap_or(default);
        let (scale, start, end) = (number(1.0), number(0.0), number(1.0));
        Ok(ControlChoice { model: name.to_owned(), image: read(image)?, scale, start, end, preprocess })
    }

    /// Checks everything that can be checked without a model.
    pub(super) fn check(&self) -> Result<(), RequestError> {
        let fault = |what: &str, value: f64, expected: &str| {
            let text = format!("has `{}` with the {what} {value}; expected {expected}", self.model);
            Err(RequestError::image("control", text))
        };
        if !(0.0..=MAX_SCALE).contains(&self.scale) {
            return fault("scale", self.scale, &format!("0 to {MAX_SCALE}"));
        }
        if !(0.0..=1.0).contains(&self.start) {
            return fault("start", self.start, "0 to 1");
        }
        if !(0.0..=1.0).contains(&self.end) || self.end <= self.start {
            return fault("end", self.end, &format!("more than the start, {}, and at most 1", self.start));
        }
        self.image.check("control")
    }

    /// `true` if it acts at step `i` of so many.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::{ControlChoice, SourceImage};
    /// let image = SourceImage::new(image::RgbaImage::new(8, 8));
    /// let control = ControlChoice::of_word("canny:sword.png:1:0.25:0.75", |_| Ok(image))?;
    /// assert_eq!([0, 1, 2, 3].map(|i| control.acts_at(i, 4)), [false, true, true, false]);
    /// # Ok::<(), String>(())
    /// ```
    // Source: diffusers 0.42.1, `StableDiffusionXLControlNetPipeline`, `controlnet_keep`.
    pub fn acts_at(&self, i: usize, steps: usize) -> bool {
        let (from, to) = (i as f64 / steps as f64, (i + 1) as f64 / steps as f64);
        !(from < self.start || to > self.end)
    }
}

#[cfg(test)]
mod tests {
    use image::RgbaImage;

    use super::*;

    fn word(text: &str) -> Result<(ControlChoice, String), String> {
        let mut path = String::new();
        let image = SourceImage::new(RgbaImage::new(8, 8));
        let read = |text: &str| {
            path = text.to_owned();
            Ok(image)
        };
        ControlChoice::of_word(text, read).map(|control| (control, path))
    }

    #[test]
    fn a_word_is_read_from_its_end_and_paths_keep_their_colons() {
        let read = |text: &str| {
            let (ControlChoice { model, scale, start, end, preprocess, .. }, path) = word(text).unwrap();
            (model, path, [scale, start, end], preprocess)
        };
        let none = Preprocess::None;
        assert_eq!(read("canny:a.png"), ("canny".into(), "a.png".into(), [1.0, 0.0, 1.0], none));
        assert_eq!(read("o/n/f:C:x:0.5"), ("o/n/f".into(), "C:x".into(), [0.5, 0.0, 1.0], none));
        let all = ("a".into(), "data:image/png;base64,AA".into(), [0.5, 0.1, 0.9], Preprocess::Outline);
        assert_eq!(read("a:data:image/png;base64,AA:0.5:0.1:0.9:outline"), all);
        let word_alone = ("a".into(), "b.png".into(), [1.0, 0.0, 1.0], Preprocess::Silhouette);
        assert_eq!(read("a:b.png:silhouette"), word_alone);
        for text in ["", "canny", "canny:", ":a.png", "canny:0.5", "canny:edges"] {
            assert!(word(text).unwrap_err().starts_with("expected `NAME:IMAGE`"), "{text}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for (text, reason) in [
            ("c:a:11", "`control` has `c` with the scale 11; expected 0 to 10"),
            ("c:a:NaN", "`control` has `c` with the scale NaN; expected 0 to 10"),
            ("c:a:1:-1", "`control` has `c` with the start -1; expected 0 to 1"),
            (
                "c:a:1:0.5:0.5",
                "`control` has `c` with the end 0.5; expected more than the start, 0.5, and at most 1",
            ),
            ("c:a:1:0:2", "`control` has `c` with the end 2; expected more than the start, 0, and at most 1"),
        ] {
            assert_eq!(word(text).unwrap().0.check().unwrap_err().to_string(), reason);
        }
    }
}
