//! Checks of the image that a request asks for.

use super::error::RequestError;
use super::size::{ImageSize, MAX_SIDE, MIN_SIDE};

impl ImageSize {
    /// Checks both sides against the range and `multiple`.
    ///
    /// # Errors
    /// [`RequestError::Side`], for the first side at fault.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::ImageSize;
    /// assert!(ImageSize { width: 512, height: 768 }.validate(8).is_ok());
    /// let error = ImageSize { width: 500, height: 768 }.validate(8).unwrap_err();
    /// assert_eq!(error.field(), "width");
    /// ```
    pub fn validate(self, multiple: u32) -> Result<(), RequestError> {
        for (side, value) in [("width", self.width), ("height", self.height)] {
            if !(MIN_SIDE..=MAX_SIDE).contains(&value) || !value.is_multiple_of(multiple) {
                return Err(RequestError::Side { side, value, multiple });
            }
        }
        Ok(())
    }
}
