//! All stages, in their order.

use std::time::{Duration, Instant};

use image::RgbaImage;

use super::bounds::check_sides;
use super::checkerboard::without_checkerboard;
use super::choice::{Choice, Method, choose};
use super::grid::{self, Axis, Grid};
use super::verdict::{PixelError, Verdict};
use super::{
    Certificate, GridChoice, MaxColors, Outline, Palette, PixelOptions, Transparent, bleed, cells, clean_up,
    cut_out, fit, outline, quantize,
};

/// A sprite, and how it was found.
///
/// `find` and `draw` add up to the time of the whole call.
#[derive(Clone, Debug)]
pub struct Pixelized {
    /// One pixel for each cell.
    pub sprite: RgbaImage,
    /// The verdict on whether the image has a grid.
    pub verdict: Verdict,
    /// The grid that was used.
    pub grid: Grid,
    /// The confidence of the verdict, 0 to 1; 1 for a grid that was given.
    pub confidence: f64,
    /// The other grids that the image may have, most likely first, up to three: none where the grid
    /// is sure. To be tried with [`GridChoice::Cells`].
    pub others: Vec<Grid>,
    /// The color that may be the background, where that is not sure: the sprite is opaque then.
    /// [`Transparent::Key`] decides it.
    pub unsure_background: Option<[u8; 3]>,
    /// The measured properties of the sprite.
    pub certificate: Certificate,
    /// Finding the grid.
    pub find: Duration,
    /// All after it.
    pub draw: Duration,
}

/// The bounds that a caller sets to pixel work.
///
/// # Example
/// ```
/// use dgx_pixels_core::ImageSize;
/// use dgx_pixels_core::pixel::{GridChoice, PixelBounds, PixelError, PixelOptions, pixelize_within};
/// use image::RgbaImage;
///
/// let grid = GridChoice::Cells(ImageSize { width: 64, height: 64 });
/// let options = PixelOptions { grid, ..Default::default() };
/// let bounds = PixelBounds { max_cells: 1024, ..PixelBounds::NONE };
/// let error = pixelize_within(&RgbaImage::new(512, 512), &options, &bounds).err().unwrap();
/// assert!(matches!(error, PixelError::TooManyCells { columns: 64, rows: 64, most: 1024 }));
/// ```
#[derive(Clone, Copy)]
pub struct PixelBounds<'a> {
    /// The most cells of the grid, so the most pixels of the sprite before it is fitted into a
    /// size.
    pub max_cells: u64,
    /// Called between stages; `true` ends the work.
    pub is_stopped: &'a (dyn Fn() -> bool + Sync),
}

impl PixelBounds<'_> {
    /// The bounds that limit nothing.
    pub const NONE: PixelBounds<'static> = PixelBounds { max_cells: u64::MAX, is_stopped: &|| false };

    fn check(&self) -> Result<(), PixelError> {
        if (self.is_stopped)() { Err(PixelError::Stopped) } else { Ok(()) }
    }

    fn check_cells(&self, grid: &Grid) -> Result<(), PixelError> {
        let (columns, rows, most) = (grid.x.cells(), grid.y.cells(), self.max_cells);
        match columns as u64 * rows as u64 <= most {
            true => self.check(),
            false => Err(PixelError::TooManyCells { columns, rows, most }),
        }
    }
}

/// The sprite that `image` is a picture of.
///
/// # Errors
/// A [`PixelError`] that names the option or the picture.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::{PixelOptions, pixelize};
/// use image::{Rgba, RgbaImage};
///
/// // 16x16 cells of 8 pixels.
/// let cell = |x: u32, y: u32| Rgba([(x * y * 37 % 256) as u8, (x * 91 % 256) as u8, (y * 53 % 256) as u8, 255]);
/// let picture = RgbaImage::from_fn(128, 128, |x, y| cell(x / 8, y / 8));
/// let pixelized = pixelize(&picture, &PixelOptions::default())?;
/// assert_eq!(pixelized.sprite, RgbaImage::from_fn(16, 16, cell));
/// # Ok::<(), dgx_pixels_core::pixel::PixelError>(())
/// ```
pub fn pixelize(image: &RgbaImage, options: &PixelOptions) -> Result<Pixelized, PixelError> {
    pixelize_within(image, options, &PixelBounds::NONE)
}

/// Makes a sprite as [`pixelize`] does, within bounds.
///
/// # Errors
/// As [`pixelize`]; [`PixelError::TooManyCells`] and [`PixelError::Stopped`].
pub fn pixelize_within(
    image: &RgbaImage,
    options: &PixelOptions,
    bounds: &PixelBounds,
) -> Result<Pixelized, PixelError> {
    options.validate()?;
    check_sides(image.width(), image.height())?;
    let mut made = make(image, options, bounds)?;
    if made.is_kept {
        return Ok(made.certified(options, Some(true)));
    }
    let started = Instant::now();
    // What was said about the picture does not hold for the sprite, and an outline is drawn once.
    let again = PixelOptions {
        grid: GridChoice::Step(1.0),
        expected_step: None,
        strip: None,
        outline: Outline::Keep,
        transparent: if made.unsure_background.is_some() { Transparent::Off } else { options.transparent },
        ..options.clone()
    };
    // A background may be plain only once it has few colours; what would change next time is
    // changed now.
    let mut idempotent = None;
    for _ in 0..MOST_ROUNDS {
        let again = make(&made.sprite, &again, bounds)?;
        let same = again.sprite == made.sprite;
        idempotent = Some(same);
        if same || again.sprite.dimensions() != made.sprite.dimensions() {
            break;
        }
        made.sprite = again.sprite;
    }
    made.draw += started.elapsed();
    Ok(made.certified(options, idempotent))
}

/// The product of the stages.
struct Made {
    sprite: RgbaImage,
    verdict: Verdict,
    grid: Grid,
    confidence: f64,
    others: Vec<Grid>,
    unsure_background: Option<[u8; 3]>,
    find: Duration,
    draw: Duration,
    /// The sprite is the image, byte for byte.
    is_kept: bool,
}

impl Made {
    /// The sprite with its measured properties.
    fn certified(self, options: &PixelOptions, idempotent: Option<bool>) -> Pixelized {
        let started = Instant::now();
        let on_palette = options.palette.as_ref().map(Palette::colors);
        let certificate = Certificate::of(&self.sprite, on_palette, options.wrap());
        let Made { sprite, verdict, grid, confidence, others, unsure_background, find, draw, .. } = self;
        Pixelized {
            sprite,
            verdict,
            grid,
            confidence,
            others,
            unsure_background,
            certificate: Certificate { idempotent, ..certificate },
            find,
            draw: draw + started.elapsed(),
        }
    }
}

/// Runs the stages once.
fn make(image: &RgbaImage, options: &PixelOptions, bounds: &PixelBounds) -> Result<Made, PixelError> {
    let (width, height) = image.dimensions();
    bounds.check()?;

    // 1. the grid, of what lies on a checkerboard if there is one
    let started = Instant::now();
    let is_searched = options.grid == GridChoice::Auto && options.expected_step.is_none();
    let cleared = if is_searched { without_checkerboard(image) } else { None };
    let on_board = cleared.is_some();
    let Choice { mut grid, verdict, method, confidence, others } =
        choose(cleared.as_ref().unwrap_or(image), options, on_board)?;
    let image = cleared.as_ref().filter(|_| options.transparent != Transparent::Off).unwrap_or(image);
    if let Some(frames) = options.strip.map(|frames| frames.max(1) as usize) {
        let columns = (grid.x.cells() as f64 / frames as f64).round().max(1.0) as usize * frames;
        if columns > width as usize {
            let (columns, rows) = (columns as u32, grid.y.cells() as u32);
            return Err(PixelError::Grid { columns, rows, width, height });
        }
        grid.x = Axis::regular(width as usize, f64::from(width) / columns as f64, 0.0);
    }
    bounds.check_cells(&grid)?;
    let mut exact = method != Method::Reduce && grid.is_exact(image);
    let find = started.elapsed();
    if method == Method::Keep && !on_board && options.leaves_pixels() {
        let (sprite, unsure_background, draw) = (image.clone(), None, Duration::ZERO);
        let is_kept = true;
        return Ok(Made {
            sprite,
            verdict,
            grid,
            confidence,
            others,
            unsure_background,
            find,
            draw,
            is_kept,
        });
    }

    // 2. one colour a cell
    let started = Instant::now();
    let mut sprite = match method {
        Method::Sample | Method::Keep => cells::sample(image, &grid),
        Method::Reduce => cells::reduce(image, &grid),
    };
    // A grid that is twice as fine as the true one has cells that all stand twice.
    let is_found = options.grid == GridChoice::Auto && options.strip.is_none() && method != Method::Keep;
    if is_found && let Some(coarser) = grid::coarser(&sprite, &grid) {
        sprite = cells::sample(&sprite, &coarser);
        grid = grid.of(&coarser);
        exact = grid.is_exact(image);
    }

    // 3. what is seen of it
    bounds.check()?;
    let opaque = sprite.clone();
    let cut = cut_out(&mut sprite, options.transparent, options.wrap());
    let is_found = options.transparent == Transparent::Auto && options.expected_step.is_none();
    let unsure_background = cut.filter(|cut| cut.is_unsure && is_found).map(|cut| cut.background);
    if unsure_background.is_some() {
        sprite = opaque;
        cut_out(&mut sprite, Transparent::Off, options.wrap());
    }
    if options.cleanup {
        clean_up(&mut sprite, options.wrap());
    }
    outline(&mut sprite, options.outline, options.wrap());

    // 4. colours, last; few of a palette are those that matter in this sprite
    bounds.check()?;
    if let Some(palette) = &options.palette {
        quantize(&mut sprite, palette, options.dither, options.wrap());
    }
    let few = match options.max_colors {
        MaxColors::AtMost(count) => Some(Palette::extract(&[&sprite], Some(count.into()))),
        MaxColors::Elbow if options.palette.is_none() => Some(Palette::extract(&[&sprite], None)),
        MaxColors::Auto if options.palette.is_none() && !exact => Some(Palette::extract(&[&sprite], None)),
        MaxColors::Auto | MaxColors::Elbow | MaxColors::All => None,
    };
    if let Some(few) = few {
        quantize(&mut sprite, &few, options.dither, options.wrap());
    }

    // 5. the frame
    bounds.check()?;
    if let Some(size) = options.size {
        sprite = fit(&sprite, size, options.anchor)?;
    }
    if options.bleed {
        bleed(&mut sprite);
    }
    let (draw, is_kept) = (started.elapsed(), false);
    Ok(Made { sprite, verdict, grid, confidence, others, unsure_background, find, draw, is_kept })
}

/// Rounds that a sprite is made from itself; one is enough for nearly all.
const MOST_ROUNDS: usize = 3;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use image::Rgba;
    use image::imageops::{FilterType, resize};
    use proptest::prelude::*;

    use super::*;
    use crate::pixel::Transparent;
    use crate::request::ImageSize;

    #[test]
    fn bounds_stop_the_work_and_refuse_too_many_cells() {
        let image =
            RgbaImage::from_fn(64, 64, |x, y| Rgba([(x * 3) as u8, (y * 3) as u8, (x ^ y) as u8, 255]));
        let native = PixelOptions { grid: GridChoice::Step(1.0), ..Default::default() };
        let asked = std::sync::atomic::AtomicU32::new(0);
        let is_stopped = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 2;
        let stopped =
            pixelize_within(&image, &native, &PixelBounds { is_stopped: &is_stopped, ..PixelBounds::NONE });
        assert!(matches!(stopped, Err(PixelError::Stopped)));
        let bounds = PixelBounds { max_cells: 64 * 64 - 1, ..PixelBounds::NONE };
        let error = pixelize_within(&image, &native, &bounds).unwrap_err().to_string();
        assert!(error.starts_with("the sprite would have 64x64 pixels; expected at most 4095"), "{error}");
        let bounds = PixelBounds { max_cells: 64 * 64, ..PixelBounds::NONE };
        assert!(pixelize_within(&image, &native, &bounds).is_ok());
    }

    #[test]
    fn more_frames_than_columns_of_pixels_are_refused() {
        let options = PixelOptions { strip: Some(1024), ..Default::default() };
        let error = pixelize(&RgbaImage::new(100, 20), &options).unwrap_err().to_string();
        assert!(error.starts_with("`grid` is 1024x"), "{error}");
    }

    #[test]
    fn a_grid_found_twice_too_fine_is_mended() {
        let hash = |x: u32, y: u32| ((x * 73_856_093) ^ (y * 19_349_663)).wrapping_mul(2_654_435_761) >> 29;
        let art = RgbaImage::from_fn(20, 16, |x, y| Rgba([(40 * hash(x, y)) as u8, 90, (y * 9) as u8, 255]));
        let options =
            PixelOptions { transparent: Transparent::Off, max_colors: MaxColors::All, ..Default::default() };
        let large = resize(&art, 137, 110, FilterType::Nearest);
        let made = pixelize(&large, &options).unwrap();
        assert_eq!((made.grid.x.cells(), made.grid.y.cells()), (20, 16));
        assert!(made.sprite == art);
    }

    /// A picture of random cells of few or many colours, some of them invisible, enlarged sharply
    /// or smoothly.
    fn picture() -> impl Strategy<Value = RgbaImage> {
        let filters = prop_oneof![Just(FilterType::Nearest), Just(FilterType::Triangle)];
        (1..40u32, 1..40u32, 1..400u32, any::<u32>(), 1..300u32, filters).prop_map(
            |(width, height, colors, seed, percent, filter)| {
                let art = RgbaImage::from_fn(width, height, |x, y| {
                    let hash = (x ^ (y << 8) ^ seed).wrapping_mul(2_654_435_761) >> 7;
                    let color = (hash % colors).wrapping_mul(0x9e37_79b9);
                    let [r, g, b, a] = color.to_be_bytes();
                    Rgba([r, g, b, if a < 32 { a } else { 255 }])
                });
                let along = |len: u32| (len * percent / 100).max(1);
                resize(&art, along(width), along(height), filter)
            },
        )
    }

    fn options() -> impl Strategy<Value = PixelOptions> {
        let size = || (1..50u32, 1..50u32).prop_map(|(width, height)| ImageSize { width, height });
        let grid = prop_oneof![
            3 => Just(GridChoice::Auto),
            1 => size().prop_map(GridChoice::Cells),
            1 => (1.0..20.0f64).prop_map(GridChoice::Step),
        ];
        let colors = prop_oneof![
            Just(MaxColors::Auto),
            Just(MaxColors::Elbow),
            Just(MaxColors::All),
            (1..=256u16).prop_map(MaxColors::AtMost),
        ];
        let word = |words: &'static [&'static str]| proptest::sample::select(words);
        let first = (grid, proptest::option::of(1..5u32), proptest::option::of(1.0..9.0f64), colors);
        let second = (
            proptest::option::of(size()),
            word(&["none", "bayer4", "floyd-steinberg", "atkinson"]),
            word(&["auto", "off", "#00ff00"]),
            word(&["keep", "remove"]),
            any::<[bool; 4]>(),
        );
        (first, second).prop_map(|((grid, strip, expected_step, max_colors), second)| {
            let (size, dither, transparent, outline, [bleed, cleanup, x, y]) = second;
            PixelOptions {
                grid,
                strip,
                expected_step,
                max_colors,
                size,
                bleed,
                cleanup,
                dither: dither.parse().unwrap(),
                transparent: transparent.parse().unwrap(),
                outline: outline.parse().unwrap(),
                tile_x: x,
                tile_y: y,
                ..Default::default()
            }
        })
    }

    proptest! {
        #[test]
        fn any_picture_is_made_or_refused_and_no_colour_is_invented(image in picture(), options in options()) {
            let Ok(made) = pixelize(&image, &options) else { return Ok(()) };
            let rgb = |pixel: &Rgba<u8>| [pixel[0], pixel[1], pixel[2]];
            let known: HashSet<_> = image.pixels().map(rgb).collect();
            let is_kept = made.sprite == image;
            for pixel in made.sprite.pixels().filter(|_| !is_kept) {
                prop_assert!(pixel[3] == 0 || pixel[3] == 255 && known.contains(&rgb(pixel)), "{pixel:?}");
            }
            if let Some(size) = options.size {
                prop_assert_eq!(made.sprite.dimensions(), (size.width, size.height));
            }
            prop_assert_eq!(pixelize(&image, &options).unwrap().sprite, made.sprite);
        }
    }
}
