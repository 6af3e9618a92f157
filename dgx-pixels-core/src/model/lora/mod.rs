//! LoRA files and their kin: small changes to the weights of a model.
//!
//! Everything here is names, sides and numbers, read without libtorch; `torch/lora.rs` computes the
//! changes. What the tensors say is believed before what the file's notes say.

mod about;
mod keys;
mod module;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use safetensors::Dtype;
use serde_json::Value;

pub(crate) use self::keys::Part;
use self::keys::Targets;
pub(crate) use self::module::{Kind, Module};
use super::files::{Shard, WeightFiles};
use super::header::{StoredTensor, shown};
use super::kind::FileKind;
use super::marks::of_half;
pub use super::variant::LoraUse;
use super::{Component, Model, Options};
use crate::error::Error;

/// The most names that an error lists.
const NAMED: usize = 8;

/// A LoRA file whose names are known and whose parts fit each other.
#[derive(Debug)]
pub struct LoraFile {
    pub(crate) file: Shard,
    pub(crate) modules: Vec<Module>,
    /// The tensors whose names are none of a LoRA's.
    pub unknown: Vec<String>,
}

impl LoraFile {
    /// Opens a file, and sorts its tensors by module.
    ///
    /// # Errors
    /// [`Error::Model`]: the file is no LoRA, or a change is not whole or does not fit itself.
    pub fn open(path: &Path) -> Result<LoraFile, Error> {
        let fault = |reason: String| Error::model(path, reason);
        let file = Shard::open(path.to_owned())?;
        match FileKind::of(&file) {
            FileKind::Lora => {}
            FileKind::Unknown => {
                return Err(fault("none of its names is one of a LoRA; expected a LoRA".into()));
            }
            other => return Err(fault(format!("it is {other}; expected a LoRA"))),
        }
        let mut unknown = vec![];
        let mut modules: BTreeMap<&str, BTreeMap<Part, StoredTensor>> = BTreeMap::new();
        for tensor in &file.header.tensors {
            let Some((module, part)) = keys::split(&tensor.name) else {
                unknown.push(tensor.name.to_string());
                continue;
            };
            if modules.entry(module).or_default().insert(part, tensor.clone()).is_some() {
                return Err(fault(format!("`{}` has two tensors for one part; expected one", shown(module))));
            }
        }
        let peft = Peft::read(file.header.notes.get("lora_adapter_metadata").map(|note| &**note));
        let mut all = vec![];
        for (name, parts) in modules {
            // A weight that no `.on_input` stands beside belongs to no kind of change.
            if parts.keys().all(|part| *part == Part::Factor) {
                unknown.push(format!("{name}.weight"));
                continue;
            }
            let kind = Module::kind_of(name, &parts).map_err(fault)?;
            let number = match kind {
                Kind::Factors => parts.get(&Part::OnInput),
                _ => parts.get(&Part::Alpha),
            };
            let alpha = number.map(|tensor| number_in(&file, tensor)).transpose().map_err(fault)?;
            let mut module = Module { name: name.to_owned(), parts, kind, scale: 1.0, alpha };
            module.sides().map_err(fault)?;
            if let Some(rank) = module.rank() {
                if rank == 0 {
                    return Err(fault(format!("`{}` has rank 0; expected 1 or more", shown(name))));
                }
                module.scale = peft.scale(name, alpha, rank as f64);
            }
            all.push(module);
        }
        if all.is_empty() {
            return Err(fault("it changes no module; expected a LoRA".into()));
        }
        Ok(LoraFile { file, modules: all, unknown })
    }
}

/// The number in a tensor that has one.
fn number_in(file: &Shard, tensor: &StoredTensor) -> Result<f64, String> {
    let name = shown(&tensor.name);
    let bytes = &file.bytes[tensor.bytes.clone()];
    let number = match (tensor.dtype, bytes) {
        (Dtype::F32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        (Dtype::BF16, &[a, b]) => f64::from(f32::from_le_bytes([0, 0, a, b])),
        (Dtype::F16, &[a, b]) => of_half(u16::from_le_bytes([a, b])),
        (Dtype::F64, bytes) if bytes.len() == 8 => f64::from_le_bytes(bytes.try_into().unwrap_or_default()),
        (Dtype::I64, bytes) if bytes.len() == 8 => {
            i64::from_le_bytes(bytes.try_into().unwrap_or_default()) as f64
        }
        (Dtype::BOOL | Dtype::U8 | Dtype::I8, &[byte]) => f64::from(byte),
        _ => {
            return Err(format!("`{name}` is {:?} in {:?}; expected one number", tensor.shape, tensor.dtype));
        }
    };
    if number.is_finite() { Ok(number) } else { Err(format!("`{name}` is {number}; expected a number")) }
}

/// What PEFT notes of ranks and alphas, which it does not store as tensors.
#[derive(Default)]
struct Peft {
    entries: BTreeMap<String, Value>,
}

impl Peft {
    fn read(note: Option<&str>) -> Peft {
        let entries = note.and_then(|note| serde_json::from_str(note).ok());
        Peft { entries: entries.unwrap_or_default() }
    }

    /// alpha by rank: by the tensor if there is one, else by the note, else 1.
    fn scale(&self, module: &str, alpha: Option<f64>, rank: f64) -> f64 {
        if let Some(alpha) = alpha {
            return alpha / rank;
        }
        let Some((component, name)) = module.split_once('.') else { return 1.0 };
        let entry = |field: &str| self.entries.get(&format!("{component}.{field}"));
        let pattern = entry("alpha_pattern").and_then(Value::as_object);
        let of_pattern = pattern.into_iter().flatten().find_map(|(pattern, alpha)| {
            let rest = name.strip_suffix(pattern.trim_start_matches('^'))?;
            (rest.is_empty() || rest.ends_with('.')).then(|| alpha.as_f64()).flatten()
        });
        let Some(alpha) =
            of_pattern.or_else(|| entry("lora_alpha")?.as_f64()).filter(|alpha| alpha.is_finite())
        else {
            return 1.0;
        };
        match entry("use_rslora").and_then(Value::as_bool) {
            Some(true) => alpha / rank.sqrt(),
            _ => alpha / rank,
        }
    }
}

/// The LoRAs that change a model, and the modules that they change.
pub(crate) struct LoraSet {
    pub(crate) files: Vec<(Arc<LoraFile>, LoraUse)>,
    /// For each component: a module's name, and the changes to it by the places of file and module.
    changes: [BTreeMap<String, Vec<(usize, usize)>>; Component::ALL.len()],
    /// The names that no module of the model has, by file.
    pub(crate) unknown: Vec<(String, Vec<String>)>,
}

impl LoraSet {
    /// Opens the files, and finds the modules of `model` that they change.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file and the module: a change does not fit, or, unless
    /// `options.lenient`, the model has no such module.
    pub(crate) fn open(model: &Model, loras: &[LoraUse], options: &Options) -> Result<LoraSet, Error> {
        let mut set = LoraSet { files: vec![], changes: Default::default(), unknown: vec![] };
        if loras.is_empty() {
            return Ok(set);
        }
        let weights = |component| -> Result<(Component, WeightFiles), Error> {
            Ok((component, model.weights(component, options.prefers_fp16(component, model))?))
        };
        let components = [Component::TextEncoder, Component::TextEncoder2, Component::UNet];
        let weights = components.into_iter().map(weights).collect::<Result<Vec<_>, _>>()?;
        let targets = Targets::of(model, &weights);
        for lora in loras {
            let opened = LoraFile::open(&lora.path)?;
            let fault = |reason: String| {
                let hint = opened
                    .base()
                    .filter(|base| !about::is_family(base))
                    .map(|base| format!("; it is for {base}"));
                Error::model(&lora.path, format!("{reason}{}", hint.unwrap_or_default()))
            };
            let mut unknown = opened.unknown.clone();
            let mut seen = BTreeSet::new();
            for (place, module) in opened.modules.iter().enumerate() {
                let Some(target) = targets.find(&module.name) else {
                    unknown.push(module.name.clone());
                    continue;
                };
                module.check(target).map_err(fault)?;
                if !seen.insert((target.component as usize, &target.name)) {
                    return Err(fault(format!("it changes `{}` twice; expected once", target.name)));
                }
                let changes = set.changes[target.component as usize].entry(target.name.clone()).or_default();
                changes.push((set.files.len(), place));
            }
            if seen.is_empty() || (!unknown.is_empty() && !options.lenient) {
                let names: Vec<_> =
                    unknown.iter().take(NAMED).map(|name| format!("`{}`", shown(name))).collect();
                let more = unknown.len().saturating_sub(NAMED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let remedy = if seen.is_empty() { "" } else { "; `lenient` passes over them" };
                return Err(fault(format!("the model has no {}{more}{remedy}", names.join(", "))));
            }
            if !unknown.is_empty() {
                set.unknown.push((lora.name.clone(), unknown));
            }
            set.files.push((Arc::new(opened), lora.clone()));
        }
        Ok(set)
    }

    /// The changes to a module, each with its file and its strength.
    #[cfg(feature = "torch")]
    pub(crate) fn changes(
        &self,
        component: Component,
        module: &str,
    ) -> impl Iterator<Item = (&LoraFile, &Module, f64)> {
        let changes = self.changes[component as usize].get(module);
        changes.into_iter().flatten().map(move |(file, module)| {
            let (file, lora) = &self.files[*file];
            let weight = if component == Component::UNet { lora.weight } else { lora.text_weight };
            (&**file, &file.modules[*module], weight)
        })
    }
}

#[cfg(test)]
mod tests;
