//! The visibility of the seam of a repeated texture.

use image::RgbaImage;

use super::neighbours::{Field, oklabs, visible};
use super::{Oklab, Wrap};

/// Oklab distance added above and below the ratio, so that the faintest step in a flat texture is
/// no infinite seam.
const FLOOR: f32 = 0.01;

/// Returns the ratio of the sprite's change across the edges that wrap to its change inside: the
/// mean Oklab distance of the pairs of cells that the seam joins, over that of all inner neighbors
/// along the same axis. A visible beside an invisible cell counts as distance 1. With both axes
/// set, the larger of the two.
///
/// 1 is a seam no more visible than the inside, below 1 is smoother than the inside, from about 2
/// on it shows; the largest possible value is 101. 0 if no axis is set or the sprite is empty.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::{Wrap, seam_score};
/// use image::{Rgba, RgbaImage};
/// let ramp = RgbaImage::from_fn(16, 16, |x, _| Rgba([x as u8 * 16, 0, 0, 255]));
/// assert!(seam_score(&ramp, Wrap { x: true, y: false }) > 10.0);
/// assert_eq!(seam_score(&ramp, Wrap { x: false, y: true }), 1.0);
/// ```
pub fn seam_score(sprite: &RgbaImage, wrap: Wrap) -> f32 {
    let field = Field::new(sprite, wrap);
    let open = Field::new(sprite, Wrap::default());
    let cells: Vec<Option<Oklab>> =
        oklabs(sprite).into_iter().zip(visible(sprite)).map(|(color, seen)| seen.then_some(color)).collect();
    let difference = |a: usize, b: usize| match (cells[a], cells[b]) {
        (Some(a), Some(b)) => a.distance(b),
        (None, None) => 0.0,
        _ => 1.0,
    };
    let axis = |step: (i32, i32)| {
        let (mut inner, mut across) = (Vec::new(), Vec::new());
        for cell in 0..field.len() {
            match (open.step(cell, step), field.step(cell, step)) {
                (Some(next), _) => inner.push(difference(cell, next)),
                (None, Some(next)) => across.push(difference(cell, next)),
                (None, None) => {}
            }
        }
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len().max(1) as f32;
        if across.is_empty() { 0.0 } else { (mean(&across) + FLOOR) / (mean(&inner) + FLOOR) }
    };
    axis((1, 0)).max(axis((0, 1)))
}

#[cfg(test)]
mod tests {
    use image::Rgba;

    use super::*;

    const BOTH: Wrap = Wrap { x: true, y: true };

    #[test]
    fn a_texture_that_repeats_scores_one() {
        let stripes = RgbaImage::from_fn(16, 16, |x, _| Rgba([if x % 2 == 0 { 30 } else { 90 }, 0, 0, 255]));
        assert!((seam_score(&stripes, BOTH) - 1.0).abs() < 1e-4);
    }

    #[test]
    fn only_the_axes_that_wrap_count() {
        let halves = RgbaImage::from_fn(16, 16, |_, y| Rgba([0, if y < 8 { 40 } else { 200 }, 0, 255]));
        assert_eq!(seam_score(&halves, Wrap { x: true, y: false }), 1.0);
        assert!(seam_score(&halves, BOTH) > 5.0);
        assert_eq!(seam_score(&halves, Wrap::default()), 0.0);
    }

    #[test]
    fn the_smallest_sprites_have_a_score() {
        for (width, height) in [(0, 0), (1, 1), (1, 5)] {
            assert!(seam_score(&RgbaImage::new(width, height), BOTH) <= 1.0);
        }
    }
}
