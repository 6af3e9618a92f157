//! LoRA files by name, and what was read of them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::LoraUse;
use crate::error::Error;
use crate::model::hash_file;
use crate::model::hub::HubName;
use crate::model::search::{self, Place};
use crate::request::LoraChoice;

/// The LoRA files that requests may ask for. What is read of them is read once, until a file
/// changes.
#[derive(Debug, Default)]
pub struct Loras {
    places: Vec<Place>,
    takes_paths: bool,
    hashes: Mutex<HashMap<PathBuf, (SystemTime, u64, String)>>,
    /// The models and sets that were found to go together.
    checked: Mutex<HashSet<String>>,
}

impl Loras {
    /// The files in these places by their names. With `takes_paths` a name that none of them has
    /// may be a path: for doors whose callers may read all files anyway.
    pub fn new(places: Vec<Place>, takes_paths: bool) -> Loras {
        Loras { places, takes_paths, ..Loras::default() }
    }

    /// Finds the file that a request asks for.
    ///
    /// # Errors
    /// [`Error::ModelChoice`] with the names there are; [`Error::Model`] for a file that cannot be
    /// read.
    pub fn find(&self, choice: &LoraChoice) -> Result<LoraUse, Error> {
        let (name, path) = self.named(&choice.name)?;
        let hash = self.hash(&path)?;
        Ok(LoraUse { name, path, hash, weight: choice.weight, text_weight: choice.text_weight() })
    }

    /// The file called `name`, and the name to record. A name is compared with those that are
    /// known, and never leads to a file by itself.
    fn named(&self, name: &str) -> Result<(String, PathBuf), Error> {
        let known = search::loras(&self.places);
        if let Some(found) = known.iter().find(|(known, _)| known == name) {
            return Ok(found.clone());
        }
        let path = PathBuf::from(name);
        if self.takes_paths && path.is_file() {
            return Ok((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path));
        }
        if let Some(path) = search::lora_in_hub(&self.places, name) {
            return Ok((name.to_owned(), path));
        }
        let names: Vec<_> = known.into_iter().map(|(name, _)| format!("`{name}`")).collect();
        let there_are = match (name.parse::<HubName>(), names.is_empty()) {
            (Ok(name), _) => format!("if it is on the hub, `dgx-pixels pull {name}` fetches it"),
            (Err(_), true) => "there are none in the folders `loras` of the model folders".to_owned(),
            (Err(_), false) => format!("there are {}", names.join(", ")),
        };
        let or_file = if self.takes_paths { " or file" } else { "" };
        Err(Error::ModelChoice(format!("no LoRA{or_file} is called `{name}`; {there_are}")))
    }

    /// The file with this hash, one of this name first.
    ///
    /// # Errors
    /// [`Error::ModelChoice`] if there is none; [`Error::Model`] for a file that cannot be read.
    pub fn with_hash(&self, name: &str, hash: &str) -> Result<PathBuf, Error> {
        let mut all = search::loras(&self.places);
        all.sort_by_key(|(known, _)| known != name);
        for (_, path) in all {
            if self.hash(&path)? == hash {
                return Ok(path);
            }
        }
        Err(Error::ModelChoice(format!(
            "the image records the LoRA `{name}`, and no file with its hash, {hash}, is in the folders `loras` of the model \
             folders; say where it is with `--lora PATH`"
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
        let loras = Loras::new(places.clone(), false);
        let find = |loras: &Loras, name: &str| loras.find(&name.parse().unwrap());
        let found = find(&loras, "style:0.5:0.25").unwrap();
        assert_eq!((found.name.as_str(), found.weight, found.text_weight), ("style", 0.5, 0.25));
        assert_eq!(find(&loras, "beside").unwrap().hash, found.hash);
        let by_hash = loras.with_hash("beside", &found.hash).unwrap();
        assert_eq!(by_hash, folder.path().join("beside.safetensors"));

        let path = fixture.to_str().unwrap();
        let hub_like = find(&loras, "loras/style").unwrap_err().to_string();
        assert!(hub_like.ends_with("`dgx-pixels pull loras/style` fetches it"), "{hub_like}");
        for name in [path, "../style", "absent", "."] {
            let error = find(&loras, name).unwrap_err().to_string();
            assert_eq!(error, format!("no LoRA is called `{name}`; there are `style`, `beside`"));
        }
        let of_program = Loras::new(places, true);
        assert_eq!(find(&of_program, path).unwrap().name, "kohya");
        assert!(
            loras
                .with_hash("kohya", "0")
                .unwrap_err()
                .to_string()
                .ends_with("say where it is with `--lora PATH`")
        );
    }
}
