//! The files that requests may ask for beside a model, by name: LoRAs, VAEs, control nets and
//! textual inversions.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::hub::HubName;
use super::search::{self, Place};
use super::{ControlUse, InversionUse, LoraUse, VaeUse, control, hash_file, vae};
use crate::error::Error;
use crate::prompt::{PromptError, inversions};
use crate::request::{GenerateRequest, LoraChoice, RequestError};

/// The LoRAs, VAEs, control nets and textual inversions that requests may ask for. What is read of
/// a file is read once, until the file changes.
#[derive(Debug, Default)]
pub struct Parts {
    places: Vec<Place>,
    takes_paths: bool,
    hashes: Mutex<HashMap<PathBuf, (SystemTime, u64, String)>>,
    /// The models and LoRAs that were found to go together.
    checked: Mutex<HashSet<String>>,
}

impl Parts {
    /// The files in these places by their names. With `takes_paths` a name that none of them has
    /// may be a path: for doors whose callers may read all files anyway.
    pub fn new(places: Vec<Place>, takes_paths: bool) -> Parts {
        Parts { places, takes_paths, ..Parts::default() }
    }

    /// Finds the LoRA that a request asks for.
    ///
    /// # Errors
    /// [`Error::ModelChoice`] with the names there are; [`Error::Model`] for a file that cannot be
    /// read.
    pub fn lora(&self, choice: &LoraChoice) -> Result<LoraUse, Error> {
        let (name, path) = self.named(&LORA, &choice.name)?;
        let hash = self.hash(&path)?;
        Ok(LoraUse { name, path, hash, weight: choice.weight, text_weight: choice.text_weight() })
    }

    /// Finds the VAE that a request asks for.
    ///
    /// # Errors
    /// Those of [`lora`](Self::lora).
    pub fn vae(&self, name: &str) -> Result<VaeUse, Error> {
        let (name, path) = self.named(&VAE, name)?;
        let hash = vae::hash_of(&path, |file| self.hash(file))?;
        Ok(VaeUse { name, path, hash })
    }

    /// Finds the control nets that a request asks for, one for each of its controls.
    ///
    /// # Errors
    /// Those of [`lora`](Self::lora), and [`RequestError::Image`] for two nets of one name.
    pub fn controls(&self, request: &GenerateRequest) -> Result<Vec<ControlUse>, Error> {
        let mut uses: Vec<ControlUse> = vec![];
        for choice in &request.control {
            let one = self.control(&choice.model)?;
            if uses.iter().any(|known| known.name == one.name && known.hash != one.hash) {
                let name = one.name;
                let text = format!("has two nets that are called `{name}`; expected files of other names");
                return Err(RequestError::image("control", text).into());
            }
            uses.push(one);
        }
        Ok(uses)
    }

    /// Finds a control net.
    ///
    /// # Errors
    /// Those of [`lora`](Self::lora).
    pub fn control(&self, name: &str) -> Result<ControlUse, Error> {
        let (name, path) = self.named(&CONTROL, name)?;
        let hash = control::hash_of(&path, |file| self.hash(file))?;
        Ok(ControlUse { name, path, hash })
    }

    /// Finds the textual inversions that the prompts of a request name, each once. `model` is the
    /// path of the model that draws, which may have some of its own.
    ///
    /// # Errors
    /// [`RequestError::Prompt`] for a name that no file has; [`Error::Model`] for a file that
    /// cannot be read.
    pub(crate) fn inversions(
        &self,
        model: &Path,
        request: &GenerateRequest,
    ) -> Result<Vec<InversionUse>, Error> {
        let syntax = request.prompt_syntax.unwrap_or_default();
        let prompts =
            [("prompt", Some(&request.prompt)), ("negative_prompt", request.negative_prompt.as_ref())];
        let mut uses: Vec<InversionUse> = vec![];
        let mut known = None;
        for (field, prompt) in prompts.into_iter().filter_map(|(field, prompt)| Some((field, prompt?))) {
            let fault = |fault| RequestError::Prompt { field, fault };
            for name in inversions::names(prompt, syntax).map_err(fault)? {
                if uses.iter().any(|one| one.name == name) {
                    continue;
                }
                let known = known.get_or_insert_with(|| {
                    let places = search::beside(model).into_iter().chain(self.places.iter().cloned());
                    search::embeddings(&places.collect::<Vec<_>>())
                });
                let Some((_, path)) = known.iter().find(|(known, _)| *known == name) else {
                    return Err(fault(PromptError::unknown_embedding(name, known)).into());
                };
                let hash = self.hash(path)?;
                uses.push(InversionUse { name, hash });
            }
        }
        Ok(uses)
    }

    /// The file called `name`, and the name to record. A name is compared with those that are
    /// known, and never leads to a file by itself.
    fn named(&self, kind: &Kind, name: &str) -> Result<(String, PathBuf), Error> {
        let known = (kind.all)(&self.places);
        if let Some(found) = known.iter().find(|(known, _)| known == name) {
            return Ok(found.clone());
        }
        let path = PathBuf::from(name);
        if self.takes_paths && (path.is_file() || (kind.may_be_folder && path.is_dir())) {
            let path = if path.is_dir() { path.canonicalize().unwrap_or(path) } else { path };
            return Ok((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path));
        }
        if let Some(path) = (kind.in_hub)(&self.places, name) {
            return Ok((name.to_owned(), path));
        }
        let names: Vec<_> = known.into_iter().map(|(name, _)| format!("`{name}`")).collect();
        let there_are = match (name.parse::<HubName>(), names.is_empty()) {
            (Ok(name), _) => format!("if it is on the hub, `dgx-pixels pull {name}` fetches it"),
            (Err(_), true) => format!("there are none in the folders `{}` of the model folders", kind.folder),
            (Err(_), false) => format!("there are {}", names.join(", ")),
        };
        let or_path = match (self.takes_paths, kind.may_be_folder) {
            (false, _) => "",
            (true, false) => " or file",
            (true, true) => ", folder or file",
        };
        Err(Error::ModelChoice(format!("no {}{or_path} is called `{name}`; {there_are}", kind.word)))
    }

    /// The LoRA with this hash, one of this name first.
    ///
    /// # Errors
    /// [`Error::ModelChoice`] if there is none; [`Error::Model`] for a file that cannot be read.
    pub fn lora_with_hash(&self, name: &str, hash: &str) -> Result<PathBuf, Error> {
        self.with_hash(&LORA, name, hash)
    }

    /// The VAE with this hash, one of this name first.
    ///
    /// # Errors
    /// Those of [`lora_with_hash`](Self::lora_with_hash).
    pub fn vae_with_hash(&self, name: &str, hash: &str) -> Result<PathBuf, Error> {
        self.with_hash(&VAE, name, hash)
    }

    /// The control net with this hash, one of this name first.
    ///
    /// # Errors
    /// Those of [`lora_with_hash`](Self::lora_with_hash).
    pub fn control_with_hash(&self, name: &str, hash: &str) -> Result<PathBuf, Error> {
        self.with_hash(&CONTROL, name, hash)
    }

    fn with_hash(&self, kind: &Kind, name: &str, hash: &str) -> Result<PathBuf, Error> {
        let Kind { word, folder, flag, .. } = kind;
        let mut all = (kind.all)(&self.places);
        all.sort_by_key(|(known, _)| known != name);
        for (_, path) in all {
            if (kind.hash)(self, &path)? == hash {
                return Ok(path);
            }
        }
        Err(Error::ModelChoice(format!(
            "the image records the {word} `{name}`, and no file with its hash, {hash}, is in the folders `{folder}` of the \
             model folders; say where it is with `{flag} PATH`"
        )))
    }

    /// BLAKE3 of a file.
    fn hash(&self, path: &Path) -> Result<String, Error> {
        let about = fs::metadata(path).map_err(|error| Error::model(path, error))?;
        let changed = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let known = self.hashes.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some((_, _, hash)) = known.filter(|(at, len, _)| (*at, *len) == (changed, about.len())) {
            return Ok(hash);
        }
        let hash = hash_file(path)?.to_hex().to_string();
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        hashes.insert(path.to_owned(), (changed, about.len(), hash.clone()));
        Ok(hash)
    }

    /// Makes a check once for each `key`, until it fails.
    pub(crate) fn check_once(
        &self,
        key: &str,
        check: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.checked.lock().unwrap_or_else(PoisonError::into_inner).contains(key) {
            return Ok(());
        }
        check()?;
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
        Ok(())
    }
}

/// A kind of file that a request names: its words, and the search for all and in the hub's cache.
struct Kind {
    word: &'static str,
    folder: &'static str,
    flag: &'static str,
    may_be_folder: bool,
    all: fn(&[Place]) -> Vec<(String, PathBuf)>,
    in_hub: fn(&[Place], &str) -> Option<PathBuf>,
    hash: fn(&Parts, &Path) -> Result<String, Error>,
}

const LORA: Kind = Kind {
    word: "LoRA",
    folder: "loras",
    flag: "--lora",
    may_be_folder: false,
    all: search::loras,
    in_hub: search::lora_in_hub,
    hash: |parts, path| parts.hash(path),
};

const VAE: Kind = Kind {
    word: "VAE",
    folder: "vae",
    flag: "--vae",
    may_be_folder: true,
    all: search::vaes,
    in_hub: search::vae_in_hub,
    hash: |parts, path| vae::hash_of(path, |file| parts.hash(file)),
};

const CONTROL: Kind = Kind {
    word: "control net",
    folder: "controlnet",
    flag: "--control",
    may_be_folder: true,
    all: search::controls,
    in_hub: search::control_in_hub,
    hash: |parts, path| control::hash_of(path, |file| parts.hash(file)),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_and_a_path_is_for_those_who_may_read_files() {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lora/kohya.safetensors");
        fs::create_dir(folder.path().join("loras")).unwrap();
        for name in ["loras/style.safetensors", "beside.safetensors"] {
            fs::copy(&fixture, folder.path().join(name)).unwrap();
        }
        let places = vec![Place::Plain(folder.path().into())];
        let parts = Parts::new(places.clone(), false);
        let find = |parts: &Parts, name: &str| parts.lora(&name.parse().unwrap());
        let found = find(&parts, "style:0.5:0.25").unwrap();
        assert_eq!((found.name.as_str(), found.weight, found.text_weight), ("style", 0.5, 0.25));
        assert_eq!(find(&parts, "beside").unwrap().hash, found.hash);
        let by_hash = parts.lora_with_hash("beside", &found.hash).unwrap();
        assert_eq!(by_hash, folder.path().join("beside.safetensors"));

        let path = fixture.to_str().unwrap();
        let hub_like = find(&parts, "loras/style").unwrap_err().to_string();
        assert!(hub_like.ends_with("`dgx-pixels pull loras/style` fetches it"), "{hub_like}");
        for name in [path, "../style", "absent", "."] {
            let error = find(&parts, name).unwrap_err().to_string();
            assert_eq!(error, format!("no LoRA is called `{name}`; there are `style`, `beside`"));
        }
        let of_program = Parts::new(places, true);
        assert_eq!(find(&of_program, path).unwrap().name, "kohya");
        assert!(
            parts
                .lora_with_hash("kohya", "0")
                .unwrap_err()
                .to_string()
                .ends_with("say where it is with `--lora PATH`")
        );
    }
}
