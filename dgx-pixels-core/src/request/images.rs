//! The images of a request: the one to begin from, its mask, and those that control nets follow.

use super::control::MAX_CONTROLS;
use super::{ControlChoice, GenerateRequest, MAX_STEPS, Mask, RequestError, SourceImage, prepared};
use crate::scheduler::Steps;

impl GenerateRequest {
    /// Checks the image to begin from, the fields that need one, and the controls.
    pub(super) fn check_images(&self) -> Result<(), RequestError> {
        if self.control.len() > MAX_CONTROLS {
            let text = format!("has {} entries; expected at most {MAX_CONTROLS}", self.control.len());
            return Err(RequestError::image("control", text));
        }
        self.control.iter().try_for_each(ControlChoice::check)?;
        let Some(image) = &self.init_image else {
            let alone = |field, value: String| {
                let text = format!("is {value} and there is no `init_image`; expected both or neither");
                Err(RequestError::image(field, text))
            };
            return match (&self.mask, self.strength) {
                (Some(mask), _) => alone("mask", format!("`{mask}`")),
                (None, Some(strength)) => alone("strength", strength.to_string()),
                (None, None) => Ok(()),
            };
        };
        image.check("init_image")?;
        if let Some(strength) = self.strength {
            // Only the number of steps says whether one is left, which a model may decide.
            Steps::Number(MAX_STEPS).of_strength(strength)?;
        }
        let Some(mask) = &self.mask else { return Ok(()) };
        if let Some(mask) = mask.image() {
            mask.check("mask")?;
            if let (Some(is), Some(expected)) = (mask.size(), image.size())
                && is != expected
            {
                let text = format!("is {is}; expected {expected}, the size of `init_image`");
                return Err(RequestError::image("mask", text));
            }
        }
        if let (Mask::Areas(areas), Some(size)) = (mask, image.size())
            && let Some(area) = areas.iter().find(|area| !area.is_in(size))
        {
            let text = format!("is `{area}`; expected a rectangle of the {size} pixels of `init_image`");
            return Err(RequestError::image("mask", text));
        }
        if let Some(pixels) = image.pixels()
            && let Some(gray) = prepared::gray(mask, pixels)
            && !prepared::has_white(&gray)
        {
            return Err(RequestError::image(
                "mask",
                match mask {
                    Mask::Alpha => {
                        "is `alpha`, and `init_image` has no transparent pixel; expected at least one"
                    }
                    _ => "is black everywhere; expected white where the image is drawn anew",
                },
            ));
        }
        Ok(())
    }

    /// Returns all images of the request: the one to begin from, its mask, and those that control
    /// nets follow.
    #[cfg(feature = "engine")]
    pub(crate) fn images(&self) -> impl Iterator<Item = &SourceImage> {
        let mask = self.mask.as_ref().and_then(Mask::image);
        let followed = self.control.iter().map(|control| &control.image);
        self.init_image.iter().chain(mask).chain(followed)
    }

    /// Returns all images of the request, each to be replaced.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::{GenerateRequest, SourceImage};
    /// let image = SourceImage::new(image::RgbaImage::new(16, 16));
    /// let known = SourceImage::of_hash(image.hash());
    /// let mut request = GenerateRequest { init_image: known, ..Default::default() };
    /// request.images_mut().for_each(|known| *known = image.clone());
    /// assert!(request.init_image.unwrap().pixels().is_some());
    /// ```
    pub fn images_mut(&mut self) -> impl Iterator<Item = &mut SourceImage> {
        let mask = match &mut self.mask {
            Some(Mask::Image(mask)) => Some(mask),
            _ => None,
        };
        let followed = self.control.iter_mut().map(|control| &mut control.image);
        self.init_image.iter_mut().chain(mask).chain(followed)
    }
}
