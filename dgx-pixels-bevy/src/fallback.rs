//! The picture of what cannot be shown: a checkerboard that nobody overlooks.

use bevy::asset::RenderAssetUsages;
use bevy::image::ImageSampler;
use bevy::prelude::Image;
use image::{Rgba, RgbaImage};

const SIDE: u32 = 16;
const CHECK: u32 = 4;
const MAGENTA: Rgba<u8> = Rgba([255, 0, 255, 255]);
const BLACK: Rgba<u8> = Rgba([0, 0, 0, 255]);

/// 16x16, magenta and black.
pub(crate) fn fallback() -> Image {
    let color = |x: u32, y: u32| if (x / CHECK + y / CHECK).is_multiple_of(2) { MAGENTA } else { BLACK };
    let picture = RgbaImage::from_fn(SIDE, SIDE, color);
    let mut image = Image::from_dynamic(picture.into(), true, RenderAssetUsages::default());
    image.sampler = ImageSampler::nearest();
    image
}
