//! The color that the background left on a sprite's silhouette.
//!
//! Idea: PixelRefiner (HappyOnigiri, MIT), which recolours only what lies on the line from
//! background to sprite.

use image::{Rgba, RgbaImage};

use super::Oklab;
use super::neighbours::Field;

/// The most that a mixture may lie off the line, in Oklab.
const OFF_LINE: f32 = 0.035;
/// Least distance in Oklab between background and sprite for a mixture to be told.
const APART: f32 = 0.15;
/// Share of sprite below which a mixture is taken for background, and from which it is taken for
/// sprite.
const MIXED: (f32, f32) = (0.3, 0.8);
/// Lightness in Oklab under which a background is as dark as outlines are, and mixtures look like
/// them.
const DARK: f32 = 0.35;
/// A colour this near in Oklab is the same one.
const SAME: f32 = 0.02;

/// Mends the silhouette's cells that are a mixture of background and sprite: those with little
/// sprite are `cleared`, others take the colour of the inner neighbour that they are a mixture of.
/// Their number.
///
/// A colour that the sprite also has further in, within two cells, is its own and stays.
pub(super) fn despill(
    sprite: &mut RgbaImage,
    field: Field,
    colors: &[Oklab],
    background: Oklab,
    cleared: &mut [bool],
) -> u32 {
    if background.l < DARK {
        return 0;
    }
    let pixels: Vec<Rgba<u8>> = sprite.pixels().copied().collect();
    let stays: Vec<bool> =
        pixels.iter().zip(&*cleared).map(|(pixel, cleared)| pixel[3] > 0 && !cleared).collect();
    let edge: Vec<bool> =
        (0..field.len()).map(|cell| stays[cell] && field.around(cell).any(|near| cleared[near])).collect();
    let is_inner = |&cell: &usize| stays[cell] && !edge[cell];
    let mut mended = 0;
    for cell in (0..field.len()).filter(|&cell| edge[cell]) {
        let ring = (-2..=2).flat_map(|dy| (-2..=2).map(move |dx| (dx, dy)));
        let own = ring.filter_map(|step| field.step(cell, step)).filter(is_inner);
        if own.into_iter().any(|near| colors[near].distance(colors[cell]) <= SAME) {
            continue;
        }
        let inner = field.sides(cell).chain(field.around(cell)).filter(is_inner);
        let shares = inner.filter_map(|near| Some((near, share(colors[cell], background, colors[near])?)));
        let Some((near, share)) = shares.into_iter().next() else { continue };
        if share < MIXED.0 {
            cleared[cell] = true;
        } else if share < MIXED.1 {
            let (x, y) = field.point(cell);
            sprite.put_pixel(x, y, pixels[near]);
            mended += 1;
        }
    }
    mended
}

/// The share of `inner` in `mixture`, 0 to 1; `None` if it is no mixture of `inner` and
/// `background`.
fn share(mixture: Oklab, background: Oklab, inner: Oklab) -> Option<f32> {
    let apart = background.distance(inner);
    let (start, end) = (background.distance(mixture), inner.distance(mixture));
    let share = (start * start - end * end + apart * apart) / (2.0 * apart * apart).max(1e-9);
    let off_line = (start * start - (share * apart).powi(2)).max(0.0).sqrt();
    (apart >= APART && (0.0..=1.0).contains(&share) && off_line <= OFF_LINE).then_some(share)
}
