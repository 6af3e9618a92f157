//! The pictures of the pixel benches: a sprite of 128x128 cells enlarged sharply, smoothly, with
//! noise, and by a broken factor; and a picture without a grid. Each has 1024x1024 pixels.

use image::imageops::{FilterType, crop_imm, resize};
use image::{Rgba, RgbaImage};

/// A number below 2^24 that has nothing to do with its neighbours'.
fn hash(x: u32, y: u32) -> u32 {
    ((x.wrapping_mul(73_856_093)) ^ (y.wrapping_mul(19_349_663))).wrapping_mul(2_654_435_761) >> 8
}

/// A disc of 24 colours in bands, on a plain background.
fn sprite(side: u32) -> RgbaImage {
    RgbaImage::from_fn(side, side, |x, y| {
        let (dx, dy) = (f64::from(x) - f64::from(side) / 2.0, f64::from(y) - f64::from(side) / 2.0);
        let radius = dx.hypot(dy) / f64::from(side);
        let band = (radius * 16.0) as u32 * 3 + hash(x / 2, y / 3) % 3;
        let color = if radius < 0.45 { hash(band, 7) } else { 0xeeeeee };
        let [_, r, g, b] = color.to_be_bytes();
        Rgba([r, g, b, 255])
    })
}

/// The names of the pictures, in their order.
pub(crate) const NAMES: [&str; 5] = ["nearest", "lanczos", "lanczos_noise", "bicubic_7.6", "no_grid"];

/// Makes the picture of one of the [`NAMES`].
pub(crate) fn picture(name: &str) -> RgbaImage {
    let enlarged = |filter| resize(&sprite(128), 1024, 1024, filter);
    match name {
        "nearest" => enlarged(FilterType::Nearest),
        "lanczos" => enlarged(FilterType::Lanczos3),
        "lanczos_noise" => {
            let mut noisy = enlarged(FilterType::Lanczos3);
            for (x, y, pixel) in noisy.enumerate_pixels_mut() {
                let noise = (hash(x, y) % 17) as i16 - 8;
                pixel.0[..3]
                    .iter_mut()
                    .for_each(|value| *value = (i16::from(*value) + noise).clamp(0, 255) as u8);
            }
            noisy
        }
        "bicubic_7.6" => {
            let broken = resize(&sprite(140), 1064, 1064, FilterType::CatmullRom);
            crop_imm(&broken, 20, 20, 1024, 1024).to_image()
        }
        "no_grid" => {
            let wave = |value: f32| (127.0 + 120.0 * value.sin()) as u8;
            RgbaImage::from_fn(1024, 1024, |x, y| {
                let (x, y) = (x as f32, y as f32);
                let red = wave(x / 61.0 + y / 97.0);
                let green = wave(x / 143.0 - y / 59.0);
                Rgba([red, green, wave((x * y).sqrt() / 71.0), 255])
            })
        }
        _ => panic!("`{name}` is no picture of the benches; expected one of {NAMES:?}"),
    }
}
