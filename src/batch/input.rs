//! The input of a batch. Every line is checked before anything is drawn.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use dgx_pixels_core::fields::json::{self, Object};
use dgx_pixels_core::fields::{FieldError, SpriteFields};
use dgx_pixels_core::pixel::{GridChoice, Palette};
use dgx_pixels_core::{ModelDefaults, Submission, files, input_image};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::drawing::Drawing;
use crate::failure::{Failure, one_line};
use crate::generate::MAX_COUNT;
use crate::output;

/// Most pictures of one batch.
const MAX_PICTURES: usize = 1_000_000;
/// Longest `name`, in bytes: with a seed, a line and an ending it is still a file's name.
const MAX_NAME_BYTES: usize = 180;

/// The fields of a line beside those of a sprite.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct LineFields {
    /// The name of the sprite's file, without folder and ending. Default: from prompt and seed.
    name: Option<String>,
    /// Write the model's image as it is, without the stages that make a sprite of it. Default: no.
    raw: Option<bool>,
}

/// The schema of [`LineFields`], and that of a whole line.
static SCHEMAS: LazyLock<[Arc<Object>; 2]> = LazyLock::new(|| {
    let line = json::schema::<LineFields>();
    let mut all = (*SpriteFields::schema()).clone();
    if let (Some(Value::Object(all)), Some(Value::Object(line))) =
        (all.get_mut("properties"), line.get("properties"))
    {
        all.extend(line.clone());
    }
    [line, Arc::new(all)]
});

/// The values for lines that do not set them.
#[derive(Clone)]
pub(super) struct Defaults {
    pub(super) drawing: Drawing,
    pub(super) model: String,
    /// The model's values for what a line leaves open.
    pub(super) values: ModelDefaults,
    /// The fields of `drawing` as JSON, which lines are put over; they have no prompt.
    flags: Object,
}

impl Defaults {
    pub(super) fn new(drawing: Drawing, model: String, values: ModelDefaults) -> Defaults {
        let mut flags = drawing.fields.to_json();
        flags.remove("prompt");
        Defaults { drawing, model, values, flags }
    }
}

/// One picture to be made.
pub(super) struct Picture {
    /// The line of the input, from 1.
    pub(super) line: usize,
    /// Its name in the batch's folder.
    pub(super) file: String,
    pub(super) submission: Submission,
    /// Line and content: what has the same key is the same picture in the same file.
    pub(super) key: String,
}

/// The fault of a line.
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) reason: String,
}

/// The whole of the file, or of standard input for `-`.
///
/// # Errors
/// [`Failure::Input`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![];
    let read = if path == Path::new("-") {
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    let bytes = read.map_err(|error| Failure::input(path, error))?;
    let text = files::utf16_to_utf8(&bytes).map_err(|reason| Failure::input(path, reason))?;
    Ok(text.into_owned())
}

/// `true` if the lines are JSON objects: the file's name says so, or its first line does.
///
/// # Errors
/// [`Failure::Input`] for a JSON list, which is no object a line.
pub(super) fn is_json(path: &Path, bytes: &[u8]) -> Result<bool, Failure> {
    let named = |ending: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
    let first = lines(bytes).find(|(_, line)| !is_skipped(line)).map_or(&b""[..], |(_, line)| line);
    if is_list(first) {
        let reason =
            "it is a JSON list; expected a JSON object a line, without brackets and commas around them";
        return Err(Failure::input(path, reason));
    }
    Ok(["jsonl", "ndjson"].iter().any(|ending| named(ending)) || is_object(first))
}

/// The lines with their numbers from 1, without a byte order mark. They end as on Unix, Windows or
/// an old Mac.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = Some(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    let lines = std::iter::from_fn(move || {
        let bytes = rest?;
        let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            return rest.take();
        };
        let after = end + if bytes[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = Some(&bytes[after..]);
        Some(&bytes[..end])
    });
    (1..).zip(lines)
}

/// Empty, or a comment.
fn is_skipped(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.is_empty() || line.starts_with(b"#")
}

/// `true` for what can only be meant as a JSON object: `{"prompt"`, but not `{red|blue} potion`.
fn is_object(line: &[u8]) -> bool {
    let inside = line.trim_ascii().strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    inside.is_some_and(|inside| matches!(inside.first(), None | Some(b'"' | b'}')))
}

/// `true` for what begins a JSON list of objects or texts.
fn is_list(line: &[u8]) -> bool {
    let inside = line.trim_ascii().strip_prefix(b"[").map(<[u8]>::trim_ascii_start);
    inside.is_some_and(|inside| matches!(inside.first(), None | Some(b'{' | b'"')))
}

/// All pictures that the lines ask for, in their order, with files that differ.
///
/// # Errors
/// Everything that is wrong.
pub(super) fn pictures(bytes: &[u8], json: bool, defaults: &Defaults) -> Result<Vec<Picture>, Vec<Fault>> {
    let mut pictures = vec![];
    let mut faults = vec![];
    let mut taken = HashSet::new();
    for (line, text) in lines(bytes).filter(|(_, text)| !is_skipped(text)) {
        let mut reasons = vec![];
        let asked = match std::str::from_utf8(text) {
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) if json => Asked::of_json(text, defaults, &mut reasons),
            Ok(text) if is_object(text.as_bytes()) => {
                reasons.push(
                    "it is a JSON object, and the lines before it are prompts; expected one kind in a file"
                        .into(),
                );
                None
            }
            Ok(text) => Some(Asked::new(text.trim(), defaults)),
            Err(_) => {
                reasons.push("it is no UTF-8 text; save the file as UTF-8".into());
                None
            }
        };
        if let Some(asked) = asked {
            asked.check_into(line, defaults, &mut taken, &mut pictures, &mut reasons);
        }
        if pictures.len() > MAX_PICTURES {
            let reason = format!("it is past the {MAX_PICTURES} pictures that a batch may have");
            faults.push(Fault { line, reason });
            break;
        }
        faults.extend(reasons.into_iter().map(|reason| Fault { line, reason }));
    }
    if faults.is_empty() { Ok(pictures) } else { Err(faults) }
}

/// One line, with the flags where it does not say otherwise.
struct Asked {
    name: Option<String>,
    drawing: Drawing,
}

impl Asked {
    fn new(prompt: &str, defaults: &Defaults) -> Asked {
        let mut drawing = defaults.drawing.clone();
        drawing.fields.request.prompt = prompt.to_owned();
        Asked { name: None, drawing }
    }

    /// `None` with what is wrong with the line.
    fn of_json(text: &str, defaults: &Defaults, faults: &mut Vec<String>) -> Option<Asked> {
        let mut fields: Object = match serde_json::from_str(text) {
            Ok(fields) => fields,
            Err(error) => {
                let expected = r#"expected an object, for example `{"prompt":"a key"}`"#;
                faults.push(format!("it is no JSON object: {}; {expected}", no_line(&error.to_string())));
                return None;
            }
        };
        faults.extend(json::unknown(&SCHEMAS[1], &fields).map(|error| error.to_string()));
        match Asked::of_fields(&mut fields, defaults) {
            Ok(asked) if faults.is_empty() => Some(asked),
            Ok(_) => None,
            Err(errors) => {
                faults.extend(errors.into_iter().map(|error| error.to_string()));
                None
            }
        }
    }

    fn of_fields(fields: &mut Object, defaults: &Defaults) -> Result<Asked, Vec<FieldError>> {
        fields.retain(|_, value| !value.is_null());
        let given: HashSet<String> = fields.keys().cloned().collect();
        let mut faults = vec![];
        let LineFields { name, raw } = json::take(&SCHEMAS[0], fields).unwrap_or_else(|error| {
            faults.push(error);
            LineFields::default()
        });
        faults.extend(name.as_deref().and_then(|name| check_name(name).err()));
        // In a batch, as on the command line, the palette may be a file.
        if let Some(Value::String(text)) = fields.get("palette") {
            match Palette::load(text) {
                Ok(palette) => {
                    fields.insert("palette".into(), palette.colors().iter().map(hex).collect());
                }
                Err(error) => {
                    faults.push(FieldError::new("palette", one_line(&error)));
                    fields.remove("palette");
                }
            }
        }
        if let Err(error) = SpriteFields::read_images(fields, |path| {
            input_image::read_file(path).map_err(|error| error.to_string())
        }) {
            faults.push(error);
            fields.retain(|name, _| !matches!(name.as_str(), "init_image" | "mask" | "strength" | "control"));
        }
        // The flags hold where the line says nothing.
        let mut whole = defaults.flags.clone();
        whole.extend(std::mem::take(fields));
        let fields = match SpriteFields::take(&mut whole.clone()) {
            Ok(fields) if faults.is_empty() => fields,
            _ => {
                faults.extend(SpriteFields::faults(&whole));
                return Err(faults);
            }
        };
        let raw = raw.unwrap_or(defaults.drawing.raw);
        let drawing = Drawing { fields, raw, ..defaults.drawing.clone() };
        // The flags hold for all lines, and some lines may have no use for them.
        drawing.check_asked(|name| given.contains(name)).map_err(|error| vec![error])?;
        Ok(Asked { name, drawing })
    }

    /// Adds the line's pictures, unless there are faults, or what is wrong with them.
    fn check_into(
        self,
        line: usize,
        defaults: &Defaults,
        taken: &mut HashSet<String>,
        pictures: &mut Vec<Picture>,
        faults: &mut Vec<String>,
    ) {
        let Asked { name, drawing } = self;
        let prompt = drawing.fields.request.prompt.as_str();
        let seeds = match drawing.fields.series.seeds(MAX_COUNT, || derived_seed(line, prompt)) {
            Ok(seeds) => seeds,
            Err(error) => return faults.push(error.to_string()),
        };
        let submission = drawing.submission(*seeds.start());
        let resolved = match submission.resolve(&defaults.values) {
            Ok(resolved) => resolved,
            Err(error) => return faults.push(one_line(&error)),
        };
        // A `size` may have chosen the image.
        let is_planned = resolved.pixel.as_ref().is_some_and(|pixel| pixel.grid != GridChoice::Auto);
        let request = match is_planned {
            true => submission.request.with_size(resolved.request.size),
            false => submission.request,
        };
        let drawn = Submission { request, pixel: resolved.pixel, ..Default::default() };
        let count = seeds.end() - seeds.start() + 1;
        for seed in seeds {
            let stem = match &name {
                Some(name) if count == 1 => name.clone(),
                Some(name) => format!("{name}-{seed}"),
                None => format!("{}-{seed}", output::slug(prompt)),
            };
            let file = free_name(&stem, line, taken);
            let mut submission = drawn.clone();
            submission.request.seed = seed;
            let content = submission.content();
            let content = content.trim_start_matches('[').trim_end_matches(']');
            let content = format!("[{},{content},{}]", json!(file), json!(defaults.model));
            let digest = blake3::hash(content.as_bytes()).to_hex();
            let key = format!("{line}-{}", &digest[..16]);
            pictures.push(Picture { line, file, submission, key });
        }
    }
}

/// `STEM.png`; where an earlier line has it, with this line's number.
fn free_name(stem: &str, line: usize, taken: &mut HashSet<String>) -> String {
    let mut name = format!("{stem}.png");
    let mut again = format!("{stem}-line{line}");
    while !taken.insert(name.clone()) {
        name = format!("{again}.png");
        again.push_str("-again");
    }
    name
}

/// 32 bits, as the seeds that `generate` draws: the same line with the same prompt has the same one
/// in every run.
fn derived_seed(line: usize, prompt: &str) -> u64 {
    let hash = blake3::hash(format!("{line} {prompt}").as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d]).into()
}

/// # Errors
/// A name that is none of a plain file.
fn check_name(name: &str) -> Result<(), FieldError> {
    let is_plain = !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && !name.starts_with('.')
        && !name.contains(|letter: char| letter == '/' || letter == '\\' || letter.is_control())
        && !name.to_ascii_lowercase().ends_with(".png");
    if is_plain {
        return Ok(());
    }
    let given = json::short(&name.into());
    let expected =
        format!("a file's name without folder and ending, not hidden, up to {MAX_NAME_BYTES} bytes long");
    Err(FieldError::new("name", format!("`name` is {given}; expected {expected}")))
}

fn hex([r, g, b]: &[u8; 3]) -> Value {
    format!("#{r:02X}{g:02X}{b:02X}").into()
}

/// Removes the line number from an error of `serde_json`, which counts from the start of this line.
fn no_line(error: &str) -> String {
    error.replace(" at line 1 column ", " at column ")
}

#[cfg(test)]
mod tests {
    use dgx_pixels_core::backend::{Backend as _, Sketch};
    use proptest::prelude::*;

    use super::*;

    fn defaults() -> Defaults {
        #[derive(clap::Parser)]
        struct Flags {
            #[command(flatten)]
            drawing: Drawing,
        }
        let Flags { drawing } = clap::Parser::parse_from(["batch"]);
        Defaults::new(drawing, "sketch".into(), Sketch.defaults())
    }

    fn files(lines: &str) -> Vec<String> {
        let pictures = pictures(lines.as_bytes(), true, &defaults());
        pictures.ok().unwrap().into_iter().map(|picture| picture.file).collect()
    }

    #[test]
    fn names_that_meet_are_told_apart_by_their_lines() {
        let line = r#"{"prompt":"a key","name":"key"}"#;
        let taken = r#"{"prompt":"a key","name":"key-line2"}"#;
        let expected = ["key.png", "key-line2.png", "key-line2-line3.png", "key-line4.png"];
        assert_eq!(files(&format!("{line}\n{line}\n{taken}\n{line}")), expected);
    }

    #[test]
    fn the_key_changes_with_line_and_content() {
        let key = |lines: &str, defaults: &Defaults| {
            pictures(lines.as_bytes(), true, defaults).ok().unwrap().pop().unwrap().key
        };
        let line = r#"{"prompt":"a key","seed":7}"#;
        let same = key(line, &defaults());
        assert_eq!(key(r#"{"seed": 7, "prompt": "a key", "steps": null}"#, &defaults()), same);
        for other in [r#"{"prompt":"a key","seed":8}"#, r#"{"prompt":"a key","seed":7,"bleed":true}"#] {
            assert_ne!(key(other, &defaults()), same, "{other}");
        }
        assert_ne!(key(&format!("\n{line}"), &defaults()), same);
        assert_ne!(key(line, &Defaults { model: "tiny".into(), ..defaults() }), same);
    }

    proptest! {
        #[test]
        fn any_input_is_read_or_refused_and_no_two_pictures_share_a_file(
            lines in prop::collection::vec(prop_oneof![
                ".*",
                "\\{\"prompt\":\"[a-c]?\",\"(name|seed|count|steps|size|palette)\":(\"[a-c]?\"|[0-9]{1,3})\\}",
            ], 0..20),
            json in any::<bool>(),
        ) {
            let lines = lines.join("\n");
            let Ok(pictures) = pictures(lines.as_bytes(), json, &defaults()) else { return Ok(()) };
            let files: HashSet<_> = pictures.iter().map(|picture| &picture.file).collect();
            prop_assert_eq!(files.len(), pictures.len());
            let keys: HashSet<_> = pictures.iter().map(|picture| &picture.key).collect();
            prop_assert_eq!(keys.len(), pictures.len());
        }
    }
}
