//! One-bit transparency: a sprite out of its background.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use image::{Rgba, RgbaImage};
use serde::{Deserialize, Serialize};

use super::background::Background;
use super::despill::despill;
use super::neighbours::{Field, oklabs, visible};
use super::option::{parse_rgb, serde_by_word, show_rgb};
use super::{Oklab, Wrap};
use crate::value_error::ValueError;

/// The color that the embedded model paints exactly where there is nothing; its sprites keep clear
/// of it.
pub const MATTE: [u8; 3] = [255, 0, 255];

/// Distance in Oklab up to which [`Transparent::Key`] takes a colour for the key: noise of JPEG,
/// not a shade.
const KEY_REACH: f32 = 0.04;
/// One cell in this many must be the matte for it to be one.
const MATTE_SHARE: usize = 50;

/// The choice of cells of a sprite that become invisible.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::Transparent;
/// assert_eq!("#ff00FF".parse(), Ok(Transparent::Key([255, 0, 255])));
/// assert_eq!(
///     "yes".parse::<Transparent>().unwrap_err().to_string(),
///     "`transparent` is `yes`; expected `auto`, `off` or a color such as `#ff00ff`"
/// );
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "super::option::Word", into = "String")]
pub enum Transparent {
    /// A plain background, if there is one: `auto`, or `true` from programs that know no more than
    /// yes and no.
    #[default]
    Auto,
    /// Nothing: `off`, or `false`.
    Off,
    /// The cells of a color, wherever they are. `#RRGGBB`.
    Key([u8; 3]),
}

impl fmt::Display for Transparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transparent::Auto => f.pad("auto"),
            Transparent::Off => f.pad("off"),
            Transparent::Key(color) => f.pad(&show_rgb(*color)),
        }
    }
}

impl FromStr for Transparent {
    type Err = ValueError;

    fn from_str(word: &str) -> Result<Self, ValueError> {
        match word {
            "auto" | "true" => Ok(Transparent::Auto),
            "off" | "false" => Ok(Transparent::Off),
            color => parse_rgb(color).map(Transparent::Key).ok_or_else(|| {
                ValueError::new("transparent", word, "`auto`, `off` or a color such as `#ff00ff`")
            }),
        }
    }
}

serde_by_word!(Transparent, { "anyOf": [{ "type": "string" }, { "type": "boolean" }] });

/// The result of [`cut_out`]: the background that it took away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutOut {
    /// The background's commonest colour.
    pub background: [u8; 3],
    /// Cells that became invisible.
    pub cleared: u32,
    /// Cells of the silhouette that were part background and took a neighbour's colour.
    pub recolored: u32,
    /// `true` if it is not sure what is background: much of the silhouette is hardly different from
    /// it.
    pub is_unsure: bool,
}

/// Makes the background of `sprite` invisible, and every alpha 0 or 255; what is invisible is all
/// zeros. `None` if the visible cells were left alone.
///
/// First, alpha below 128 becomes 0 and the rest 255. Then, by `how`:
///
/// - [`Transparent::Auto`] leaves a sprite alone that has invisible cells at an edge that does not
///   wrap. If the border has [`MATTE`], and at least 1 cell in 50 is, exactly those go. Else one
///   colour, or two close ones, must hold 60 % of the border; what can be reached from the border
///   through such colours goes, and so does what the sprite encloses, with care: eyes and
///   highlights stay. Walls, floors and framed tiles are left alone, and so is whatever wraps on
///   both axes.
/// - [`Transparent::Key`] takes all cells within 0.04 of the colour in Oklab, connected or not; of
///   [`MATTE`], all that are it exactly.
///
/// A silhouette's cells that mix background and sprite then take the colour of an inner neighbour,
/// or go if they are sprite by less than 0.3. Every colour that is left was in the sprite before.
/// On a background darker than 0.35, and on the exact matte, none are looked for.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::{Transparent, Wrap, cut_out};
/// use image::{Rgba, RgbaImage};
/// let mut sprite = RgbaImage::from_pixel(16, 16, Rgba([250, 250, 250, 255]));
/// (4..12).for_each(|y| (4..12).for_each(|x| sprite.put_pixel(x, y, Rgba([150, 30, 20, 255]))));
/// let cut = cut_out(&mut sprite, Transparent::Auto, Wrap::default()).unwrap();
/// assert_eq!((cut.background, cut.cleared), ([250; 3], 16 * 16 - 8 * 8));
/// assert_eq!(sprite.get_pixel(0, 0).0, [0; 4]);
/// ```
pub fn cut_out(sprite: &mut RgbaImage, how: Transparent, wrap: Wrap) -> Option<CutOut> {
    for pixel in sprite.pixels_mut() {
        *pixel = if pixel[3] < 128 { Rgba([0; 4]) } else { Rgba([pixel[0], pixel[1], pixel[2], 255]) };
    }
    let field = Field::new(sprite, wrap);
    let colors = oklabs(sprite);
    let matte: Vec<bool> =
        sprite.pixels().map(|pixel| pixel.0 == [MATTE[0], MATTE[1], MATTE[2], 255]).collect();
    let mut is_unsure = false;
    let (background, mut cleared) = match how {
        Transparent::Off => return None,
        Transparent::Key(MATTE) => (MATTE, matte),
        Transparent::Key(color) => {
            let key = Oklab::from_rgb(color);
            (color, colors.iter().map(|color| color.distance(key) <= KEY_REACH).collect())
        }
        Transparent::Auto => {
            let seen = visible(sprite);
            if field.border().any(|cell| !seen[cell]) {
                return None;
            }
            let painted = matte.iter().filter(|&&matte| matte).count();
            let edge = Field::new(sprite, Wrap::default()).border().any(|cell| matte[cell]);
            if edge && painted * MATTE_SHARE >= field.len() {
                (MATTE, matte)
            } else {
                let background = Background::measure(field, &colors)?;
                let cleared = background.cells(field, &colors)?;
                is_unsure = background.is_doubtful(field, &colors, &cleared);
                (background.color().to_rgb(), cleared)
            }
        }
    };
    let recolored = match background {
        MATTE => 0,
        _ => despill(sprite, field, &colors, Oklab::from_rgb(background), &mut cleared),
    };
    let mut count = 0;
    for (pixel, _) in sprite.pixels_mut().zip(cleared).filter(|(pixel, cleared)| *cleared && pixel[3] > 0) {
        *pixel = Rgba([0; 4]);
        count += 1;
    }
    Some(CutOut { background, cleared: count, recolored, is_unsure })
}

/// Gives every cell of alpha 0 the colour of the nearest other cell, counted in steps over sides;
/// alpha stays 0. A GPU that filters across the silhouette then mixes no foreign colour in. Without
/// visible cells, nothing changes.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::bleed;
/// use image::{Rgba, RgbaImage};
/// let mut sprite = RgbaImage::new(8, 8);
/// sprite.put_pixel(0, 0, Rgba([200, 40, 40, 255]));
/// bleed(&mut sprite);
/// assert_eq!(sprite.get_pixel(7, 7).0, [200, 40, 40, 0]);
/// ```
pub fn bleed(sprite: &mut RgbaImage) {
    let field = Field::new(sprite, Wrap::default());
    let mut pixels: Vec<Rgba<u8>> = sprite.pixels().copied().collect();
    let mut filled: Vec<bool> = pixels.iter().map(|pixel| pixel[3] > 0).collect();
    let mut waiting: VecDeque<usize> = (0..field.len()).filter(|&cell| filled[cell]).collect();
    while let Some(cell) = waiting.pop_front() {
        for next in field.sides(cell) {
            if !filled[next] {
                filled[next] = true;
                let [r, g, b, _] = pixels[cell].0;
                pixels[next] = Rgba([r, g, b, 0]);
                waiting.push_back(next);
            }
        }
    }
    sprite.pixels_mut().zip(pixels).for_each(|(pixel, filled)| *pixel = filled);
}

/// `true` if nothing of an image that shows something is left in the sprite made of it.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::is_lost;
/// use image::{Rgba, RgbaImage};
/// let image = RgbaImage::from_pixel(64, 64, Rgba([200, 0, 0, 255]));
/// assert!(is_lost(&image, &RgbaImage::new(8, 8)));
/// // An image that shows nothing cannot lose anything.
/// assert!(!is_lost(&RgbaImage::new(64, 64), &RgbaImage::new(8, 8)));
/// ```
pub fn is_lost(image: &RgbaImage, sprite: &RgbaImage) -> bool {
    is_empty(sprite) && !is_empty(image)
}

/// `true` if no pixel of `image` is visible.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::is_empty;
/// use image::{Rgba, RgbaImage};
/// assert!(is_empty(&RgbaImage::new(8, 8)));
/// assert!(!is_empty(&RgbaImage::from_pixel(8, 8, Rgba([0, 0, 0, 255]))));
/// ```
pub fn is_empty(image: &RgbaImage) -> bool {
    image.pixels().all(|pixel| pixel[3] == 0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::pixel::ascii::{draw, show};

    fn cut(art: &str, how: Transparent) -> String {
        let mut sprite = draw(art);
        cut_out(&mut sprite, how, Wrap::default());
        show(&sprite)
    }

    /// A picture of `side` cells of the background `letter` with `art` in the middle.
    fn on(letter: char, side: usize, art: &str) -> String {
        let (width, height) = (art.lines().next().unwrap().len(), art.lines().count());
        let (left, top) = ((side - width) / 2, (side - height) / 2);
        let row = |y: usize| {
            let mut row: Vec<char> = vec![letter; side];
            if let Some(line) = y.checked_sub(top).and_then(|y| art.lines().nth(y)) {
                line.chars()
                    .enumerate()
                    .for_each(|(x, cell)| row[left + x] = if cell == '.' { letter } else { cell });
            }
            row.into_iter().collect::<String>()
        };
        (0..side).map(row).collect::<Vec<_>>().join("\n")
    }

    const HEAD: &str = "kkkkkkkk\nkrrrrrrk\nkrwrrwrk\nkrrrrrrk\nkr....rk\nkr....rk\nkrrrrrrk\nkkkkkkkk";

    #[test]
    fn a_plain_background_goes_with_its_hole_and_eyes_stay() {
        let expected = on('.', 16, HEAD);
        assert_eq!(cut(&on('w', 16, HEAD), Transparent::Auto), expected);
        assert_eq!(cut(&on('g', 16, HEAD), Transparent::Auto), expected);
    }

    #[test]
    fn a_second_shade_of_the_background_goes_too() {
        let art = on('w', 16, HEAD).replacen("wwww", "wWWw", 9);
        assert_eq!(cut(&art, Transparent::Auto), on('.', 16, HEAD));
    }

    #[test]
    fn the_matte_goes_wherever_it_is_and_nothing_near_it() {
        let mut sprite = draw(&on('m', 16, HEAD));
        sprite.put_pixel(8, 8, Rgba([255, 1, 255, 255]));
        let both = Wrap { x: true, y: true };
        assert_eq!(cut_out(&mut sprite, Transparent::Auto, both).unwrap().recolored, 0);
        assert_eq!(sprite.get_pixel(8, 8).0, [255, 1, 255, 255]);
        assert_eq!(show(&sprite).matches('.').count(), 16 * 16 - 8 * 8 + 7);
    }

    #[test]
    fn a_key_goes_unconnected_and_off_only_hardens() {
        assert_eq!(cut("rgr\nggg\nrgr", Transparent::Key([200, 40, 40])), ".g.\nggg\n.g.");
        let mut sprite = draw("ww\nrw");
        sprite.put_pixel(0, 0, Rgba([9, 9, 9, 127]));
        sprite.put_pixel(1, 0, Rgba([255, 255, 255, 128]));
        assert_eq!(cut_out(&mut sprite, Transparent::Off, Wrap::default()), None);
        assert_eq!((sprite.get_pixel(0, 0).0, sprite.get_pixel(1, 0).0), ([0; 4], [255; 4]));
    }

    #[test]
    fn a_sprite_already_cut_out_is_left_alone() {
        let art = on('.', 12, "wwwwww\nwrrrrw\nwrrrrw\nwwwwww");
        assert_eq!(cut(&art, Transparent::Auto), art);
    }

    #[test]
    fn tiles_are_left_alone() {
        let bricks =
            ["rrrrrrrk", "rrrrrrrk", "rrrrrrrk", "kkkkkkkk", "rrrkrrrr", "rrrkrrrr", "rrrkrrrr", "kkkkkkkk"];
        let bricks = bricks.map(|row| row.repeat(3)).join("\n");
        let frame = on('k', 16, &["rrrrrrrrrrrrrr"; 14].join("\n"));
        let floor = on('e', 16, ".");
        for tile in [bricks, frame, floor] {
            assert_eq!(cut(&tile, Transparent::Auto), tile);
        }
        let mut sprite = draw(&on('w', 16, HEAD));
        assert_eq!(cut_out(&mut sprite, Transparent::Auto, Wrap { x: true, y: true }), None);
    }

    #[test]
    fn a_halo_takes_the_colour_inside_it() {
        let mut sprite = draw(&on('g', 16, &["rrrrrrrr"; 8].join("\n")));
        let halo = |share: f32| {
            let (green, red) = (Oklab::from_rgb([60, 170, 60]), Oklab::from_rgb([200, 40, 40]));
            let mix = |green: f32, red: f32| green + share * (red - green);
            let [r, g, b] =
                Oklab { l: mix(green.l, red.l), a: mix(green.a, red.a), b: mix(green.b, red.b) }.to_rgb();
            Rgba([r, g, b, 255])
        };
        (4..12).for_each(|x| sprite.put_pixel(x, 4, halo(0.6)));
        (4..12).for_each(|x| sprite.put_pixel(x, 11, halo(0.25)));
        cut_out(&mut sprite, Transparent::Auto, Wrap::default());
        assert_eq!(show(&sprite), on('.', 16, &format!("{}........", "rrrrrrrr\n".repeat(7))));
    }

    proptest! {
        #[test]
        fn colours_are_only_taken_and_what_is_invisible_is_zeros(
            width in 0u32..12, height in 0u32..12, x in any::<bool>(), y in any::<bool>(),
            cells in prop::collection::vec(any::<[u8; 4]>(), 144), key in any::<Option<[u8; 3]>>()
        ) {
            let mut sprite = RgbaImage::from_fn(width, height, |x, y| Rgba(cells[(y * 12 + x) as usize]));
            let rgb = |pixel: &Rgba<u8>| [pixel[0], pixel[1], pixel[2]];
            let before: HashSet<[u8; 3]> = sprite.pixels().map(rgb).collect();
            cut_out(&mut sprite, key.map_or(Transparent::Auto, Transparent::Key), Wrap { x, y });
            for pixel in sprite.pixels() {
                let known = if pixel[3] == 0 { pixel.0 == [0; 4] } else { pixel[3] == 255 && before.contains(&rgb(pixel)) };
                prop_assert!(known, "{:?}", pixel);
            }
            bleed(&mut sprite);
        }
    }
}
