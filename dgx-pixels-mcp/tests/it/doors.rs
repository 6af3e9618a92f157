//! The fields of a sprite as arguments of tools: the same image as through the other doors, and the
//! same words for errors.

use std::fs;

use serde_json::{Value, json};

use crate::desk::Desk;

fn pixels(path: &Value) -> String {
    let image = image::open(path.as_str().unwrap()).unwrap().into_rgba8();
    blake3::hash(image.as_raw()).to_hex().to_string()
}

#[test]
fn the_same_fields_give_the_same_image_as_through_every_other_door() {
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/doors.json");
    let cases: Vec<Value> = serde_json::from_slice(&fs::read(cases).unwrap()).unwrap();
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    for case in cases {
        let facts = client.facts("generate_sprite", case["request"].clone());
        assert_eq!(pixels(&facts["path"]), case["pixels"], "{case}");

        // One sprite of many, with the size in the two numbers that clients prefer.
        let mut many = case["request"].clone();
        let fields = many.as_object_mut().unwrap();
        let prompt = fields.remove("prompt").unwrap();
        fields.insert("prompts".into(), json!([prompt]));
        if let Some(size) = fields.remove("size") {
            let (width, height) = size.as_str().unwrap().split_once('x').unwrap();
            fields.insert("width".into(), json!(width));
            fields.insert("height".into(), json!(height.parse::<u32>().unwrap()));
        }
        let facts = client.facts("generate_batch", many);
        assert_eq!(pixels(&facts["path"]), case["pixels"], "{case}");
    }
}

#[test]
fn a_wrong_field_is_refused_with_the_words_of_every_other_door_and_named_for_programs() {
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    for (field, value, words) in [
        ("steps", json!(0), "`steps` is 0; expected 1 to 1000"),
        ("steps", json!("many"), "`steps` is \"many\"; expected a whole number from 1 to 1000"),
        ("guidance_scale", json!("101"), "`guidance_scale` is 101; expected 0 to 100"),
        ("strip", json!(0), "`strip` is `0`; expected one frame or more"),
        ("max_colors", json!(0), "`max_colors` is `0`; expected `auto`, `elbow`, `all` or 1 to 256"),
        ("size", json!("big"), "`size` is \"big\"; expected width and height in pixels, for example `32x32`"),
        ("stepz", json!(null), "`stepz` is null, and there is no such field; the nearest are `steps`"),
    ] {
        let result = client.call("generate_sprite", json!({ "prompt": "a key", field: value }));
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with(words), "{text}");
        assert_eq!(result["_meta"]["dgx-pixels/kind"], "invalid_request");
    }
    let result = client.call("generate_sprite", json!({ "prompt": "a key", "size": "big" }));
    assert_eq!(result["_meta"]["dgx-pixels/field"], "size");
}
