//! Textual inversions: vectors that stand in a prompt for words.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tch::{Kind, Tensor};

use super::Result as TorchResult;
use super::clip::TextEncoder;
use super::device::{place, stored_kind};
use super::failed;
use crate::device::Device;
use crate::error::Error;
use crate::model::Model;
use crate::model::files::Shard;
use crate::model::header::{StoredTensor, shown};
use crate::model::search::{self, Place};
use crate::prompt::{PromptError, PromptSyntax, inversions};
use crate::request::RequestError;

/// The tensors of a file, one for each text encoder.
const TENSORS: [&str; 2] = ["clip_l", "clip_g"];

/// The textual inversions that prompts may name. A file is read when a prompt names it first, and
/// again when it has changed.
pub(super) struct Inversions {
    places: Vec<Place>,
    /// The files that were read, by name.
    read: BTreeMap<String, Vectors>,
    /// All vectors for each text encoder, `[rows, width]` in its precision.
    tables: [Option<Tensor>; 2],
}

impl Inversions {
    /// Those in the folder of `model`, beside it, and in the model folders.
    pub(super) fn of(model: &Model) -> Inversions {
        let beside = search::beside(&model.path).into_iter();
        Inversions::in_places(beside.chain(search::places()).collect())
    }

    pub(super) fn in_places(places: Vec<Place>) -> Inversions {
        Inversions { places, read: BTreeMap::new(), tables: [None, None] }
    }

    /// Reads the files that a prompt names and that were not read before.
    ///
    /// # Errors
    /// [`RequestError::Prompt`] for a prompt that cannot be read, and for a name that no file has;
    /// [`Error::Model`] for a file whose vectors are not those of the text encoders.
    pub(super) fn load(
        &mut self,
        prompt: &str,
        syntax: PromptSyntax,
        encoders: &[TextEncoder; 2],
        device: Device,
    ) -> Result<(), Error> {
        let fault = |fault| RequestError::Prompt { field: "prompt", fault };
        let mut found = None;
        for name in inversions::names(prompt, syntax).map_err(fault)? {
            if self.read.contains_key(&name) {
                continue;
            }
            let found = found.get_or_insert_with(|| search::embeddings(&self.places));
            let Some((_, path)) = found.iter().find(|(known, _)| *known == name) else {
                return Err(fault(PromptError::unknown_embedding(name, found)).into());
            };
            let stamp = stamp(path);
            let vectors = read(path, encoders)?;
            let mut rows = [0..0, 0..0];
            for (i, vectors) in vectors.into_iter().enumerate() {
                let placed = vectors
                    .f_to_kind(encoders[i].kind())
                    .and_then(|vectors| place(&vectors, device.tch()))
                    .and_then(|vectors| match &self.tables[i] {
                        Some(table) => Tensor::f_cat(&[table, &vectors], 0),
                        None => Ok(vectors),
                    });
                let table = placed.map_err(|error| failed(error, device, "reading a textual inversion"))?;
                let first = self.tables[i].as_ref().map_or(0, |table| table.size()[0] as u32);
                rows[i] = first..table.size()[0] as u32;
                self.tables[i] = Some(table);
            }
            self.read.insert(name, Vectors { rows, path: path.clone(), stamp });
        }
        Ok(())
    }

    /// Forgets the files that have changed since they were read, so that a record names the vectors
    /// that are used. Returns `true` if there was one.
    pub(super) fn forget_changed(&mut self) -> bool {
        let before = self.read.len();
        self.read.retain(|_, vectors| stamp(&vectors.path) == vectors.stamp);
        self.read.len() < before
    }

    /// The rows of a name that [`load`](Inversions::load) has read, in the table of a text encoder.
    pub(super) fn rows(&self, encoder: usize, name: &str) -> Range<u32> {
        let vectors = self.read.get(name).expect("all names of a prompt are read before it; this is a bug");
        vectors.rows[encoder].clone()
    }

    /// The vectors for a text encoder, if there are some.
    pub(super) fn table(&self, encoder: usize) -> Option<&Tensor> {
        self.tables[encoder].as_ref()
    }
}

/// The vectors of one file.
struct Vectors {
    /// Their rows in both tables.
    rows: [Range<u32>; 2],
    path: PathBuf,
    stamp: Option<(SystemTime, u64)>,
}

/// Tells a version of a file from another; `None` for a file that is not there.
fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let about = fs::metadata(path).ok()?;
    Some((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len()))
}

/// The vectors of a file in `f32`, `[count, width]` for each text encoder.
fn read(path: &PathBuf, encoders: &[TextEncoder; 2]) -> Result<Vec<Tensor>, Error> {
    let file = Shard::open(path.clone())?;
    let fault = |reason: String| Error::model(path, reason);
    let mut all = vec![];
    for (name, encoder) in TENSORS.into_iter().zip(encoders) {
        let (width, most) = (encoder.width(), encoder.positions() - 2);
        let tensor = file.header.tensor(name).ok_or_else(|| {
            fault(format!("it has no `{name}`; expected vectors for both text encoders of SDXL"))
        })?;
        let StoredTensor { shape, dtype, bytes, .. } = tensor;
        let sides: Vec<i64> = shape.iter().map(|side| *side as i64).collect();
        let count = match *sides {
            [own] if own == width => 1,
            [count, own] if own == width && (1..=most).contains(&count) => count,
            _ => {
                let reason =
                    format!("`{name}` is {sides:?}; expected 1 to {most} vectors with {width} numbers each");
                return Err(fault(reason));
            }
        };
        let kind = stored_kind(*dtype)
            .ok_or_else(|| fault(format!("`{}` is in {dtype:?}; expected a float", shown(name))))?;
        let read = || -> TorchResult<(Tensor, bool)> {
            let stored = Tensor::f_from_data_size(&file.bytes[bytes.clone()], &[count, width], kind)?;
            let vectors = stored.f_to_kind(Kind::Float)?;
            let is_finite = vectors.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0;
            Ok((vectors, is_finite))
        };
        let (vectors, is_finite) =
            read().map_err(|error| failed(error, Device::Cpu, "reading a textual inversion"))?;
        if !is_finite {
            return Err(fault(format!("`{name}` has numbers that are not finite (NaN or infinity)")));
        }
        all.push(vectors);
    }
    Ok(all)
}
