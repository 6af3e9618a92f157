//! The image that a control net sees, made of the image that a request names.
//!
//! It has the size of the canvas. An image that is smaller is enlarged by nearest neighbor, and a
//! larger one is reduced by Lanczos, as diffusers does. Transparent pixels are black.

use image::{GrayImage, Luma, RgbImage, Rgba, RgbaImage};

use super::prepared::{HALF, over, scaled};
use super::{ControlChoice, ImageSize, Preprocess};
use crate::pixel::canny;

impl ControlChoice {
    /// Makes the image that the control net sees, at the size of the canvas; `None` if the pixels
    /// of the control's image are not here.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::{ControlChoice, ImageSize, SourceImage};
    /// use image::{Rgb, Rgba, RgbaImage};
    ///
    /// let half = RgbaImage::from_fn(8, 8, |x, _| Rgba([9, 9, 9, if x < 4 { 255 } else { 0 }]));
    /// let read = |_: &str| Ok(SourceImage::new(half.clone()));
    /// let size = ImageSize { width: 64, height: 64 };
    /// let seen = |word| ControlChoice::of_word(word, read).unwrap().seen(size).unwrap();
    /// assert_eq!(*seen("any:half.png").get_pixel(0, 0), Rgb([9; 3]));
    /// assert_eq!(*seen("any:half.png:silhouette").get_pixel(31, 0), Rgb([255; 3]));
    /// let outline = seen("any:half.png:outline");
    /// assert_eq!((outline.get_pixel(30, 0).0, outline.get_pixel(31, 0).0), ([0; 3], [255; 3]));
    /// ```
    pub fn seen(&self, size: ImageSize) -> Option<RgbImage> {
        let pixels = self.image.pixels()?;
        let picture = || scaled(over(pixels, [0; 3]), size);
        Some(match self.preprocess {
            Preprocess::None => picture(),
            Preprocess::Silhouette => colored(&silhouette(pixels, size)),
            Preprocess::Outline => colored(&outline(&silhouette(pixels, size))),
            Preprocess::Edges => {
                let mut edges = canny::edges(&luma(&picture()));
                // A dark shape on a transparent ground has an edge too.
                let outline = outline(&silhouette(pixels, size));
                let both = edges.pixels_mut().zip(outline.pixels());
                both.for_each(|(edge, outline)| edge[0] = edge[0].max(outline[0]));
                colored(&edges)
            }
        })
    }
}

/// The visible pixels in white.
fn silhouette(pixels: &RgbaImage, size: ImageSize) -> GrayImage {
    let white = |is_white: bool| Luma([if is_white { 255 } else { 0 }]);
    let of_pixel = |pixel: &Rgba<u8>| white(pixel[3] >= HALF);
    let visible =
        GrayImage::from_fn(pixels.width(), pixels.height(), |x, y| of_pixel(pixels.get_pixel(x, y)));
    let mut scaled = scaled(visible, size);
    scaled.pixels_mut().for_each(|pixel| *pixel = white(pixel[0] >= HALF));
    scaled
}

/// The white pixels that touch a black one at a side, in white.
fn outline(silhouette: &GrayImage) -> GrayImage {
    let is_black = |x: u32, y: u32| silhouette.get_pixel_checked(x, y).is_some_and(|pixel| pixel[0] == 0);
    GrayImage::from_fn(silhouette.width(), silhouette.height(), |x, y| {
        let around = [(x.wrapping_sub(1), y), (x + 1, y), (x, y.wrapping_sub(1)), (x, y + 1)];
        let is_border = !is_black(x, y) && around.into_iter().any(|(x, y)| is_black(x, y));
        Luma([if is_border { 255 } else { 0 }])
    })
}

/// Grays by the weights of ITU-R 601-2.
fn luma(image: &RgbImage) -> GrayImage {
    GrayImage::from_fn(image.width(), image.height(), |x, y| {
        let [r, g, b] = image.get_pixel(x, y).0.map(u32::from);
        Luma([((19_595 * r + 38_470 * g + 7_471 * b + 0x8000) >> 16) as u8])
    })
}

fn colored(gray: &GrayImage) -> RgbImage {
    RgbImage::from_fn(gray.width(), gray.height(), |x, y| image::Rgb([gray.get_pixel(x, y)[0]; 3]))
}
