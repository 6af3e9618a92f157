//! Numbers as agents send them: `32.0` and `"32"` for 32.

use serde_json::{Number, Value};

/// Whole numbers up to here are exact as 64-bit floats.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Replaces a value that stands for a number by that number, where `schema` expects one. All others
/// stay, and are judged as they are.
pub(super) fn take(schema: &Value, value: &mut Value) {
    let number = match (schema.get("type").and_then(Value::as_str), value.as_array_mut()) {
        (Some("integer"), _) => number(value).and_then(|number| whole(&number)),
        (Some("number"), _) => number(value),
        (Some("array"), Some(items)) => {
            let schema = schema.get("items").unwrap_or(&Value::Null);
            items.iter_mut().for_each(|item| take(schema, item));
            None
        }
        _ => None,
    };
    if let Some(number) = number {
        *value = Value::Number(number);
    }
}

/// A number, or a text that is exactly one in JSON.
fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        // JSON allows spaces around a number; a text with them is not exactly the number.
        Value::String(text) if text.len() <= 40 && text.trim() == text => serde_json::from_str(text).ok(),
        _ => None,
    }
}

/// The same number, written as a whole one; `None` if it is none.
fn whole(number: &Number) -> Option<Number> {
    match number.as_f64() {
        _ if number.is_u64() || number.is_i64() => Some(number.clone()),
        Some(float) if float.fract() == 0.0 && float.abs() <= EXACT => Some((float as i64).into()),
        _ => None,
    }
}
