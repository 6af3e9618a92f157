//! Fields as JSON: their schema, and the errors for values that do not fit it.
//!
//! The rule is the same wherever a door takes JSON: a field that is null counts as left out, a text
//! that is exactly a number is taken for it where a number is expected, and an unknown field is
//! refused with the nearest known ones.

use std::sync::Arc;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{FieldError, numbers};

/// A JSON object.
pub type Object = Map<String, Value>;

/// The most names that an error offers in place of an unknown one.
const MOST_NEAREST: usize = 3;
/// Names less alike than this share no meaning (0 to 1, Jaro-Winkler).
const ALIKE: f64 = 0.6;

/// Returns the schema of `T` in one piece: clients are poor at references, and know nothing of the
/// formats that Rust's numbers have. A field that may be left out is not required; that it may be
/// null as well is not said.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::{Series, json};
/// let schema = json::schema::<Series>();
/// assert_eq!(schema["properties"]["count"]["minimum"], 1);
/// assert!(!schema.contains_key("$defs"));
/// ```
pub fn schema<T: JsonSchema>() -> Arc<Object> {
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
            for name in ["title", "format", "$schema", "default"] {
                // Not a property that is called so, whose value is a schema.
                if fields
                    .get(name)
                    .is_some_and(|value| name == "default" && !value.is_object() || value.is_string())
                {
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

/// Says in a schema that there are no other fields, as [`parse`] does.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::json;
/// use dgx_pixels_core::fields::Series;
///
/// let mut schema = (*json::schema::<Series>()).clone();
/// json::close(&mut schema);
/// assert_eq!(schema["additionalProperties"], false);
/// ```
pub fn close(schema: &mut Object) {
    schema.entry("properties").or_insert_with(|| json!({}));
    schema.insert("additionalProperties".into(), json!(false));
}

/// Reads a `T` from the fields that are given.
///
/// # Errors
/// The name of the field at fault, its value, and what would be right.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::{Series, json};
/// use serde_json::json;
///
/// let schema = json::schema::<Series>();
/// // A number as a text is read, and `null` counts as left out.
/// let given = json!({ "seed": "7", "count": null }).as_object().cloned();
/// let series: Series = json::parse(&schema, given)?;
/// assert_eq!((series.seed, series.count), (Some(7), None));
///
/// let given = json!({ "sed": 7 }).as_object().cloned();
/// let error = json::parse::<Series>(&schema, given).unwrap_err();
/// assert!(error.to_string().contains("`seed`"), "{error}");
/// # Ok::<(), dgx_pixels_core::fields::FieldError>(())
/// ```
pub fn parse<T: DeserializeOwned>(schema: &Object, given: Option<Object>) -> Result<T, FieldError> {
    let mut given = given.unwrap_or_default();
    only_known(schema, &given)?;
    take(schema, &mut given)
}

/// Takes the fields that `schema` names out of those that are given, and reads a `T` from them.
///
/// # Errors
/// The errors of [`parse`], but for unknown fields, which stay in `given`.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::{Series, json};
///
/// let mut given = serde_json::json!({ "seed": 7, "name": "key" });
/// let given = given.as_object_mut().unwrap();
/// let series: Series = json::take(&json::schema::<Series>(), given)?;
/// assert_eq!((series.seed, given.len()), (Some(7), 1));
/// # Ok::<(), dgx_pixels_core::fields::FieldError>(())
/// ```
pub fn take<T: DeserializeOwned>(schema: &Object, given: &mut Object) -> Result<T, FieldError> {
    let property = |name: &str| properties(schema).and_then(|properties| properties.get(name));
    let names = properties(schema).into_iter().flat_map(Map::keys);
    let mut mine: Object = names.filter_map(|name| given.remove_entry(name)).collect();
    mine.retain(|_, value| !value.is_null());
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    if let Some(missing) = required.filter_map(Value::as_str).find(|name| !mine.contains_key(*name)) {
        let expected = property(missing).map_or("a value".into(), expected);
        return Err(FieldError::new(missing, format!("`{missing}` is missing; expected {expected}")));
    }
    let mut taken = mine.clone();
    for (name, value) in &mut taken {
        if let Some(schema) = property(name) {
            numbers::take(schema, value);
        }
    }
    // An error shows a value as it came.
    serde_path_to_error::deserialize(Value::Object(taken)).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.inner().to_string());
        let field = path.split(['.', '[']).next().unwrap_or_default();
        let text = match (mine.get(field), property(field)) {
            // A type that knows its own words says all of it.
            _ if inner.starts_with('`') => cut_to(&inner, 800),
            (Some(value), _) if inner.starts_with("expected ") => {
                format!("`{field}` is {}; {inner}", short(value))
            }
            (Some(value), Some(schema)) if path == field => {
                format!("`{field}` is {}; expected {}", short(value), expected(schema))
            }
            _ => format!("`{path}`: {inner}"),
        };
        FieldError::new(field, text)
    })
}

fn properties(schema: &Object) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// Refuses a field that the schema does not name, also one that is null.
///
/// # Errors
/// Its name and value, and the known names that are most like it.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::{Series, json};
///
/// let given = serde_json::json!({ "seeds": 7 });
/// let error = json::only_known(&json::schema::<Series>(), given.as_object().unwrap()).unwrap_err();
/// assert_eq!(error.field, "seeds");
/// ```
pub fn only_known(schema: &Object, given: &Object) -> Result<(), FieldError> {
    unknown(schema, given).next().map_or(Ok(()), Err)
}

/// Returns an error for each field that the schema does not name, also for one that is null.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::{Series, json};
/// let given = serde_json::json!({ "seed": 7, "colour": 1, "anti": null });
/// let schema = json::schema::<Series>();
/// let mut names: Vec<_> = json::unknown(&schema, given.as_object().unwrap()).map(|error| error.field).collect();
/// names.sort_unstable();
/// assert_eq!(names, ["anti", "colour"]);
/// ```
pub fn unknown(schema: &Object, given: &Object) -> impl Iterator<Item = FieldError> {
    let is_known = |name: &str| properties(schema).is_some_and(|known| known.contains_key(name));
    given.iter().filter(move |(name, _)| !is_known(name)).map(|(name, value)| no_such(schema, name, value))
}

/// Returns the error for a field that does not exist.
fn no_such(schema: &Object, unknown: &str, value: &Value) -> FieldError {
    let known: Vec<_> = properties(schema).into_iter().flat_map(Map::keys).map(String::as_str).collect();
    let name = cut(unknown);
    let expected = match (nearest(unknown, &known).as_slice(), known.as_slice()) {
        (_, []) => "there are no fields".to_owned(),
        ([], known) => format!("expected one of {}", quoted(known, ", ")),
        (near, _) => format!("the nearest are {}", quoted(near, ", ")),
    };
    let text = format!("`{name}` is {}, and there is no such field; {expected}", short(value));
    FieldError::new(&name, text)
}

/// Returns the names most like `unknown`, the nearest first.
/// At most three, by the similarity of Jaro and Winkler; none that is less alike than 0.6.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::json::nearest;
/// assert_eq!(nearest("seeds", &["prompt", "seed"]), ["seed"]);
/// ```
pub fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Vec<&'a str> {
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

/// Returns names in backticks.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::json::quoted;
/// assert_eq!(quoted(&["seed", "steps"], " or "), "`seed` or `steps`");
/// ```
pub fn quoted(names: &[&str], between: &str) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(between)
}

/// Returns a value as it came, cut where it is long.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::json::short;
/// assert_eq!(short(&serde_json::json!(7)), "7");
/// assert!(short(&"a".repeat(1000).into()).len() < 200);
/// ```
pub fn short(value: &Value) -> String {
    // The text of a long value is not made only to be cut.
    match value {
        Value::String(text) if text.len() > 1000 => {
            let start: String = text.chars().take(80).collect();
            format!("{}… ({} bytes)", json!(start).to_string().trim_end_matches('"'), text.len())
        }
        value => cut(&value.to_string()),
    }
}

/// Returns every field that `schema` names and a `T` cannot be read from, each alone; every other
/// has its default.
pub(super) fn faults<T: DeserializeOwned>(schema: &Object, given: &Object) -> Vec<FieldError> {
    let mut faults: Vec<_> = match take::<T>(schema, &mut given.clone()) {
        Ok(_) => return vec![],
        Err(error) if !given.contains_key(&error.field) => vec![error],
        Err(_) => vec![],
    };
    let open = Object::from_iter(
        schema
            .iter()
            .filter(|(name, _)| *name != "required")
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    for (name, value) in given {
        let mut alone = Object::from_iter([(name.clone(), value.clone())]);
        faults.extend(take::<T>(&open, &mut alone).err());
    }
    faults
}

/// Returns a text, cut where it is long.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::json::cut;
/// assert_eq!(cut("a key"), "a key");
/// assert!(cut(&"a key ".repeat(100)).chars().count() < 200);
/// ```
pub fn cut(text: &str) -> String {
    cut_to(text, 80)
}

fn cut_to(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// Returns in words what a schema allows.
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
