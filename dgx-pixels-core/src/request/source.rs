//! Images that a request draws from, and masks of their parts.
//!
//! An image is known by its content: the BLAKE3 hash of its size and its pixels. A request that was
//! read from a journal or a PNG file has only the hash until the pixels are found.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::RgbaImage;
use serde::{Deserialize, Serialize};

use super::{Crop, ImageSize, RequestError};

/// The most pixels of an image that a request draws from: 16 megapixels, as 4096x4096 has.
pub const MAX_SOURCE_PIXELS: u64 = 1 << 24;

/// An image that a request draws from, by its content. All equal images of a process share their
/// pixels.
///
/// # Example
/// ```
/// use dgx_pixels_core::SourceImage;
/// use image::RgbaImage;
///
/// let image = SourceImage::new(RgbaImage::new(16, 24));
/// assert_eq!(image.pixels().map(RgbaImage::dimensions), Some((16, 24)));
/// // The same pixels are the same image.
/// assert_eq!(image, SourceImage::new(RgbaImage::new(16, 24)));
/// assert_eq!(image.to_string(), format!("blake3:{}", image.hash()));
/// ```
#[derive(Clone)]
pub struct SourceImage(Arc<Content>);

/// The images in memory by their hashes: a batch may name one image ten thousand times.
static KNOWN: LazyLock<Mutex<HashMap<String, Weak<Content>>>> = LazyLock::new(Mutex::default);

struct Content {
    /// In hexadecimal.
    hash: String,
    pixels: Option<RgbaImage>,
}

impl SourceImage {
    /// The image with these pixels, upright and in sRGB.
    pub fn new(pixels: RgbaImage) -> SourceImage {
        let mut hasher = blake3::Hasher::new();
        let (width, height) = pixels.dimensions();
        hasher.update(&width.to_le_bytes()).update(&height.to_le_bytes()).update(pixels.as_raw());
        let hash = hasher.finalize().to_hex().to_string();
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(content) = known.get(&hash).and_then(Weak::upgrade) {
            return SourceImage(content);
        }
        known.retain(|_, content| content.strong_count() > 0);
        let content = Arc::new(Content { hash: hash.clone(), pixels: Some(pixels) });
        known.insert(hash, Arc::downgrade(&content));
        SourceImage(content)
    }

    /// The image of this hash, whose pixels are elsewhere. `None` for a text that is no hash: 64
    /// digits in hexadecimal.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::SourceImage;
    /// let hash = "a".repeat(64);
    /// assert!(SourceImage::of_hash(&hash).is_some_and(|image| image.pixels().is_none()));
    /// assert!(SourceImage::of_hash("../secret").is_none());
    /// ```
    pub fn of_hash(hash: &str) -> Option<SourceImage> {
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_hash.then(|| SourceImage(Arc::new(Content { hash: hash.to_owned(), pixels: None })))
    }

    /// The BLAKE3 hash of size and pixels, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.0.hash
    }

    /// The pixels, if they are in memory.
    pub fn pixels(&self) -> Option<&RgbaImage> {
        self.0.pixels.as_ref()
    }

    /// The number of bytes that the pixels take.
    pub fn bytes(&self) -> usize {
        self.pixels().map_or(0, |pixels| pixels.as_raw().len())
    }

    pub(crate) fn size(&self) -> Option<ImageSize> {
        self.pixels().map(|pixels| ImageSize { width: pixels.width(), height: pixels.height() })
    }

    /// Checks what can be checked of an image whose pixels are there.
    pub(super) fn check(&self, field: &'static str) -> Result<(), RequestError> {
        let Some(ImageSize { width, height }) = self.size() else { return Ok(()) };
        let pixels = u64::from(width) * u64::from(height);
        match (1..=MAX_SOURCE_PIXELS).contains(&pixels) {
            true => Ok(()),
            false => Err(RequestError::image(
                field,
                format!("is {width}x{height}; expected 1 to {MAX_SOURCE_PIXELS} pixels, as 4096x4096 has"),
            )),
        }
    }
}

/// Equal pixels; an image whose pixels are elsewhere is equal to the one that has them.
impl PartialEq for SourceImage {
    fn eq(&self, other: &SourceImage) -> bool {
        self.0.hash == other.0.hash
    }
}

impl fmt::Display for SourceImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", self.hash())
    }
}

impl fmt::Debug for SourceImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceImage({self})")
    }
}

/// A text that is no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected the path of a PNG, JPEG, WebP, GIF or BMP file, its bytes as `data:image/png;base64,...`, \
     or `blake3:` and the hash of an image that was used before"
)]
pub struct SourceError;

/// `blake3:HASH`, or `rgba:WIDTHxHEIGHT:BASE64`, which has all pixels: the form in which requests
/// cross the border to libtorch.
impl FromStr for SourceImage {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<SourceImage, SourceError> {
        if let Some(hash) = text.strip_prefix("blake3:") {
            return SourceImage::of_hash(hash).ok_or(SourceError);
        }
        let (size, pixels) =
            text.strip_prefix("rgba:").and_then(|rest| rest.split_once(':')).ok_or(SourceError)?;
        let ImageSize { width, height } = size.parse().map_err(|_| SourceError)?;
        let pixels = BASE64_STANDARD.decode(pixels).map_err(|_| SourceError)?;
        let is_right =
            width > 0 && height > 0 && u64::from(width) * u64::from(height) * 4 == pixels.len() as u64;
        let pixels = RgbaImage::from_raw(width, height, pixels).filter(|_| is_right);
        pixels.map(SourceImage::new).ok_or(SourceError)
    }
}

impl Serialize for SourceImage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.pixels() {
            None => serializer.collect_str(self),
            Some(pixels) => {
                let base64 = BASE64_STANDARD.encode(pixels.as_raw());
                serializer.serialize_str(&format!("rgba:{}x{}:{base64}", pixels.width(), pixels.height()))
            }
        }
    }
}

impl<'de> Deserialize<'de> for SourceImage {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<SourceImage, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The part of an image that is drawn anew.
///
/// # Example
/// ```
/// use dgx_pixels_core::Mask;
/// assert_eq!("alpha".parse(), Ok(Mask::Alpha));
/// let two: Mask = "4,4,8x8;0,0,2x16".parse()?;
/// assert_eq!(two.to_string(), "4,4,8x8;0,0,2x16");
/// # Ok::<(), dgx_pixels_core::SourceError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Mask {
    /// The transparent pixels of the image, those with an alpha below 128.
    Alpha,
    /// The pixels in any of these rectangles, in pixels of the image.
    Areas(Vec<Area>),
    /// The pixels that are white in this image, those with a gray of 128 or more. Transparent
    /// pixels count as black. It has the size of the image.
    Image(SourceImage),
}

impl Mask {
    /// The image, if the mask is one.
    pub fn image(&self) -> Option<&SourceImage> {
        match self {
            Mask::Alpha | Mask::Areas(_) => None,
            Mask::Image(image) => Some(image),
        }
    }

    /// The rectangles that a text names: `LEFT,TOP,WIDTHxHEIGHT`, and `;` between them.
    fn areas(text: &str) -> Option<Mask> {
        let area = |text: &str| {
            let (corner, size) = text.rsplit_once(',')?;
            Some(Area { corner: corner.parse().ok()?, size: size.parse().ok()? })
        };
        text.split(';').map(|text| area(text.trim())).collect::<Option<_>>().map(Mask::Areas)
    }
}

/// A rectangle of an image, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// The left top pixel.
    pub corner: Crop,
    /// Width and height.
    pub size: ImageSize,
}

impl Area {
    /// `true` if the pixel at `x`, `y` lies in it.
    pub(super) fn contains(&self, x: u32, y: u32) -> bool {
        let Area { corner: Crop { left, top }, size: ImageSize { width, height } } = *self;
        x >= left && x - left < width && y >= top && y - top < height
    }

    /// `true` if it has a pixel, and all its pixels are those of an image of this size.
    pub(super) fn is_in(&self, image: ImageSize) -> bool {
        let Area { corner: Crop { left, top }, size: ImageSize { width, height } } = *self;
        let fits = |from: u32, length: u32, most: u32| length > 0 && from < most && length <= most - from;
        fits(left, width, image.width) && fits(top, height, image.height)
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.corner, self.size)
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mask::Alpha => f.write_str("alpha"),
            Mask::Areas(areas) => {
                let areas: Vec<_> = areas.iter().map(Area::to_string).collect();
                f.write_str(&areas.join(";"))
            }
            Mask::Image(image) => image.fmt(f),
        }
    }
}

impl FromStr for Mask {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Mask, SourceError> {
        match Mask::areas(text) {
            Some(areas) => Ok(areas),
            None if text == "alpha" => Ok(Mask::Alpha),
            None => text.parse().map(Mask::Image),
        }
    }
}

impl Serialize for Mask {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Mask::Image(image) => image.serialize(serializer),
            mask => serializer.collect_str(mask),
        }
    }
}

impl<'de> Deserialize<'de> for Mask {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Mask, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use image::Rgba;

    use super::*;

    #[test]
    fn an_image_survives_json_with_its_pixels_and_without_them() {
        let image = SourceImage::new(RgbaImage::from_fn(3, 2, |x, y| Rgba([x as u8, y as u8, 9, 128])));
        let json = serde_json::to_string(&image).unwrap();
        let again: SourceImage = serde_json::from_str(&json).unwrap();
        assert_eq!((again.pixels(), &again), (image.pixels(), &image));
        let known = SourceImage::of_hash(image.hash()).unwrap();
        let again: SourceImage = serde_json::from_str(&serde_json::to_string(&known).unwrap()).unwrap();
        assert_eq!((again.pixels(), &again), (None, &image));
    }

    #[test]
    fn equal_images_share_their_pixels() {
        let [one, other] = [7, 7].map(|gray| SourceImage::new(RgbaImage::from_pixel(5, 3, Rgba([gray; 4]))));
        assert!(Arc::ptr_eq(&one.0, &other.0));
    }

    #[test]
    fn another_size_is_another_image() {
        let of = |width, height| SourceImage::new(RgbaImage::new(width, height));
        assert_ne!(of(2, 3), of(3, 2));
    }

    #[test]
    fn texts_that_lie_are_no_images() {
        for text in ["", "key.png", "blake3:7", "rgba:2x2:AAAA", "rgba:70000x70000:", "rgba:0x0:", "rgba:1x1"]
        {
            assert!(text.parse::<SourceImage>().is_err(), "{text}");
        }
    }
}
