//! Hugging Face's cache as a place of models.

use std::path::{Path, PathBuf};

use super::{Place, files, kind, subfolders};
use crate::model::hub::{self, HubName};
use crate::model::kind::FileKind;
use crate::model::read_text;

/// The snapshot that `ORG/NAME` or `ORG/NAME@REVISION` stands for.
pub(super) fn named(places: &[Place], wanted: &str) -> Option<PathBuf> {
    let name: HubName = wanted.parse().ok()?;
    places.iter().find_map(|place| match place {
        Place::Hub(cache) => name.snapshot_in(cache),
        Place::Plain(_) | Place::Here(_) => None,
    })
}

/// A snapshot of each repository in Hugging Face's cache: the one that `main` stands for, or the
/// last by name.
pub(super) fn snapshots(cache: &Path) -> Vec<PathBuf> {
    let of = |repository: &PathBuf| {
        let snapshots = subfolders(&repository.join("snapshots"));
        let main = read_text(&repository.join("refs").join(hub::DEFAULT_REVISION)).unwrap_or_default();
        let is_main = |path: &&PathBuf| path.file_name().is_some_and(|name| name == main.trim());
        snapshots.iter().find(is_main).or(snapshots.last()).cloned()
    };
    subfolders(cache).iter().filter_map(of).collect()
}

/// The models in a snapshot: itself, if it is an SDXL pipeline, or its files that are SDXL models.
pub(super) fn models_in(snapshot: &Path) -> Vec<PathBuf> {
    let index = snapshot.join("model_index.json");
    if index.is_file() {
        let is_sdxl = read_text(&index).is_ok_and(|index| index.contains("\"StableDiffusionXL"));
        return if is_sdxl { vec![snapshot.to_owned()] } else { vec![] };
    }
    let is_sdxl = |path: &PathBuf| matches!(kind(path), Some(FileKind::Sdxl | FileKind::SdxlUNet));
    files_in(snapshot).into_iter().filter(is_sdxl).collect()
}

/// The safetensors files of a snapshot that is no pipeline. Models of transformers are passed over,
/// as a cache may have hundreds of their files, and reading each header takes time.
pub(super) fn files_in(snapshot: &Path) -> Vec<PathBuf> {
    let config = snapshot.join("config.json");
    let is_transformers = || read_text(&config).is_ok_and(|config| config.contains("\"model_type\""));
    let is_other = snapshot.join("model_index.json").is_file() || is_transformers();
    if is_other { vec![] } else { files(snapshot) }
}

/// The LoRA in Hugging Face's cache that `ORG/NAME` or `ORG/NAME@REVISION` stands for: the only one
/// of the repository.
pub fn lora_in_hub(places: &[Place], wanted: &str) -> Option<PathBuf> {
    let mut loras = named(places, wanted)
        .map(|snapshot| files_in(&snapshot))
        .unwrap_or_default()
        .into_iter()
        .filter(|path| kind(path) == Some(FileKind::Lora));
    loras.next().filter(|_| loras.next().is_none())
}
