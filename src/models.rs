//! `dgx-pixels models`: which models there are, and what one is made of.

use std::path::{Path, PathBuf};

use dgx_pixels_core::local::SKETCH;
use dgx_pixels_core::model::Component;
use dgx_pixels_core::model::files::{Shard, WeightFiles, dtype_word};
use dgx_pixels_core::model::header::shown;
use dgx_pixels_core::model::kind::FileKind;
use dgx_pixels_core::model::lora::LoraFile;
use dgx_pixels_core::model::search::{self, Found, Place};
use dgx_pixels_core::scheduler::PredictionType;
use dgx_pixels_core::{Error, ImageSize, Model};
use indicatif::BinaryBytes;
use serde::Serialize;

use crate::failure::{Failure, one_line};
use crate::output::{note, say, say_json, warn};

/// List the models and LoRAs there are, or show one.
///
/// Models are folders in diffusers' layout, or `.safetensors` files with all of a model. LoRAs are
/// files beside them or in a folder `loras`, textual inversions in a folder `embeddings`, VAEs in a
/// folder `vae`, and control nets in a folder `controlnet`. The program looks for them in each
/// folder of `$DGX_PIXELS_MODELS` (separated by colons), in `$XDG_DATA_HOME/dgx-pixels/models`,
/// beside the program, in Hugging Face's cache (`dgx-pixels pull` fills it), and in `models` of the
/// current folder. The first place that has a name wins; a model of the same name in a later place
/// is used by its path.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show this one: a name from the list, a folder or a file.
    #[arg(value_name = "NAME|PATH")]
    model: Option<String>,

    /// Print one JSON line a model: `kind` (`folder` or `file`), `name`, `path`, `shadowed_by` (the
    /// folder that the name stands for instead, or null), `error`, and where that is null
    /// `parameters`, `dtype`, `bytes`, `scheduler`, `prediction_type`, `licence`, `native_size`,
    /// `steps`, `guidance_scale`, `components`, and for a file `unknown` (the tensors that belong
    /// to no part). A LoRA's line has the `kind` `lora`, `name`, `path`, `error`, and where that is
    /// null `changes`, `base`, `modules`, `ranks`, `dtype`, `words`, `licence` and `unknown`. A
    /// textual inversion's line (`kind` `embedding`), a VAE's (`vae`) and a control net's
    /// (`controlnet`) have `name`, `path`, `error`, and where that is null `tensors`, `dtype`,
    /// `bytes` and `licence`.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The parts of a model, from its configs and the headers of its weights.
#[derive(Serialize)]
pub(crate) struct Summary {
    parameters: u64,
    /// Precisions of the stored weights, as `f16` or `f16+f32`.
    dtype: String,
    bytes: u64,
    scheduler: String,
    prediction_type: &'static str,
    licence: Option<String>,
    native_size: ImageSize,
    /// The default number of steps.
    steps: usize,
    guidance_scale: f64,
    components: Vec<Part>,
    /// The properties of a single file.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Part {
    name: &'static str,
    /// The number of tensors.
    tensors: usize,
    parameters: u64,
    dtype: String,
    bytes: u64,
}

/// The JSON line.
#[derive(Serialize)]
struct Line<'a> {
    kind: &'static str,
    name: &'a str,
    path: &'a Path,
    shadowed_by: Option<&'a Path>,
    error: Option<String>,
    #[serde(flatten)]
    summary: Option<Summary>,
}

/// The properties of a LoRA, from its header.
#[derive(Serialize)]
struct About {
    /// The kinds of change, for example `LoRA`.
    changes: Vec<&'static str>,
    base: Option<String>,
    modules: usize,
    ranks: Vec<usize>,
    dtype: String,
    words: Vec<String>,
    licence: Option<String>,
    /// The tensors whose names are none of a LoRA's.
    unknown: Vec<String>,
}

/// The JSON line of a LoRA.
#[derive(Serialize)]
struct LoraLine<'a> {
    kind: &'static str,
    name: &'a str,
    path: &'a Path,
    error: Option<String>,
    #[serde(flatten)]
    about: Option<About>,
}

/// A file that goes with models: a textual inversion, a VAE or a control net.
#[derive(Serialize)]
struct Piece {
    tensors: usize,
    dtype: String,
    bytes: u64,
    licence: Option<String>,
}

/// The JSON line of such a file.
#[derive(Serialize)]
struct PieceLine<'a> {
    kind: &'static str,
    name: &'a str,
    path: &'a Path,
    error: Option<String>,
    #[serde(flatten)]
    piece: Option<Piece>,
}

/// `file` for a path that is one.
fn kind(path: &Path) -> &'static str {
    if path.is_file() { "file" } else { "folder" }
}

/// Lists, or shows the one asked for.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match args.model.as_deref() {
        None => list(args.json),
        Some(SKETCH) => {
            Err(Error::ModelChoice("`sketch` is built into the program; it has no files to show".into())
                .into())
        }
        Some(wanted) => {
            let places = search::places();
            if let Some((kind, name, path)) = pieces(&places).find(|(_, name, _)| name == wanted) {
                let piece = Piece::open(&path)?;
                if args.json {
                    let (name, path, piece) = (&*name, &*path, Some(piece));
                    return say_json(&PieceLine { kind, name, path, error: None, piece });
                }
                return show_piece(kind, &name, &path, &piece);
            }
            if let Some((name, path)) = lora_of(&places, wanted) {
                let about = About::of(&LoraFile::open(&path)?);
                if args.json {
                    let (name, path) = (name.as_str(), path.as_path());
                    return say_json(&LoraLine { kind: "lora", name, path, error: None, about: Some(about) });
                }
                return show_lora(&name, &path, &about);
            }
            let found = search::choose(&places, Some(wanted))?;
            warn(&search::notes(&places, &found, true));
            let Found { name, path, model, .. } = found;
            let summary = Summary::of(&model?)?;
            if args.json {
                let (name, path) = (name.as_str(), path.as_path());
                return say_json(&Line {
                    kind: kind(path),
                    name,
                    path,
                    shadowed_by: None,
                    error: None,
                    summary: Some(summary),
                });
            }
            show(&name, &path, &summary)
        }
    }
}

fn list(json: bool) -> Result<(), Failure> {
    let places = search::places();
    let mut rows = vec![];
    let mut faults = vec![];
    for found in search::find(&places) {
        let note = found.shadow_note();
        let Found { name, path, model, shadowed_by, .. } = found;
        let (summary, error) = match model.and_then(|model| Summary::of(&model)) {
            Ok(summary) => (Some(summary), None),
            Err(error) => (None, Some(one_line(&error))),
        };
        if json {
            let (name, path) = (name.as_str(), path.as_path());
            let (kind, shadowed_by) = (kind(path), shadowed_by.as_deref());
            say_json(&Line { kind, name, path, shadowed_by, error, summary })?;
            continue;
        }
        faults.extend(note.map(|note| note.to_string()));
        let words =
            summary.map_or(["broken".into(), "-".into(), "-".into(), "-".into()], |summary| summary.words());
        faults.extend(error.map(|error| format!("`{name}` is broken: {error}")));
        rows.push([vec![name], words.into(), vec![path.display().to_string()]].concat());
    }
    let mut lora_rows = vec![];
    for (name, path) in search::loras(&places) {
        let (about, error) = match LoraFile::open(&path) {
            Ok(file) => (Some(About::of(&file)), None),
            Err(error) => (None, Some(one_line(&error))),
        };
        if json {
            say_json(&LoraLine { kind: "lora", name: &name, path: &path, error, about })?;
            continue;
        }
        let words = about.map_or(["broken".into(), "-".into(), "-".into(), "-".into()], |about| about.row());
        faults.extend(error.map(|error| format!("`{name}` is broken: {error}")));
        lora_rows.push([vec![name], words.into(), vec![path.display().to_string()]].concat());
    }
    let mut piece_rows = vec![];
    for (kind, name, path) in pieces(&places) {
        let (piece, error) = match Piece::open(&path) {
            Ok(piece) => (Some(piece), None),
            Err(error) => (None, Some(one_line(&error))),
        };
        if json {
            say_json(&PieceLine { kind, name: &name, path: &path, error, piece })?;
            continue;
        }
        let words = piece.map_or(["broken".into(), "-".into(), "-".into()], |piece| piece.row());
        faults.extend(error.map(|error| format!("`{name}` is broken: {error}")));
        piece_rows.push([vec![name, kind.into()], words.into(), vec![path.display().to_string()]].concat());
    }
    if json {
        return Ok(());
    }
    if rows.is_empty() {
        note(format_args!("{}; `dgx-pixels doctor` says how to get one", search::none_found(&places)));
    } else {
        say_table(&["NAME", "PARAMETERS", "DTYPE", "BYTES", "SCHEDULER", "PATH"], &rows)?;
    }
    if !lora_rows.is_empty() {
        say(&"")?;
        say_table(&["LORA", "CHANGES", "BASE", "WORDS", "LICENSE", "PATH"], &lora_rows)?;
    }
    if !piece_rows.is_empty() {
        say(&"")?;
        say_table(&["PART", "KIND", "DTYPE", "BYTES", "LICENSE", "PATH"], &piece_rows)?;
    }
    faults.iter().try_for_each(say)
}

/// The textual inversions, VAEs and control nets that are files or folders of their own, each with
/// the word for its kind.
fn pieces(places: &[Place]) -> impl Iterator<Item = (&'static str, String, PathBuf)> {
    let of =
        |kind, found: Vec<(String, PathBuf)>| found.into_iter().map(move |(name, path)| (kind, name, path));
    let embeddings = of("embedding", search::embeddings(places));
    embeddings.chain(of("vae", search::vaes(places))).chain(of("controlnet", search::controls(places)))
}

impl Piece {
    fn open(path: &Path) -> Result<Piece, Error> {
        if path.is_dir() {
            let files = WeightFiles::open(path, Component::Vae.stem(), false)?;
            let (tensors, dtype, bytes) = (files.tensors().count(), files.dtypes().join("+"), files.bytes());
            return Ok(Piece { tensors, dtype, bytes, licence: None });
        }
        let file = Shard::open(path.to_owned())?;
        let mut dtypes: Vec<_> = file.header.tensors.iter().map(|tensor| dtype_word(tensor.dtype)).collect();
        dtypes.sort_unstable();
        dtypes.dedup();
        let licence = file.header.notes.get("modelspec.license").map(|text| shown(text));
        let (tensors, bytes) = (file.header.tensors.len(), file.bytes.len() as u64);
        Ok(Piece { tensors, dtype: dtypes.join("+"), bytes, licence })
    }

    fn row(&self) -> [String; 3] {
        let licence = self.licence.clone().unwrap_or("-".into());
        [self.dtype.clone(), BinaryBytes(self.bytes).to_string(), licence]
    }
}

/// The LoRA that `wanted` names, or the LoRA in the file `wanted`.
fn lora_of(places: &[Place], wanted: &str) -> Option<(String, PathBuf)> {
    if let Some(found) = search::loras(places).into_iter().find(|(name, _)| name == wanted) {
        // A model of the name goes first.
        return search::find(places).iter().all(|model| model.name != wanted).then_some(found);
    }
    if let Some(path) = search::lora_in_hub(places, wanted) {
        return Some((wanted.to_owned(), path));
    }
    let path = PathBuf::from(wanted);
    let is_lora =
        path.is_file() && Shard::open(path.clone()).is_ok_and(|file| FileKind::of(&file) == FileKind::Lora);
    is_lora.then(|| (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path))
}

impl About {
    fn of(file: &LoraFile) -> About {
        About {
            changes: file.kinds(),
            base: file.base(),
            modules: file.modules(),
            ranks: file.ranks(),
            dtype: file.dtypes().join("+"),
            words: file.words(),
            licence: file.licence(),
            unknown: file.unknown.clone(),
        }
    }

    fn row(&self) -> [String; 4] {
        let or_none = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or("-".into());
        let base = or_none(self.base.clone());
        [self.changes.join("+"), base, or_none(Some(self.words.join(", "))), or_none(self.licence.clone())]
    }
}

fn show_lora(name: &str, path: &Path, about: &About) -> Result<(), Failure> {
    let [changes, base, words, licence] = about.row();
    let ranks: Vec<_> = about.ranks.iter().map(usize::to_string).collect();
    for (label, text) in [
        ("name", name.to_owned()),
        ("path", path.display().to_string()),
        ("changes", changes),
        ("base", base),
        ("modules", about.modules.to_string()),
        ("ranks", ranks.join(", ")),
        ("dtype", about.dtype.clone()),
        ("words", words),
        ("license", licence),
        ("unknown", names(&about.unknown)),
    ] {
        say(&format!("{label:<13}{text}"))?;
    }
    Ok(())
}

fn show_piece(kind: &str, name: &str, path: &Path, piece: &Piece) -> Result<(), Failure> {
    let [dtype, bytes, licence] = piece.row();
    for (label, text) in [
        ("name", name.to_owned()),
        ("path", path.display().to_string()),
        ("kind", kind.to_owned()),
        ("tensors", piece.tensors.to_string()),
        ("dtype", dtype),
        ("bytes", bytes),
        ("license", licence),
    ] {
        say(&format!("{label:<13}{text}"))?;
    }
    Ok(())
}

/// The number of names, and the first of them.
fn names(all: &[String]) -> String {
    match all {
        [] => "none".into(),
        [first] => format!("`{}`", shown(first)),
        [first, ..] => format!("{} tensors, the first `{}`", all.len(), shown(first)),
    }
}

fn show(name: &str, path: &Path, summary: &Summary) -> Result<(), Failure> {
    let ImageSize { width, height } = summary.native_size;
    for (label, text) in [
        ("name", name.to_owned()),
        ("path", path.display().to_string()),
        ("native size", format!("{width}x{height}")),
        ("scheduler", summary.scheduler.clone()),
        ("predicts", summary.prediction_type.to_owned()),
        ("defaults", format!("{} steps, guidance {}", summary.steps, summary.guidance_scale)),
        ("license", summary.licence.clone().unwrap_or("-".into())),
    ] {
        say(&format!("{label:<13}{text}"))?;
    }
    if let Some(unknown) = &summary.unknown {
        say(&format!("{:<13}{}", "unknown", names(unknown)))?;
    }
    say(&"")?;
    let row = |name: &str, tensors: usize, parameters, dtype: &str, bytes| {
        let bytes = BinaryBytes(bytes).to_string();
        vec![name.to_owned(), tensors.to_string(), short(parameters), dtype.to_owned(), bytes]
    };
    let mut rows: Vec<_> = summary
        .components
        .iter()
        .map(|part| row(part.name, part.tensors, part.parameters, &part.dtype, part.bytes))
        .collect();
    let tensors = summary.components.iter().map(|part| part.tensors).sum();
    rows.push(row("all", tensors, summary.parameters, &summary.dtype, summary.bytes));
    say_table(&["COMPONENT", "TENSORS", "PARAMETERS", "DTYPE", "BYTES"], &rows)
}

impl Summary {
    /// # Errors
    /// [`Error::Model`] naming the weight file that is missing, truncated or corrupt.
    pub(crate) fn of(model: &Model) -> Result<Self, Error> {
        let mut components = vec![];
        let mut dtypes = vec![];
        for component in Component::ALL {
            let weights = model.weights(component, false)?;
            dtypes.extend(weights.dtypes());
            components.push(Part {
                name: component.name(),
                tensors: weights.tensors().count(),
                parameters: weights.parameters(),
                dtype: weights.dtypes().join("+"),
                bytes: weights.bytes(),
            });
        }
        dtypes.sort_unstable();
        dtypes.dedup();
        Ok(Summary {
            parameters: components.iter().map(|part| part.parameters).sum(),
            dtype: dtypes.join("+"),
            bytes: components.iter().map(|part| part.bytes).sum(),
            scheduler: model.scheduler.label(),
            prediction_type: model.scheduler.prediction_type.unwrap_or(PredictionType::Epsilon).as_str(),
            licence: model.licence.clone(),
            unknown: model.single_file().map(|file| file.unknown.clone()),
            native_size: model.native_size(),
            steps: model.generation.num_inference_steps,
            guidance_scale: model.generation.guidance_scale,
            components,
        })
    }

    fn words(&self) -> [String; 4] {
        let bytes = BinaryBytes(self.bytes).to_string();
        [short(self.parameters), self.dtype.clone(), bytes, self.scheduler.clone()]
    }
}

/// Columns as wide as their widest cell.
fn say_table(heads: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    let width = |i: usize| {
        let cells = rows.iter().map(|row| row[i].chars().count());
        cells.max().unwrap_or(0).max(heads[i].len())
    };
    let widths: Vec<_> = (0..heads.len()).map(width).collect();
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    for row in std::iter::once(&heads).chain(rows) {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        say(&cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// A count in three digits, as `2.57 B`.
fn short(count: u64) -> String {
    let count = count as f64;
    match [(1e9, "B"), (1e6, "M"), (1e3, "k")].into_iter().find(|(unit, _)| count >= *unit) {
        Some((unit, word)) => {
            let count = count / unit;
            let decimals = if count < 10.0 { 2 } else { usize::from(count < 100.0) };
            format!("{count:.decimals$} {word}")
        }
        None => count.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn counts_keep_three_digits() {
        for (count, text) in
            [(0, "0"), (999, "999"), (12_345, "12.3 k"), (2_567_463_684, "2.57 B"), (694_659_840, "695 M")]
        {
            assert_eq!(short(count), text);
        }
    }
}
