//! What a batch's input asks for: every line is checked before anything is drawn.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::str::FromStr;

use dgx_pixels_core::files;
use dgx_pixels_core::pixel::{Palette, PixelOptions};
use dgx_pixels_core::{Crop, Error, GenerateRequest, ImageSize, ValueError};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::drawing::{self, Drawing, Interval};
use crate::failure::{Failure, one_line};
use crate::generate;
use crate::output;
use crate::stages;

/// Most pictures of one batch.
const MAX_PICTURES: usize = 1_000_000;
/// Longest `name`, in bytes: with a seed, a line and an ending it is still a file's name.
const MAX_NAME_BYTES: usize = 180;

/// The fields of a line. Those of the second row shape a sprite, and so mean nothing to a raw picture.
const FIELDS: [&str; 17] = [
    "prompt",
    "name",
    "count",
    "seed",
    "negative_prompt",
    "steps",
    "guidance_scale",
    "guidance_rescale",
    "guidance_interval",
    "deep_cache",
    "scheduler",
    "width",
    "height",
    "original_size",
    "crop",
    "target_size",
    "raw",
];
const SPRITE_FIELDS: [&str; 11] = [
    "size",
    "anchor",
    "max_colors",
    "palette",
    "dither",
    "transparent",
    "bleed",
    "cleanup",
    "outline",
    "tile_x",
    "tile_y",
];

/// What holds for every line that does not say otherwise.
#[derive(Clone)]
pub(super) struct Defaults {
    pub(super) drawing: Drawing,
    pub(super) seed: Option<u64>,
    pub(super) count: u64,
    pub(super) model: String,
    /// What both sides of a picture must be multiples of.
    pub(super) multiple: u32,
    /// The image that the model draws where no size is asked for.
    pub(super) native_size: ImageSize,
}

/// One picture to be made.
pub(super) struct Picture {
    /// Of the input, from 1.
    pub(super) line: usize,
    /// Its name in the batch's folder.
    pub(super) file: String,
    pub(super) request: GenerateRequest,
    pub(super) pixel: Option<PixelOptions>,
    /// Line and content: what has the same key is the same picture in the same file.
    pub(super) key: String,
}

/// What is wrong with a line.
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

/// The lines with their numbers from 1, without a byte order mark. They end as on Unix, Windows or an old Mac.
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
                Asked::new(defaults)
            }
            Ok(text) => Asked { prompt: text.trim().to_owned(), ..Asked::new(defaults) },
            Err(_) => {
                reasons.push("it is no UTF-8 text; save the file as UTF-8".into());
                Asked::new(defaults)
            }
        };
        asked.check_into(line, defaults, &mut taken, &mut pictures, &mut reasons);
        if pictures.len() > MAX_PICTURES {
            let reason = format!("it is past the {MAX_PICTURES} pictures that a batch may have");
            faults.push(Fault { line, reason });
            break;
        }
        faults.extend(reasons.into_iter().map(|reason| Fault { line, reason }));
    }
    if faults.is_empty() { Ok(pictures) } else { Err(faults) }
}

/// One line, its defaults filled in.
struct Asked {
    prompt: String,
    name: Option<String>,
    count: u64,
    seed: Option<u64>,
    drawing: Drawing,
    original_size: Option<ImageSize>,
    crop: Crop,
    target_size: Option<ImageSize>,
}

impl Asked {
    fn new(defaults: &Defaults) -> Asked {
        let Defaults { drawing, seed, count, .. } = defaults.clone();
        Asked {
            prompt: String::new(),
            name: None,
            count,
            seed,
            drawing,
            original_size: None,
            crop: Crop::default(),
            target_size: None,
        }
    }

    fn of_json(text: &str, defaults: &Defaults, faults: &mut Vec<String>) -> Asked {
        let mut asked = Asked::new(defaults);
        let fields = match serde_json::from_str::<Map<String, Value>>(text) {
            Ok(fields) => fields,
            Err(error) => {
                let expected = r#"expected an object, for example `{"prompt":"a key"}`"#;
                faults.push(format!("it is no JSON object: {}; {expected}", no_line(&error.to_string())));
                return asked;
            }
        };
        let given = |field: &str| fields.get(field).is_some_and(|value| !value.is_null());
        for (field, value) in &fields {
            // Also where the value is null, which else is as if the field were absent.
            if !FIELDS.contains(&field.as_str()) && !SPRITE_FIELDS.contains(&field.as_str()) {
                let known = FIELDS.iter().chain(&SPRITE_FIELDS).map(|known| format!("`{known}`"));
                let known = known.collect::<Vec<_>>().join(", ");
                faults.push(format!("`{field}` is no field; expected one of {known}"));
            } else if !value.is_null()
                && let Err(reason) = asked.set(field, value)
            {
                let says_what = reason.starts_with('`');
                let reason =
                    if says_what { reason } else { format!("`{field}` is {}; {reason}", short(value)) };
                faults.push(reason);
            }
        }
        if !given("prompt") {
            faults.push("`prompt` is missing".into());
        }
        if given("width") != given("height") {
            faults.push("`width` and `height` go together; one is missing".into());
        }
        // `raw` may also be the flag's.
        let shaping = SPRITE_FIELDS.iter().filter(|field| asked.drawing.raw && given(field));
        faults.extend(shaping.map(|field| format!("`{field}` does not go with `raw`")));
        // The flags hold for all lines, and some lines may have no use for them.
        if ["negative_prompt", "guidance_rescale", "guidance_interval"].iter().any(|field| given(field)) {
            faults.extend(asked.drawing.denoising.check().err());
        }
        if given("anchor") || given("dither") {
            let stages = &asked.drawing.stages;
            let checked = if given("anchor") { stages.check() } else { stages.check_dither() };
            faults.extend(checked.err());
        }
        asked
    }

    fn set(&mut self, field: &str, value: &Value) -> Result<(), String> {
        let Drawing { denoising, stages, raw, .. } = &mut self.drawing;
        match field {
            "prompt" => self.prompt = text(value)?.to_owned(),
            "name" => self.name = Some(stem(value)?),
            "count" => self.count = whole(value)?,
            "seed" => self.seed = Some(whole(value)?),
            "negative_prompt" => denoising.negative_prompt = Some(text(value)?.to_owned()),
            "steps" => denoising.steps = Some(whole(value)?),
            "guidance_scale" => denoising.guidance_scale = Some(number(value)?),
            "guidance_rescale" => denoising.guidance_rescale = number(value)?,
            "guidance_interval" => {
                denoising.guidance_interval = Some(Interval(from_to(value)?));
            }
            "deep_cache" => denoising.deep_cache = Some(whole(value)?),
            "scheduler" => {
                denoising.scheduler = Some(text(value)?.parse().map_err(|error| one_line(&error))?)
            }
            "width" => denoising.width = Some(whole(value)?),
            "height" => denoising.height = Some(whole(value)?),
            "original_size" => self.original_size = Some(object(value, r#"{"width":1024,"height":1024}"#)?),
            "crop" => self.crop = object(value, r#"{"left":0,"top":0}"#)?,
            "target_size" => self.target_size = Some(object(value, r#"{"width":1024,"height":1024}"#)?),
            "raw" => *raw = flag(value)?,
            "size" => stages.size = Some(stages::size(text(value)?)?),
            "anchor" => stages.anchor = Some(word(value)?),
            "max_colors" => stages.max_colors = word(value)?,
            "palette" => stages.palette = Some(palette(value)?),
            "dither" => stages.dither = word(value)?,
            "transparent" => stages.transparent = word(value)?,
            "bleed" => stages.bleed = flag(value)?,
            "cleanup" => stages.cleanup = flag(value)?,
            "outline" => stages.outline = word(value)?,
            "tile_x" => stages.tile_x = flag(value)?,
            "tile_y" => stages.tile_y = flag(value)?,
            field => unreachable!("`{field}` is in the list of fields and set nowhere; this is a bug"),
        }
        Ok(())
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
        let request = GenerateRequest {
            original_size: self.original_size,
            crop: self.crop,
            target_size: self.target_size,
            ..self.drawing.denoising.request(self.prompt)
        };
        let (size, pixel) = match self.drawing.plan(defaults.native_size) {
            Ok(planned) => planned,
            Err(conflict) => {
                faults.push(conflict.to_string());
                (None, None)
            }
        };
        let request = GenerateRequest { size, ..request };
        let valid = size.map_or(Ok(()), |size| size.validate(defaults.multiple));
        if let Err(error) = request.validate().and(valid) {
            faults.push(one_line(&Error::from(error)));
        }
        let seed = self.seed.unwrap_or_else(|| derived_seed(line, &request.prompt));
        let seeds = match generate::seeds(seed, self.count) {
            Ok(seeds) => seeds,
            Err(failure) => return faults.push(one_line(&failure)),
        };
        if !faults.is_empty() {
            return;
        }
        for seed in seeds {
            let stem = match &self.name {
                Some(name) if self.count == 1 => name.clone(),
                Some(name) => format!("{name}-{seed}"),
                None => format!("{}-{seed}", output::slug(&request.prompt)),
            };
            let file = free_name(&stem, line, taken);
            let request = GenerateRequest { seed, ..request.clone() };
            let content = serde_json::to_vec(&(&file, &request, &pixel, &defaults.model))
                .expect("plain data turns into JSON; this is a bug");
            let digest = blake3::hash(&content).to_hex();
            let key = format!("{line}-{}", &digest[..16]);
            pictures.push(Picture { line, file, request, pixel: pixel.clone(), key });
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

/// 32 bits, as the seeds that `generate` draws: the same line with the same prompt has the same one in every run.
fn derived_seed(line: usize, prompt: &str) -> u64 {
    let hash = blake3::hash(format!("{line} {prompt}").as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d]).into()
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "expected a text".into())
}

fn flag(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "expected true or false".into())
}

fn whole<T: FromStr>(value: &Value) -> Result<T, String> {
    drawing::whole(&value.to_string())
}

fn number(value: &Value) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| "expected a number".into())
}

/// What a flag takes as a word, here also as a number.
fn word<T: FromStr<Err = ValueError>>(value: &Value) -> Result<T, String> {
    let word = match value {
        Value::Number(number) => number.to_string(),
        value => text(value)?.to_owned(),
    };
    word.parse().map_err(|error: ValueError| error.to_string())
}

fn object<T: DeserializeOwned>(value: &Value, example: impl Display) -> Result<T, String> {
    serde_json::from_value(value.clone()).map_err(|_| format!("expected an object, for example {example}"))
}

fn from_to(value: &Value) -> Result<[f64; 2], String> {
    serde_json::from_value(value.clone())
        .map_err(|_| "expected a list of two numbers, for example [0.1,0.8]".into())
}

fn palette(value: &Value) -> Result<Palette, String> {
    match value.as_str() {
        Some(text) => stages::palette(text),
        None => serde_json::from_value(value.clone())
            .map_err(|_| r##"expected a name, a file, or colors, for example ["#1A1C2C","#5D275D"]"##.into()),
    }
}

fn stem(value: &Value) -> Result<String, String> {
    let name = value.as_str().filter(|name| {
        !name.is_empty()
            && name.len() <= MAX_NAME_BYTES
            && !name.starts_with('.')
            && !name.contains(|letter: char| letter == '/' || letter == '\\' || letter.is_control())
            && !name.to_ascii_lowercase().ends_with(".png")
    });
    let expected = || {
        format!(
            "expected a file's name without folder and ending, not hidden, up to {MAX_NAME_BYTES} bytes long"
        )
    };
    name.map(str::to_owned).ok_or_else(expected)
}

/// The value as it stands in the line, texts in backticks.
fn short(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let short: String = text.chars().take(40).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("`{short}{dots}`")
}

/// serde_json counts the lines of one line.
fn no_line(error: &str) -> String {
    error.replace(" at line 1 column ", " at column ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn defaults() -> Defaults {
        #[derive(clap::Parser)]
        struct Flags {
            #[command(flatten)]
            drawing: Drawing,
        }
        let Flags { drawing } = clap::Parser::parse_from(["batch"]);
        let native_size = ImageSize { width: 256, height: 256 };
        Defaults { drawing, seed: None, count: 1, model: "sketch".into(), multiple: 8, native_size }
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
    fn every_field_is_set() {
        for field in FIELDS.iter().chain(&SPRITE_FIELDS) {
            // Nothing takes it; what matters is that it is known.
            let _ = Asked::new(&defaults()).set(field, &Value::Array(vec![Value::Null]));
        }
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
