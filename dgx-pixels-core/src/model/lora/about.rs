//! A LoRA file's description of itself, from its tensors and its author's notes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::LoraFile;
use super::keys::Part;
use super::module::{Kind, Module};
use crate::model::files::dtype_word;
use crate::model::header::shown;

/// The most words that are taken from the captions of the training.
const WORDS: usize = 5;

impl LoraFile {
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
            self.file.header.tensors.iter().map(|tensor| dtype_word(tensor.dtype)).collect();
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

    /// The base that a LoRA is for, by the widths of the texts that it attends to and by its
    /// author's note.
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

    /// The words that a prompt should have for it: the author's, or else the most frequent of the
    /// training's captions.
    pub fn words(&self) -> Vec<String> {
        if let Some(phrase) =
            self.notes().get("modelspec.trigger_phrase").filter(|phrase| !phrase.trim().is_empty())
        {
            return vec![shown(phrase.trim())];
        }
        let tags =
            self.notes().get("ss_tag_frequency").and_then(|note| serde_json::from_str::<Value>(note).ok());
        let folders =
            tags.as_ref().and_then(Value::as_object).into_iter().flat_map(|folders| folders.values());
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (tag, count) in folders.filter_map(Value::as_object).flatten() {
            let count = count.as_u64().unwrap_or(0);
            let sum = counts.entry(tag.trim()).or_default();
            *sum = sum.saturating_add(count);
        }
        let mut tags: Vec<_> = counts.into_iter().collect();
        tags.sort_by_key(|(tag, count)| (std::cmp::Reverse(*count), *tag));
        tags.into_iter().take(WORDS).map(|(tag, _)| shown(tag)).collect()
    }

    /// The license that the author notes.
    pub fn licence(&self) -> Option<String> {
        self.notes().get("modelspec.license").filter(|text| !text.is_empty()).map(|text| shown(text))
    }
}

/// `true` for the words by which authors call the SDXL family.
pub(super) fn is_family(base: &str) -> bool {
    let base = base.to_lowercase();
    ["sdxl", "stable-diffusion-xl", "illustrious", "pony", "noob"].iter().any(|word| base.contains(word))
}
