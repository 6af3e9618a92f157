//! Conversion to sRGB of what a color profile describes otherwise.

use image::{DynamicImage, RgbaImage};
use moxcms::{
    CicpColorPrimaries, CicpProfile, ColorProfile, DataColorSpace, Layout, MatrixCoefficients,
    TransferCharacteristics, TransformExecutor, TransformOptions,
};

/// A profile that changes no color by more than this describes sRGB: colors are kept as they are,
/// so that pixel art on a palette stays on it.
const SAME: u8 = 2;
/// A profile may be this long. Those of printers have about 2 MiB.
pub(super) const MAX_PROFILE_BYTES: usize = 8 << 20;

/// A conversion of a decoded image's values to sRGB.
pub(super) struct Conversion {
    profile: ColorProfile,
}

impl Conversion {
    /// Makes the conversion from an ICC profile.
    ///
    /// # Errors
    /// A clause that says why the profile cannot be used.
    pub(super) fn from_icc(icc: &[u8], has_color: bool) -> Result<Conversion, String> {
        if icc.len() > MAX_PROFILE_BYTES {
            return Err(format!("it has {} bytes; expected at most {MAX_PROFILE_BYTES}", icc.len()));
        }
        let profile = ColorProfile::new_from_slice(icc).map_err(|error| error.to_string())?;
        match (profile.color_space, has_color) {
            (DataColorSpace::Rgb, _) | (DataColorSpace::Gray, false) => Ok(Conversion { profile }),
            (other, _) => Err(format!("it describes {other:?} and the image does not")),
        }
    }

    /// Makes the conversion from PNG's `cICP`.
    ///
    /// # Errors
    /// As [`from_icc`](Self::from_icc).
    pub(super) fn from_cicp([primaries, transfer, matrix, range]: [u8; 4]) -> Result<Conversion, String> {
        let unusable = || {
            format!("`cICP` is {primaries}, {transfer}, {matrix}, {range}; expected a color space of SDR RGB")
        };
        let color_primaries = CicpColorPrimaries::try_from(primaries).map_err(|_| unusable())?;
        let transfer_characteristics = TransferCharacteristics::try_from(transfer).map_err(|_| unusable())?;
        // 16 and 18 are HDR, which takes tone mapping.
        let is_sdr = matches!(transfer, 1 | 4..=8 | 11..=15) && matrix == 0 && range == 1;
        let profile = ColorProfile::new_from_cicp(CicpProfile {
            color_primaries,
            transfer_characteristics,
            matrix_coefficients: MatrixCoefficients::Identity,
            full_range: true,
        });
        let is_known = is_sdr && profile.red_trc.is_some() && !matches!(primaries, 0 | 2 | 3);
        is_known.then_some(Conversion { profile }).ok_or_else(unusable)
    }

    /// `image` in sRGB with 8 bits a channel.
    ///
    /// # Errors
    /// The image with its colors as they are, and why.
    pub(super) fn apply(&self, image: DynamicImage) -> Result<RgbaImage, (RgbaImage, String)> {
        let is_deep = !matches!(image.color().bytes_per_pixel() / image.color().channel_count(), 1);
        let shallow = match self.executor8() {
            Ok(executor) => executor,
            Err(reason) => return Err((image.into_rgba8(), reason)),
        };
        if self.is_srgb(&*shallow) {
            return Ok(image.into_rgba8());
        }
        if is_deep { self.apply16(image) } else { self.apply8(image.into_rgba8(), &*shallow) }
    }

    fn is_gray(&self) -> bool {
        self.profile.color_space == DataColorSpace::Gray
    }

    fn layout(&self) -> Layout {
        // Not `GrayAlpha`: moxcms 0.7 then fails for the length of every row.
        if self.is_gray() { Layout::Gray } else { Layout::Rgba }
    }

    fn executor8(&self) -> Result<Box<dyn TransformExecutor<u8> + Send + Sync>, String> {
        let (srgb, options) = (ColorProfile::new_srgb(), TransformOptions::default());
        let made = self.profile.create_transform_8bit(self.layout(), &srgb, Layout::Rgba, options);
        made.map_err(|error| error.to_string())
    }

    /// `true` if all colors of a coarse cube stay nearly as they are.
    fn is_srgb(&self, executor: &(dyn TransformExecutor<u8> + Send + Sync)) -> bool {
        let levels = || (0..=255u8).step_by(15);
        let cube: Vec<[u8; 4]> = match self.is_gray() {
            true => (0..=255).map(|value| [value, value, value, 255]).collect(),
            false => levels()
                .flat_map(|r| levels().flat_map(move |g| levels().map(move |b| [r, g, b, 255])))
                .collect(),
        };
        let mut converted = vec![0; 4 * cube.len()];
        let done = executor.transform(&self.source(cube.as_flattened()), &mut converted);
        let is_near = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= SAME;
        done.is_ok() && cube.as_flattened().iter().zip(&converted).all(is_near)
    }

    /// The channels of RGBA that the profile describes, and alpha where they are three.
    fn source<T: Copy>(&self, rgba: &[T]) -> Vec<T> {
        match self.is_gray() {
            true => rgba.iter().step_by(4).copied().collect(),
            false => rgba.to_vec(),
        }
    }

    fn apply8(
        &self,
        mut image: RgbaImage,
        executor: &(dyn TransformExecutor<u8> + Send + Sync),
    ) -> Result<RgbaImage, (RgbaImage, String)> {
        let row_len = 4 * image.width().max(1) as usize;
        let mut converted = vec![0; row_len];
        for row in image.chunks_exact_mut(row_len) {
            if let Err(error) = executor.transform(&self.source(row), &mut converted) {
                // A row fails for its length alone, so the first one does.
                return Err((image, error.to_string()));
            }
            for (to, from) in row.as_chunks_mut::<4>().0.iter_mut().zip(converted.as_chunks::<4>().0) {
                to[..3].copy_from_slice(&from[..3]);
            }
        }
        Ok(image)
    }

    fn apply16(&self, image: DynamicImage) -> Result<RgbaImage, (RgbaImage, String)> {
        let (srgb, options) = (ColorProfile::new_srgb(), TransformOptions::default());
        let made = self.profile.create_transform_16bit(self.layout(), &srgb, Layout::Rgba, options);
        let executor = match made {
            Ok(executor) => executor,
            Err(error) => return Err((image.into_rgba8(), error.to_string())),
        };
        let deep = image.into_rgba16();
        let mut reduced = RgbaImage::new(deep.width(), deep.height());
        let row_len = 4 * deep.width().max(1) as usize;
        let mut converted = vec![0u16; row_len];
        for (row, to) in deep.chunks_exact(row_len).zip(reduced.chunks_exact_mut(row_len)) {
            if let Err(error) = executor.transform(&self.source(row), &mut converted) {
                return Err((DynamicImage::ImageRgba16(deep).into_rgba8(), error.to_string()));
            }
            let pixels = converted.as_chunks::<4>().0.iter().zip(row.as_chunks::<4>().0);
            for (to, ([r, g, b, _], [.., a])) in to.as_chunks_mut::<4>().0.iter_mut().zip(pixels) {
                *to = [*r, *g, *b, *a].map(|value| ((u32::from(value) + 128) / 257) as u8);
            }
        }
        Ok(reduced)
    }
}

#[cfg(test)]
mod tests {
    use image::Rgba;

    use super::*;

    fn converted(profile: &ColorProfile, image: DynamicImage) -> RgbaImage {
        let icc = profile.encode().unwrap();
        Conversion::from_icc(&icc, image.color().has_color()).unwrap().apply(image).unwrap()
    }

    fn one(pixel: [u8; 4]) -> DynamicImage {
        RgbaImage::from_pixel(3, 2, Rgba(pixel)).into()
    }

    #[test]
    fn srgb_stays_as_it_is_to_the_last_bit() {
        for value in 0..=255u8 {
            let pixel = [value, 255 - value, value / 3, 77];
            let image = converted(&ColorProfile::new_srgb(), one(pixel));
            assert_eq!(image.get_pixel(2, 1).0, pixel);
        }
    }

    #[test]
    fn wider_spaces_become_srgb_and_alpha_stays() {
        // Display P3 (180, 60, 80) is sRGB (194, 46, 80) to within rounding.
        let image = converted(&ColorProfile::new_display_p3(), one([180, 60, 80, 9]));
        let [r, g, b, a] = image.get_pixel(0, 0).0;
        assert!(r.abs_diff(194) < 3 && g.abs_diff(46) < 4 && b.abs_diff(80) < 3, "{r} {g} {b}");
        assert_eq!(a, 9);
        let deep = DynamicImage::ImageRgba16(one([180, 60, 80, 9]).into_rgba16());
        let deep = converted(&ColorProfile::new_display_p3(), deep);
        assert!(deep.get_pixel(0, 0).0.iter().zip([r, g, b, a]).all(|(x, y)| x.abs_diff(y) <= 1), "{deep:?}");
        let cicp = Conversion::from_cicp([12, 13, 0, 1]).unwrap().apply(one([180, 60, 80, 9])).unwrap();
        assert!(cicp.get_pixel(0, 0).0.iter().zip([r, g, b, a]).all(|(x, y)| x.abs_diff(y) <= 1), "{cicp:?}");
    }

    #[test]
    fn gray_profiles_are_for_gray_images() {
        let gray = ColorProfile::new_gray_with_gamma(1.0);
        let image: DynamicImage = image::GrayImage::from_pixel(2, 2, image::Luma([55])).into();
        let [r, g, b, a] = converted(&gray, image).get_pixel(1, 1).0;
        // 55 of 255 in linear light is 128 in sRGB.
        assert!(r.abs_diff(128) < 3 && r == g && g == b && a == 255, "{r} {g} {b} {a}");
        let error = Conversion::from_icc(&gray.encode().unwrap(), true).err().unwrap();
        assert_eq!(error, "it describes Gray and the image does not");
    }

    #[test]
    fn what_is_no_profile_is_told() {
        assert!(Conversion::from_icc(b"no profile", true).is_err());
        assert!(Conversion::from_icc(&vec![0; MAX_PROFILE_BYTES + 1], true).is_err());
        for cicp in [[9, 16, 0, 1], [1, 13, 1, 1], [255, 255, 255, 255], [2, 2, 0, 1]] {
            assert!(Conversion::from_cicp(cicp).is_err(), "{cicp:?}");
        }
        assert!(Conversion::from_cicp([1, 13, 0, 1]).is_ok());
    }
}
