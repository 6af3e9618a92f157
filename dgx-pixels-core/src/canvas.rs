//! The size of the image that a model draws for a sprite of a given size.
//!
//! # Example
//! ```
//! use dgx_pixels_core::{ImageSize, canvas};
//! let square = |side| ImageSize { width: side, height: side };
//! // A model made for sprites draws a cell of 8 pixels for each of the sprite's pixels.
//! assert_eq!(canvas::for_sprite(square(256), square(16)), square(128));
//! // A model made for large images keeps its own area.
//! assert_eq!(canvas::for_sprite(square(1024), square(16)), square(1024));
//! ```

use crate::pixel::{GridChoice, PixelOptions};
pub use crate::request::Conflict;
#[cfg(feature = "engine")]
use crate::request::{GenerateRequest, RequestError};
use crate::request::{ImageSize, MAX_SIDE, MIN_SIDE, SourceImage};

/// Pixels of a cell of a model's image that becomes one pixel of the sprite: those of a latent.
pub const CELL_PX: u32 = 8;
/// A model whose images are at least this large by default is made for more than sprites.
const LARGE_SIDE: u32 = 512;

/// `true` if a model that draws `native` by default is made for sprites, and for nothing else.
///
/// The limit is a side of 512: SDXL draws 1024x1024 by default, and `sprite-xl` 256x256.
///
/// # Example
/// ```
/// use dgx_pixels_core::{ImageSize, canvas};
/// assert!(canvas::draws_pixel_art(ImageSize { width: 256, height: 256 }));
/// assert!(!canvas::draws_pixel_art(ImageSize { width: 1024, height: 1024 }));
/// ```
pub fn draws_pixel_art(native: ImageSize) -> bool {
    native.width.max(native.height) < LARGE_SIDE
}

/// The sprite that a model's own image becomes: one pixel for each cell.
///
/// # Example
/// ```
/// use dgx_pixels_core::{ImageSize, canvas};
/// let sprite = canvas::native_sprite(ImageSize { width: 256, height: 128 });
/// assert_eq!(sprite, ImageSize { width: 32, height: 16 });
/// ```
pub fn native_sprite(native: ImageSize) -> ImageSize {
    ImageSize { width: native.width / CELL_PX, height: native.height / CELL_PX }
}

/// The image to draw for a `sprite`, with a model that draws `native` by default.
///
/// It has a cell of [`CELL_PX`] for each pixel of the sprite. A model made for large images draws
/// about its own area in the sprite's proportions instead. Sides stay within what a request may ask
/// for.
///
/// # Example
/// ```
/// use dgx_pixels_core::{ImageSize, canvas};
/// let (small, large) = (ImageSize { width: 256, height: 256 }, ImageSize { width: 1024, height: 1024 });
/// let banner = ImageSize { width: 32, height: 16 };
/// assert_eq!(canvas::for_sprite(small, banner), ImageSize { width: 256, height: 128 });
/// // Both sides are multiples of 8, and the area is about that of 1024x1024.
/// assert_eq!(canvas::for_sprite(large, banner), ImageSize { width: 1448, height: 728 });
/// ```
pub fn for_sprite(native: ImageSize, sprite: ImageSize) -> ImageSize {
    let area = |ImageSize { width, height }: ImageSize| f64::from(width) * f64::from(height);
    let enlarged = (area(native_sprite(native)) / area(sprite)).sqrt();
    let factor = if draws_pixel_art(native) { 1.0 } else { enlarged };
    let side = |side: u32| {
        let cells = (f64::from(side) * factor).round().min(f64::from(MAX_SIDE)) as u32;
        (CELL_PX * cells).clamp(MIN_SIDE, MAX_SIDE)
    };
    ImageSize { width: side(sprite.width), height: side(sprite.height) }
}

/// The largest side of an image that is taken for a sprite: the cells of the largest canvas.
const MAX_SPRITE_SIDE: u32 = MAX_SIDE / CELL_PX;

/// The image to draw from an image, with a model that draws `native` by default.
///
/// An image of at most 256x256 is a sprite, and gets the canvas of a sprite of its size. A larger
/// one gets about the model's own area in its proportions.
///
/// # Example
/// ```
/// use dgx_pixels_core::{ImageSize, SourceImage, canvas};
/// let image = |width, height| SourceImage::new(image::RgbaImage::new(width, height));
/// let native = ImageSize { width: 256, height: 256 };
/// let square = |side| ImageSize { width: side, height: side };
/// assert_eq!(canvas::for_image(native, &image(48, 48)), square(384));
/// assert_eq!(canvas::for_image(native, &image(900, 900)), square(256));
/// ```
pub fn for_image(native: ImageSize, image: &SourceImage) -> ImageSize {
    // Without pixels nothing is drawn: the request is refused later, by its name.
    let Some(size) = image.size() else { return native };
    if is_sprite(size) { for_sprite(native, size) } else { in_proportions(native, size) }
}

fn is_sprite(size: ImageSize) -> bool {
    size.width <= MAX_SPRITE_SIDE && size.height <= MAX_SPRITE_SIDE
}

/// Chooses the canvas for a drawing from an image, and the sprite's size and grid where the image
/// is a sprite and the caller names neither.
///
/// # Errors
/// [`RequestError::Image`] of `field` if the canvas that the caller wants has other proportions
/// than the image.
#[cfg(feature = "engine")]
pub(crate) fn plan_from(
    native: ImageSize,
    asked: Option<ImageSize>,
    (field, image): (&'static str, &SourceImage),
    pixel: &mut PixelOptions,
) -> Result<ImageSize, RequestError> {
    let Some(own) = image.size() else { return Ok(asked.unwrap_or(native)) };
    let is_open = pixel.grid == GridChoice::Auto;
    if is_sprite(own) && is_open && asked.is_none() && pixel.size.is_none_or(|size| size == own) {
        (pixel.size, pixel.grid) = (Some(own), GridChoice::Cells(own));
        return Ok(for_sprite(native, own));
    }
    let canvas = match (asked, pixel.size) {
        (Some(canvas), _) => canvas,
        (None, Some(size)) => for_sprite(native, size),
        (None, None) => for_image(native, image),
    };
    // Cells may be oblong, as those of a sprite of 1x48 are.
    let has_own_cells = pixel.grid == GridChoice::Cells(own);
    if !are_alike(canvas, own) && !has_own_cells {
        let text = format!(
            "is {own} and the canvas is {canvas}; expected the same proportions: fit the image first, or \
             leave `size`, `width` and `height` out"
        );
        return Err(RequestError::image(field, text));
    }
    if is_sprite(own) && is_open && pixel.size.is_none_or(|size| size == own) {
        (pixel.size, pixel.grid) = (Some(own), GridChoice::Cells(own));
    }
    Ok(canvas)
}

/// Checks that the images that control nets follow have the proportions of the canvas, or the size
/// of the image that the canvas was chosen for.
///
/// # Errors
/// [`RequestError::Image`] with the net, the image's size and the canvas.
#[cfg(feature = "engine")]
pub(crate) fn check_followed(
    request: &GenerateRequest,
    canvas: ImageSize,
    basis: Option<ImageSize>,
) -> Result<(), RequestError> {
    for control in &request.control {
        let Some(own) = control.image.size() else { continue };
        if Some(own) != basis && !are_alike(canvas, own) {
            let text = format!(
                "has `{}` with an image of {own}, and the canvas is {canvas}; expected the same proportions",
                control.model
            );
            return Err(RequestError::image("control", text));
        }
    }
    Ok(())
}

/// `true` if both have the same proportions, to a twentieth.
#[cfg(feature = "engine")]
fn are_alike(canvas: ImageSize, own: ImageSize) -> bool {
    let across = f64::from(canvas.width) * f64::from(own.height);
    let down = f64::from(canvas.height) * f64::from(own.width);
    (across / down - 1.0).abs() <= 0.05
}

/// About the area of `native` in the proportions of `size`, in whole cells.
fn in_proportions(native: ImageSize, size: ImageSize) -> ImageSize {
    let area = |ImageSize { width, height }: ImageSize| f64::from(width) * f64::from(height);
    let factor = (area(native) / area(size)).sqrt() / f64::from(CELL_PX);
    let side = |side: u32| {
        let cells = (f64::from(side) * factor).round().min(f64::from(MAX_SIDE)) as u32;
        (CELL_PX * cells).clamp(MIN_SIDE, MAX_SIDE)
    };
    ImageSize { width: side(size.width), height: side(size.height) }
}

/// Chooses the image to draw and its grid, so that the sprite has `pixel.size`.
///
/// Returns the image's size, and sets `pixel.grid`. Both stay as they are without a `pixel.size`,
/// where the image's sprite fits into it (the rest of the sprite is transparent), and where the
/// caller gives the grid. A model made for sprites draws larger ones up to `largest`.
///
/// # Errors
/// [`Conflict`] if `asked`, the image that the caller wants, becomes a larger sprite.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::{GridChoice, PixelOptions};
/// use dgx_pixels_core::{ImageSize, canvas};
///
/// let square = |side| ImageSize { width: side, height: side };
/// let mut pixel = PixelOptions { size: Some(square(16)), ..Default::default() };
/// let image = canvas::plan(square(256), square(512), None, &mut pixel)?;
/// assert_eq!(image, Some(square(128)));
/// assert_eq!(pixel.grid, GridChoice::Cells(square(16)));
///
/// // A sprite of 80x80 from a model that draws 64x64 at most has transparent room around it.
/// let mut pixel = PixelOptions { size: Some(square(80)), ..Default::default() };
/// assert_eq!(canvas::plan(square(256), square(512), None, &mut pixel)?, Some(square(512)));
///
/// let mut pixel = PixelOptions { size: Some(square(16)), ..Default::default() };
/// let conflict = canvas::plan(square(256), square(512), Some(square(256)), &mut pixel).unwrap_err();
/// assert_eq!((conflict.cells, conflict.fitting), (square(32), square(128)));
/// # Ok::<(), canvas::Conflict>(())
/// ```
pub fn plan(
    native: ImageSize,
    largest: ImageSize,
    asked: Option<ImageSize>,
    pixel: &mut PixelOptions,
) -> Result<Option<ImageSize>, Conflict> {
    let Some(size) = pixel.size.filter(|size| size.width > 0 && size.height > 0) else { return Ok(asked) };
    if pixel.grid != GridChoice::Auto {
        return Ok(asked);
    }
    let cells = native_sprite(asked.unwrap_or(native));
    let is_large = !draws_pixel_art(native);
    let grows = asked.is_none() && !is_large && size != cells && largest != native;
    if cells.width <= size.width && cells.height <= size.height && !grows {
        return Ok(asked);
    }
    // More cells than the largest image has are left transparent.
    let most = match grows {
        true => native_sprite(largest),
        false => ImageSize { width: MAX_SIDE / CELL_PX, height: MAX_SIDE / CELL_PX },
    };
    let drawn = ImageSize { width: size.width.min(most.width), height: size.height.min(most.height) };
    let fitting = for_sprite(native, drawn);
    if let Some(canvas) = asked {
        // Square cells: as wide as high, to a cell.
        let across = f64::from(canvas.width) * f64::from(drawn.height);
        let down = f64::from(canvas.height) * f64::from(drawn.width);
        let is_square = (across / down - 1.0).abs() < 0.05;
        let holds = canvas.width >= drawn.width && canvas.height >= drawn.height;
        if canvas != fitting && !(is_large && is_square && holds) {
            return Err(Conflict { size, canvas, cells, fitting });
        }
    }
    pixel.grid = GridChoice::Cells(drawn);
    Ok(Some(asked.unwrap_or(fitting)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(width: u32, height: u32) -> ImageSize {
        ImageSize { width, height }
    }

    fn square(side: u32) -> ImageSize {
        size(side, side)
    }

    fn planned(
        native: u32,
        asked: Option<ImageSize>,
        sprite: ImageSize,
    ) -> Result<(Option<ImageSize>, GridChoice), Conflict> {
        let mut pixel = PixelOptions { size: Some(sprite), ..Default::default() };
        let canvas = plan(square(native), square(native), asked, &mut pixel)?;
        Ok((canvas, pixel.grid))
    }

    #[test]
    fn a_model_made_for_sprites_draws_larger_ones_up_to_its_largest() {
        for (sprite, drawn) in
            [(square(64), square(64)), (size(48, 32), size(48, 32)), (size(40, 100), size(40, 64))]
        {
            let mut pixel = PixelOptions { size: Some(sprite), ..Default::default() };
            let canvas = plan(square(256), square(512), None, &mut pixel).unwrap();
            let image = size(drawn.width * CELL_PX, drawn.height * CELL_PX);
            assert_eq!((canvas, pixel.grid), (Some(image), GridChoice::Cells(drawn)), "{sprite:?}");
        }
        // The caller's image, and the model's own sprite, stay as they are.
        for (asked, sprite) in [(Some(square(256)), square(64)), (None, square(32))] {
            let mut pixel = PixelOptions { size: Some(sprite), ..Default::default() };
            assert_eq!(plan(square(256), square(512), asked, &mut pixel), Ok(asked));
            assert_eq!(pixel.grid, GridChoice::Auto);
        }
    }

    #[test]
    fn a_model_draws_near_the_size_that_it_is_made_for() {
        let drawn = |native: u32, width: u32, height: u32| {
            let ImageSize { width, height } = for_sprite(square(native), size(width, height));
            (width, height)
        };
        assert_eq!(drawn(256, 32, 32), (256, 256));
        assert_eq!(drawn(256, 8, 48), (64, 384));
        assert_eq!(drawn(1024, 32, 32), (1024, 1024));
        assert_eq!(drawn(1024, 48, 24), (1448, 728));
        assert_eq!(drawn(1024, 256, 256), (1024, 1024));
        assert_eq!(drawn(1024, 256, 8), (2048, 184));
    }

    #[test]
    fn a_sprite_smaller_than_the_models_own_gets_a_canvas_that_fits() {
        let cells = |width, height| GridChoice::Cells(size(width, height));
        assert_eq!(planned(256, None, square(16)), Ok((Some(square(128)), cells(16, 16))));
        assert_eq!(planned(256, None, size(48, 24)), Ok((Some(size(384, 192)), cells(48, 24))));
        assert_eq!(planned(256, None, square(4)), Ok((Some(square(64)), cells(4, 4))));
        assert_eq!(planned(1024, None, square(64)), Ok((Some(square(1024)), cells(64, 64))));
        assert_eq!(planned(256, None, size(4096, 8)), Ok((Some(size(2048, 64)), cells(256, 8))));
    }

    #[test]
    fn a_larger_sprite_is_the_models_own_with_room_around_it() {
        assert_eq!(planned(256, None, square(48)), Ok((None, GridChoice::Auto)));
        assert_eq!(planned(256, Some(square(128)), square(16)), Ok((Some(square(128)), GridChoice::Auto)));
    }

    #[test]
    fn a_canvas_that_becomes_a_larger_sprite_is_refused_with_one_that_fits() {
        let conflict = planned(256, Some(square(256)), square(16)).unwrap_err();
        assert_eq!(
            conflict.to_string(),
            "`size` is 16x16, and an image of 256x256 becomes a sprite of 32x32; expected `width` 128 \
             and `height` 128, or neither"
        );
        // A large image has room for coarser cells, but only for square ones.
        let grid = GridChoice::Cells(square(64));
        assert_eq!(planned(1024, Some(square(1024)), square(64)), Ok((Some(square(1024)), grid)));
        assert!(planned(1024, Some(size(1024, 512)), square(64)).is_err());
        // What an error says would fit does.
        let smallest = GridChoice::Cells(square(2));
        assert_eq!(planned(256, Some(square(64)), square(2)), Ok((Some(square(64)), smallest)));
    }

    proptest! {
        #[test]
        fn a_planned_canvas_can_be_drawn_and_holds_its_grid(
            native in 8_u32..=256, width in 1_u32..=4096, height in 1_u32..=4096,
        ) {
            let (canvas, grid) = planned(8 * native, None, size(width, height)).unwrap();
            let canvas = canvas.unwrap_or(square(8 * native));
            prop_assert!(canvas.validate(CELL_PX).is_ok(), "{canvas:?}");
            if let GridChoice::Cells(cells) = grid {
                prop_assert!(cells.width <= canvas.width && cells.height <= canvas.height);
                prop_assert!(cells.width <= width && cells.height <= height);
            }
        }
    }
}
