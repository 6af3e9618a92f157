//! Images that a call names: judged by their headers, and decoded when there is memory for them.

use std::fs::File;

use dgx_pixels_core::ErrorKind;
use dgx_pixels_core::files::read_opened;
use dgx_pixels_core::input_image::{self, InputImage};
use dgx_pixels_core::library::AssetId;
use image::RgbaImage;

use crate::answer::Fault;
use crate::pixel_work::{Memory, Stop};
use crate::studio::Studio;

/// The most bytes of the file of an image.
pub(crate) const MAX_FILE_BYTES: u64 = 32 << 20;
/// The most pixels of an image that a call names, 4096x4096.
pub(crate) const MAX_PIXELS: u64 = 1 << 24;
/// The most pixels of a sprite that is made of an image, 2048x2048.
pub(crate) const MAX_SPRITE_PIXELS: u64 = 1 << 22;
/// Decoding takes as much for a pixel: up to 16 bits a channel, and 8-bit RGBA.
const DECODING_BYTES: u64 = 12;
/// Pixel stages take as much for each pixel of the sprite: colours as floating point, their counts,
/// a copy.
const CELL_BYTES: u64 = 64;

/// The purpose of an image, which says how much memory it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The caller looks at it.
    Preview,
    /// The caller makes a sprite of it.
    Pixelize,
}

/// An image, and the memory that is counted for it and for the work on it.
pub(crate) struct Picture<'a> {
    pub(crate) pixels: RgbaImage,
    /// The parts of the file that could not be used.
    pub(crate) warnings: Vec<String>,
    _memory: Memory<'a>,
}

/// Reads and decodes the image in `file`.
///
/// # Errors
/// A fault if the call is given up meanwhile; inside, the reason why the file gives no image.
pub(crate) fn open<'a>(
    studio: &'a Studio,
    stop: &Stop,
    file: File,
    purpose: Use,
) -> Result<Result<Picture<'a>, String>, Fault> {
    let read = read_opened(file, MAX_FILE_BYTES).map_err(|error| error.to_string());
    let checked = read.and_then(|bytes| dimensions(&bytes).map(|size| (bytes, size)));
    let (bytes, size) = match checked {
        Ok(read) => read,
        Err(reason) => return Ok(Err(reason)),
    };
    let _memory = studio.pixel_work().memory(needs(size, purpose), stop)?;
    let decoded = input_image::decode(&bytes).map_err(|error| error.to_string());
    Ok(decoded.map(|InputImage { pixels, warnings }| Picture { pixels, warnings, _memory }))
}

/// Decodes the image of an asset.
///
/// # Errors
/// The library's; a fault for one that is larger than can be shown, and for a call that is given
/// up.
pub(crate) fn of_library<'a>(
    studio: &'a Studio,
    stop: &Stop,
    id: &AssetId,
) -> Result<(RgbaImage, Memory<'a>), Fault> {
    let library = studio.library();
    let bytes = library.get(id)?.bytes;
    let fault = |reason: String| {
        let path = library.path(id);
        Fault::new(ErrorKind::InvalidRequest, format!("`{}` cannot be shown: {reason}", path.display()))
    };
    if bytes > MAX_FILE_BYTES {
        return Err(fault(format!("it has {bytes} bytes; expected at most {MAX_FILE_BYTES}")));
    }
    let png = library.read_png(id)?;
    let size = dimensions(&png).map_err(fault)?;
    let memory = studio.pixel_work().memory(needs(size, Use::Preview), stop)?;
    Ok((decode(&png).map_err(fault)?, memory))
}

/// The memory for an image of this size, in bytes.
pub(crate) fn needs((width, height): (u32, u32), purpose: Use) -> u64 {
    let pixels = u64::from(width) * u64::from(height);
    let work = match purpose {
        Use::Preview => 0,
        Use::Pixelize => CELL_BYTES * pixels.min(MAX_SPRITE_PIXELS),
    };
    DECODING_BYTES * pixels + work
}

/// The size of an image, from its header.
///
/// # Errors
/// Why it cannot be used, also for one that is too large.
pub(crate) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), String> {
    let (width, height) = input_image::dimensions(bytes).map_err(|error| error.to_string())?;
    match u64::from(width) * u64::from(height) <= MAX_PIXELS {
        true => Ok((width, height)),
        false => {
            Err(format!("it is {width}x{height}; expected at most {MAX_PIXELS} pixels, as 4096x4096 has"))
        }
    }
}

/// The pixels of an image whose [`dimensions`] were judged.
///
/// # Errors
/// Why it cannot be decoded.
pub(crate) fn decode(bytes: &[u8]) -> Result<RgbaImage, String> {
    input_image::decode(bytes).map(|image| image.pixels).map_err(|error| error.to_string())
}
