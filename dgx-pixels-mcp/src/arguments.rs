//! A tool's arguments: their schema, and what is wrong with those that came.

use std::sync::Arc;

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

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

/// The arguments of a call.
///
/// # Errors
/// Which field is wrong, its value, and what would be right.
pub(crate) fn parse<T: DeserializeOwned>(
    schema: &JsonObject,
    arguments: Option<JsonObject>,
) -> Result<T, String> {
    let mut arguments = arguments.unwrap_or_default();
    // What is null was left out: many clients fill in every field.
    arguments.retain(|_, value| !value.is_null());
    let properties = schema.get("properties").and_then(Value::as_object);
    let property = |name: &str| properties.and_then(|properties| properties.get(name));
    if let Some(unknown) = arguments.keys().find(|name| property(name).is_none()) {
        let known: Vec<_> =
            properties.into_iter().flat_map(Map::keys).map(|name| format!("`{name}`")).collect();
        let expected = if known.is_empty() { "none".into() } else { known.join(", ") };
        return Err(format!("there is no argument `{unknown}`; expected {expected}"));
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    if let Some(missing) = required.filter_map(Value::as_str).find(|name| !arguments.contains_key(*name)) {
        return Err(format!(
            "`{missing}` is missing; expected {}",
            property(missing).map_or("a value".into(), expected)
        ));
    }
    let arguments = Value::Object(arguments);
    serde_path_to_error::deserialize(&arguments).map_err(|error| {
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

/// A value as it came, cut where it is long.
pub(crate) fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
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
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Args {
        prompt: String,
        #[schemars(range(min = 1, max = 1000))]
        steps: Option<u32>,
        #[serde(default)]
        tile_x: bool,
        sizes: Option<Vec<u32>>,
    }

    fn fault(arguments: Value) -> String {
        let Value::Object(arguments) = arguments else { panic!() };
        parse::<Args>(&schema::<Args>(), Some(arguments)).unwrap_err()
    }

    #[test]
    fn a_fault_names_the_field_its_value_and_what_would_be_right() {
        for (arguments, message) in [
            (json!({}), "`prompt` is missing; expected a text"),
            (json!({ "prompt": null }), "`prompt` is missing; expected a text"),
            (json!({ "prompt": 7 }), "`prompt` is 7; expected a text"),
            (
                json!({ "prompt": "key", "steps": "many" }),
                "`steps` is \"many\"; expected a whole number from 1 to 1000",
            ),
            (
                json!({ "prompt": "key", "steps": -1 }),
                "`steps` is -1; expected a whole number from 1 to 1000",
            ),
            (json!({ "prompt": "key", "tile_x": "yes" }), "`tile_x` is \"yes\"; expected `true` or `false`"),
            (
                json!({ "prompt": "key", "sise": 7 }),
                "there is no argument `sise`; expected `prompt`, `sizes`, `steps`, `tile_x`",
            ),
            (
                json!({ "prompt": "key", "sizes": [1, "x"] }),
                "`sizes[1]`: invalid type: string \"x\", expected u32",
            ),
        ] {
            assert_eq!(fault(arguments), message);
        }
        let long = fault(json!({ "prompt": ["x".repeat(1 << 20)] }));
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn what_is_null_was_left_out() {
        let Value::Object(arguments) = json!({ "prompt": "key", "steps": null, "tile_x": null }) else {
            panic!()
        };
        assert!(parse::<Args>(&schema::<Args>(), Some(arguments)).is_ok());
    }
}
