//! What a tool answers: a short JSON text, at most one picture, and faults that say what to do next.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dgx_pixels_core::library::{Asset, Library};
use dgx_pixels_core::{Error, ErrorKind};
use rmcp::model::{CallToolResult, ContentBlock};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Why a call gives nothing, in words that a model can act on.
#[derive(Debug, PartialEq)]
pub(crate) struct Fault(pub(crate) String);

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let next = match error.kind() {
            ErrorKind::InvalidRequest => "Mend it and call again.",
            ErrorKind::InvalidModel => "`list_models` names the models there are.",
            ErrorKind::OutOfMemory => "Call again with a smaller `width` and `height`, or fewer at once.",
            ErrorKind::NotFound => "`list_assets` names the assets there are.",
            ErrorKind::LibraryFull => {
                "Ask the user to run `dgx-pixels-mcp clean --help`, which removes old assets."
            }
            ErrorKind::GameUnavailable => "Ask the user to start the game, then call again.",
            ErrorKind::Cancelled => "Call `generate_sprite` again if it is still wanted.",
            ErrorKind::ShutDown => "The server is stopping; the job goes on when it is started again.",
            ErrorKind::EmptySprite => "Call again with another prompt or `seed`.",
            // Their texts say it.
            ErrorKind::QueueFull | ErrorKind::QuotaExceeded | ErrorKind::ForbiddenPath => "",
            _ => "Tell the user: this is not mended by calling again.",
        };
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        Fault(format!("{text}. {next}").trim_end().to_owned())
    }
}

impl From<Fault> for CallToolResult {
    fn from(Fault(text): Fault) -> CallToolResult {
        CallToolResult::error(vec![ContentBlock::text(text)])
    }
}

/// A short text, and a picture beside it. `structuredContent` stays empty: some clients drop the picture where it is set.
pub(crate) fn with_picture(facts: Map<String, Value>, png: &[u8]) -> CallToolResult {
    let image = ContentBlock::image(BASE64_STANDARD.encode(png), "image/png");
    CallToolResult::success(vec![ContentBlock::text(Value::Object(facts).to_string()), image])
}

/// A text alone.
pub(crate) fn text(facts: Map<String, Value>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(Value::Object(facts).to_string())])
}

/// The answer of a tool that has an output schema, with the same as text for clients that read no other. What there is none of is left
/// out.
pub(crate) fn structured<T: Serialize>(answer: &T) -> Result<CallToolResult, Fault> {
    match serde_json::to_value(answer) {
        Ok(value) => Ok(CallToolResult::structured(without_nulls(value))),
        Err(error) => Err(Fault(format!("the answer cannot be written: {error}"))),
    }
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

/// What is told of an asset beside its picture.
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
