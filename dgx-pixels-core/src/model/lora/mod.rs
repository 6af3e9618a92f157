//! LoRA files and their kin: small changes to the weights of a model.
//!
//! Everything here is names, sides and numbers, read without libtorch; `torch/lora.rs` computes the
//! changes. What the tensors say is believed before what the file's notes say.

mod keys;
mod shelf;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::keys::Part;
use self::keys::{Target, Targets};
pub use self::shelf::Loras;
use super::files::{Shard, WeightFiles};
use super::header::{StoredTensor, shown};
use super::kind::FileKind;
use super::{Component, Model, Options};
use crate::error::Error;

/// The most names that an error lists.
const NAMED: usize = 8;

/// The use of a LoRA: a file, and how strongly it changes a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraUse {
    /// The name that people call it by.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// BLAKE3 of the file.
    pub hash: String,
    /// The strength in the UNet.
    pub weight: f64,
    /// The strength in the text encoders.
    pub text_weight: f64,
}

/// A LoRA file whose names are known and whose parts fit each other.
#[derive(Debug)]
pub struct LoraFile {
    pub(crate) file: Shard,
    pub(crate) modules: Vec<Module>,
    /// The tensors whose names are none of a LoRA's.
    pub unknown: Vec<String>,
}

/// What a file changes in one module.
#[derive(Debug)]
pub(crate) struct Module {
    /// The name in the file.
    pub(crate) name: String,
    pub(crate) parts: BTreeMap<Part, StoredTensor>,
    pub(crate) kind: Kind,
    /// The factor of the change, before the strength: alpha by rank.
    pub(crate) scale: f64,
    /// The number that the file has for it.
    pub(crate) alpha: Option<f64>,
}

/// The formula of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    LowRank,
    Hada,
    Kron,
    Factors,
    Orthogonal,
    Set,
    Diff,
    /// Only the bias is changed.
    Bias,
}

impl Module {
    pub(crate) fn part(&self, part: Part) -> Option<&StoredTensor> {
        self.parts.get(&part)
    }

    /// A side of a part, 0 where there is none.
    fn side(&self, part: Part, i: usize) -> usize {
        self.part(part).and_then(|tensor| tensor.shape.get(i)).copied().unwrap_or(0)
    }

    /// The product of a part's sides from the `i`th on.
    fn rest(&self, part: Part, i: usize) -> usize {
        self.part(part).map_or(0, |tensor| tensor.shape.iter().skip(i).product())
    }

    fn shape(&self, part: Part) -> &[usize] {
        self.part(part).map_or(&[], |tensor| &tensor.shape)
    }

    /// The formula, by the parts that there are.
    fn kind_of(name: &str, parts: &BTreeMap<Part, StoredTensor>) -> Result<Kind, String> {
        let has = |part: Part| parts.contains_key(&part);
        let all = |parts: &[Part]| parts.iter().all(|part| has(*part));
        let any = |parts: &[Part]| parts.iter().any(|part| has(*part));
        let hada = [Part::HadaW1A, Part::HadaW1B, Part::HadaW2A, Part::HadaW2B];
        let kron_1 = has(Part::KronW1) || all(&[Part::KronW1A, Part::KronW1B]);
        let kron_2 = has(Part::KronW2) || all(&[Part::KronW2A, Part::KronW2B]);
        let kron = [
            Part::KronW1,
            Part::KronW1A,
            Part::KronW1B,
            Part::KronW2,
            Part::KronW2A,
            Part::KronW2B,
            Part::KronT2,
        ];
        let found = [
            (any(&[Part::Up, Part::Down, Part::Mid]), all(&[Part::Up, Part::Down]), Kind::LowRank),
            (any(&hada), all(&hada) && has(Part::HadaT1) == has(Part::HadaT2), Kind::Hada),
            (any(&kron), kron_1 && kron_2, Kind::Kron),
            (any(&[Part::Factor, Part::OnInput]), all(&[Part::Factor, Part::OnInput]), Kind::Factors),
            (has(Part::OftBlocks), true, Kind::Orthogonal),
            (has(Part::Set), true, Kind::Set),
            (has(Part::Diff), true, Kind::Diff),
        ];
        let kinds: Vec<_> = found.into_iter().filter(|(is_begun, _, _)| *is_begun).collect();
        match kinds.as_slice() {
            [(_, true, kind)] => Ok(*kind),
            [(_, false, _)] => {
                let there: Vec<_> = parts.keys().map(|part| format!("{part:?}")).collect();
                Err(format!("`{}` is not whole: of its parts there are {}", shown(name), there.join(", ")))
            }
            [] if has(Part::Bias) => Ok(Kind::Bias),
            [] => Err(format!("`{}` has no weights", shown(name))),
            [..] => Err(format!("`{}` has parts of two kinds of changes; expected one", shown(name))),
        }
    }

    /// The rank that alpha is divided by; `None` where alpha means nothing.
    fn rank(&self) -> Option<usize> {
        match self.kind {
            Kind::LowRank => Some(self.side(Part::Down, 0)),
            Kind::Hada => Some(self.side(Part::HadaW1B, 0)),
            // With both factors whole there is no rank, and the authors' own layer ignores alpha.
            Kind::Kron if self.part(Part::KronW2B).is_some() => Some(self.side(Part::KronW2B, 0)),
            Kind::Kron if self.part(Part::KronW1B).is_some() => Some(self.side(Part::KronW1B, 0)),
            _ => None,
        }
    }

    /// Checks that the parts fit each other, and returns the sides of the change: its rows, and all
    /// numbers of one.
    fn sides(&self) -> Result<Option<(usize, usize)>, String> {
        let name = shown(&self.name);
        let differ = |what: &str, one: usize, other: usize| {
            Err(format!("`{name}` has {what} {one} and {other}; expected the same"))
        };
        let checked = |sides: (Option<usize>, Option<usize>)| match sides {
            (Some(rows), Some(inner)) => Ok(Some((rows, inner))),
            _ => Err(format!("`{name}` would change more numbers than there can be")),
        };
        match self.kind {
            Kind::LowRank => {
                if self.shape(Part::Up).len() < 2 || self.shape(Part::Down).len() < 2 {
                    return Err(format!("`{name}` has factors that are no matrices"));
                }
                let (up, down) = (self.rest(Part::Up, 1), self.side(Part::Down, 0));
                let kernel = match self.part(Part::Mid) {
                    None if up != down => return differ("`up` and `down` of the ranks", up, down),
                    None => 1,
                    Some(mid) => {
                        let (first, second) = (self.side(Part::Mid, 0), self.side(Part::Mid, 1));
                        if mid.shape.len() != 4 {
                            return Err(format!(
                                "`{name}` has a middle of {:?} sides; expected four",
                                mid.shape
                            ));
                        }
                        if first != up {
                            return differ("`up` and the middle of the ranks", up, first);
                        }
                        if second != down {
                            return differ("`down` and the middle of the ranks", down, second);
                        }
                        self.rest(Part::Mid, 2)
                    }
                };
                checked((Some(self.side(Part::Up, 0)), self.rest(Part::Down, 1).checked_mul(kernel)))
            }
            Kind::Hada => {
                for (a, b, t) in [
                    (Part::HadaW1A, Part::HadaW1B, Part::HadaT1),
                    (Part::HadaW2A, Part::HadaW2B, Part::HadaT2),
                ] {
                    let of_a = if self.part(t).is_some() { self.side(a, 0) } else { self.side(a, 1) };
                    if self.part(t).is_some() {
                        if self.shape(t).len() != 4
                            || self.side(t, 0) != of_a
                            || self.side(t, 1) != self.side(b, 0)
                        {
                            return Err(format!(
                                "`{name}` has a middle of {:?}, which its factors do not fit",
                                self.shape(t)
                            ));
                        }
                    } else if of_a != self.side(b, 0) {
                        return differ("factors of the ranks", of_a, self.side(b, 0));
                    }
                    if self.shape(a).len() != 2 || self.shape(b).len() != 2 {
                        return Err(format!("`{name}` has factors that are no matrices"));
                    }
                }
                let (is_tucker, t) = (self.part(Part::HadaT1).is_some(), Part::HadaT1);
                let row = usize::from(is_tucker);
                let kernel = if is_tucker { self.rest(t, 2) } else { 1 };
                let [one, other] = [(Part::HadaW1A, Part::HadaW1B), (Part::HadaW2A, Part::HadaW2B)]
                    .map(|(a, b)| (self.side(a, row), self.side(b, 1)));
                if one != other || (is_tucker && self.shape(t)[2..] != self.shape(Part::HadaT2)[2..]) {
                    return Err(format!("`{name}` has factors of {one:?} and {other:?}; expected the same"));
                }
                checked((Some(one.0), one.1.checked_mul(kernel)))
            }
            Kind::Kron => {
                let matrices = [Part::KronW1, Part::KronW1A, Part::KronW1B, Part::KronW2A, Part::KronW2B];
                if matrices.iter().any(|part| self.part(*part).is_some_and(|tensor| tensor.shape.len() != 2))
                {
                    return Err(format!("`{name}` has factors that are no matrices"));
                }
                let first = match self.part(Part::KronW1) {
                    Some(_) => (self.side(Part::KronW1, 0), self.side(Part::KronW1, 1)),
                    None if self.side(Part::KronW1A, 1) != self.side(Part::KronW1B, 0) => {
                        return differ(
                            "factors of the ranks",
                            self.side(Part::KronW1A, 1),
                            self.side(Part::KronW1B, 0),
                        );
                    }
                    None => (self.side(Part::KronW1A, 0), self.side(Part::KronW1B, 1)),
                };
                let second = match (self.part(Part::KronW2), self.part(Part::KronT2)) {
                    (Some(_), _) => (self.side(Part::KronW2, 0), self.rest(Part::KronW2, 1)),
                    (None, Some(t)) => {
                        if t.shape.len() != 4
                            || t.shape[0] != self.side(Part::KronW2A, 0)
                            || t.shape[1] != self.side(Part::KronW2B, 0)
                        {
                            return Err(format!(
                                "`{name}` has a middle of {:?}, which its factors do not fit",
                                t.shape
                            ));
                        }
                        (
                            self.side(Part::KronW2A, 1),
                            self.side(Part::KronW2B, 1).saturating_mul(t.shape[2] * t.shape[3]),
                        )
                    }
                    (None, None) if self.side(Part::KronW2A, 1) != self.side(Part::KronW2B, 0) => {
                        return differ(
                            "factors of the ranks",
                            self.side(Part::KronW2A, 1),
                            self.side(Part::KronW2B, 0),
                        );
                    }
                    (None, None) => (self.side(Part::KronW2A, 0), self.side(Part::KronW2B, 1)),
                };
                checked((first.0.checked_mul(second.0), first.1.checked_mul(second.1)))
            }
            Kind::Orthogonal => match self.shape(Part::OftBlocks) {
                [_, one, other] if one == other => Ok(None),
                [_, _, _] => Err(format!("`{name}` has blocks that are not square")),
                shape => Err(format!(
                    "`{name}` has blocks of {shape:?}, as BOFT has; expected OFT, with three sides"
                )),
            },
            Kind::Set => Ok(Some((self.side(Part::Set, 0), self.rest(Part::Set, 1)))),
            Kind::Diff => Ok(Some((self.side(Part::Diff, 0), self.rest(Part::Diff, 1)))),
            Kind::Factors | Kind::Bias => Ok(None),
        }
    }

    /// Checks that the change fits a module of a model.
    fn check(&self, target: &Target) -> Result<(), String> {
        let name = shown(&self.name);
        let rows = target.shape.first().copied().unwrap_or(0);
        let inner = target.shape.iter().skip(1).product::<usize>();
        let misfit = |found: String| {
            format!("`{name}` changes {found}, and the model's `{}` is {:?}", target.name, target.shape)
        };
        if let Some((of_rows, of_inner)) = self.sides()?
            && (of_rows, of_inner) != (rows, inner)
        {
            return Err(misfit(format!("a weight of {of_rows} rows of {of_inner}")));
        }
        let numel = |part| self.rest(part, 0);
        match self.kind {
            Kind::Orthogonal => {
                let blocks = self.side(Part::OftBlocks, 0).checked_mul(self.side(Part::OftBlocks, 1));
                if blocks != Some(rows) {
                    return Err(misfit(format!("{} rows", blocks.unwrap_or(0))));
                }
                if self.part(Part::Rescale).is_some() && ![1, rows].contains(&numel(Part::Rescale)) {
                    return Err(misfit(format!("{} rows by a factor", numel(Part::Rescale))));
                }
            }
            Kind::Factors => {
                let columns = target.shape.get(1).copied().unwrap_or(0);
                let expected = if self.on_input() { columns } else { rows };
                if numel(Part::Factor) != expected || (self.on_input() && target.shape.len() < 2) {
                    return Err(misfit(format!("{} rows or columns", numel(Part::Factor))));
                }
            }
            _ => {}
        }
        if self.part(Part::Bias).is_some() {
            if !target.has_bias {
                return Err(format!("`{name}` changes a bias, and the model's `{}` has none", target.name));
            }
            if numel(Part::Bias) != rows {
                return Err(misfit(format!("a bias of {}", numel(Part::Bias))));
            }
        }
        let columns = target.shape.get(1).copied().unwrap_or(0);
        let dora = self.part(Part::DoraScale).or(self.part(Part::Magnitude));
        if dora.is_some_and(|dora| ![rows, columns].contains(&dora.shape.iter().product())) {
            return Err(misfit(format!("{:?} lengths", dora.map(|dora| &dora.shape))));
        }
        Ok(())
    }

    /// `true` for factors of columns.
    pub(crate) fn on_input(&self) -> bool {
        // The number was read when the file was opened.
        self.alpha == Some(1.0)
    }
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

    /// The notes that the file's author left. They are anybody's text.
    pub fn notes(&self) -> &BTreeMap<Box<str>, Box<str>> {
        &self.file.header.notes
    }

    /// The number of modules that it changes.
    pub fn modules(&self) -> usize {
        self.modules.len()
    }

    /// The ranks that occur, ascending.
    pub fn ranks(&self) -> Vec<usize> {
        let ranks: BTreeSet<_> = self.modules.iter().filter_map(Module::rank).collect();
        ranks.into_iter().collect()
    }

    /// The precisions that occur, as `f16`.
    pub fn dtypes(&self) -> Vec<String> {
        let words: BTreeSet<_> =
            self.file.header.tensors.iter().map(|tensor| super::files::dtype_word(tensor.dtype)).collect();
        words.into_iter().collect()
    }

    /// The kinds of change that occur.
    pub fn kinds(&self) -> Vec<&'static str> {
        let word = |module: &Module| match module.kind {
            _ if module.part(Part::DoraScale).or(module.part(Part::Magnitude)).is_some() => "DoRA",
            Kind::LowRank => "LoRA",
            Kind::Hada => "LoHa",
            Kind::Kron => "LoKr",
            Kind::Factors => "(IA)³",
            Kind::Orthogonal => "OFT",
            Kind::Set => "set",
            Kind::Diff | Kind::Bias => "diff",
        };
        let words: BTreeSet<_> = self.modules.iter().map(word).collect();
        words.into_iter().collect()
    }

    /// The base that a LoRA is for, by the widths of the texts that it attends to and by its author's note.
    pub fn base(&self) -> Option<String> {
        let attends = |module: &&Module| {
            module.kind == Kind::LowRank && module.name.replace('.', "_").ends_with("attn2_to_k")
        };
        let of_width =
            self.modules.iter().find(attends).and_then(|module| match module.rest(Part::Down, 1) {
                768 => Some("Stable Diffusion 1"),
                1024 => Some("Stable Diffusion 2"),
                2048 => Some("SDXL"),
                _ => None,
            });
        let is_flux = self.modules.iter().any(|module| module.name.contains("double_blocks"));
        let noted = ["modelspec.architecture", "ss_base_model_version"]
            .into_iter()
            .find_map(|note| self.notes().get(note));
        let of_width = of_width.map(str::to_owned).or_else(|| is_flux.then(|| "Flux".to_owned()));
        of_width.or_else(|| noted.map(|note| shown(note)))
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

/// A number in half precision.
fn of_half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    let size = match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1.0 + fraction) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
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
                let hint =
                    opened.base().filter(|base| !is_family(base)).map(|base| format!("; it is for {base}"));
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

/// `true` for the words by which authors call the SDXL family.
fn is_family(base: &str) -> bool {
    let base = base.to_lowercase();
    ["sdxl", "stable-diffusion-xl", "illustrious", "pony", "noob"].iter().any(|word| base.contains(word))
}

#[cfg(test)]
mod tests;
