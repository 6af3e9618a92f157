//! The search for models on this machine, and the choice of the one that is meant.
//!
//! # Example
//! ```no_run
//! use dgx_pixels_core::model::search::{choose, places};
//! let found = choose(&places(), None)?;
//! println!("`{}` in {}", found.name, found.path.display());
//! found.model?;
//! # Ok::<(), dgx_pixels_core::Error>(())
//! ```

mod snapshots;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

pub use self::snapshots::{control_in_hub, lora_in_hub, vae_in_hub};
use self::snapshots::{files_in, models_in, snapshots};
use super::Model;
use super::files::Shard;
use super::hub::{self, HubName};
use super::kind::FileKind;
use crate::error::Error;
use crate::folders;

/// The model where none is named: the one that the project brings along.
pub const DEFAULT: &str = "sprite-xl";

/// A folder or a file that is, or should be, a model.
#[derive(Debug)]
pub struct Found {
    /// The folder's name, the file's without its ending; in Hugging Face's cache `ORG/NAME` for a
    /// folder and `ORG/NAME/FILE` for a file.
    pub name: String,
    /// The path, as it was found.
    pub path: PathBuf,
    /// The opened model, or what is wrong with the folder.
    pub model: Result<Model, Error>,
    /// `true` if it lies in the current folder's `models`, which the user may not have chosen.
    pub is_here: bool,
    /// The folder that this name stands for instead, if an earlier place has a model of the same
    /// name.
    pub shadowed_by: Option<PathBuf>,
}

impl Found {
    fn new(path: PathBuf, is_here: bool) -> Found {
        Found { name: name(&path), model: Model::open(&path), path, is_here, shadowed_by: None }
    }

    /// A sentence for the user if this model's name stands for another folder.
    pub fn shadow_note(&self) -> Option<Note> {
        let (name, path) = (self.name.clone(), self.path.clone());
        Some(Note::Shadowed { name, by: self.shadowed_by.clone()?, path })
    }
}

/// A fact about a chosen model that the user may not expect. Its text is a sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The model lies in the current folder's `models`, and the user did not name it.
    FromThisFolder {
        /// The model's name.
        name: String,
        /// The folder that was found.
        path: PathBuf,
    },
    /// A folder that has the model's name, and is used by its path only.
    Shadowed {
        /// The name of both.
        name: String,
        /// The folder that the name stands for.
        by: PathBuf,
        /// The folder that is not used.
        path: PathBuf,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::FromThisFolder { name, path } => {
                write!(f, "the model `{name}` is this folder's own, `{}`", path.display())
            }
            Note::Shadowed { name, by, path } => {
                let (by, path) = (by.display(), path.display());
                write!(f, "`{name}` is the model in `{by}`; to use the one in `{path}`, give its path")
            }
        }
    }
}

/// Folders whose folders are models.
///
/// # Example
/// ```
/// use std::path::Path;
/// use dgx_pixels_core::model::search::Place;
/// assert_eq!(Place::Here("models".into()).path(), Path::new("models"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder of models, or one model.
    Plain(PathBuf),
    /// Hugging Face's cache: `models--ORG--NAME/snapshots/COMMIT`.
    Hub(PathBuf),
    /// A folder of models in the current folder, for example in a cloned repository. It may add
    /// names, and stands for none that another place has.
    Here(PathBuf),
}

impl Place {
    /// The folder.
    pub fn path(&self) -> &Path {
        match self {
            Place::Plain(path) | Place::Hub(path) | Place::Here(path) => path,
        }
    }
}

/// The places where models are looked for, in this order: each folder of `$DGX_PIXELS_MODELS`,
/// `$XDG_DATA_HOME/dgx-pixels/models`, what the program or the Python package was installed or
/// built with, Hugging Face's cache, and `models` in the current folder. The last is not the user's
/// choice, so its names never replace those of another place.
pub fn places() -> Vec<Place> {
    let var = |name| env::var_os(name).filter(|value| !value.is_empty());
    let listed = var("DGX_PIXELS_MODELS");
    let listed = listed.iter().flat_map(env::split_paths).filter(|path| !path.as_os_str().is_empty());
    listed
        .chain(folders::data().map(|data| data.join("models")))
        .chain(brought_along())
        .chain(python_package())
        .map(Place::Plain)
        .chain(hub::cache().map(Place::Hub))
        .chain([Place::Here(PathBuf::from("models"))])
        .collect()
}

/// `PREFIX/share/dgx-pixels/models` for the program `PREFIX/bin/dgx-pixels`, and `models` of the
/// checkout for `target/release/dgx-pixels`; only if it is there.
fn brought_along() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let folder = program.parent()?;
    let installed = folder.parent()?.join("share/dgx-pixels/models");
    let built = folder.parent()?.parent().filter(|top| top.join("Cargo.toml").is_file());
    let built = built.map(|top| top.join("models"));
    [Some(installed), built].into_iter().flatten().find(|path| path.is_dir())
}

/// The models of the Python package, if one is installed that this code belongs to or may use.
fn python_package() -> Option<PathBuf> {
    let packages = folders::python_packages().into_iter();
    packages.map(|packages| packages.join(folders::PYTHON_PACKAGE).join("models")).find(|path| path.is_dir())
}

/// Every model in `places`, broken ones too, each folder once; in the order of the places and then
/// by name.
///
/// # Example
/// ```
/// use dgx_pixels_core::model::search::{Place, find};
/// # let folder = tempfile::tempdir()?;
/// // A folder that should be a model is listed with its fault.
/// std::fs::create_dir(folder.path().join("broken"))?;
/// std::fs::write(folder.path().join("broken/model_index.json"), "{}")?;
/// let found = find(&[Place::Plain(folder.path().into())]);
/// assert_eq!((found.len(), found[0].name.as_str()), (1, "broken"));
/// assert!(found[0].model.is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn find(places: &[Place]) -> Vec<Found> {
    let mut seen = HashSet::new();
    let mut named: HashMap<String, PathBuf> = HashMap::new();
    let mut all = vec![];
    for place in places {
        let paths = match place {
            Place::Plain(path) | Place::Here(path) if path.join("model_index.json").is_file() => {
                vec![path.clone()]
            }
            Place::Plain(path) | Place::Here(path) => {
                let is_model_folder = |path: &PathBuf| !PARTS.iter().any(|part| path.ends_with(part));
                let folders = subfolders(path).into_iter().filter(is_model_folder);
                folders.chain(files(path).into_iter().filter(|path| is_model(path))).collect()
            }
            Place::Hub(path) => snapshots(path).iter().flat_map(|path| models_in(path)).collect(),
        };
        for path in paths {
            if !seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                continue;
            }
            let mut found = Found::new(path, matches!(place, Place::Here(_)));
            match named.entry(found.name.clone()) {
                Entry::Occupied(taken) => found.shadowed_by = Some(taken.get().clone()),
                Entry::Vacant(free) => {
                    free.insert(found.path.clone());
                }
            }
            all.push(found);
        }
    }
    all
}

/// The model that `wanted` names, or the one in the folder `wanted`. Without it [`DEFAULT`] or the
/// only model in `places`; the current folder's `models` counts only where the other places have
/// none. Broken models count only where there is no other.
///
/// # Errors
/// [`Error::ModelChoice`] with the names there are.
///
/// # Example
/// ```
/// use dgx_pixels_core::model::search::{Place, choose};
/// # let folder = tempfile::tempdir()?;
/// let places = [Place::Plain(folder.path().into())];
/// let error = choose(&places, Some("no-such-model")).err().unwrap();
/// assert!(error.to_string().contains("`no-such-model`"), "{error}");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn choose(places: &[Place], wanted: Option<&str>) -> Result<Found, Error> {
    choose_on(places, wanted, None)
}

/// Chooses as [`choose`] does; where the model is in a single file, `base` supplies what the file
/// lacks.
///
/// # Errors
/// As [`choose`].
pub fn choose_on(places: &[Place], wanted: Option<&str>, base: Option<&Model>) -> Result<Found, Error> {
    let chosen = choose_plain(places, wanted)?;
    match base {
        None => Ok(chosen),
        Some(_) => Ok(Found { model: Model::open_on(&chosen.path, base), ..chosen }),
    }
}

fn choose_plain(places: &[Place], wanted: Option<&str>) -> Result<Found, Error> {
    let mut found = find(places);
    let Some(wanted) = wanted else { return default(found, places) };
    if let Some(place) = found.iter().position(|found| found.name == wanted) {
        return Ok(found.swap_remove(place));
    }
    let path = PathBuf::from(wanted);
    if path.exists() || path.is_absolute() || wanted.starts_with('.') {
        return Ok(Found::new(path, false));
    }
    if let Some(found) = in_hub(places, wanted) {
        return Ok(found);
    }
    if let Ok(name) = wanted.parse::<HubName>() {
        return Err(Error::ModelChoice(format!(
            "no model or folder is called `{wanted}`; if it is a model on the hub, `dgx-pixels pull {name}` fetches it"
        )));
    }
    let there_are = match found.as_slice() {
        [] => format!("{}; `dgx-pixels doctor` says how to get one", none_found(places)),
        found => format!("there are {}", names(found)),
    };
    Err(Error::ModelChoice(format!("no model or folder is called `{wanted}`; {there_are}")))
}

/// The facts about `chosen` that the user may not expect: it is the current folder's own and the
/// user did not name it, or the current folder has another model of its name.
pub fn notes(places: &[Place], chosen: &Found, is_named: bool) -> Vec<Note> {
    let (name, path) = (chosen.name.clone(), chosen.path.clone());
    let own = (chosen.is_here && !is_named).then_some(Note::FromThisFolder { name, path });
    let is_shadowed = |found: &Found| found.is_here && found.shadowed_by.as_ref() == Some(&chosen.path);
    let shadowed = find(places).into_iter().filter(is_shadowed);
    own.into_iter().chain(shadowed.filter_map(|found| found.shadow_note())).collect()
}

/// The model called `recorded` in `places`, as a file of somebody else names it. The name is never
/// taken for a path, so that no file can choose which folder is opened.
///
/// # Errors
/// [`Error::ModelChoice`] with the name, the places, and `--model` as the way to say where the
/// model is.
pub fn named(places: &[Place], recorded: &str) -> Result<Found, Error> {
    let found = find(places).into_iter().find(|found| found.name == recorded);
    found.or_else(|| in_hub(places, recorded)).ok_or_else(|| {
        let places: Vec<_> = places.iter().map(|place| format!("`{}`", place.path().display())).collect();
        Error::ModelChoice(format!(
            "the image records the model `{recorded}`, and no model of this name is in {}; say where it is with `--model PATH`",
            places.join(", ")
        ))
    })
}

fn default(mut found: Vec<Found>, places: &[Place]) -> Result<Found, Error> {
    found.retain(|found| found.shadowed_by.is_none());
    for narrower in
        [|found: &Found| !found.is_here && found.model.is_ok(), |found: &Found| found.model.is_ok()]
    {
        if found.iter().any(narrower) {
            found.retain(narrower);
            break;
        }
    }
    if let Some(place) = found.iter().position(|found| found.name == DEFAULT) {
        return Ok(found.swap_remove(place));
    }
    match found.len() {
        0 => Err(Error::ModelChoice(format!(
            "{}; give `--model PATH`, or run `dgx-pixels doctor`, which says how to get one",
            none_found(places)
        ))),
        1 => Ok(found.remove(0)),
        _ => Err(Error::ModelChoice(format!(
            "several models were found; choose with `--model`: {}",
            names(&found)
        ))),
    }
}

/// Returns the text of an error, for example
/// ``no model is in `models`, `/root/.cache/huggingface/hub` ``.
pub fn none_found(places: &[Place]) -> String {
    let places: Vec<_> = places.iter().map(|place| format!("`{}`", place.path().display())).collect();
    format!("no model is in {}", places.join(", "))
}

fn names(found: &[Found]) -> String {
    let mut names: Vec<_> = found.iter().map(|found| format!("`{}`", found.name)).collect();
    names.dedup();
    names.join(", ")
}

/// The folders in `path` by name, hidden ones left out.
fn subfolders(path: &Path) -> Vec<PathBuf> {
    let entries = path.read_dir().into_iter().flatten().flatten();
    let hidden =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut paths: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !hidden(path)).collect();
    paths.sort_unstable();
    paths
}

/// The folder in a place that has LoRAs.
const LORAS: &str = "loras";
/// The folder in a place that has textual inversions.
const EMBEDDINGS: &str = "embeddings";
/// The folder in a place that has VAEs.
const VAES: &str = "vae";
/// The folder in a place that has control nets.
const CONTROLS: &str = "controlnet";
/// The folders in a place that have no models.
const PARTS: [&str; 4] = [LORAS, EMBEDDINGS, VAES, CONTROLS];

/// The safetensors files in `path` by name, hidden ones left out.
fn files(path: &Path) -> Vec<PathBuf> {
    let entries = path.read_dir().into_iter().flatten().flatten();
    let is_shown = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        !name.starts_with(b".") && path.extension().is_some_and(|ending| ending == "safetensors")
    };
    let mut paths: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| is_shown(path) && path.is_file()).collect();
    paths.sort_unstable();
    paths
}

/// `true` for a file that is a model, or should be one: what changes a model or is a part of one is
/// left out.
fn is_model(path: &Path) -> bool {
    let part =
        |kind| matches!(kind, FileKind::Lora | FileKind::Vae | FileKind::Embedding | FileKind::ControlNet);
    !kind(path).is_some_and(part)
}

/// The kind of a safetensors file; `None` if it cannot be read.
fn kind(path: &Path) -> Option<FileKind> {
    Shard::open(path.to_owned()).ok().map(|file| FileKind::of(&file))
}

/// The LoRA files in `places` by name, each name once: those in the folder `loras` of a place, and
/// those beside its models. In Hugging Face's cache a LoRA is called `ORG/NAME/FILE`.
///
/// # Example
/// ```
/// use dgx_pixels_core::model::search::{Place, loras};
/// # let folder = tempfile::tempdir()?;
/// # std::fs::create_dir(folder.path().join("loras"))?;
/// // A file in the folder `loras` is listed by its name, whatever is in it.
/// let file = folder.path().join("loras/pixel-style.safetensors");
/// std::fs::write(&file, "")?;
/// assert_eq!(loras(&[Place::Plain(folder.path().into())]), [("pixel-style".into(), file)]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn loras(places: &[Place]) -> Vec<(String, PathBuf)> {
    parts(places, LORAS, FileKind::Lora)
}

/// The textual inversions in `places`, as [`loras`] lists LoRAs: the folder is `embeddings`.
///
/// A prompt names one as `embedding:NAME`. A file beside the models is one if it has the tensors
/// `clip_l` or `clip_g`.
pub fn embeddings(places: &[Place]) -> Vec<(String, PathBuf)> {
    parts(places, EMBEDDINGS, FileKind::Embedding)
}

/// The places besides the model folders whose textual inversions a model's prompts may name: in
/// the model's folder, and beside it.
#[cfg(any(feature = "engine", feature = "torch"))]
pub(crate) fn beside(model: &Path) -> Vec<Place> {
    let beside = model.parent().map(|folder| Place::Plain(folder.to_owned()));
    [Place::Plain(model.to_owned())].into_iter().chain(beside).collect()
}

/// The VAEs in `places` that are files or folders of their own, as [`loras`] lists LoRAs: the
/// folder is `vae`.
///
/// The folder `vae` of a model in diffusers' layout is a part of the model, and is left out.
pub fn vaes(places: &[Place]) -> Vec<(String, PathBuf)> {
    parts(places, VAES, FileKind::Vae)
}

/// The control nets in `places`, as [`loras`] lists LoRAs: the folder is `controlnet`, and its
/// files and folders in diffusers' layout are control nets.
pub fn controls(places: &[Place]) -> Vec<(String, PathBuf)> {
    parts(places, CONTROLS, FileKind::ControlNet)
}

fn parts(places: &[Place], folder: &str, wanted: FileKind) -> Vec<(String, PathBuf)> {
    let mut seen = HashSet::new();
    let paths = places.iter().flat_map(|place| {
        let is_wanted = |path: &PathBuf| kind(path) == Some(wanted);
        match place {
            Place::Hub(cache) => {
                snapshots(cache).iter().flat_map(|path| files_in(path)).filter(is_wanted).collect::<Vec<_>>()
            }
            Place::Plain(path) | Place::Here(path) => {
                // A model's own folder `vae` is a part of it.
                let is_own = folder == VAES && path.join("model_index.json").is_file();
                let mut inside = if is_own { vec![] } else { files(&path.join(folder)) };
                if folder == CONTROLS || folder == VAES && !is_own {
                    let folders = subfolders(&path.join(folder)).into_iter();
                    inside.extend(folders.filter(|path| path.join("config.json").is_file()));
                }
                inside.into_iter().chain(files(path).into_iter().filter(is_wanted)).collect()
            }
        }
    });
    let named = paths.map(|path| (name(&path), path));
    named.filter(|(name, _)| seen.insert(name.clone())).collect()
}

/// The model in Hugging Face's cache that `ORG/NAME` or `ORG/NAME@REVISION` stands for: the
/// pipeline, or the only model of a repository of files.
fn in_hub(places: &[Place], wanted: &str) -> Option<Found> {
    let mut models = models_in(&snapshots::named(places, wanted)?).into_iter();
    let path = models.next().filter(|_| models.next().is_none())?;
    Some(Found { name: wanted.to_owned(), ..Found::new(path, false) })
}

/// The folder's name, as it was given, or the file's without its ending; `ORG/NAME` for a snapshot
/// in Hugging Face's cache, and `ORG/NAME/FILE` for a file in one.
fn name(path: &Path) -> String {
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let repository = |folder: &Path| {
        let snapshots = folder.parent().filter(|parent| parent.ends_with("snapshots"));
        let repository = snapshots.and_then(Path::parent).and_then(last);
        Some(repository?.strip_prefix("models--")?.replace("--", "/"))
    };
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if path.is_file()
        && let Some(stem) = path.file_stem()
    {
        let stem = stem.to_string_lossy();
        // The file is a link there, so its folder says where it is.
        return match path.parent().map(real).and_then(|folder| repository(&folder)) {
            Some(repository) => format!("{repository}/{stem}"),
            None => stem.into_owned(),
        };
    }
    let real = real(path);
    repository(&real)
        .or_else(|| last(path))
        .or_else(|| last(&real))
        .unwrap_or_else(|| path.display().to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    /// A copy of a small model.
    pub(crate) fn add(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny_sdxl_a");
        copy(&fixture, &path);
        path
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in from.read_dir().unwrap().flatten() {
            let to = to.join(entry.file_name());
            match entry.path().is_dir() {
                true => copy(&entry.path(), &to),
                false => drop(fs::copy(entry.path(), to).unwrap()),
            }
        }
    }

    #[test]
    fn a_recorded_name_is_looked_up_and_never_opened_as_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path().join("models");
        for model in ["models/frog", "models/org/toad", "elsewhere"] {
            fs::create_dir_all(folder.path().join(model)).unwrap();
            fs::write(folder.path().join(model).join("model_index.json"), "{}").unwrap();
        }
        let places = [Place::Plain(models.clone())];
        assert_eq!(named(&places, "frog").unwrap().path, models.join("frog"));
        let absolute = folder.path().join("elsewhere");
        for name in [
            absolute.to_str().unwrap(),
            "../elsewhere",
            "./frog",
            "frog/",
            "org/toad",
            ".",
            "..",
            "",
            "/",
            "//host/share",
        ] {
            let error = named(&places, name).unwrap_err().to_string();
            let starts = format!("the image records the model `{name}`, and no model of this name is in `");
            assert!(error.starts_with(&starts) && error.contains("`--model PATH`"), "{error}");
        }
    }

    #[test]
    fn a_model_in_huggingfaces_cache_has_its_repositorys_name() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = folder.path().join("models--org--frog/snapshots/0a1b");
        fs::create_dir_all(&snapshot).unwrap();
        fs::write(snapshot.join("model_index.json"), r#"{"_class_name": "StableDiffusionXLPipeline"}"#)
            .unwrap();
        assert_eq!(named(&[Place::Hub(folder.path().into())], "org/frog").unwrap().path, snapshot);
    }

    #[test]
    fn a_folders_own_models_add_names_and_replace_none() {
        let folder = tempfile::tempdir().unwrap();
        let [own, clone] = ["own", "clone"].map(|name| folder.path().join(name));
        let (mine, theirs) = (add(&own, "sprite-xl"), add(&clone, "sprite-xl"));
        add(&clone, "other");
        let places = [Place::Plain(own), Place::Here(clone.clone())];

        for wanted in [None, Some("sprite-xl")] {
            let chosen = choose(&places, wanted).unwrap();
            assert_eq!((&chosen.path, chosen.is_here), (&mine, false), "{wanted:?}");
            let (by, path) = (mine.clone(), theirs.clone());
            let passed_over = Note::Shadowed { name: "sprite-xl".into(), by, path };
            assert_eq!(notes(&places, &chosen, wanted.is_some()), [passed_over]);
        }
        let other = choose(&places, Some("other")).unwrap();
        let (name, path) = ("other".into(), other.path.clone());
        assert_eq!(notes(&places, &other, true), []);
        assert_eq!(notes(&places, &other, false), [Note::FromThisFolder { name, path }]);
        let by_path = choose(&places, theirs.to_str()).unwrap();
        assert_eq!((by_path.path, by_path.shadowed_by), (theirs.clone(), None));

        // Where the user has no model, the folder's own is there to be used.
        let alone = [Place::Here(clone)];
        assert_eq!(choose(&alone, None).unwrap().path, theirs);
    }

    #[test]
    fn a_folders_own_model_is_no_default_beside_the_users_only_one() {
        let folder = tempfile::tempdir().unwrap();
        let [own, clone] = ["own", "clone"].map(|name| folder.path().join(name));
        let mine = add(&own, "mine");
        add(&clone, "sprite-xl");
        let places = [Place::Plain(own), Place::Here(clone)];
        assert_eq!(choose(&places, None).unwrap().path, mine);
    }

    #[test]
    fn the_current_folder_is_the_last_place() {
        assert_eq!(places().last(), Some(&Place::Here("models".into())));
    }
}
