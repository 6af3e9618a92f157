//! The ranges of [`PixelOptions`], whoever wrote them: a user, a file of somebody else, or a
//! program.

use super::options::STEPS;
use super::{GridChoice, MAX_COLORS, MaxColors, PixelError, PixelOptions};
use crate::request::MAX_SIDE;
use crate::value_error::ValueError;

/// Longest side of a picture that is looked at, in pixels.
const MAX_PICTURE_SIDE: u32 = 65_535;

impl PixelOptions {
    /// Checks everything that can be checked without a picture. [`pixelize`](super::pixelize) does
    /// so itself.
    ///
    /// # Errors
    /// Names the option, its value and the range.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::pixel::{GridChoice, PixelOptions};
    /// let options = PixelOptions { grid: GridChoice::Step(1e-9), ..Default::default() };
    /// let error = options.validate().unwrap_err().to_string();
    /// assert_eq!(error, "`grid` is `0.000000001`; expected a number of pixels from 1 to 256");
    /// ```
    pub fn validate(&self) -> Result<(), ValueError> {
        let refuse = |option: &'static str, value: String, expected: &'static str| {
            Err(ValueError::new(option, value, expected))
        };
        let pixels = "a number of pixels from 1 to 256";
        match self.grid {
            GridChoice::Step(step) if !STEPS.contains(&step) => {
                return refuse("grid", step.to_string(), pixels);
            }
            GridChoice::Cells(size) if size.width == 0 || size.height == 0 => {
                let value = format!("{}x{}", size.width, size.height);
                return refuse("grid", value, "one column and one row, or more");
            }
            GridChoice::Auto | GridChoice::Step(_) | GridChoice::Cells(_) => {}
        }
        if let Some(step) = self.expected_step.filter(|step| !STEPS.contains(step)) {
            return refuse("expected_step", step.to_string(), pixels);
        }
        if self.strip == Some(0) {
            return refuse("strip", "0".into(), "one frame or more");
        }
        if let Some(size) = self.size
            && [size.width, size.height].iter().any(|side| !(1..=MAX_SIDE).contains(side))
        {
            let value = format!("{}x{}", size.width, size.height);
            return refuse("size", value, "sides from 1 to 2048");
        }
        match self.max_colors {
            MaxColors::AtMost(count) if !(1..=MAX_COLORS).contains(&usize::from(count)) => {
                refuse("max_colors", count.to_string(), "`auto`, `elbow`, `all` or 1 to 256")
            }
            MaxColors::Auto | MaxColors::Elbow | MaxColors::All | MaxColors::AtMost(_) => Ok(()),
        }
    }
}

/// Checks the sides of a picture that is to be looked at.
pub(super) fn check_sides(width: u32, height: u32) -> Result<(), PixelError> {
    if width == 0 || height == 0 {
        return Err(PixelError::Empty { width, height });
    }
    if width.max(height) > MAX_PICTURE_SIDE {
        return Err(PixelError::Large { width, height, largest: MAX_PICTURE_SIDE });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::pixel::{Palette, pixelize};
    use crate::request::ImageSize;

    fn picture(side: u32) -> RgbaImage {
        RgbaImage::from_fn(side, side, |x, y| {
            let hash = ((x / 4 * 73_856_093) ^ (y / 4 * 19_349_663)).wrapping_mul(2_654_435_761);
            Rgba([(hash >> 24) as u8, (hash >> 16) as u8, (hash >> 8) as u8, 255])
        })
    }

    fn fault(options: &PixelOptions) -> String {
        let told = options.validate().unwrap_err().to_string();
        assert_eq!(pixelize(&picture(16), options).unwrap_err().to_string(), told);
        told
    }

    #[test]
    fn each_bad_option_is_named_with_its_value_and_range() {
        let step = |step| PixelOptions { grid: GridChoice::Step(step), ..Default::default() };
        let sides = |width, height| ImageSize { width, height };
        let size = |size| PixelOptions { size: Some(size), ..Default::default() };
        let pixels = "expected a number of pixels from 1 to 256";
        for (options, expected) in [
            (step(0.02), format!("`grid` is `0.02`; {pixels}")),
            (step(-8.0), format!("`grid` is `-8`; {pixels}")),
            (step(257.0), format!("`grid` is `257`; {pixels}")),
            (
                PixelOptions { expected_step: Some(0.5), ..Default::default() },
                format!("`expected_step` is `0.5`; {pixels}"),
            ),
            (
                PixelOptions { grid: GridChoice::Cells(sides(0, 3)), ..Default::default() },
                "`grid` is `0x3`; expected one column and one row, or more".into(),
            ),
            (
                PixelOptions { strip: Some(0), ..Default::default() },
                "`strip` is `0`; expected one frame or more".into(),
            ),
            (size(sides(4, 0)), "`size` is `4x0`; expected sides from 1 to 2048".into()),
            (size(sides(4_000_000_000, 9)), "`size` is `4000000000x9`; expected sides from 1 to 2048".into()),
        ] {
            assert_eq!(fault(&options), expected);
        }
        for step in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-300, 0.0, -0.0, 1e300] {
            fault(&PixelOptions { grid: GridChoice::Step(step), ..Default::default() });
            fault(&PixelOptions { expected_step: Some(step), ..Default::default() });
        }
        for count in [0, 257, u16::MAX] {
            fault(&PixelOptions { max_colors: MaxColors::AtMost(count), ..Default::default() });
        }
    }

    #[test]
    fn what_the_words_of_a_user_mean_is_in_range() {
        for word in ["1", "256", "7.6", "1x1", "auto"] {
            let options = PixelOptions { grid: word.parse().unwrap(), ..Default::default() };
            assert_eq!(options.validate(), Ok(()), "{word}");
        }
        for word in ["0.99", "257", "NaN", "inf", "0x1", "1e-9"] {
            assert!(word.parse::<GridChoice>().is_err(), "{word}");
        }
    }

    #[test]
    fn a_picture_that_is_longer_than_any_is_refused() {
        let error = pixelize(&RgbaImage::new(1, 70_000), &PixelOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), "the picture is 1x70000; expected sides up to 65535");
    }

    fn numbers() -> impl Strategy<Value = f64> {
        prop_oneof![any::<f64>(), 0.0..300.0f64, Just(1.0), Just(256.0)]
    }

    fn sides() -> impl Strategy<Value = ImageSize> {
        let side = || prop_oneof![any::<u32>(), 0u32..70];
        (side(), side()).prop_map(|(width, height)| ImageSize { width, height })
    }

    fn grids() -> impl Strategy<Value = GridChoice> {
        prop_oneof![
            Just(GridChoice::Auto),
            numbers().prop_map(GridChoice::Step),
            sides().prop_map(GridChoice::Cells),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_options_make_a_sprite_or_an_error(
            grid in grids(),
            expected_step in proptest::option::of(numbers()),
            strip in proptest::option::of(prop_oneof![any::<u32>(), 0u32..40]),
            size in proptest::option::of(sides()),
            count in any::<u16>(),
            words in (0usize..3, 0usize..6, 0usize..4, 0usize..4),
            flags in any::<[bool; 4]>(),
            side in prop_oneof![Just(1u32), Just(2), Just(31), Just(64)],
        ) {
            let options = PixelOptions {
                grid, expected_step, strip, size,
                max_colors: [MaxColors::Auto, MaxColors::All, MaxColors::AtMost(count)][words.0],
                dither: crate::pixel::Dither::ALL[words.1],
                outline: ["keep", "add", "selective", "remove"][words.2].parse().unwrap(),
                transparent: ["auto", "off", "#000000", "#FFFFFF"][words.3].parse().unwrap(),
                palette: flags[0].then(|| Palette::load("1-bit").unwrap()),
                bleed: flags[1],
                cleanup: flags[2],
                tile_x: flags[3],
                tile_y: flags[0],
                ..Default::default()
            };
            let made = pixelize(&picture(side), &options);
            if let Err(error) = options.validate() {
                prop_assert_eq!(made.unwrap_err().to_string(), error.to_string());
            }
        }

        #[test]
        fn options_of_any_json_are_read_or_refused(
            step in any::<f64>(), size in any::<(i64, i64)>(), word in "[ -~]{0,12}",
        ) {
            let json = json!({
                "grid": { "step": step }, "size": { "width": size.0, "height": size.1 }, "dither": word,
            });
            let options = serde_json::from_value::<PixelOptions>(json.clone());
            prop_assert!(options.is_err() || size.0 >= 0 && size.1 >= 0, "{}", json);
        }
    }
}
