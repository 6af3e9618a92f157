//! Images for the eyes of a model: enlarged without blur or reduced, on a chequered ground, as
//! editors show what is transparent.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, RgbaImage, imageops};

/// The longest sides of a preview that an answer tries, in pixels, the largest first.
pub(crate) const SIDES: [u32; 5] = [512, 384, 256, 128, 64];
/// The same for a screenshot, on which text is to be read.
pub(crate) const SCREENSHOT_SIDES: [u32; 6] = [1536, 1024, 768, 512, 384, 256];
/// The most sprites of a contact sheet; more could not be told apart.
pub(crate) const MOST_SPRITES: usize = 64;
const GROUND: [Rgb<u8>; 2] = [Rgb([0x8a, 0x8a, 0x92]), Rgb([0x76, 0x76, 0x7e])];
/// Pixels between the sprites of a contact sheet.
const GAP: u32 = 4;

/// One sprite as PNG: enlarged by a whole number, or reduced, to at most `side` pixels.
pub(crate) fn preview(sprite: &RgbaImage, side: u32) -> Vec<u8> {
    png(&fitted(sprite, side))
}

/// All sprites side by side, the first at the top left, as PNG of at most `side` pixels.
pub(crate) fn contact_sheet(sprites: &[RgbaImage], side: u32) -> Vec<u8> {
    let columns = (sprites.len() as f64).sqrt().ceil().max(1.0) as u32;
    let tile = (side.saturating_sub(GAP * (columns - 1)) / columns).max(1);
    let tiles: Vec<RgbImage> = sprites.iter().map(|sprite| fitted(sprite, tile)).collect();
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

/// A screenshot of at most `most` pixels a side, as PNG.
pub(crate) fn shrunk(screenshot: &RgbaImage, most: u32) -> Vec<u8> {
    let (width, height) = screenshot.dimensions();
    let (width, height) = fitting((width, height), most);
    let image = match width.max(height) < screenshot.width().max(screenshot.height()) {
        true => imageops::thumbnail(screenshot, width, height),
        false => screenshot.clone(),
    };
    png(&DynamicImage::ImageRgba8(image).into_rgb8())
}

/// The size of the same shape whose longest side is at most `most`.
fn fitting((width, height): (u32, u32), most: u32) -> (u32, u32) {
    let longest = width.max(height).max(1);
    let side = |side: u32| (u64::from(side) * u64::from(most) / u64::from(longest)).max(1) as u32;
    if longest <= most { (width, height) } else { (side(width), side(height)) }
}

fn fitted(sprite: &RgbaImage, side: u32) -> RgbImage {
    match sprite.width().max(sprite.height()) <= side {
        true => enlarged(sprite, side),
        false => reduced(sprite, side),
    }
}

/// Enlarged by the largest whole number that fits.
fn enlarged(sprite: &RgbaImage, side: u32) -> RgbImage {
    let factor = (side / sprite.width().max(sprite.height()).max(1)).max(1);
    // Two squares a cell, so that the ground is never taken for the sprite's own pixels.
    let square = (factor / 2).max(1);
    RgbImage::from_fn(sprite.width() * factor, sprite.height() * factor, |x, y| {
        let [r, g, b, alpha] = sprite.get_pixel(x / factor, y / factor).0.map(u64::from);
        over_ground([r * alpha, g * alpha, b * alpha], alpha, 255, (x / square + y / square) % 2)
    })
}

/// Each pixel is the mean of those that it stands for.
fn reduced(sprite: &RgbaImage, side: u32) -> RgbImage {
    let (width, height) = fitting(sprite.dimensions(), side);
    // 64-bit arithmetic: a product of two sides may exceed 32 bits.
    let from = |n: u32, of: u32, all: u32| (u64::from(n) * u64::from(all) / u64::from(of)) as u32;
    RgbImage::from_fn(width, height, |x, y| {
        let columns = from(x, width, sprite.width())..from(x + 1, width, sprite.width());
        let rows = from(y, height, sprite.height())..from(y + 1, height, sprite.height());
        let (mut sums, mut alphas, mut count) = ([0; 3], 0, 0);
        for (x, y) in rows.flat_map(|y| columns.clone().map(move |x| (x, y))) {
            let [r, g, b, alpha] = sprite.get_pixel(x, y).0.map(u64::from);
            sums = [sums[0] + r * alpha, sums[1] + g * alpha, sums[2] + b * alpha];
            (alphas, count) = (alphas + alpha, count + 1);
        }
        over_ground(sums, alphas, 255 * count, (x / 8 + y / 8) % 2)
    })
}

/// A colour over the ground: `premultiplied` is the sum of colours times their alpha, `alpha` the
/// sum of alphas, and `whole` what that would be if all were opaque.
fn over_ground(premultiplied: [u64; 3], alpha: u64, whole: u64, ground: u32) -> Rgb<u8> {
    let ground = GROUND[ground as usize].0.map(u64::from);
    let whole = whole.max(1);
    Rgb(std::array::from_fn(|n| ((premultiplied[n] + ground[n] * (whole - alpha)) / whole) as u8))
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

    fn read(png: &[u8]) -> RgbImage {
        image::load_from_memory(png).unwrap().into_rgb8()
    }

    #[test]
    fn a_preview_is_enlarged_by_a_whole_number_or_reduced() {
        for (side, expected) in
            [(16, 512), (32, 512), (48, 480), (100, 500), (300, 300), (513, 512), (2000, 512)]
        {
            let sprite = RgbaImage::from_pixel(side, 1, Rgba([255, 0, 0, 255]));
            let shown = read(&preview(&sprite, 512));
            assert_eq!(shown.width(), expected);
            assert!(shown.pixels().all(|pixel| pixel.0 == [255, 0, 0]));
        }
    }

    #[test]
    fn what_is_invisible_shows_the_ground_at_any_size() {
        for side in [16, 1024] {
            let half = |x: u32| if x < side / 2 { Rgba([255, 0, 255, 0]) } else { Rgba([0, 200, 0, 255]) };
            let shown = read(&preview(&RgbaImage::from_fn(side, side, |x, _| half(x)), 512));
            let colors: std::collections::BTreeSet<_> = shown.pixels().map(|pixel| pixel.0).collect();
            assert_eq!(colors, [GROUND[0].0, GROUND[1].0, [0, 200, 0]].into());
        }
    }

    #[test]
    fn a_sheet_holds_every_sprite_and_stays_in_its_side() {
        for count in [1, 5, 16, 64] {
            let sprites: Vec<_> =
                (0..count).map(|n| RgbaImage::from_pixel(8 + n, 8, Rgba([n as u8 * 3, 0, 0, 255]))).collect();
            let sheet = read(&contact_sheet(&sprites, 512));
            assert!(sheet.width().max(sheet.height()) <= 512, "{count}: {:?}", sheet.dimensions());
            let colors: std::collections::HashSet<_> = sheet.pixels().map(|pixel| pixel.0).collect();
            assert!((0..count).all(|n| colors.contains(&[n as u8 * 3, 0, 0])));
        }
    }

    #[test]
    fn a_screenshot_keeps_its_shape() {
        let screenshot = RgbaImage::new(3840, 2160);
        assert_eq!(read(&shrunk(&screenshot, 1536)).dimensions(), (1536, 864));
        assert_eq!(read(&shrunk(&RgbaImage::new(800, 600), 1536)).dimensions(), (800, 600));
    }
}
