//! The answer of a tool: a short JSON text, at most one image, and faults that say what to do next.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dgx_pixels_core::library::{Asset, Library};
use dgx_pixels_core::{Error, ErrorKind, one_line};
use rmcp::model::{CallToolResult, ContentBlock, MetaObject};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::preview::SIDES;

/// The most bytes of an answer as JSON, with its image in Base64. Clients cut at 1 MiB, and some
/// before.
pub(crate) const MAX_BYTES: usize = 700 << 10;
/// The largest number of bytes that JSON-RPC puts around a result.
const ENVELOPE_BYTES: usize = 4 << 10;
/// The most bytes of a fault's text.
const MAX_FAULT_BYTES: usize = 4 << 10;

/// The reason why a call returns nothing, in words that a model can act on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) text: String,
    pub(crate) kind: ErrorKind,
    /// The argument at fault, if it is one.
    pub(crate) field: Option<String>,
    /// The time after which the same call is likely to succeed.
    pub(crate) retry_after: Option<Duration>,
}

impl Fault {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Fault {
        Fault { text: text.into(), kind, field: None, retry_after: None }
    }

    /// The facts for a program that reads the answer: the kind of the fault, the argument at fault,
    /// and when to call again.
    fn facts(&self) -> Map<String, Value> {
        let mut facts = Map::from_iter([("kind".to_owned(), json!(self.kind.as_str()))]);
        if let Some(field) = &self.field {
            facts.insert("field".into(), json!(field));
        }
        if let Some(time) = self.retry_after {
            facts.insert("retry_after_ms".into(), json!(millis(time)));
        }
        facts
    }

    /// One job of many that failed.
    pub(crate) fn of_job(&self, job_id: impl Serialize) -> Value {
        let mut facts =
            Map::from_iter([("job_id".to_owned(), json!(job_id)), ("error".into(), json!(self.text))]);
        facts.extend(self.facts());
        Value::Object(facts)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let (kind, retry_after) = (error.kind(), error.retry_after());
        let next = match kind {
            ErrorKind::InvalidRequest => "Mend it and call again.".to_owned(),
            ErrorKind::InvalidModel => "`list_models` names the models there are.".into(),
            ErrorKind::OutOfMemory => {
                "Call again with a smaller `width` and `height`, or fewer at once.".into()
            }
            ErrorKind::NotFound => "`list_assets` names the assets there are.".into(),
            ErrorKind::LibraryFull => {
                "Ask the user to run `dgx-pixels-mcp clean --help`, which removes old assets.".into()
            }
            ErrorKind::GameUnavailable => "Ask the user to start the game, then call again.".into(),
            ErrorKind::Cancelled => "Call `generate_sprite` again if it is still wanted.".into(),
            ErrorKind::ShutDown => "The server is stopping; the job goes on when it is started again.".into(),
            ErrorKind::Unsure => "Look at the picture, and call again with `grid`.".into(),
            ErrorKind::EmptySprite => "Call again with another prompt or `seed`.".into(),
            _ if let Some(time) = retry_after => {
                format!("Call again after `retry_after_ms`: {}.", millis(time))
            }
            // Its text says it.
            ErrorKind::ForbiddenPath => String::new(),
            _ => "Tell the user: this is not mended by calling again.".into(),
        };
        let text = format!("{}. {next}", one_line(&error));
        let field = error.field().map(str::to_owned);
        Fault { text: text.trim_end().to_owned(), kind, field, retry_after }
    }
}

impl From<Fault> for CallToolResult {
    fn from(fault: Fault) -> CallToolResult {
        let meta = fault.facts().into_iter().map(|(name, value)| (format!("dgx-pixels/{name}"), value));
        let meta = MetaObject(meta.collect());
        let text = cut(fault.text, MAX_FAULT_BYTES);
        let mut result = CallToolResult::error(vec![ContentBlock::text(text)]);
        result.meta = Some(meta);
        result
    }
}

/// The first `most` bytes at most, and a mark where something was left out.
pub(crate) fn cut(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}… ({} bytes)", &text[..end], text.len())
}

/// A short text, and an image beside it: `draw` makes a PNG with sides of at most as many pixels as
/// it is given. An image that does not fit even when it is small is left out, and the text says so.
/// `structuredContent` stays empty: some clients drop the image where it is set.
pub(crate) fn with_picture(facts: Map<String, Value>, draw: impl Fn(u32) -> Vec<u8>) -> CallToolResult {
    with_picture_of(facts, &SIDES, draw)
}

/// Does the same as [`with_picture`], with the given sides to try, the largest first.
pub(crate) fn with_picture_of(
    facts: Map<String, Value>,
    sides: &[u32],
    draw: impl Fn(u32) -> Vec<u8>,
) -> CallToolResult {
    let mut facts = fitting(facts);
    for side in sides {
        let image = ContentBlock::image(BASE64_STANDARD.encode(draw(*side)), "image/png");
        let result = CallToolResult::success(vec![
            ContentBlock::text(Value::Object(facts.clone()).to_string()),
            image,
        ]);
        if fits(&result) {
            return result;
        }
    }
    let reason = format!(
        "left out, as the answer would have more than {} KiB; look at the file at `path`",
        MAX_BYTES >> 10
    );
    facts.insert("preview".into(), json!(reason));
    text(facts)
}

/// A text alone.
pub(crate) fn text(facts: Map<String, Value>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(Value::Object(fitting(facts)).to_string())])
}

/// Leaves out the longest fields of an answer that is too long, and names them in `left_out`.
fn fitting(mut facts: Map<String, Value>) -> Map<String, Value> {
    let mut left_out = vec![];
    // A text is escaped once more inside the answer.
    while escaped_bytes(&facts) > MAX_BYTES - ENVELOPE_BYTES {
        let longest = facts.iter().max_by_key(|(_, value)| bytes(value)).map(|(name, _)| name.clone());
        let Some(name) = longest else { break };
        facts.remove(&name);
        left_out.push(name);
    }
    if !left_out.is_empty() {
        facts.insert("left_out".into(), json!(left_out));
    }
    facts
}

/// The length of a value as JSON.
pub(crate) fn bytes(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |bytes| bytes.len())
}

/// The length of a text as JSON.
pub(crate) fn escaped_length(text: &str) -> usize {
    bytes(&text)
}

fn escaped_bytes(facts: &Map<String, Value>) -> usize {
    escaped_length(&serde_json::to_string(facts).unwrap_or_default())
}

fn fits(result: &CallToolResult) -> bool {
    bytes(result) <= MAX_BYTES - ENVELOPE_BYTES
}

/// The answer of a tool that has an output schema, with the same as text for clients that read no
/// other. What there is none of is left out.
///
/// # Errors
/// A fault for an answer that is too long.
pub(crate) fn structured<T: Serialize>(answer: &T) -> Result<CallToolResult, Fault> {
    let result = match serde_json::to_value(answer) {
        Ok(value) => CallToolResult::structured(without_nulls(value)),
        Err(error) => {
            return Err(Fault::new(ErrorKind::Internal, format!("the answer cannot be written: {error}")));
        }
    };
    match fits(&result) {
        true => Ok(result),
        false => {
            let (has, most) = (bytes(&result), MAX_BYTES >> 10);
            let text =
                format!("the answer has {has} bytes; expected at most {most} KiB. Ask for less at once.");
            Err(Fault::new(ErrorKind::InvalidRequest, text))
        }
    }
}

/// `true` if an answer has room for `value`, which stands in it twice: as a text, and as structured
/// content.
pub(crate) fn has_room(value: &impl Serialize) -> bool {
    let text = serde_json::to_string(value).unwrap_or_default();
    text.len() + escaped_length(&text) <= MAX_BYTES - ENVELOPE_BYTES
}

pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        value => value,
    }
}

/// The facts about an asset that stand beside its image.
pub(crate) fn facts(library: &Library, asset: &Asset) -> Map<String, Value> {
    let (made, certificate) = (asset.made.as_ref(), asset.certificate.as_ref());
    let told = [
        ("asset_id", json!(asset.id)),
        ("path", json!(library.path(&asset.id).display().to_string())),
        ("uri", json!(format!("sprite://{}/sprite.png", asset.id))),
        ("width", json!(asset.width)),
        ("height", json!(asset.height)),
        ("colors", json!(asset.colors)),
        ("seed", json!(made.map(|made| made.request.seed))),
        ("model", json!(made.map(|made| &made.model))),
        ("style", json!(asset.notes.get("style"))),
        ("verdict", json!(asset.verdict)),
        ("one_bit_alpha", json!(certificate.map(|certificate| certificate.one_bit_alpha))),
        ("on_palette", json!(certificate.and_then(|certificate| certificate.on_palette))),
        ("seam", json!(certificate.and_then(|certificate| certificate.seam))),
    ];
    told.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.into(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Map<String, Value> {
        Map::from_iter([("asset_id".into(), json!("key")), ("path".into(), json!("/a/key.png"))])
    }

    fn told(result: &CallToolResult) -> Value {
        let answer = serde_json::to_value(result).unwrap();
        serde_json::from_str(answer["content"][0]["text"].as_str().unwrap()).unwrap()
    }

    #[test]
    fn an_image_shrinks_until_the_answer_fits() {
        let result = with_picture(facts(), |side| vec![7; (side * side * 3) as usize]);
        let sides: Vec<_> = SIDES.iter().filter(|side| *side * *side * 4 < 690 << 10).collect();
        let data = serde_json::to_value(&result).unwrap()["content"][1]["data"].as_str().unwrap().len();
        assert_eq!(data, (sides[0] * sides[0] * 4) as usize);
        assert!(bytes(&result) <= MAX_BYTES);
    }

    #[test]
    fn an_image_that_fits_at_no_size_is_left_out_and_the_text_says_so() {
        let result = with_picture(facts(), |_| vec![7; 1 << 20]);
        assert_eq!(result.content.len(), 1);
        assert!(told(&result)["preview"].as_str().unwrap().contains("look at the file at `path`"));
        assert_eq!(told(&result)["path"], "/a/key.png");
    }

    #[test]
    fn a_text_that_is_too_long_loses_whole_fields() {
        let mut facts = facts();
        facts.insert("made".into(), json!("\"".repeat(MAX_BYTES)));
        let result = text(facts);
        assert_eq!(
            (&told(&result)["left_out"], &told(&result)["path"]),
            (&json!(["made"]), &json!("/a/key.png"))
        );
        assert!(bytes(&result) <= MAX_BYTES);
        assert!(structured(&json!({ "long": "x".repeat(MAX_BYTES / 2) })).is_err());
    }

    #[test]
    fn a_fault_says_its_kind_and_when_to_call_again() {
        let full = Error::QueueFull { waiting: 2, capacity: 2, retry_after: Duration::from_millis(1500) };
        let answer = serde_json::to_value(CallToolResult::from(Fault::from(full))).unwrap();
        assert_eq!(
            answer["_meta"],
            json!({ "dgx-pixels/kind": "queue_full", "dgx-pixels/retry_after_ms": 1500 })
        );
        assert!(
            answer["content"][0]["text"]
                .as_str()
                .unwrap()
                .ends_with("Call again after `retry_after_ms`: 1500.")
        );
        let fault = Fault::new(ErrorKind::InvalidRequest, "ü".repeat(1 << 20));
        assert!(bytes(&CallToolResult::from(fault)) < 2 * MAX_FAULT_BYTES);
    }
}
