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
/// of the repository. `None` if it was not fetched, or if the repository has several.
///
/// # Example
/// ```
/// use dgx_pixels_core::model::search::{lora_in_hub, places};
/// // A path is no name of the hub.
/// assert_eq!(lora_in_hub(&places(), "../style.safetensors"), None);
/// ```
pub fn lora_in_hub(places: &[Place], wanted: &str) -> Option<PathBuf> {
    let mut loras = named(places, wanted)
        .map(|snapshot| files_in(&snapshot))
        .unwrap_or_default()
        .into_iter()
        .filter(|path| kind(path) == Some(FileKind::Lora));
    loras.next().filter(|_| loras.next().is_none())
}

/// The VAE in Hugging Face's cache that `ORG/NAME` or `ORG/NAME@REVISION` stands for: the
/// repository, if it is a VAE in diffusers' layout, or the only file in it that is one. `None` if
/// it was not fetched, or if the repository has several.
pub fn vae_in_hub(places: &[Place], wanted: &str) -> Option<PathBuf> {
    let snapshot = named(places, wanted)?;
    let config = read_text(&snapshot.join("config.json"));
    if config.is_ok_and(|config| config.contains("\"AutoencoderKL\"")) {
        return Some(snapshot);
    }
    let mut vaes = files_in(&snapshot).into_iter().filter(|path| kind(path) == Some(FileKind::Vae));
    vaes.next().filter(|_| vaes.next().is_none())
}

/// The control net in Hugging Face's cache that `ORG/NAME` or `ORG/NAME@REVISION` stands for, as
/// [`vae_in_hub`] finds a VAE.
pub fn control_in_hub(places: &[Place], wanted: &str) -> Option<PathBuf> {
    let snapshot = named(places, wanted)?;
    let config = read_text(&snapshot.join("config.json"));
    if config.is_ok_and(|config| config.contains("\"ControlNetModel\"")) {
        return Some(snapshot);
    }
    let mut nets = files_in(&snapshot).into_iter().filter(|path| kind(path) == Some(FileKind::ControlNet));
    nets.next().filter(|_| nets.next().is_none())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::{Place, choose, find, loras, named};
    use super::lora_in_hub;

    #[test]
    fn files_in_huggingfaces_cache_are_found_through_their_links() {
        let cache = tempfile::tempdir().unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
        let link = |repository: &str, name: &str, fixture: &str| {
            let folder = cache.path().join(format!("models--{}", repository.replace('/', "--")));
            for inside in ["blobs", "refs", "snapshots/0a1b"] {
                fs::create_dir_all(folder.join(inside)).unwrap();
            }
            fs::write(folder.join("refs/v1"), "0a1b").unwrap();
            fs::copy(fixtures.join(fixture), folder.join("blobs/e7a9")).unwrap();
            let path = folder.join("snapshots/0a1b").join(name);
            std::os::unix::fs::symlink("../../blobs/e7a9", &path).unwrap();
            path
        };
        let model = link("org/frog", "frog-xl.safetensors", "tiny_sdxl_a.safetensors");
        let lora = link("org/pixel", "style.safetensors", "lora/kohya.safetensors");
        let places = [Place::Hub(cache.path().into())];

        let names: Vec<_> = find(&places).into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["org/frog/frog-xl"]);
        for wanted in ["org/frog/frog-xl", "org/frog@v1", "org/frog@0a1b"] {
            let found = choose(&places, Some(wanted)).unwrap();
            assert_eq!((found.name.as_str(), &found.path), (wanted, &model));
            assert_eq!(named(&places, wanted).unwrap().path, model);
        }
        assert_eq!(loras(&places), [("org/pixel/style".to_owned(), lora.clone())]);
        assert_eq!(lora_in_hub(&places, "org/pixel@v1"), Some(lora));
        assert_eq!(lora_in_hub(&places, "org/frog@v1"), None);

        let error = choose(&places, Some("org/toad@v2")).unwrap_err().to_string();
        assert!(error.ends_with("`dgx-pixels pull org/toad@v2` fetches it"), "{error}");
    }
}
