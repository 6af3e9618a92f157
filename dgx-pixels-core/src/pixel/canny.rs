//! Edges of an image, one pixel wide, by Canny's rule.
//!
//! Source: OpenCV, `modules/imgproc/src/canny.cpp`, with a kernel of 3x3, sums of both slopes, and
//! the thresholds 100 and 200 that diffusers' examples take.

use image::{GrayImage, Luma};

/// An edge goes on where the slope is above this.
const LOW: i32 = 100;
/// An edge begins where the slope is above this.
const HIGH: i32 = 200;
/// The tangent of 22.5 degrees in fractions of 2^15.
const TANGENT: i64 = 13_573;

/// Marks the edges of `gray` in white on black.
pub(crate) fn edges(gray: &GrayImage) -> GrayImage {
    let (width, height) = (gray.width() as usize, gray.height() as usize);
    let slopes = slopes(gray);
    let size_of = |x: usize, y: usize, dx: isize, dy: isize| {
        let (x, y) = (x.wrapping_add_signed(dx), y.wrapping_add_signed(dy));
        if x < width && y < height { sum(slopes[y * width + x]) } else { 0 }
    };
    // 1. ridges: where no neighbor across the edge is steeper
    let is_ridge = |x: usize, y: usize| {
        let (dx, dy) = slopes[y * width + x];
        let here = sum((dx, dy));
        let (across, down) = (i64::from(dx.abs()) * TANGENT, i64::from(dy.abs()) << 15);
        if here <= LOW {
            false
        } else if down < across {
            here > size_of(x, y, -1, 0) && here >= size_of(x, y, 1, 0)
        } else if down > across + (i64::from(dx.abs()) << 16) {
            here > size_of(x, y, 0, -1) && here >= size_of(x, y, 0, 1)
        } else {
            let side = if (dx ^ dy) < 0 { -1 } else { 1 };
            here > size_of(x, y, -side, -1) && here > size_of(x, y, side, 1)
        }
    };
    let ridges: Vec<bool> = (0..width * height).map(|i| is_ridge(i % width, i / width)).collect();

    // 2. the steep ones, and those that they lead on to
    let is_steep = |i: &usize| ridges[*i] && sum(slopes[*i]) > HIGH;
    let mut open: Vec<usize> = (0..width * height).filter(is_steep).collect();
    let mut edges = GrayImage::new(gray.width(), gray.height());
    while let Some(i) = open.pop() {
        let (x, y) = (i % width, i / width);
        if edges.get_pixel(x as u32, y as u32)[0] > 0 {
            continue;
        }
        edges.put_pixel(x as u32, y as u32, Luma([255]));
        let near = |at: usize, most: usize| at.saturating_sub(1)..=(at + 1).min(most - 1);
        let around = near(y, height).flat_map(|y| near(x, width).map(move |x| y * width + x));
        open.extend(around.filter(|i| ridges[*i]));
    }
    edges
}

/// The size of a slope.
fn sum((dx, dy): (i32, i32)) -> i32 {
    dx.abs() + dy.abs()
}

/// The slopes to the right and down at each pixel, by Sobel's kernels. Beyond the image lies what
/// is at its edge.
fn slopes(gray: &GrayImage) -> Vec<(i32, i32)> {
    let (width, height) = (i64::from(gray.width()), i64::from(gray.height()));
    let at = |x: i64, y: i64| {
        let (x, y) = (x.clamp(0, width - 1), y.clamp(0, height - 1));
        i32::from(gray.get_pixel(x as u32, y as u32)[0])
    };
    let of = |i: i64| {
        let (x, y) = (i % width, i / width);
        let column = |x: i64| at(x, y - 1) + 2 * at(x, y) + at(x, y + 1);
        let row = |y: i64| at(x - 1, y) + 2 * at(x, y) + at(x + 1, y);
        (column(x + 1) - column(x - 1), row(y + 1) - row(y - 1))
    };
    (0..width * height).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn white(edges: &GrayImage) -> Vec<(u32, u32)> {
        edges.enumerate_pixels().filter(|(.., pixel)| pixel[0] > 0).map(|(x, y, _)| (x, y)).collect()
    }

    #[test]
    fn a_step_is_one_line_and_a_plain_image_has_none() {
        let step = GrayImage::from_fn(8, 6, |x, _| Luma([if x < 4 { 20 } else { 220 }]));
        assert_eq!(white(&edges(&step)), (0..6).map(|y| (3, y)).collect::<Vec<_>>());
        let lying = GrayImage::from_fn(6, 8, |_, y| Luma([if y < 4 { 20 } else { 220 }]));
        assert_eq!(white(&edges(&lying)), (0..6).map(|x| (x, 3)).collect::<Vec<_>>());
        assert_eq!(white(&edges(&GrayImage::from_pixel(9, 9, Luma([200])))), []);
        assert_eq!(white(&edges(&GrayImage::new(1, 1))), []);
    }

    #[test]
    fn a_faint_edge_counts_only_where_a_strong_one_leads_on_to_it() {
        // Slopes of 4 times the step: 160 is faint, 800 is strong.
        let faint = GrayImage::from_fn(8, 8, |x, _| Luma([if x < 4 { 20 } else { 60 }]));
        assert_eq!(white(&edges(&faint)), []);
        let mixed = GrayImage::from_fn(8, 8, |x, y| {
            Luma([if x < 4 {
                20
            } else if y < 4 {
                220
            } else {
                60
            }])
        });
        let found = white(&edges(&mixed));
        assert!((5..8).all(|y| found.contains(&(3, y))), "{found:?}");
    }
}
