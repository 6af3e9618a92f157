//! A sprite's outline: added, tinted or taken off.

use std::fmt;
use std::str::FromStr;

use image::RgbaImage;
use serde::{Deserialize, Serialize};

use super::neighbours::Cells;
use super::option::{parse_rgb, serde_by_word, show_rgb};
use super::{Oklab, Wrap};
use crate::value_error::ValueError;

/// The treatment of a sprite's outline.
///
/// An *outline cell* is visible, dark (Oklab lightness up to 0.35), touches an invisible cell by a
/// side or a corner, and touches a visible cell that is lighter by 0.12 or more. Beyond an edge
/// that does not wrap counts as invisible; a sprite without invisible cells has no outline.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::Outline;
/// assert_eq!("add:#1A1C2C".parse(), Ok(Outline::Add(Some([0x1a, 0x1c, 0x2c]))));
/// assert_eq!(Outline::Selective.to_string(), "selective");
/// assert_eq!(
///     "thick".parse::<Outline>().unwrap_err().to_string(),
///     "`outline` is `thick`; expected `keep`, `add`, `add:#RRGGBB`, `selective` or `remove`"
/// );
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "super::option::Word", into = "String")]
pub enum Outline {
    /// Leave it. `keep`.
    #[default]
    Keep,
    /// Draw one around the sprite, one cell thick, in the invisible cells that share a side with a
    /// visible one. The canvas does not grow. `add:#RRGGBB`, or `add`: the sprite's darkest colour,
    /// or if that is not dark, the same at lightness 0.2.
    Add(Option<[u8; 3]>),
    /// Give each outline cell the colour of the nearest visible cell that is none, at 0.45 of its
    /// lightness and 0.8 of its chroma. `selective`.
    Selective,
    /// Make outline cells invisible. `remove`.
    Remove,
}

impl fmt::Display for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outline::Keep => f.pad("keep"),
            Outline::Add(None) => f.pad("add"),
            Outline::Add(Some(color)) => f.pad(&format!("add:{}", show_rgb(*color))),
            Outline::Selective => f.pad("selective"),
            Outline::Remove => f.pad("remove"),
        }
    }
}

impl FromStr for Outline {
    type Err = ValueError;

    fn from_str(word: &str) -> Result<Self, ValueError> {
        match word {
            "keep" => return Ok(Outline::Keep),
            "add" => return Ok(Outline::Add(None)),
            "selective" => return Ok(Outline::Selective),
            "remove" => return Ok(Outline::Remove),
            _ => {}
        }
        let color = word.strip_prefix("add:").and_then(parse_rgb);
        color.map(|color| Outline::Add(Some(color))).ok_or_else(|| {
            ValueError::new("outline", word, "`keep`, `add`, `add:#RRGGBB`, `selective` or `remove`")
        })
    }
}

serde_by_word!(Outline, { "type": "string" });

/// Lightness in Oklab up to which the sprite's darkest colour serves as its outline.
const DARK: f32 = 0.35;

/// Does to the outline of `sprite` what `how` says; the number of cells changed. What becomes
/// invisible is zeros.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::{Outline, Wrap, outline};
/// use image::{Rgba, RgbaImage};
/// let mut sprite = RgbaImage::new(5, 5);
/// sprite.put_pixel(2, 2, Rgba([200, 40, 40, 255]));
/// assert_eq!(outline(&mut sprite, Outline::Add(Some([0; 3])), Wrap::default()), 4);
/// assert_eq!(sprite.get_pixel(2, 1).0, [0, 0, 0, 255]);
/// assert_eq!(outline(&mut sprite, Outline::Remove, Wrap::default()), 4);
/// ```
pub fn outline(sprite: &mut RgbaImage, how: Outline, wrap: Wrap) -> u32 {
    let mut cells = Cells::new(sprite, wrap);
    let all = 0..cells.field.len();
    let painted: Vec<(usize, Option<[u8; 3]>)> = match how {
        Outline::Keep => return 0,
        Outline::Add(color) => {
            let Some(color) = color.or_else(|| darkest(&cells)) else { return 0 };
            let beside = |&cell: &usize| cells.field.sides(cell).any(|near| cells.is_visible(near));
            all.filter(|&cell| !cells.is_visible(cell))
                .filter(beside)
                .map(|cell| (cell, Some(color)))
                .collect()
        }
        Outline::Remove => all.filter(|&cell| cells.is_outline(cell)).map(|cell| (cell, None)).collect(),
        Outline::Selective => {
            let edge: Vec<bool> = all.clone().map(|cell| cells.is_outline(cell)).collect();
            let inner = nearest_inner(&cells, &edge);
            all.filter(|&cell| edge[cell])
                .map(|cell| (cell, inner[cell].map(|inner| shade(cells.oklab[inner]))))
                .collect()
        }
    };
    painted.iter().for_each(|&(cell, color)| cells.paint(cell, color));
    cells.draw_on(sprite);
    painted.len() as u32
}

fn darkest(cells: &Cells) -> Option<[u8; 3]> {
    let visible = (0..cells.field.len()).filter(|&cell| cells.is_visible(cell));
    let cell = visible.min_by(|&a, &b| cells.oklab[a].l.total_cmp(&cells.oklab[b].l))?;
    let color = cells.oklab[cell];
    if color.l <= DARK {
        cells.rgb[cell]
    } else {
        Some(Oklab { l: 0.2, a: 0.4 * color.a, b: 0.4 * color.b }.to_rgb())
    }
}

fn shade(color: Oklab) -> [u8; 3] {
    Oklab { l: 0.45 * color.l, a: 0.8 * color.a, b: 0.8 * color.b }.to_rgb()
}

/// For each outline cell, the nearest visible cell that is none: by sides before corners, and in
/// reading order.
fn nearest_inner(cells: &Cells, edge: &[bool]) -> Vec<Option<usize>> {
    (0..cells.field.len())
        .map(|cell| {
            let inner = |&near: &usize| cells.is_visible(near) && !edge[near];
            cells.field.sides(cell).find(inner).or_else(|| cells.field.around(cell).find(inner))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::ascii::{draw, show};

    fn outlined(art: &str, how: Outline) -> RgbaImage {
        let mut sprite = draw(art);
        outline(&mut sprite, how, Wrap::default());
        sprite
    }

    #[test]
    fn words_and_values_are_the_same() {
        for how in [
            Outline::Keep,
            Outline::Add(None),
            Outline::Add(Some([1, 2, 254])),
            Outline::Selective,
            Outline::Remove,
        ] {
            assert_eq!(how.to_string().parse(), Ok(how));
            assert_eq!(serde_json::from_value::<Outline>(serde_json::to_value(how).unwrap()).unwrap(), how);
        }
    }

    #[test]
    fn an_added_outline_shares_sides_and_stays_on_the_canvas() {
        let sprite = outlined("r...\nB...\n....", Outline::Add(None));
        assert_eq!(show(&sprite), "rB..\nBB..\nB...");
        let mut tile = draw("r...\n....");
        outline(&mut tile, Outline::Add(Some([12, 10, 14])), Wrap { x: true, y: false });
        assert_eq!(show(&tile), "rk.k\nk...");
    }

    #[test]
    fn a_pale_sprite_gets_a_dark_outline() {
        let sprite = outlined("w.", Outline::Add(None));
        assert!(Oklab::from_rgb([sprite[(1, 0)][0], sprite[(1, 0)][1], sprite[(1, 0)][2]]).l < 0.25);
    }

    #[test]
    fn a_selective_outline_has_the_hue_inside() {
        let sprite = outlined(".....\n.kkk.\n.krk.\n.kkk.", Outline::Selective);
        let [r, g, b, a] = sprite[(1, 1)].0;
        assert!(a == 255 && r > 40 && r > 2 * g && r > 2 * b, "{r} {g} {b} {a}");
        assert_eq!(sprite[(2, 2)].0, [200, 40, 40, 255]);
    }

    #[test]
    fn removing_an_outline_leaves_dark_parts_inside_and_thin_dark_parts() {
        let art = "........\n.kkkkk..\n.krrrk..\n.krkrk..\n.krrrk..\n.kkkkk..\n......kk";
        let bare = "........\n........\n..rrr...\n..rkr...\n..rrr...\n........\n......kk";
        assert_eq!(show(&outlined(art, Outline::Remove)), bare);
        assert_eq!(show(&outlined("kr\nrr", Outline::Remove)), "kr\nrr");
    }
}
