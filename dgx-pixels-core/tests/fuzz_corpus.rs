//! Every input of the fuzz targets' corpora, those that once failed among them, with the targets'
//! own code.

#![cfg(all(feature = "deploy", feature = "fields"))]

#[path = "../../fuzz/src/targets.rs"]
#[expect(unreachable_pub, reason = "the fuzz crate's module, where these are public")]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

fn inputs(target: &str) -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut inputs: Vec<_> =
        fs::read_dir(corpus.join(target)).unwrap().flatten().map(|entry| entry.path()).collect();
    inputs.sort_unstable();
    inputs
}

#[test]
fn every_input_of_the_corpora_is_read_or_refused() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    for (name, target) in targets::ALL {
        assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).is_file(), "`{name}` is a target of cargo-fuzz");
        let inputs = inputs(name);
        assert!(inputs.len() > 1, "`{name}` has a corpus");
        for input in inputs {
            // What fails is the last that is printed.
            println!("{name}: {}", input.display());
            target(&fs::read(input).unwrap());
        }
    }
}

#[test]
fn the_corpora_are_small() {
    let files = targets::ALL.iter().flat_map(|(name, _)| inputs(name));
    let bytes: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes < 1 << 20, "the corpora have {bytes} bytes; expected less than 1 MiB");
}

/// Values that no field expects, and some that it may.
fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<f64>().prop_map(|number| json!(number)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        (-2i64..70).prop_map(|number| json!(number)),
        select(vec![
            json!(null),
            json!(true),
            json!(""),
            json!([]),
            json!({}),
            json!(0),
            json!(-1),
            json!(1e-300),
            json!(1e-9),
            json!(0.02),
            json!(1e300),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(u32::MAX),
            json!(1_000_000_000_000u64),
            json!([1, [2, 3]]),
            json!(vec![1; 300]),
            json!({ "step": 1e-9 }),
            json!({ "width": 0, "height": u32::MAX }),
            json!("../a"),
        ]),
    ]
}

/// The places of all values in `value`, as JSON pointers.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                places(field, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                places(item, format!("{at}/{i}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    found.push(at);
}

/// `bytes` with one value in it replaced if they are JSON, else with bytes put in place of some.
fn mutated(bytes: &[u8], edits: &[(Index, Value)]) -> Vec<u8> {
    if let Ok(mut json) = serde_json::from_slice::<Value>(bytes) {
        for (index, value) in edits {
            let mut found = vec![];
            places(&json, String::new(), &mut found);
            if let Some(place) = json.pointer_mut(&found[index.index(found.len())]) {
                *place = value.clone();
            }
        }
        return json.to_string().into_bytes();
    }
    let mut bytes = bytes.to_vec();
    for (index, value) in edits {
        let at = index.index(bytes.len() + 1);
        let new = value.to_string().into_bytes();
        match value {
            Value::Null => bytes.truncate(at),
            Value::String(_) | Value::Array(_) => drop(bytes.splice(at..at, new)),
            _ => {
                for (byte, new) in bytes[at..].iter_mut().zip(new) {
                    *byte ^= new;
                }
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn mutated_inputs_are_read_or_refused_and_what_is_read_can_be_used(
        target in select(targets::ALL.to_vec()),
        input in any::<Index>(),
        edits in prop::collection::vec((any::<Index>(), values()), 1..4),
    ) {
        let (name, run) = target;
        let inputs = inputs(name);
        let bytes = fs::read(&inputs[input.index(inputs.len())]).unwrap();
        run(&mutated(&bytes, &edits));
    }
}
