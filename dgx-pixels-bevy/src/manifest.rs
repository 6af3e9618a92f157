//! The manifest as an asset, and its loader.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bevy::asset::io::Reader;
use bevy::asset::{AssetLoader, LoadContext};
use bevy::image::{ImageLoaderSettings, ImageSampler};
use bevy::prelude::*;
use bevy::reflect::TypePath;
use dgx_pixels_manifest::{Manifest, ManifestError, ManifestFault};

/// A manifest whose pictures are being loaded, or are.
///
/// It takes over from the one before when all of its images are loaded or have failed, so that new
/// rectangles are never shown with old images.
#[derive(Asset, TypePath, Debug)]
pub struct SpriteManifest {
    /// The manifest. It has no [`faults`](Manifest::faults).
    pub manifest: Manifest,
    /// BLAKE3 of its text.
    pub blake3: String,
    /// The images, in the order of [`Manifest::images`].
    #[dependency]
    pub images: Vec<Handle<Image>>,
    /// Another for each time that one was loaded.
    pub(crate) load: u64,
    pub(crate) begun: Instant,
}

/// Loads a [`SpriteManifest`], and its pictures with sharp pixels.
///
/// Bevy chooses it by the type of the asset, since `.json` belongs to every loader. A manifest with
/// faults is refused as a whole.
#[derive(Default, TypePath)]
pub struct ManifestLoader;

/// The reason why a manifest cannot be loaded.
///
/// The sprites of the manifest before stay, and `sprites/status` reports the error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestLoadError {
    /// The manifest cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file is no manifest, was cut off, or is of a newer version.
    #[error(transparent)]
    Read(#[from] ManifestError),
    /// The manifest contradicts itself.
    #[error(transparent)]
    Fault(#[from] ManifestFault),
}

impl AssetLoader for ManifestLoader {
    type Asset = SpriteManifest;
    type Settings = ();
    type Error = ManifestLoadError;

    async fn load(
        &self,
        reader: &mut dyn Reader,
        (): &(),
        context: &mut LoadContext<'_>,
    ) -> Result<SpriteManifest, ManifestLoadError> {
        static LOADS: AtomicU64 = AtomicU64::new(1);
        let begun = Instant::now();
        let mut text = Vec::new();
        reader.read_to_end(&mut text).await?;
        let manifest = Manifest::read(&text)?;
        // Before any path of it is used.
        if let Some(fault) = manifest.faults().into_iter().next() {
            return Err(fault.into());
        }
        let folder = context.path().parent().unwrap_or_default();
        let sharp = |settings: &mut ImageLoaderSettings| settings.sampler = ImageSampler::nearest();
        let images = manifest
            .images
            .keys()
            .map(|path| {
                let path = folder.path().join(path);
                context.load_builder().with_settings(sharp).load(path)
            })
            .collect();
        let blake3 = blake3::hash(&text).to_hex().to_string();
        Ok(SpriteManifest { manifest, blake3, images, load: LOADS.fetch_add(1, Ordering::Relaxed), begun })
    }

    fn extensions(&self) -> &[&str] {
        // Loaded by its path and type: `json` is everybody's.
        &[]
    }
}
