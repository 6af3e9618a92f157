//! Which models there are, and which one is meant.

use std::collections::HashSet;
use std::env;
use std::path::{Path, PathBuf};

use dgx_pixels_core::{Error, Model};

use crate::failure::Failure;

/// The model where none is named: the one that the project brings along.
#[cfg(feature = "torch")]
const DEFAULT: &str = "sprite-xl";

/// The built-in backend's name; it needs no files and no libtorch.
pub(crate) const SKETCH: &str = "sketch";

/// A folder that is, or should be, a model.
#[derive(Debug)]
pub(crate) struct Found {
    /// The folder's name, or `ORG/NAME` in Hugging Face's cache.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// The opened model, or what is wrong with the folder.
    pub(crate) model: Result<Model, Error>,
}

/// What to draw with.
pub(crate) enum Choice {
    Sketch,
    #[cfg(feature = "torch")]
    Folder(String, Box<Model>),
}

/// Folders whose folders are models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Plain(PathBuf),
    /// Hugging Face's cache: `models--ORG--NAME/snapshots/COMMIT`.
    Hub(PathBuf),
}

impl Place {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Place::Plain(path) | Place::Hub(path) => path,
        }
    }
}

/// Where models are looked for, in this order: `models`, each folder of `$DGX_PIXELS_MODELS`,
/// `$XDG_DATA_HOME/dgx-pixels/models`, what the program was installed or built with, and Hugging Face's cache.
pub(crate) fn places() -> Vec<Place> {
    let var = |name| env::var_os(name).filter(|value| !value.is_empty());
    let home = |inside: &str| {
        env::home_dir().filter(|home| !home.as_os_str().is_empty()).map(|home| home.join(inside))
    };
    let listed = var("DGX_PIXELS_MODELS");
    let listed = listed.iter().flat_map(env::split_paths).filter(|path| !path.as_os_str().is_empty());
    let data = var("XDG_DATA_HOME").map(PathBuf::from).or_else(|| home(".local/share"));
    let cache = || var("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| home(".cache"));
    let hub = var("HF_HUB_CACHE")
        .map(PathBuf::from)
        .or_else(|| var("HF_HOME").map(|home| Path::new(&home).join("hub")))
        .or_else(|| cache().map(|cache| cache.join("huggingface/hub")));

    std::iter::once(PathBuf::from("models"))
        .chain(listed)
        .chain(data.map(|data| data.join("dgx-pixels/models")))
        .chain(brought_along())
        .map(Place::Plain)
        .chain(hub.map(Place::Hub))
        .collect()
}

/// `PREFIX/share/dgx-pixels/models` for the program `PREFIX/bin/dgx-pixels`, and `models` of the checkout for
/// `target/release/dgx-pixels`; only if it is there.
fn brought_along() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let folder = program.parent()?;
    let installed = folder.parent()?.join("share/dgx-pixels/models");
    let built = folder.parent()?.parent().filter(|top| top.join("Cargo.toml").is_file());
    let built = built.map(|top| top.join("models"));
    [Some(installed), built].into_iter().flatten().find(|path| path.is_dir())
}

/// Every model in `places`, broken ones too, each folder once; in the order of the places and then by name.
pub(crate) fn find(places: &[Place]) -> Vec<Found> {
    let mut seen = HashSet::new();
    let paths = places.iter().flat_map(|place| match place {
        Place::Plain(path) if path.join("model_index.json").is_file() => vec![path.clone()],
        Place::Plain(path) => folders(path),
        Place::Hub(path) => folders(path).iter().filter_map(|repository| snapshot(repository)).collect(),
    });
    let new = paths.filter(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    new.map(|path| Found { name: name(&path), model: Model::open(&path), path }).collect()
}

/// The model called `wanted`, or the one in the folder `wanted`.
///
/// # Errors
/// [`Failure::Model`] with the names there are, or why the folder cannot be opened.
pub(crate) fn resolve(wanted: &str) -> Result<Found, Failure> {
    let places = places();
    let mut found = find(&places);
    if let Some(place) = found.iter().position(|found| found.name == wanted) {
        return Ok(found.swap_remove(place));
    }
    let path = PathBuf::from(wanted);
    if path.exists() || path.is_absolute() || wanted.starts_with('.') {
        return Ok(Found { name: name(&path), model: Model::open(&path), path });
    }
    let there_are = match found.as_slice() {
        [] => format!("{}; `dgx-pixels doctor` says how to get one", none_found(&places)),
        found => format!("there are {}", names(found)),
    };
    Err(Failure::Model(format!("no model or folder is called `{wanted}`; {there_are}")))
}

/// What `--model` means. Without it, [`DEFAULT`], or the only model there is.
///
/// # Errors
/// [`Failure::Model`] if there is none, or several others; the model's own fault if it cannot be opened.
#[cfg(feature = "torch")]
pub(crate) fn choose(wanted: Option<&str>) -> Result<Choice, Failure> {
    let Found { name, model, .. } = match wanted {
        Some(SKETCH) => return Ok(Choice::Sketch),
        Some(wanted) => resolve(wanted)?,
        None => default(&places())?,
    };
    Ok(Choice::Folder(name, Box::new(model?)))
}

/// What `--model` means in a build without libtorch: the sketch.
///
/// # Errors
/// [`Failure::Model`] for any other model.
#[cfg(not(feature = "torch"))]
pub(crate) fn choose(wanted: Option<&str>) -> Result<Choice, Failure> {
    match wanted {
        None | Some(SKETCH) => Ok(Choice::Sketch),
        Some(wanted) => Err(Failure::Model(format!(
            "`model` is `{wanted}`; expected `{SKETCH}`, as this program is built without libtorch (feature `torch`)"
        ))),
    }
}

/// [`DEFAULT`], or the only model in `places`. Broken ones count only where there is no other.
#[cfg(feature = "torch")]
fn default(places: &[Place]) -> Result<Found, Failure> {
    let mut found = find(places);
    if found.iter().any(|found| found.model.is_ok()) {
        found.retain(|found| found.model.is_ok());
    }
    if let Some(place) = found.iter().position(|found| found.name == DEFAULT) {
        return Ok(found.swap_remove(place));
    }
    match found.len() {
        0 => Err(Failure::Model(format!(
            "{}; give `--model PATH`, or run `dgx-pixels doctor`, which says how to get one",
            none_found(places)
        ))),
        1 => Ok(found.remove(0)),
        _ => Err(Failure::Model(format!(
            "several models were found; choose with `--model`: {}",
            names(&found)
        ))),
    }
}

/// As in ``no model is in `models`, `/root/.cache/huggingface/hub` ``.
pub(crate) fn none_found(places: &[Place]) -> String {
    let places: Vec<_> = places.iter().map(|place| format!("`{}`", place.path().display())).collect();
    format!("no model is in {}", places.join(", "))
}

fn names(found: &[Found]) -> String {
    let names: Vec<_> = found.iter().map(|found| format!("`{}`", found.name)).collect();
    names.join(", ")
}

/// The folders in `path` by name, hidden ones left out.
fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = path.read_dir().into_iter().flatten().flatten();
    let hidden =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut paths: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !hidden(path)).collect();
    paths.sort_unstable();
    paths
}

/// The snapshot of a cached repository that `main` points at, or the last by name, if it holds an SDXL pipeline.
fn snapshot(repository: &Path) -> Option<PathBuf> {
    let snapshots = folders(&repository.join("snapshots"));
    let main = std::fs::read_to_string(repository.join("refs/main")).unwrap_or_default();
    let is_main = |path: &&PathBuf| path.file_name().is_some_and(|name| name == main.trim());
    let path = snapshots.iter().find(is_main).or(snapshots.last())?;
    let index = std::fs::read_to_string(path.join("model_index.json")).ok()?;
    index.contains("\"StableDiffusionXL").then(|| path.clone())
}

/// The folder's name, as it was given; `ORG/NAME` for a snapshot in Hugging Face's cache.
fn name(path: &Path) -> String {
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let snapshots = real.parent().filter(|parent| parent.ends_with("snapshots"));
    let repository = snapshots.and_then(Path::parent).and_then(last);
    match repository.as_deref().and_then(|name| name.strip_prefix("models--")) {
        Some(repository) => repository.replace("--", "/"),
        None => last(path).or_else(|| last(&real)).unwrap_or_else(|| path.display().to_string()),
    }
}
