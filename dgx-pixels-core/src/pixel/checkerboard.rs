//! Checkerboards that a program drew where there is nothing, and a screenshot or a careless export
//! kept.
//!
//! Two neutral tones alternate around the sprite. Their squares have nothing to do with the
//! sprite's cells, and are a far stronger grid, so they are made transparent before a grid is
//! looked for.

use image::{Rgba, RgbaImage};

/// Red, green and blue of a neutral tone differ by no more than this.
const NEUTRAL: u8 = 12;
/// A pixel this near to a tone, in each channel, has it: lossy files move it a little.
const NEAR: i32 = 14;
/// This near if nothing blurred or coded the picture since the board was drawn, which this share of
/// the board tells.
const EXACT: i32 = 2;
const EXACT_SHARE: f64 = 0.95;
/// Pixels this far from a line may mix two squares, if the picture is not exact.
const MIXES: f64 = 1.6;
/// The tones differ by at least this, and by no more than that.
const TONES: (i32, i32) = (11, 130);
/// The tones hold this share of the picture's border, each at least a third of it.
const BORDER_SHARE: f64 = 0.5;
/// Squares of the border that have the tone that the board says.
const AGREES: f64 = 0.93;
/// Sides of squares, in pixels.
const SIDES: std::ops::RangeInclusive<f64> = 4.0..=64.0;
/// Squares along each axis, at least.
const FEWEST_SQUARES: f64 = 6.0;
/// Changes of tone lie on the board's lines to this degree, 0 to 1.
const ON_LINES: f64 = 0.8;
/// Less of the picture than this is no sprite.
const LEAST_SPRITE: f64 = 0.01;

/// The squares of one axis.
#[derive(Clone, Copy, Debug)]
struct Squares {
    side: f64,
    phase: f64,
}

impl Squares {
    /// The number of the square at a pixel, and how far the pixel's middle lies from the nearest
    /// line.
    fn at(self, pixel: usize) -> (i64, f64) {
        let place = (pixel as f64 + 0.5 - self.phase) / self.side;
        let from_line = (place - place.round()).abs() * self.side;
        (place.floor() as i64, from_line)
    }
}

/// `image` with its drawn checkerboard transparent; `None` if it has none.
pub(super) fn without_checkerboard(image: &RgbaImage) -> Option<RgbaImage> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width.min(height) < 32 || image.pixels().any(|pixel| pixel[3] < 255) {
        return None;
    }
    let tones = tones(image)?;
    let tone = |x: usize, y: usize| {
        let pixel = image.get_pixel(x as u32, y as u32);
        tones.iter().position(|tone| distance(pixel, *tone) <= NEAR)
    };
    let x = squares(width, height, tone)?;
    let y = squares(height, width, |along, across| tone(across, along))?;
    if !(0.97..1.03).contains(&(x.side / y.side)) {
        return None;
    }

    // 1. which squares are light, and whether the border agrees
    let odd = |px: usize, py: usize| ((x.at(px).0 + y.at(py).0) & 1) as usize;
    let inside = |px: usize, py: usize| x.at(px).1 > 1.0 && y.at(py).1 > 1.0;
    let mut votes = [[0u32; 2]; 2];
    for (px, py) in border(width, height).filter(|&(px, py)| inside(px, py)) {
        if let Some(tone) = tone(px, py) {
            votes[odd(px, py)][tone] += 1;
        }
    }
    let first = usize::from(votes[0][1] + votes[1][0] > votes[0][0] + votes[1][1]);
    let agreeing = votes[0][first] + votes[1][1 - first];
    let all: u32 = votes.iter().flatten().sum();
    if all == 0 || f64::from(agreeing) < AGREES * f64::from(all) {
        return None;
    }

    // 2. how exactly it was kept, in squares that are of the board
    let expected = |px: usize, py: usize| tones[odd(px, py) ^ first];
    let (mut exact, mut all) = (0u32, 0u32);
    let middles = |axis: Squares, len: usize| {
        let count = ((len as f64 - axis.phase) / axis.side).ceil().max(0.0) as usize;
        (0..=count)
            .map(move |i| axis.phase + (i as f64 - 0.5) * axis.side)
            .filter(move |at| (0.0..len as f64).contains(at))
    };
    let around = [-0.4, -0.2, 0.0, 0.2, 0.4];
    for (left, top) in middles(y, height).flat_map(|top| middles(x, width).map(move |left| (left, top))) {
        let places = around.iter().flat_map(|dy| around.map(|dx| (left + dx * x.side, top + dy * y.side)));
        let inside =
            |(px, py): &(f64, f64)| (0.0..width as f64).contains(px) && (0.0..height as f64).contains(py);
        let distances: Vec<i32> = places
            .filter(inside)
            .map(|(px, py)| (px as usize, py as usize))
            .map(|(px, py)| distance(image.get_pixel(px as u32, py as u32), expected(px, py)))
            .collect();
        if distances.iter().all(|distance| *distance <= NEAR) {
            all += distances.len() as u32;
            exact += distances.iter().filter(|distance| **distance <= EXACT).count() as u32;
        }
    }
    let is_exact = f64::from(exact) >= EXACT_SHARE * f64::from(all);
    let (near, mixes) = if is_exact { (EXACT, 0.0) } else { (NEAR, MIXES) };

    // 3. pixels that show what the board would; between two squares, anything between their tones
    let shows = |px: usize, py: usize| {
        let Rgba([r, g, b, _]) = *image.get_pixel(px as u32, py as u32);
        let near_line = x.at(px).1 < mixes || y.at(py).1 < mixes;
        let expected = expected(px, py);
        [r, g, b].into_iter().enumerate().all(|(c, value)| {
            let value = i32::from(value);
            let (low, high) = (tones[0][c].min(tones[1][c]), tones[0][c].max(tones[1][c]));
            if near_line {
                (low - near..=high + near).contains(&value)
            } else {
                (value - expected[c]).abs() <= near
            }
        })
    };
    let shown: Vec<bool> = (0..width * height).map(|i| shows(i % width, i / width)).collect();

    // 4. of these, all that hangs together with the border, or shows both tones
    let mut board = vec![false; shown.len()];
    let mut seen = vec![false; shown.len()];
    let mut part = vec![];
    for start in 0..shown.len() {
        if !shown[start] || seen[start] {
            continue;
        }
        part.clear();
        part.push(start);
        seen[start] = true;
        let (mut next, mut counts, mut at_border) = (0, [0usize; 2], false);
        while let Some(&at) = part.get(next) {
            next += 1;
            let (px, py) = (at % width, at / width);
            at_border |= px == 0 || py == 0 || px + 1 == width || py + 1 == height;
            if inside(px, py) {
                counts[odd(px, py)] += 1;
            }
            let sides = [
                (px > 0, at.wrapping_sub(1)),
                (px + 1 < width, at + 1),
                (py > 0, at.wrapping_sub(width)),
                (py + 1 < height, at + width),
            ];
            for (exists, side) in sides {
                if exists && shown[side] && !seen[side] {
                    seen[side] = true;
                    part.push(side);
                }
            }
        }
        let square = x.side * y.side;
        let both = counts.iter().all(|count| *count as f64 > 0.2 * square);
        if at_border || both {
            part.iter().for_each(|at| board[*at] = true);
        }
    }
    let left = board.iter().filter(|board| !**board).count();
    if (left as f64) < LEAST_SPRITE * board.len() as f64 || 10 * left > 9 * board.len() {
        return None;
    }
    let mut cleared = image.clone();
    for (pixel, board) in cleared.pixels_mut().zip(board) {
        if board {
            *pixel = Rgba([0; 4]);
        }
    }
    Some(cleared)
}

/// Pixels of some of the outermost rows and columns, of which a line between squares hides no more
/// than half.
fn border(width: usize, height: usize) -> impl Iterator<Item = (usize, usize)> {
    let places = |len: usize| [0, 3, len - 4, len - 1];
    let rows = places(height).into_iter().flat_map(move |y| (0..width).map(move |x| (x, y)));
    let columns = places(width).into_iter().flat_map(move |x| (0..height).map(move |y| (x, y)));
    rows.chain(columns)
}

/// The two commonest neutral tones of the border, if they hold most of it.
fn tones(image: &RgbaImage) -> Option<[[i32; 3]; 2]> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut counts = [0u32; 256];
    let mut sums = [[0u64; 3]; 256];
    let mut all = 0u32;
    for (x, y) in border(width, height) {
        let Rgba([r, g, b, _]) = *image.get_pixel(x as u32, y as u32);
        all += 1;
        if r.max(g).max(b) - r.min(g).min(b) <= NEUTRAL {
            counts[usize::from(g)] += 1;
            for (sum, value) in sums[usize::from(g)].iter_mut().zip([r, g, b]) {
                *sum += u64::from(value);
            }
        }
    }
    // What lies within a few levels of each other is one tone.
    let around = |level: usize| level.saturating_sub(5)..(level + 6).min(256);
    let near = |level: usize| counts[around(level)].iter().sum::<u32>();
    let first = (0..256).max_by_key(|level| (near(*level), counts[*level]))?;
    let apart = |level: &usize| (TONES.0..=TONES.1).contains(&(*level as i32 - first as i32).abs());
    let second = (0..256).filter(apart).max_by_key(|level| (near(*level), counts[*level]))?;
    let (one, other) = (near(first), near(second));
    let holds = f64::from(one + other) >= BORDER_SHARE * f64::from(all);
    let even = 2 * one.min(other) >= one.max(other);
    let mean = |level: usize| {
        let count = u64::from(near(level).max(1));
        [0, 1, 2].map(|c| (around(level).map(|level| sums[level][c]).sum::<u64>() / count) as i32)
    };
    (holds && even).then(|| [mean(first), mean(second)])
}

/// The largest difference of a channel.
fn distance(pixel: &Rgba<u8>, tone: [i32; 3]) -> i32 {
    tone.iter().zip(pixel.0).map(|(tone, value)| (tone - i32::from(value)).abs()).max().unwrap_or(0)
}

/// The squares along an axis of `len` pixels, from where one tone follows the other on `lines`
/// lines across it.
fn squares(len: usize, lines: usize, tone: impl Fn(usize, usize) -> Option<usize>) -> Option<Squares> {
    let mut changes = vec![0u32; len + 1];
    for line in (0..lines).step_by(lines.div_ceil(128)) {
        // The last pixel of a known tone: one or two mixed ones may lie between two squares.
        let mut last: Option<(usize, usize)> = None;
        for at in 0..len {
            if let Some(now) = tone(at, line) {
                if let Some((before, tone)) = last
                    && tone != now
                    && at - before <= 3
                {
                    changes[(before + at).div_ceil(2)] += 1;
                }
                last = Some((at, now));
            }
        }
    }
    let all: u32 = changes.iter().sum();
    if all < 32 {
        return None;
    }
    let concentration = |side: f64| {
        let (mut re, mut im) = (0.0f64, 0.0f64);
        for (at, count) in changes.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (sin, cos) = (std::f64::consts::TAU * at as f64 / side).sin_cos();
            re += f64::from(*count) * cos;
            im += f64::from(*count) * sin;
        }
        (re.hypot(im) / f64::from(all), im.atan2(re))
    };
    // From large to small: a part of the side has lines everywhere that the side has.
    let most = SIDES.end().min(len as f64 / FEWEST_SQUARES);
    let mut side = most;
    let mut found: Option<(f64, f64, f64)> = None;
    while side >= *SIDES.start() {
        let (value, angle) = concentration(side);
        if value >= ON_LINES && found.is_none_or(|(best, ..)| value > best) {
            found = Some((value, side, angle));
        } else if found.is_some_and(|(_, best, _)| side < 0.9 * best) {
            break;
        }
        side /= 1.0 + 0.15 * side / len as f64;
    }
    let (_, rough, _) = found?;
    let near = (-40..=40).map(|i| rough * (1.0 + f64::from(i) * 2e-4)).chain([rough.round()]);
    let tried = near.map(|side| (concentration(side), side));
    let ((_, angle), side) = tried.max_by(|((a, _), _), ((b, _), _)| a.total_cmp(b))?;
    Some(Squares { side, phase: angle / std::f64::consts::TAU * side })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::{PixelOptions, Transparent, Verdict, pixelize};

    /// A head of 16x16 cells of `cell` pixels on squares of `side` pixels.
    fn on_board(cell: u32, side: u32) -> RgbaImage {
        RgbaImage::from_fn(16 * cell, 16 * cell, |x, y| {
            let (u, v) = (x / cell, y / cell);
            let hash =
                (u.wrapping_mul(73_856_093) ^ v.wrapping_mul(19_349_663)).wrapping_mul(2_654_435_761) >> 26;
            match u.abs_diff(8).pow(2) + v.abs_diff(8).pow(2) {
                0..26 => Rgba([130 + hash as u8, 40, 60 + hash as u8, 255]),
                26..38 => Rgba([20, 16, 24, 255]),
                _ if (x / side + y / side).is_multiple_of(2) => Rgba([255; 4]),
                _ => Rgba([204, 204, 204, 255]),
            }
        })
    }

    #[test]
    fn the_board_becomes_transparent_and_the_cells_are_the_sprites() {
        for (cell, side) in [(12, 8), (10, 16), (17, 10)] {
            let made = pixelize(&on_board(cell, side), &PixelOptions::default()).unwrap();
            assert_eq!((made.verdict, made.sprite.dimensions()), (Verdict::Grid, (16, 16)), "{cell} {side}");
            for (x, y, pixel) in made.sprite.enumerate_pixels() {
                let is_head = x.abs_diff(8).pow(2) + y.abs_diff(8).pow(2) < 38;
                assert_eq!(pixel[3] == 255, is_head, "{cell} {side}: {x} {y}");
            }
        }
    }

    #[test]
    fn with_transparency_off_the_board_is_kept_and_the_cells_are_the_same() {
        let options = PixelOptions { transparent: Transparent::Off, ..Default::default() };
        let made = pixelize(&on_board(12, 8), &options).unwrap();
        assert_eq!(made.sprite.dimensions(), (16, 16));
        assert!(made.sprite.pixels().all(|pixel| pixel[3] == 255));
    }

    #[test]
    fn a_plain_border_a_floor_of_tiles_and_small_images_are_no_board() {
        let plain =
            RgbaImage::from_fn(160, 160, |x, y| Rgba([(x / 9 * 20) as u8, (y / 9 * 13) as u8, 99, 255]));
        let floor = RgbaImage::from_fn(160, 160, |x, y| match (x / 10 + y / 10) % 2 {
            0 => Rgba([150, 90, 60, 255]),
            _ => Rgba([110, 60, 40, 255]),
        });
        for image in [plain, floor, RgbaImage::new(8, 8), RgbaImage::from_pixel(64, 64, Rgba([255; 4]))] {
            assert!(without_checkerboard(&image).is_none());
        }
    }
}
