//! Images that users hand in: one reader for every door, with limits that hold before a pixel is
//! decoded.
//!
//! The reader takes PNG, JPEG, WebP, GIF and BMP, and returns 8-bit RGBA in sRGB, upright: the
//! orientation that EXIF records is applied, and an embedded color profile is converted. Any other
//! file is named as what it is. [`MAX_DECODING_BYTES`] bounds the memory of all images that are
//! decoded at one time.

mod color;
mod frames;
mod kept;
mod room;
mod source;

use std::io::{Cursor, ErrorKind};
use std::path::Path;

use image::codecs::bmp::BmpDecoder;
use image::codecs::gif::GifDecoder;
use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{AnimationDecoder as _, ColorType, DynamicImage, ImageDecoder, ImageError, Limits, RgbaImage};

use crate::file_kind::{self, Format};
use crate::files;
use color::Conversion;
use frames::{PngFacts, gif_frames, jpeg_is_whole, webp_frames, webp_still};
pub use kept::KeptImages;
pub use room::{MAX_DECODING_BYTES, Room};
#[cfg(feature = "fields")]
pub(crate) use source::{any_file, text};
pub use source::{mask, source};

/// The most pixels of an image: 32 megapixels, of which a copy takes 128 MiB.
pub const MAX_PIXELS: u64 = 1 << 25;
/// The most pixels along a side.
pub const MAX_SIDE: u32 = 65_535;
/// The number of bytes that a decoder may take for profiles and texts, before and beside the
/// pixels.
const MAX_METADATA_BYTES: u64 = 32 << 20;

/// An image, upright and in sRGB.
///
/// The pixels are turned as the file's EXIF record says, and converted by its color profile. Pixels
/// without an alpha channel have alpha 255.
#[derive(Clone, Debug)]
pub struct InputImage {
    /// The pixels of the image.
    pub pixels: RgbaImage,
    /// Clauses about what could not be done with the file, for example
    /// `its color profile cannot be used`.
    pub warnings: Vec<String>,
}

/// The reason why a file gives no image. Each begins with `it`, or is the system's own.
///
/// # Example
/// ```
/// use dgx_pixels_core::input_image::{InputImageError, decode};
/// use dgx_pixels_core::picture_file::plain_png;
///
/// assert!(matches!(decode(&[0xab; 64]), Err(InputImageError::Unknown)));
/// let png = plain_png(&image::RgbaImage::new(48, 24))?;
/// assert!(matches!(decode(&png[..png.len() / 2]), Err(InputImageError::Cut | InputImageError::Damaged)));
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputImageError {
    /// The file cannot be read.
    #[error("{0}")]
    Read(std::io::Error),
    /// The file is of another kind, which is named.
    #[error("{0}; expected PNG, JPEG, WebP, GIF or BMP")]
    Kind(&'static str),
    /// The file is of no known kind.
    #[error("it is no image that can be read; expected PNG, JPEG, WebP, GIF or BMP")]
    Unknown,
    /// The image has too many pixels.
    #[error("it is {width}x{height}; expected at most {MAX_PIXELS} pixels, and {MAX_SIDE} along a side")]
    Size {
        /// The width in pixels.
        width: u32,
        /// The height in pixels.
        height: u32,
    },
    /// The image has several frames.
    #[error("it is animated; expected one image, for example its frames side by side")]
    Animated,
    /// The file ends before its image does.
    #[error("it ends early: the file was cut, or is still being written")]
    Cut,
    /// The file contradicts itself.
    #[error("it is damaged: its parts say different sizes")]
    Damaged,
    /// The file is damaged, or uses what the decoder does not know.
    #[error("{0}")]
    Decode(ImageError),
}

impl From<ImageError> for InputImageError {
    fn from(error: ImageError) -> Self {
        let is_cut = matches!(&error, ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof);
        if is_cut { InputImageError::Cut } else { InputImageError::Decode(error) }
    }
}

/// Reads and decodes the image at `path`, at most [`files::MAX_PICTURE_BYTES`] long.
///
/// # Errors
/// [`InputImageError`].
///
/// # Example
/// ```
/// use dgx_pixels_core::input_image::read;
/// use dgx_pixels_core::picture_file::plain_png;
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("art.png");
/// std::fs::write(&path, plain_png(&image::RgbaImage::new(48, 24))?)?;
/// let image = read(&path)?;
/// assert_eq!((image.pixels.dimensions(), image.warnings.len()), ((48, 24), 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(path: &Path) -> Result<InputImage, InputImageError> {
    decode(&read_file(path)?)
}

/// Reads the file at `path` whole, at most [`files::MAX_PICTURE_BYTES`] long.
///
/// # Errors
/// [`InputImageError::Read`], and [`InputImageError::Kind`] for a git-annex link without its
/// content.
pub fn read_file(path: &Path) -> Result<Vec<u8>, InputImageError> {
    files::read_regular(path, files::MAX_PICTURE_BYTES).map_err(|error| {
        let target = path.read_link().ok().filter(|_| error.kind() == ErrorKind::NotFound);
        let named = target.and_then(|target| file_kind::pointer(target.as_os_str().as_encoded_bytes()));
        named.map_or(InputImageError::Read(error), InputImageError::Kind)
    })
}

/// Decodes an image.
///
/// Waits while [`MAX_DECODING_BYTES`] are taken by other threads.
///
/// # Errors
/// [`InputImageError`].
///
/// # Example
/// ```
/// use dgx_pixels_core::input_image::decode;
/// let error = decode(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a").unwrap_err();
/// assert!(error.to_string().contains("run `git lfs pull`"));
/// ```
pub fn decode(bytes: &[u8]) -> Result<InputImage, InputImageError> {
    decode_in_room(bytes).map(|(image, _)| image)
}

/// Decodes an image, and keeps the memory of its pixels counted against [`MAX_DECODING_BYTES`]
/// until the [`Room`] is dropped: for callers whose work on the pixels is to be bounded as well.
///
/// A thread that holds a `Room` must not decode another image: it would wait for itself.
///
/// # Errors
/// [`InputImageError`].
///
/// # Example
/// ```
/// use dgx_pixels_core::input_image::decode_in_room;
/// use dgx_pixels_core::picture_file::plain_png;
///
/// let png = plain_png(&image::RgbaImage::new(48, 24))?;
/// let (decoded, room) = decode_in_room(&png)?;
/// assert_eq!(decoded.pixels.dimensions(), (48, 24));
/// // Other decoders may use the memory again.
/// drop(room);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn decode_in_room(bytes: &[u8]) -> Result<(InputImage, Room), InputImageError> {
    let header = Header::read(bytes)?;
    let mut room = Room::take(header.decoding_bytes());
    let image = header.decode()?;
    room.shrink(4 * u64::from(image.pixels.width()) * u64::from(image.pixels.height()));
    Ok((image, room))
}

/// The width and height that [`decode`] would return, in pixels, from the file's header alone.
///
/// # Errors
/// [`InputImageError`], but for damage behind the header.
///
/// # Example
/// ```
/// use dgx_pixels_core::input_image::dimensions;
/// use dgx_pixels_core::picture_file::plain_png;
///
/// let png = plain_png(&image::RgbaImage::new(48, 24))?;
/// assert_eq!(dimensions(&png)?, (48, 24));
/// assert!(dimensions(b"<!doctype html>").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn dimensions(bytes: &[u8]) -> Result<(u32, u32), InputImageError> {
    let Header { width, height, orientation, .. } = Header::read(bytes)?;
    Ok(if turns(orientation) { (height, width) } else { (width, height) })
}

/// The facts about an image that are known before its pixels are decoded.
struct Header<'a> {
    bytes: &'a [u8],
    format: Format,
    decoder: Box<dyn ImageDecoder + 'a>,
    width: u32,
    height: u32,
    color: ColorType,
    orientation: Orientation,
    /// The only frame of a PNG's animation, which is not the image that stands before it.
    frame_after_default: bool,
    /// The only frame of a WebP's animation.
    still: Option<Vec<u8>>,
    cicp: Option<[u8; 4]>,
}

impl Header<'_> {
    /// Checks everything that can be checked without decoding.
    fn read(bytes: &[u8]) -> Result<Header<'_>, InputImageError> {
        let named = file_kind::name(bytes);
        let format = match (file_kind::format(bytes), named) {
            (_, Some(named)) => return Err(InputImageError::Kind(named)),
            (None, None) => return Err(InputImageError::Unknown),
            (Some(format), None) => format,
        };
        let from = || Cursor::new(bytes);
        let limits = || {
            let mut limits = Limits::default();
            limits.max_alloc = Some(MAX_METADATA_BYTES);
            limits
        };
        let mut png = PngFacts::default();
        let mut frames = 0;
        let mut decoder: Box<dyn ImageDecoder> = match format {
            Format::Png => {
                png = PngFacts::new(bytes);
                frames = png.frames;
                Box::new(PngDecoder::with_limits(from(), limits())?)
            }
            Format::Jpeg if !jpeg_is_whole(bytes) => return Err(InputImageError::Cut),
            Format::Jpeg => Box::new(JpegDecoder::new(from())?),
            Format::WebP => {
                frames = webp_frames(bytes);
                Box::new(WebPDecoder::new(from())?)
            }
            Format::Gif => {
                let is_cut;
                (frames, is_cut) = gif_frames(bytes);
                if frames == 0 && is_cut {
                    return Err(InputImageError::Cut);
                }
                Box::new(GifDecoder::new(from())?)
            }
            Format::Bmp => Box::new(BmpDecoder::new(from())?),
        };
        let (width, height) = decoder.dimensions();
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 || pixels > MAX_PIXELS || width > MAX_SIDE || height > MAX_SIDE {
            return Err(InputImageError::Size { width, height });
        }
        if frames > 1 {
            return Err(InputImageError::Animated);
        }
        let exif = match png.exif {
            Some(exif) => Some(exif.to_vec()),
            // Damaged EXIF says nothing, and the pixels are there.
            None => decoder.exif_metadata().ok().flatten(),
        };
        let exif = exif.as_deref().map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif));
        let orientation = exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
        Ok(Header {
            bytes,
            format,
            width,
            height,
            color: decoder.color_type(),
            orientation,
            frame_after_default: png.default_is_no_frame,
            still: if format == Format::WebP && frames == 1 { webp_still(bytes) } else { None },
            cicp: png.cicp,
            decoder,
        })
    }

    /// The most that decoding takes at one time, beside the file: the decoder's own memory, its
    /// pixels, and a copy of them in RGBA.
    fn decoding_bytes(&self) -> u64 {
        let decoder = match self.format {
            Format::Png | Format::Bmp => 0,
            // The coefficients of a progressive JPEG, in 16 bits.
            Format::Jpeg => 2 * u64::from(self.color.channel_count()),
            Format::WebP | Format::Gif => 4,
        };
        let animation = if self.frame_after_default { 8 } else { 0 };
        let pixel = decoder + animation + u64::from(self.color.bytes_per_pixel()) + 4;
        u64::from(self.width) * u64::from(self.height) * pixel
    }

    fn decode(mut self) -> Result<InputImage, InputImageError> {
        let mut warnings = vec![];
        let has_color = self.color.has_color();
        let conversion = match self.cicp {
            Some(cicp) => Some(Conversion::from_cicp(cicp)),
            None => match self.decoder.icc_profile() {
                Ok(icc) => icc.map(|icc| Conversion::from_icc(&icc, has_color)),
                Err(error) => Some(Err(error.to_string())),
            },
        };
        let decoded = if self.frame_after_default { self.only_frame()? } else { self.pixels()? };
        let mut unusable = |reason: String| {
            warnings
                .push(format!("its color profile cannot be used ({reason}); its colors are taken as sRGB"));
        };
        let pixels = match conversion {
            None => decoded.0.into_rgba8(),
            Some(Ok(conversion)) => conversion.apply(decoded.0).unwrap_or_else(|(pixels, reason)| {
                unusable(reason);
                pixels
            }),
            Some(Err(reason)) => {
                unusable(reason);
                decoded.0.into_rgba8()
            }
        };
        let mut upright = DynamicImage::ImageRgba8(pixels);
        upright.apply_orientation(decoded.1);
        Ok(InputImage { pixels: upright.into_rgba8(), warnings })
    }

    fn pixels(self) -> Result<(DynamicImage, Orientation), InputImageError> {
        let image = match &self.still {
            Some(still) => DynamicImage::from_decoder(WebPDecoder::new(Cursor::new(still))?)?,
            None => DynamicImage::from_decoder(self.decoder)?,
        };
        // The frame may not be as large as its header said.
        if (image.width(), image.height()) != (self.width, self.height) {
            return Err(InputImageError::Damaged);
        }
        Ok((image, self.orientation))
    }

    fn only_frame(self) -> Result<(DynamicImage, Orientation), InputImageError> {
        let mut limits = Limits::default();
        let pixels = u64::from(self.width) * u64::from(self.height);
        limits.max_alloc = Some(16 * pixels + MAX_METADATA_BYTES);
        let decoder = PngDecoder::with_limits(Cursor::new(self.bytes), limits)?;
        let frame = decoder.apng()?.into_frames().next();
        let frame = frame.ok_or(InputImageError::Cut)??;
        Ok((frame.into_buffer().into(), self.orientation))
    }
}

/// `true` if width and height change places.
fn turns(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH)
}

#[cfg(test)]
mod tests;
