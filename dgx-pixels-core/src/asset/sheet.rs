//! Sheets: the frames of a sprite, or many sprites, in one picture.

use std::borrow::Cow;
use std::collections::HashMap;

use dgx_pixels_manifest::Rect;
use image::{RgbaImage, imageops};
use rectangle_pack::{
    GroupedRectsToPlace, RectToInsert, TargetBin, contains_smallest_box, pack_rects, volume_heuristic,
};
use serde::{Deserialize, Serialize};

use super::sheet_index::{IndexedFrame, MAX_FRAMES, SheetIndex, Tag, check_tags};
use crate::error::Error;
use crate::value_error::ValueError;

/// The largest texture that every GPU takes, in pixels a side.
pub const MAX_SIDE: u32 = 4096;

/// The time that a frame is shown where nothing else is said, in milliseconds.
pub const DEFAULT_FRAME_MS: u32 = 100;

/// A picture on its way into a sheet.
/// A grid takes frames of one size, and a packed sheet takes any.
#[derive(Clone, Debug, PartialEq)]
pub struct SheetFrame {
    /// The name without an extension, for example `walk_0`.
    pub name: String,
    /// The image, of at least one pixel.
    pub image: RgbaImage,
    /// 1 or more.
    pub duration_ms: u32,
}

/// The arrangement of frames in a sheet.
///
/// # Example
/// ```
/// use dgx_pixels_core::asset::SheetOptions;
/// // As Bevy's `TextureAtlasLayout::from_grid` takes it: (offset, padding).
/// let options = SheetOptions { gutter: 1, extrude: 1, ..Default::default() };
/// assert_eq!(options.offset_and_padding(), (1, 3));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SheetOptions {
    /// Default a grid, nearly square.
    pub layout: SheetLayout,
    /// Empty pixels between frames. Default 0: with nearest sampling and whole pixels nothing
    /// bleeds.
    pub gutter: u32,
    /// The number of times that a frame's edge is repeated around it, against neighbors that shine
    /// through where a game scales or rotates. Default: 0.
    pub extrude: u32,
}

/// The layout of the frames in a sheet.
///
/// # Example
/// ```
/// use dgx_pixels_core::asset::{Sheet, SheetFrame, SheetLayout, SheetOptions};
/// use image::RgbaImage;
///
/// let frame = |n: u32| SheetFrame { name: format!("{n}"), image: RgbaImage::new(16, 16), duration_ms: 100 };
/// let frames = [frame(0), frame(1), frame(2)];
/// let row = SheetOptions { layout: SheetLayout::Grid { columns: Some(3) }, ..Default::default() };
/// assert_eq!(Sheet::new(&frames, vec![], &row)?.image.dimensions(), (48, 16));
/// // The three frames are equal, so that one place is enough.
/// let packed = SheetOptions { layout: SheetLayout::Packed, ..Default::default() };
/// assert_eq!(Sheet::new(&frames, vec![], &packed)?.image.dimensions(), (16, 16));
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SheetLayout {
    /// All of one size, row by row.
    Grid {
        /// Frames in a row; `None` for as many as make it nearly square.
        columns: Option<u32>,
    },
    /// Frames of any size, close together. Images that are the same take one place.
    Packed,
}

impl Default for SheetLayout {
    fn default() -> Self {
        SheetLayout::Grid { columns: None }
    }
}

impl SheetOptions {
    /// Returns the arguments that Bevy's `TextureAtlasLayout::from_grid` takes for a grid: the
    /// offset of the first frame and the padding between frames, in pixels.
    /// With `extrude` E and `gutter` G these are E and G + 2E.
    pub fn offset_and_padding(&self) -> (u32, u32) {
        (self.extrude, self.gutter + 2 * self.extrude)
    }
}

/// A picture with all frames, and where each is.
///
/// Write `image` as `NAME.png` and [`SheetIndex::to_json`] as `NAME.json` beside it: a deploy then
/// finds the animations.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheet {
    /// The image, of at most 4096 pixels a side.
    pub image: RgbaImage,
    /// The index of the frames' places, in the order given.
    pub index: SheetIndex,
}

impl Sheet {
    /// Puts frames into one picture.
    ///
    /// # Errors
    /// [`Error::Value`] for no frames, frames of different sizes in a grid, a tag of frames that
    /// are not there, and more than fits.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::asset::{Sheet, SheetFrame, SheetOptions};
    /// use image::{Rgba, RgbaImage};
    /// let frame = |n: u8| SheetFrame {
    ///     name: format!("walk_{n}"),
    ///     image: RgbaImage::from_pixel(16, 16, Rgba([n, 0, 0, 255])),
    ///     duration_ms: 100,
    /// };
    /// let sheet = Sheet::new(&[frame(0), frame(1), frame(2)], vec![], &SheetOptions::default())?;
    /// assert_eq!(sheet.image.dimensions(), (32, 32));
    /// assert_eq!(sheet.index.frames[2].rect.min, [0, 16]);
    /// # Ok::<(), dgx_pixels_core::Error>(())
    /// ```
    pub fn new(frames: &[SheetFrame], tags: Vec<Tag>, options: &SheetOptions) -> Result<Sheet, Error> {
        check(frames, &tags)?;
        let (size, places) = match options.layout {
            SheetLayout::Grid { columns } => grid(frames, columns, options)?,
            SheetLayout::Packed => packed(frames, options)?,
        };
        let mut image = RgbaImage::new(size.0, size.1);
        for (frame, (x, y)) in frames.iter().zip(&places) {
            draw(&mut image, &frame.image, *x, *y, options.extrude);
        }
        let frames = frames.iter().zip(&places).map(|(frame, (x, y))| IndexedFrame {
            name: frame.name.clone(),
            rect: Rect { min: [*x, *y], max: [x + frame.image.width(), y + frame.image.height()] },
            duration_ms: frame.duration_ms,
        });
        Ok(Sheet { index: SheetIndex { size, frames: frames.collect(), tags, made: None }, image })
    }
}

fn fault(field: &'static str, value: impl ToString, expected: impl Into<Cow<'static, str>>) -> Error {
    ValueError::new(field, value, expected).into()
}

fn check(frames: &[SheetFrame], tags: &[Tag]) -> Result<(), Error> {
    if !(1..=MAX_FRAMES).contains(&frames.len()) {
        return Err(fault("frames", frames.len(), format!("1 to {MAX_FRAMES} frames")));
    }
    for frame in frames {
        let (width, height) = frame.image.dimensions();
        if width == 0 || height == 0 {
            let value = format!("{} of {width}x{height}", frame.name);
            return Err(fault("frames", value, "frames of one pixel or more"));
        }
        if frame.duration_ms == 0 {
            return Err(fault("duration_ms", 0, "1 or more"));
        }
    }
    check_tags(tags, frames.len())
}

type Places = ((u32, u32), Vec<(u32, u32)>);

/// A row or column of `count` frames of this side.
fn extent(count: u32, side: u32, options: &SheetOptions) -> u64 {
    let (count, side) = (u64::from(count), u64::from(side));
    count * (side + 2 * u64::from(options.extrude)) + (count - 1) * u64::from(options.gutter)
}

fn grid(frames: &[SheetFrame], columns: Option<u32>, options: &SheetOptions) -> Result<Places, Error> {
    let (width, height) = frames[0].image.dimensions();
    if let Some(other) = frames.iter().find(|frame| frame.image.dimensions() != (width, height)) {
        let (w, h) = other.image.dimensions();
        let value = format!("{} of {w}x{h}", other.name);
        return Err(fault(
            "frames",
            value,
            format!("frames of one size in a grid, as the first of {width}x{height}; or `packed`"),
        ));
    }
    let count = u32::try_from(frames.len()).map_err(|_| too_large(u64::MAX, u64::MAX))?;
    let square = || (f64::from(count) * f64::from(height) / f64::from(width)).sqrt().ceil() as u32;
    let columns = match columns {
        Some(0) => return Err(fault("columns", 0, "1 or more")),
        Some(columns) => columns.min(count),
        None => square().clamp(1, count),
    };
    let size = (extent(columns, width, options), extent(count.div_ceil(columns), height, options));
    let size = fitting(size)?;
    let (offset, padding) = options.offset_and_padding();
    let place =
        |n: u32| (offset + n % columns * (width + padding), offset + n / columns * (height + padding));
    Ok((size, (0..count).map(place).collect()))
}

fn packed(frames: &[SheetFrame], options: &SheetOptions) -> Result<Places, Error> {
    // The same picture, the same place.
    let mut first = HashMap::new();
    let of: Vec<usize> = frames
        .iter()
        .enumerate()
        .map(|(n, frame)| *first.entry((frame.image.dimensions(), frame.image.as_raw())).or_insert(n))
        .collect();
    let around = 2 * options.extrude + options.gutter;
    let mut rects = GroupedRectsToPlace::<usize, ()>::new();
    let (mut area, mut widest, mut highest) = (0_u64, 1, 1);
    for (n, frame) in frames.iter().enumerate().filter(|(n, _)| of[*n] == *n) {
        let (width, height) = (frame.image.width() + around, frame.image.height() + around);
        area += u64::from(width) * u64::from(height);
        (widest, highest) = (widest.max(width), highest.max(height));
        rects.push_rect(n, None, RectToInsert::new(width, height, 1));
    }
    // The gutter after the last frame is not drawn.
    let limit = MAX_SIDE + options.gutter;
    let mut side = widest.max(highest).max((area as f64).sqrt().ceil() as u32);
    let places = loop {
        if side > limit {
            return Err(too_large(u64::from(side), u64::from(side)));
        }
        let mut bins = std::collections::BTreeMap::from([((), TargetBin::new(side, side, 1))]);
        if let Ok(packed) = pack_rects(&rects, &mut bins, &volume_heuristic, &contains_smallest_box) {
            break packed;
        }
        side = if side == limit { limit + 1 } else { (side + side.div_ceil(16)).min(limit) };
    };
    let place = |n: usize| {
        let (_, at) = places.packed_locations()[&n];
        (at.x() + options.extrude, at.y() + options.extrude)
    };
    let places: Vec<_> = of.iter().map(|n| place(*n)).collect();
    let far = |side: fn(&RgbaImage) -> u32, at: fn(&(u32, u32)) -> u32| {
        let ends =
            frames.iter().zip(&places).map(|(frame, place)| at(place) + side(&frame.image) + options.extrude);
        ends.max().unwrap_or(1)
    };
    let size = (far(RgbaImage::width, |place| place.0), far(RgbaImage::height, |place| place.1));
    Ok((fitting((size.0.into(), size.1.into()))?, places))
}

fn fitting((width, height): (u64, u64)) -> Result<(u32, u32), Error> {
    match (u32::try_from(width), u32::try_from(height)) {
        (Ok(width), Ok(height)) if width.max(height) <= MAX_SIDE => Ok((width, height)),
        _ => Err(too_large(width, height)),
    }
}

fn too_large(width: u64, height: u64) -> Error {
    let expected =
        format!("at most {MAX_SIDE} pixels a side; fewer frames, other `columns`, or several sheets");
    fault("sheet", format!("{width}x{height}"), expected)
}

/// The frame, with its edge repeated around it.
fn draw(sheet: &mut RgbaImage, frame: &RgbaImage, x: u32, y: u32, extrude: u32) {
    if extrude > 0 {
        let (width, height) = frame.dimensions();
        for (dx, dy) in
            (0..height + 2 * extrude).flat_map(|dy| (0..width + 2 * extrude).map(move |dx| (dx, dy)))
        {
            let near = |d: u32, side: u32| d.saturating_sub(extrude).min(side - 1);
            let pixel = *frame.get_pixel(near(dx, width), near(dy, height));
            sheet.put_pixel(x - extrude + dx, y - extrude + dy, pixel);
        }
    }
    imageops::replace(sheet, frame, x.into(), y.into());
}

/// The settings of a PNG for Bevy 0.19 that keep its pixels sharp in any project: the text of
/// `NAME.png.meta`.
/// Without it Bevy samples with `linear`, unless the project sets `ImagePlugin::default_nearest()`.
pub const BEVY_META: &str = r#"(
    meta_format_version: "1.0",
    asset: Load(
        loader: "bevy_image::image_loader::ImageLoader",
        settings: (
            format: FromExtension,
            is_srgb: true,
            sampler: Descriptor((
                label: None,
                address_mode_u: ClampToEdge,
                address_mode_v: ClampToEdge,
                address_mode_w: ClampToEdge,
                mag_filter: Nearest,
                min_filter: Nearest,
                mipmap_filter: Nearest,
                lod_min_clamp: 0.0,
                lod_max_clamp: 32.0,
                compare: None,
                anisotropy_clamp: 1,
                border_color: None,
            )),
            asset_usage: RenderAssetUsages("RENDER_WORLD | MAIN_WORLD"),
        ),
    ),
)
"#;

#[cfg(test)]
mod tests {
    use image::Rgba;
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    fn frame(name: &str, width: u32, height: u32, seed: u8) -> SheetFrame {
        let pixel = |x: u32, y: u32| Rgba([seed, (x * 7) as u8, (y * 11) as u8, 255]);
        SheetFrame { name: name.into(), image: RgbaImage::from_fn(width, height, pixel), duration_ms: 80 }
    }

    fn options() -> impl Strategy<Value = SheetOptions> {
        let layout = prop_oneof![
            prop::option::of(1..9_u32).prop_map(|columns| SheetLayout::Grid { columns }),
            Just(SheetLayout::Packed)
        ];
        (layout, 0..4_u32, 0..4_u32).prop_map(|(layout, gutter, extrude)| SheetOptions {
            layout,
            gutter,
            extrude,
        })
    }

    proptest! {
        #[test]
        fn each_frame_is_where_the_index_says_and_none_overlap(
            sizes in prop::collection::vec((1..40_u32, 1..40_u32), 1..20),
            options in options(),
        ) {
            let is_grid = options.layout != SheetLayout::Packed;
            let frames: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(n, size)| {
                    let (width, height) = if is_grid { sizes[0] } else { *size };
                    frame(&n.to_string(), width, height, n as u8)
                })
                .collect();
            let sheet = Sheet::new(&frames, vec![], &options).unwrap();
            let (e, gap) = (i64::from(options.extrude), i64::from(options.gutter));
            let grown = |rect: &Rect, by: i64| {
                [rect.min[0], rect.min[1], rect.max[0], rect.max[1]]
                    .into_iter().enumerate().map(|(n, v)| i64::from(v) + if n < 2 { -by } else { by }).collect::<Vec<_>>()
            };
            for (n, (frame, indexed)) in frames.iter().zip(&sheet.index.frames).enumerate() {
                let rect = indexed.rect;
                let found = imageops::crop_imm(&sheet.image, rect.min[0], rect.min[1], rect.width(), rect.height());
                prop_assert_eq!(&found.to_image(), &frame.image);
                let own = grown(&rect, e);
                prop_assert!(own[0] >= 0 && own[1] >= 0);
                prop_assert!(own[2] <= sheet.image.width().into() && own[3] <= sheet.image.height().into());
                let corner = sheet.image.get_pixel(own[0] as u32, own[1] as u32);
                prop_assert_eq!(corner, frame.image.get_pixel(0, 0));
                for other in &sheet.index.frames[..n] {
                    let other = grown(&other.rect, e);
                    let apart = own[2] + gap <= other[0] || other[2] + gap <= own[0]
                        || own[3] + gap <= other[1] || other[3] + gap <= own[1];
                    prop_assert!(apart, "{:?} {:?}", own, other);
                }
            }
        }
    }

    #[test]
    fn the_same_picture_takes_one_place_when_packed() {
        let frames = [frame("a", 8, 8, 1), frame("b", 8, 8, 2), frame("c", 8, 8, 1)];
        let options = SheetOptions { layout: SheetLayout::Packed, ..Default::default() };
        let sheet = Sheet::new(&frames, vec![], &options).unwrap();
        assert_eq!(sheet.index.frames[0].rect, sheet.index.frames[2].rect);
        assert_eq!(sheet, Sheet::new(&frames, vec![], &options).unwrap());
    }

    #[test]
    fn what_makes_no_sheet_is_told() {
        let grid = SheetOptions::default();
        let packed = SheetOptions { layout: SheetLayout::Packed, ..grid };
        let tag = Tag { name: "walk".into(), from: 0, to: 2, direction: Default::default() };
        let small = frame("a", 8, 8, 1);
        let cases = [
            (Sheet::new(&[], vec![], &grid), "1 to 4096 frames"),
            (Sheet::new(&[small.clone(), frame("b", 9, 8, 1)], vec![], &grid), "`packed`"),
            (Sheet::new(&[SheetFrame { duration_ms: 0, ..small.clone() }], vec![], &grid), "1 or more"),
            (Sheet::new(&[small.clone(), small.clone()], vec![tag], &grid), "frames 0 to 1"),
            (
                Sheet::new(&[frame("a", 3000, 3000, 1), frame("b", 3000, 3000, 2)], vec![], &packed),
                "at most 4096",
            ),
            (Sheet::new(&[frame("a", 3000, 3000, 1), frame("b", 3000, 3000, 2)], vec![], &grid), "6000x3000"),
            (
                Sheet::new(
                    &[small],
                    vec![],
                    &SheetOptions { layout: SheetLayout::Grid { columns: Some(0) }, ..grid },
                ),
                "1 or more",
            ),
        ];
        for (made, expected) in cases {
            let error = made.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
