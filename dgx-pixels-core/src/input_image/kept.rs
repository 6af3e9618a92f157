//! A folder of the images that requests begin from or follow, each once, by its content.

use std::path::{Path, PathBuf};

use super::read;
use crate::error::{Error, one_line};
use crate::files::write_whole;
use crate::picture_file::plain_png;
use crate::request::{GenerateRequest, SourceImage};

/// A folder of images that requests begin from or follow, each as `HASH.png`. An image that is
/// there already is not written again.
///
/// # Example
/// ```
/// use dgx_pixels_core::input_image::KeptImages;
/// use dgx_pixels_core::{GenerateRequest, SourceImage};
/// # let folder = tempfile::tempdir()?;
/// let kept = KeptImages::new(folder.path());
/// let image = SourceImage::new(image::RgbaImage::new(16, 16));
/// kept.keep(&GenerateRequest { init_image: Some(image.clone()), ..Default::default() })?;
///
/// let known = SourceImage::of_hash(image.hash());
/// let mut request = GenerateRequest { init_image: known, ..Default::default() };
/// kept.fill(&mut request);
/// assert_eq!(request.init_image.unwrap().pixels(), image.pixels());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct KeptImages {
    folder: PathBuf,
}

impl KeptImages {
    /// The images in `folder`, which is made when the first is kept.
    pub fn new(folder: impl Into<PathBuf>) -> KeptImages {
        KeptImages { folder: folder.into() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, image: &SourceImage) -> PathBuf {
        self.folder.join(format!("{}.png", image.hash()))
    }

    /// Keeps the images of a request whose pixels are here.
    ///
    /// # Errors
    /// [`Error::Output`] if the disk or its permissions refuse one.
    pub fn keep(&self, request: &GenerateRequest) -> Result<(), Error> {
        for image in request.images() {
            let path = self.path(image);
            let Some(pixels) = image.pixels().filter(|_| self.find(image).is_none()) else { continue };
            std::fs::create_dir_all(&self.folder).map_err(|error| Error::output(&self.folder, error))?;
            write_whole(&path, &plain_png(pixels)?, true)?;
        }
        Ok(())
    }

    /// Gives the images of a request that are known by their hash alone the pixels that are kept of
    /// them. An image that is not here, or has other pixels than its hash says, stays without.
    pub fn fill(&self, request: &mut GenerateRequest) {
        for image in request.images_mut() {
            if image.pixels().is_none()
                && let Some(found) = self.find(image)
            {
                *image = found;
            }
        }
    }

    fn find(&self, wanted: &SourceImage) -> Option<SourceImage> {
        let path = self.path(wanted);
        if !path.exists() {
            return None;
        }
        let found = read(&path).map(|image| SourceImage::new(image.pixels));
        match found {
            Ok(found) if found == *wanted => Some(found),
            Ok(_) => {
                tracing::warn!(path = %path.display(), "a kept image has other pixels than its name says");
                None
            }
            Err(error) => {
                let error = one_line(&error);
                tracing::warn!(path = %path.display(), error, "a kept image cannot be read");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use image::RgbaImage;

    use super::*;

    #[test]
    fn a_file_with_other_pixels_is_no_kept_image_and_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let kept = KeptImages::new(folder.path().join("inputs"));
        let image = SourceImage::new(RgbaImage::new(4, 4));
        let request = GenerateRequest { init_image: Some(image.clone()), ..Default::default() };
        kept.keep(&request).unwrap();
        let path = kept.path(&image);
        for damage in [plain_png(&RgbaImage::new(5, 5)).unwrap(), b"no image".to_vec()] {
            std::fs::write(&path, damage).unwrap();
            let mut known =
                GenerateRequest { init_image: SourceImage::of_hash(image.hash()), ..Default::default() };
            kept.fill(&mut known);
            assert!(known.init_image.unwrap().pixels().is_none());
            kept.keep(&request).unwrap();
            assert!(kept.find(&image).is_some());
        }
    }
}
