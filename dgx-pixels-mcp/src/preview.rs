//! Pictures for the eyes of a model: enlarged without blur, on a chequered ground, as editors show what is transparent.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, RgbaImage, imageops};

/// The longest side of a preview at most.
const SIDE: u32 = 512;
/// Of a screenshot, at most.
const SCREENSHOT_SIDE: u32 = 1536;
const GROUND: [Rgb<u8>; 2] = [Rgb([0x8a, 0x8a, 0x92]), Rgb([0x76, 0x76, 0x7e])];
/// Between the sprites of a contact sheet, in pixels of the sheet.
const GAP: u32 = 8;

/// One sprite, enlarged by a whole number to a longest side of 256 to 512 pixels, as PNG.
pub(crate) fn preview(sprite: &RgbaImage) -> Vec<u8> {
    png(&enlarged(sprite, SIDE))
}

/// All sprites side by side, the first at the top left, as PNG.
pub(crate) fn contact_sheet(sprites: &[RgbaImage]) -> Vec<u8> {
    let columns = (sprites.len() as f64).sqrt().ceil().max(1.0) as u32;
    let side = (2 * SIDE / columns).clamp(64, SIDE);
    let tiles: Vec<RgbImage> = sprites.iter().map(|sprite| enlarged(sprite, side)).collect();
    let (width, height) = tiles
        .iter()
        .fold((1, 1), |(width, height), tile| (tile.width().max(width), tile.height().max(height)));
    let rows = (sprites.len() as u32).div_ceil(columns).max(1);
    let mut sheet = RgbImage::from_pixel(
        columns * (width + GAP) - GAP,
        rows * (height + GAP) - GAP,
        Rgb([0x20, 0x20, 0x24]),
    );
    for (tile, place) in tiles.iter().zip(0..) {
        let (x, y) = (place % columns * (width + GAP), place / columns * (height + GAP));
        imageops::replace(&mut sheet, tile, i64::from(x), i64::from(y));
    }
    png(&sheet)
}

/// A screenshot no larger than models look at, as PNG.
pub(crate) fn shrunk(screenshot: &RgbaImage) -> Vec<u8> {
    let longest = screenshot.width().max(screenshot.height());
    let side = |side: u32| (u64::from(side) * u64::from(SCREENSHOT_SIDE) / u64::from(longest)).max(1) as u32;
    let image = match longest {
        0..=SCREENSHOT_SIDE => screenshot.clone(),
        _ => imageops::thumbnail(screenshot, side(screenshot.width()), side(screenshot.height())),
    };
    png(&DynamicImage::ImageRgba8(image).into_rgb8())
}

/// Enlarged by the largest whole number that fits; a picture that is larger is left as it is.
fn enlarged(sprite: &RgbaImage, side: u32) -> RgbImage {
    let factor = (side / sprite.width().max(sprite.height()).max(1)).max(1);
    // Two squares a cell, so that the ground is never taken for the sprite's own pixels.
    let square = (factor / 2).max(1);
    RgbImage::from_fn(sprite.width() * factor, sprite.height() * factor, |x, y| {
        let [r, g, b, alpha] = sprite.get_pixel(x / factor, y / factor).0;
        let ground = GROUND[((x / square + y / square) % 2) as usize].0;
        let mix = |color: u8, ground: u8| {
            ((u32::from(color) * u32::from(alpha) + u32::from(ground) * (255 - u32::from(alpha))) / 255) as u8
        };
        Rgb([mix(r, ground[0]), mix(g, ground[1]), mix(b, ground[2])])
    })
}

fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(vec![]);
    image.write_to(&mut bytes, ImageFormat::Png).expect("memory takes every byte; this is a bug");
    bytes.into_inner()
}

#[cfg(test)]
mod tests {
    use image::Rgba;

    use super::*;

    #[test]
    fn a_preview_is_enlarged_by_a_whole_number() {
        for (side, expected) in [(16, 512), (32, 512), (48, 480), (100, 500), (300, 300), (2000, 2000)] {
            let sprite = RgbaImage::from_pixel(side, 1, Rgba([255, 0, 0, 255]));
            let shown = image::load_from_memory(&preview(&sprite)).unwrap();
            assert_eq!(shown.width(), expected);
        }
    }

    #[test]
    fn a_sheet_holds_every_sprite() {
        let sprites: Vec<_> =
            (0..5).map(|n| RgbaImage::from_pixel(8, 8, Rgba([n * 40, 0, 0, 255]))).collect();
        let sheet = image::load_from_memory(&contact_sheet(&sprites)).unwrap().into_rgb8();
        let colors: std::collections::HashSet<_> = sheet.pixels().map(|pixel| pixel.0).collect();
        assert!((0..5).all(|n| colors.contains(&[n * 40, 0, 0])));
    }
}
