//! Values of Python as JSON.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use serde_json::{Map, Value};

use crate::error::invalid;

/// Fields that take two whole numbers in one text, and the sign between them.
const PAIRS: [(&str, char); 5] =
    [("size", 'x'), ("grid", 'x'), ("original_size", 'x'), ("target_size", 'x'), ("crop", ',')];

/// Lists in lists, and the like, that a value may have. No field has more than two; a value that
/// holds itself has no end.
const MOST_DEPTH: usize = 8;

/// Returns the fields of `given` as a JSON object.
///
/// # Errors
/// `InvalidRequestError` for a value that JSON does not have, for example NaN.
pub(crate) fn object(given: &Bound<'_, PyDict>) -> PyResult<Map<String, Value>> {
    object_in(given, 0)
}

fn object_in(given: &Bound<'_, PyDict>, depth: usize) -> PyResult<Map<String, Value>> {
    let mut object = Map::new();
    for (name, value) in given {
        let name: String = name.extract().map_err(|_| {
            let shown = name.repr().map_or_else(|_| "a value".into(), |name| name.to_string());
            invalid(given.py(), "", format!("{shown} is no name of a field; expected a text"))
        })?;
        let value = self::value(&name, &value, depth)?;
        object.insert(name, value);
    }
    Ok(object)
}

fn value(field: &str, given: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth > MOST_DEPTH {
        let text = format!("`{field}` is nested more than {MOST_DEPTH} deep; expected a plain value");
        return Err(invalid(given.py(), field, text));
    }
    if given.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(truth) = given.cast::<PyBool>() {
        return Ok(truth.is_true().into());
    }
    if let Ok(text) = given.cast::<PyString>() {
        let text = text.to_str().map_err(|_| {
            invalid(given.py(), field, format!("`{field}` is no Unicode text; expected no lone surrogates"))
        })?;
        return Ok(text.into());
    }
    if given.cast::<PyFloat>().is_ok() {
        return number(field, given);
    }
    let is_list = given.cast::<PyList>().is_ok() || given.cast::<PyTuple>().is_ok();
    if is_list
        && let Some((_, sign)) = PAIRS.iter().find(|(name, _)| *name == field)
        && let Ok([first, second]) = given.extract::<[i64; 2]>()
    {
        return Ok(format!("{first}{sign}{second}").into());
    }
    if is_list {
        let items = given.try_iter()?.map(|item| value(field, &item?, depth + 1));
        return Ok(Value::Array(items.collect::<PyResult<_>>()?));
    }
    if let Ok(fields) = given.cast::<PyDict>() {
        return Ok(Value::Object(object_in(fields, depth + 1)?));
    }
    // NumPy's arrays and numbers.
    if given.hasattr("tolist")? {
        return value(field, &given.call_method0("tolist")?, depth + 1);
    }
    // Integers, and what stands for one.
    if given.cast::<PyInt>().is_ok() || given.hasattr("__index__")? {
        let whole =
            given.extract::<u64>().map(Value::from).or_else(|_| given.extract::<i64>().map(Value::from));
        return whole.map_err(|_| {
            let shown = shown(given);
            invalid(given.py(), field, format!("`{field}` is {shown}; expected a whole number below 2^64"))
        });
    }
    if given.hasattr("__fspath__")? {
        return value(field, &given.call_method0("__fspath__")?, depth + 1);
    }
    if given.hasattr("__float__")? && !given.hasattr("__len__")? {
        return number(field, given);
    }
    let kind = given.get_type().name()?;
    Err(invalid(
        given.py(),
        field,
        format!("`{field}` is of the type `{kind}`; expected a text, a number, `True`, `False` or a list"),
    ))
}

fn number(field: &str, given: &Bound<'_, PyAny>) -> PyResult<Value> {
    let number: f64 = given.extract()?;
    serde_json::Number::from_f64(number).map(Value::Number).ok_or_else(|| {
        let shown = shown(given);
        invalid(given.py(), field, format!("`{field}` is {shown}; expected a finite number"))
    })
}

fn shown(given: &Bound<'_, PyAny>) -> String {
    let text = given.str().map(|text| text.to_string()).unwrap_or_else(|_| "a value without a text".into());
    text.chars().take(80).collect()
}
