//! The colour space that distances are measured in. Source: Björn Ottosson, "A perceptual color
//! space for image processing" (2020).

use std::sync::LazyLock;

/// A colour in Oklab: equal distances look about equally different.
///
/// Source: Björn Ottosson, "A perceptual color space for image processing", 2020.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Oklab {
    /// Lightness, 0 (black) to 1 (white).
    pub l: f32,
    /// Green (negative) to red, about -0.24 to 0.28.
    pub a: f32,
    /// Blue (negative) to yellow, about -0.32 to 0.20.
    pub b: f32,
}

impl Oklab {
    /// The colour of 8-bit sRGB.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::pixel::Oklab;
    /// assert!((Oklab::from_rgb([255; 3]).l - 1.0).abs() < 1e-4);
    /// assert!(Oklab::from_rgb([255, 0, 0]).a > 0.2);
    /// ```
    pub fn from_rgb(rgb: [u8; 3]) -> Self {
        static LINEAR: LazyLock<[f32; 256]> = LazyLock::new(|| {
            std::array::from_fn(|i| {
                let value = i as f32 / 255.0;
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            })
        });
        let [r, g, b] = rgb.map(|value| LINEAR[usize::from(value)]);
        let l = (0.412_221_46 * r + 0.536_332_55 * g + 0.051_445_995 * b).cbrt();
        let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).cbrt();
        let s = (0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b).cbrt();
        Oklab {
            l: 0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
            a: 1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
            b: 0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
        }
    }

    /// The nearest 8-bit sRGB; what lies outside its range is clipped.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::pixel::Oklab;
    /// assert_eq!(Oklab::from_rgb([18, 200, 7]).to_rgb(), [18, 200, 7]);
    /// ```
    pub fn to_rgb(self) -> [u8; 3] {
        let l = self.l + 0.396_337_78 * self.a + 0.215_803_76 * self.b;
        let m = self.l - 0.105_561_346 * self.a - 0.063_854_17 * self.b;
        let s = self.l - 0.089_484_18 * self.a - 1.291_485_5 * self.b;
        let (l, m, s) = (l * l * l, m * m * m, s * s * s);
        [
            4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
            -1.268_438 * l + 2.609_757_4 * m - 0.341_319_4 * s,
            -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
        ]
        .map(|value| {
            let value = value.clamp(0.0, 1.0);
            let value =
                if value <= 0.003_130_8 { 12.92 * value } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 };
            (255.0 * value).round() as u8
        })
    }

    /// Euclidean distance: 0.02 is just seen side by side, black to white is 1.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::pixel::Oklab;
    /// let (black, white) = (Oklab::from_rgb([0; 3]), Oklab::from_rgb([255; 3]));
    /// assert!((black.distance(white) - 1.0).abs() < 1e-4);
    /// assert!(Oklab::from_rgb([120; 3]).distance(Oklab::from_rgb([121; 3])) < 0.02);
    /// ```
    pub fn distance(self, other: Oklab) -> f32 {
        self.distance_squared(other).sqrt()
    }

    /// The square of [`distance`](Self::distance), for comparing.
    pub fn distance_squared(self, other: Oklab) -> f32 {
        let (l, a, b) = (self.l - other.l, self.a - other.a, self.b - other.b);
        l * l + a * a + b * b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grey_and_many_colours_come_back() {
        for i in (0..1 << 24).step_by(7919).chain((0..=255).map(|grey| grey * 0x010101)) {
            let rgb = [(i >> 16) as u8, (i >> 8) as u8, i as u8];
            assert_eq!(Oklab::from_rgb(rgb).to_rgb(), rgb);
        }
    }
}
