//! The image that a drawing begins from, at the size of the canvas.
//!
//! An image that is smaller than the canvas is enlarged by nearest neighbor, so that the pixels of
//! a sprite become the model's cells. A larger one is reduced by Lanczos, as diffusers does.

use image::imageops::{self, FilterType};
use image::{GrayImage, ImageBuffer, Luma, Pixel, Rgb, RgbImage, Rgba, RgbaImage};

use super::{ImageSize, Mask, ResolvedRequest};

/// The least alpha of a visible pixel, and the least gray of a white one.
pub(super) const HALF: u8 = 128;

/// The image that a drawing begins from, and the part of it that is drawn anew.
///
/// # Example
/// ```
/// use dgx_pixels_core::backend::{Backend, Sketch};
/// use dgx_pixels_core::{GenerateRequest, SourceImage};
/// use image::{Rgb, RgbaImage};
///
/// let init_image = Some(SourceImage::new(RgbaImage::new(32, 32)));
/// let request = GenerateRequest { init_image, ..Default::default() }.resolve(&Sketch.defaults())?;
/// let prepared = request.prepared([255, 0, 255]).expect("the request has an image");
/// // Each pixel is a cell now, and transparent ones have the matte's color.
/// assert_eq!(prepared.image.dimensions(), (256, 256));
/// assert_eq!(*prepared.image.get_pixel(0, 0), Rgb([255, 0, 255]));
/// assert!(prepared.mask.is_none());
/// # Ok::<(), dgx_pixels_core::RequestError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// The image at the size of the canvas, over the matte.
    pub image: RgbImage,
    /// 255 where the image is drawn anew, else 0; `None` without a mask.
    pub mask: Option<GrayImage>,
}

impl Prepared {
    /// Puts the image back where a drawing was not to change it.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Prepared;
    /// use image::{GrayImage, Luma, Rgb, RgbImage};
    ///
    /// let image = RgbImage::from_pixel(2, 1, Rgb([7; 3]));
    /// let mask = GrayImage::from_fn(2, 1, |x, _| Luma([if x == 0 { 255 } else { 0 }]));
    /// let mut drawn = RgbImage::new(2, 1);
    /// Prepared { image, mask: Some(mask) }.restore(&mut drawn);
    /// assert_eq!((drawn.get_pixel(0, 0).0, drawn.get_pixel(1, 0).0), ([0; 3], [7; 3]));
    /// ```
    pub fn restore(&self, drawn: &mut RgbImage) {
        let Some(mask) = self.mask.as_ref().filter(|mask| mask.dimensions() == drawn.dimensions()) else {
            return;
        };
        let pixels = drawn.pixels_mut().zip(self.image.pixels()).zip(mask.pixels());
        for ((drawn, kept), _) in pixels.filter(|(_, mask)| mask[0] == 0) {
            *drawn = *kept;
        }
    }
}

impl ResolvedRequest {
    /// Makes the image that the drawing begins from, over a matte; `None` for a request without an
    /// image, or whose image has no pixels here.
    pub fn prepared(&self, matte: [u8; 3]) -> Option<Prepared> {
        let pixels = self.init_image.as_ref()?.pixels()?;
        let mask = self.mask_at_size_of(pixels).map(|mask| {
            let mut scaled = scaled(mask, self.size);
            scaled.pixels_mut().for_each(|pixel| pixel[0] = if pixel[0] >= HALF { 255 } else { 0 });
            scaled
        });
        Some(Prepared { image: scaled(over(pixels, matte), self.size), mask })
    }

    /// Puts the pixels of the image back into a sprite of its size where they were not to change,
    /// byte for byte. Returns `true` if there was a mask of that size.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::backend::{Backend, Sketch};
    /// use dgx_pixels_core::{GenerateRequest, Mask, SourceImage};
    /// use image::{Rgba, RgbaImage};
    ///
    /// // The right half is transparent, and so drawn anew.
    /// let half = RgbaImage::from_fn(32, 32, |x, _| Rgba([9, 9, 9, if x < 16 { 255 } else { 0 }]));
    /// let init_image = Some(SourceImage::new(half.clone()));
    /// let request = GenerateRequest { init_image, mask: Some(Mask::Alpha), ..Default::default() };
    /// let mut sprite = RgbaImage::from_pixel(32, 32, Rgba([1, 2, 3, 255]));
    /// assert!(request.resolve(&Sketch.defaults())?.restore(&mut sprite));
    /// assert_eq!(sprite.get_pixel(0, 0), half.get_pixel(0, 0));
    /// assert_eq!(*sprite.get_pixel(31, 0), Rgba([1, 2, 3, 255]));
    /// # Ok::<(), dgx_pixels_core::RequestError>(())
    /// ```
    pub fn restore(&self, sprite: &mut RgbaImage) -> bool {
        let Some(pixels) = self.init_image.as_ref().and_then(|image| image.pixels()) else { return false };
        let Some(mask) = self.mask_at_size_of(pixels) else { return false };
        if pixels.dimensions() != sprite.dimensions() {
            return false;
        }
        for ((drawn, kept), mask) in sprite.pixels_mut().zip(pixels.pixels()).zip(mask.pixels()) {
            if mask[0] < HALF {
                *drawn = *kept;
            }
        }
        true
    }

    /// The mask at the size of the image: the more, the whiter.
    fn mask_at_size_of(&self, pixels: &RgbaImage) -> Option<GrayImage> {
        gray(self.mask.as_ref()?, pixels)
    }
}

/// The mask of an image as grays; `None` if its pixels are not here.
pub(super) fn gray(mask: &Mask, image: &RgbaImage) -> Option<GrayImage> {
    let white = |is_white: bool| Luma([if is_white { 255 } else { 0 }]);
    let of_pixel = |x: u32, y: u32, pixel: &Rgba<u8>| match mask {
        Mask::Alpha => white(pixel[3] < HALF),
        Mask::Areas(areas) => white(areas.iter().any(|area| area.contains(x, y))),
        Mask::Image(_) => {
            // The weights of Pillow, which diffusers converts by: ITU-R 601-2.
            let [r, g, b, a] = pixel.0.map(u32::from);
            let luma = (19_595 * r + 38_470 * g + 7_471 * b + 0x8000) >> 16;
            Luma([((luma * a + 127) / 255) as u8])
        }
    };
    let from = match mask {
        Mask::Alpha | Mask::Areas(_) => image,
        Mask::Image(mask) => mask.pixels()?,
    };
    Some(GrayImage::from_fn(from.width(), from.height(), |x, y| of_pixel(x, y, from.get_pixel(x, y))))
}

/// `true` if a mask has a white pixel.
pub(super) fn has_white(mask: &GrayImage) -> bool {
    mask.pixels().any(|pixel| pixel[0] >= HALF)
}

/// The image over the matte. A visible pixel of exactly the matte's color moves by one step of
/// green, as it would be taken for the background.
pub(super) fn over(image: &RgbaImage, matte: [u8; 3]) -> RgbImage {
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [r, g, b, a] = image.get_pixel(x, y).0;
        let mix = |color: u8, matte: u8| {
            let (color, matte, a) = (u32::from(color), u32::from(matte), u32::from(a));
            ((color * a + matte * (255 - a) + 127) / 255) as u8
        };
        let mut mixed = [mix(r, matte[0]), mix(g, matte[1]), mix(b, matte[2])];
        if mixed == matte && a >= HALF {
            mixed[1] = if mixed[1] < HALF { mixed[1] + 1 } else { mixed[1] - 1 };
        }
        Rgb(mixed)
    })
}

/// An image of another size: enlarged by nearest neighbor, or reduced by Lanczos.
pub(super) fn scaled<P: Pixel<Subpixel = u8> + 'static>(
    image: ImageBuffer<P, Vec<u8>>,
    ImageSize { width, height }: ImageSize,
) -> ImageBuffer<P, Vec<u8>> {
    if image.dimensions() == (width, height) {
        return image;
    }
    let is_smaller = image.width() <= width && image.height() <= height;
    let filter = if is_smaller { FilterType::Nearest } else { FilterType::Lanczos3 };
    imageops::resize(&image, width, height, filter)
}
