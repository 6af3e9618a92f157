//! Models, as clients see them.

use std::path::PathBuf;

use dgx_pixels_core::local::{LocalModel, LocalModels};
use dgx_pixels_core::{ImageSize, ModelDefaults, canvas};
use serde::Serialize;

/// A model, as clients are told of it.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct ModelCard {
    /// The value of `model` that names it.
    pub name: String,
    /// `true` if it draws when a call names no `model`.
    pub is_default: bool,
    /// `true` if it draws nothing but pixel art. Its prompts then get no words of style.
    pub draws_pixel_art: bool,
    /// Width of a sprite where none is asked for, in sprite pixels.
    pub width: u32,
    /// Height of a sprite where none is asked for, in sprite pixels.
    pub height: u32,
    /// Denoising steps where none are asked for.
    pub steps: usize,
    /// Its folder; none for `sketch`.
    pub path: Option<PathBuf>,
    /// The model's values for what a request leaves open.
    #[serde(skip)]
    #[schemars(skip)]
    pub defaults: ModelDefaults,
}

impl ModelCard {
    /// A card for each model, the default first.
    pub(super) fn all(models: &LocalModels) -> Vec<ModelCard> {
        let cards = models.all().iter().map(ModelCard::new);
        cards.enumerate().map(|(n, card)| ModelCard { is_default: n == 0, ..card }).collect()
    }

    fn new(model: &LocalModel) -> ModelCard {
        let LocalModel { name, path, defaults } = model.clone();
        let draws_pixel_art = model.draws_pixel_art();
        let path = path.map(|path| path.canonicalize().unwrap_or(path));
        let ImageSize { width, height } = canvas::native_sprite(defaults.size);
        let steps = defaults.steps;
        ModelCard { name, is_default: false, draws_pixel_art, width, height, steps, path, defaults }
    }
}
