//! The arguments of a tool: their schema, and the errors for arguments that do not fit it.

mod numbers;

use std::sync::Arc;

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The most names that an error offers in place of an unknown one.
const MOST_NEAREST: usize = 3;
/// Names less alike than this share no meaning (0 to 1, Jaro-Winkler).
const ALIKE: f64 = 0.6;

/// The schema of `T` in one piece: clients are poor at references and at lists of types, and know nothing of the formats that Rust's
/// numbers have. What may be left out is not required; that it may be null as well is not told.
pub(crate) fn schema<T: JsonSchema>() -> Arc<JsonObject> {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    tidy(&mut schema);
    match schema {
        Value::Object(schema) => Arc::new(schema),
        _ => unreachable!("arguments and answers are objects"),
    }
}

fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for name in ["title", "format", "$schema"] {
                // Not a property that is called so.
                if fields.get(name).is_some_and(Value::is_string) {
                    fields.remove(name);
                }
            }
            if let Some(Value::Array(types)) = fields.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = &mut types[..] {
                    let only = only.take();
                    fields.insert("type".into(), only);
                }
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Says in a tool's input schema that it takes no other arguments, as [`parse`] does.
pub(crate) fn close(schema: &mut JsonObject) {
    schema.entry("properties").or_insert_with(|| json!({}));
    schema.insert("additionalProperties".into(), json!(false));
}

/// The arguments of a call. An argument that is null counts as left out, because many clients fill in every
/// field. Where a number is expected, `32.0` and `"32"` are taken for 32.
///
/// # Errors
/// The name of the wrong argument, its value, and what would be right.
pub(crate) fn parse<T: DeserializeOwned>(
    schema: &JsonObject,
    arguments: Option<JsonObject>,
) -> Result<T, String> {
    let mut arguments = arguments.unwrap_or_default();
    arguments.retain(|_, value| !value.is_null());
    only_known(schema, &arguments)?;
    let property = |name: &str| properties(schema).and_then(|properties| properties.get(name));
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    if let Some(missing) = required.filter_map(Value::as_str).find(|name| !arguments.contains_key(*name)) {
        return Err(format!(
            "`{missing}` is missing; expected {}",
            property(missing).map_or("a value".into(), expected)
        ));
    }
    let mut taken = arguments.clone();
    for (name, value) in &mut taken {
        if let Some(schema) = property(name) {
            numbers::take(schema, value);
        }
    }
    // A fault shows a value as it came.
    serde_path_to_error::deserialize(Value::Object(taken)).map_err(|error| {
        let path = error.path().to_string();
        let field = path.split(['.', '[']).next().unwrap_or_default();
        match (arguments.get(field), property(field)) {
            (Some(value), Some(schema)) if path == field => {
                format!("`{field}` is {}; expected {}", short(value), expected(schema))
            }
            _ => format!("`{path}`: {}", error.inner()),
        }
    })
}

fn properties(schema: &JsonObject) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// Refuses an argument that the schema does not name.
///
/// # Errors
/// Its name and value, and the known names that are most like it.
pub(crate) fn only_known(schema: &JsonObject, arguments: &JsonObject) -> Result<(), String> {
    let is_known = |name: &String| properties(schema).is_some_and(|known| known.contains_key(name));
    match arguments.iter().find(|(name, _)| !is_known(name)) {
        Some((unknown, value)) => Err(no_such(schema, unknown, value)),
        None => Ok(()),
    }
}

/// The error for an argument that a tool does not have.
pub(crate) fn no_such(schema: &JsonObject, unknown: &str, value: &Value) -> String {
    let known: Vec<_> = properties(schema).into_iter().flat_map(Map::keys).map(String::as_str).collect();
    let name = cut(unknown);
    let expected = match (nearest(unknown, &known).as_slice(), known.as_slice()) {
        (_, []) => "this tool takes no arguments".to_owned(),
        ([], known) => format!("expected one of {}", quoted(known, ", ")),
        (near, _) => format!("the nearest are {}", quoted(near, ", ")),
    };
    format!("`{name}` is {}, and there is no such argument; {expected}", short(value))
}

/// The names most like `unknown`, the nearest first.
pub(crate) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Vec<&'a str> {
    // A name that is far longer than any of ours is like none, and comparing takes time.
    if unknown.len() > 100 {
        return vec![];
    }
    let unknown = unknown.to_lowercase();
    let likeness = |name: &str| match name.contains(&unknown) || unknown.contains(name) {
        true if !unknown.is_empty() => 1.0,
        _ => strsim::jaro_winkler(name, &unknown),
    };
    let mut near: Vec<_> = known.iter().map(|name| (likeness(name), *name)).collect();
    near.retain(|(likeness, _)| *likeness >= ALIKE);
    near.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    near.truncate(MOST_NEAREST);
    near.into_iter().map(|(_, name)| name).collect()
}

/// Names in backticks.
pub(crate) fn quoted(names: &[&str], between: &str) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(between)
}

/// A value as it came, cut where it is long.
pub(crate) fn short(value: &Value) -> String {
    // The text of a long value is not made only to be cut.
    match value {
        Value::String(text) if text.len() > 1000 => {
            let start: String = text.chars().take(80).collect();
            format!("{}… ({} bytes)", json!(start).to_string().trim_end_matches('"'), text.len())
        }
        value => cut(&value.to_string()),
    }
}

/// A text, cut where it is long.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// The length of a text as JSON.
pub(crate) fn escaped_bytes(text: &str) -> usize {
    serde_json::to_vec(text).map_or(usize::MAX, |bytes| bytes.len())
}

/// What a schema allows, in words.
fn expected(schema: &Value) -> String {
    let one_of = |values: &Vec<Value>| {
        let values: Vec<_> = values.iter().map(Value::to_string).collect();
        format!("one of {}", values.join(", "))
    };
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return one_of(values);
    }
    let what = match schema.get("type").and_then(Value::as_str) {
        Some("integer") => "a whole number",
        Some("number") => "a number",
        Some("string") => "a text",
        Some("boolean") => "`true` or `false`",
        Some("array") => "a list",
        Some("object") => "an object",
        _ => "another value",
    };
    match (schema.get("minimum"), schema.get("maximum")) {
        (Some(least), Some(most)) => format!("{what} from {least} to {most}"),
        (Some(least), None) => format!("{what}, {least} or more"),
        _ => what.into(),
    }
}

#[cfg(test)]
mod tests;
