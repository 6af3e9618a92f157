//! Mending what a sprite's lint is sure of.

use image::{Rgba, RgbaImage};
use serde::{Deserialize, Serialize};

use super::Wrap;
use super::neighbours::Cells;

/// Oklab distance from which a lone cell is an eye or a glint, not noise.
const GLINT: f32 = 0.12;
/// Largest share of the visible cells that all specks together may hold: beyond, they are meant, as
/// in snow.
const SPECKS: f32 = 0.02;

/// The changes that [`clean_up`] made, in cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mended {
    /// Lone cells that took the colour around them.
    pub orphans: u32,
    /// Cells of detached specks, now invisible.
    pub specks: u32,
    /// Corners taken out of diagonal lines.
    pub jaggies: u32,
}

/// Mends what is certain, and nothing else; [`lint`](super::lint) tells of the rest.
///
/// - A lone cell within 0.12 of its neighbours in Oklab takes the colour that most of them have.
///   One that differs more is an eye or a glint and stays.
/// - Detached specks of at most 1 in 200 visible cells become invisible, unless they are more than
///   2 % of the sprite.
/// - A corner that thickens a diagonal line of one cell's width takes what lies outside the corner.
///
/// Every colour was in the sprite before. A second run changes nothing.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::{Mended, Wrap, clean_up};
/// use image::{Rgba, RgbaImage};
/// let mut sprite = RgbaImage::from_pixel(8, 8, Rgba([200, 40, 40, 255]));
/// sprite.put_pixel(2, 2, Rgba([220, 60, 60, 255]));
/// sprite.put_pixel(5, 2, Rgba([0, 0, 0, 255]));
/// assert_eq!(clean_up(&mut sprite, Wrap::default()), Mended { orphans: 1, ..Mended::default() });
/// assert_eq!(sprite.get_pixel(2, 2).0, [200, 40, 40, 255]);
/// assert_eq!(sprite.get_pixel(5, 2).0, [0, 0, 0, 255]);
/// ```
pub fn clean_up(sprite: &mut RgbaImage, wrap: Wrap) -> Mended {
    let mut cells = Cells::new(sprite, wrap);
    let mut mended = Mended::default();
    // Ends: each change has fewer visible cells, or as many and more neighbours of the same colour.
    loop {
        let before = mended;
        let specks = cells.specks();
        let visible = cells.rgb.iter().flatten().count();
        if specks.len() as f32 <= SPECKS * visible as f32 {
            mended.specks += specks.len() as u32;
            specks.into_iter().for_each(|cell| cells.paint(cell, None));
        }
        for cell in 0..cells.field.len() {
            if let Some(model) = cells.lone(cell).filter(|&model| cells.distance(cell, model) < GLINT) {
                cells.paint(cell, cells.rgb[model]);
                mended.orphans += 1;
            } else if let Some(color) = cells.spare_corner(cell) {
                cells.paint(cell, color);
                mended.jaggies += 1;
            }
        }
        if mended == before {
            break;
        }
    }
    cells.draw_on(sprite);
    mended
}

impl Cells {
    /// Writes the cells that are not as `sprite` has them: colours with alpha 255, invisible cells
    /// as zeros.
    pub(super) fn draw_on(&self, sprite: &mut RgbaImage) {
        for (pixel, rgb) in sprite.pixels_mut().zip(&self.rgb) {
            let had = (pixel[3] >= 128).then_some([pixel[0], pixel[1], pixel[2]]);
            if had != *rgb {
                *pixel = rgb.map_or(Rgba([0; 4]), |[r, g, b]| Rgba([r, g, b, 255]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::pixel::ascii::{draw, show};

    fn cleaned(art: &str) -> String {
        let mut sprite = draw(art);
        clean_up(&mut sprite, Wrap::default());
        show(&sprite)
    }

    #[test]
    fn faint_freckles_go_and_eyes_stay() {
        assert_eq!(
            cleaned("rrrrrrrr\nrrrrrrrr\nrprrrkrr\nrrrrrrrr"),
            "rrrrrrrr\nrrrrrrrr\nrrrrrkrr\nrrrrrrrr"
        );
    }

    #[test]
    fn a_detached_speck_goes_and_snow_stays() {
        let body = "rrrrrrrrrr......\n".repeat(8);
        assert_eq!(
            cleaned(&format!("{body}................\n.............r..")),
            format!("{body}................\n................")
        );
        let snow = "................\n.w.w.w.w.w.w.w.w\n................\nw.w.w.w.w.w.w.w.";
        assert_eq!(cleaned(&format!("{body}{snow}")), format!("{body}{snow}"));
    }

    #[test]
    fn a_corner_leaves_a_diagonal_line_and_a_box_keeps_its_own() {
        assert_eq!(
            cleaned("k.....\n.kk...\n..k...\n...k..\n......"),
            "k.....\n.k....\n..k...\n...k..\n......"
        );
        let square = "kkkk\nk..k\nk..k\nkkkk";
        assert_eq!(cleaned(square), square);
    }

    proptest! {
        #[test]
        fn a_second_run_changes_nothing_and_no_colour_is_new(
            side in 1u32..14, x in any::<bool>(), y in any::<bool>(), letters in prop::collection::vec(0usize..40, 196)
        ) {
            // Mostly one colour, so that there are lone cells, specks and lines.
            let colors: Vec<[u8; 4]> = draw("rRpgGbK.").pixels().map(|pixel| pixel.0).collect();
            let at = |i: usize| colors.get(letters[i]).copied().unwrap_or(colors[letters[i] / 30 * 7]);
            let wrap = Wrap { x, y };
            let mut sprite = RgbaImage::from_fn(side, side, |x, y| Rgba(at((y * 14 + x) as usize)));
            let before: HashSet<[u8; 4]> = sprite.pixels().map(|pixel| pixel.0).chain([[0; 4]]).collect();
            clean_up(&mut sprite, wrap);
            prop_assert!(sprite.pixels().all(|pixel| before.contains(&pixel.0)));
            let once = sprite.clone();
            prop_assert_eq!(clean_up(&mut sprite, wrap), Mended::default());
            prop_assert_eq!(sprite, once);
        }
    }
}
