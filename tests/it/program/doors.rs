//! The same fields give the same bytes through every door: flags, JSON lines, and the library
//! itself. The MCP server's tests read the same file.

use std::fs;

use dgx_pixels_core::backend::{Sketches, Unmetered};
use dgx_pixels_core::engine::{Engine, EngineConfig};
use dgx_pixels_core::fields::SpriteFields;
use dgx_pixels_core::fields::json::Object;
use dgx_pixels_core::picture_file::sprite_png;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Desk;

#[derive(Deserialize)]
struct Case {
    request: Object,
    /// BLAKE3 of the sprite's pixels as RGBA.
    pixels: String,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../fixtures/doors.json")).unwrap()
}

/// The flags that mean the same as fields in JSON.
fn flags(request: &Object) -> Vec<String> {
    let mut flags = vec![];
    for (name, value) in request {
        let word = match value {
            Value::String(text) => text.clone(),
            Value::Array(items) => items.iter().map(Value::to_string).collect::<Vec<_>>().join(","),
            value => value.to_string(),
        };
        let flag = format!("--{}", name.replace('_', "-"));
        match value {
            _ if name == "prompt" => flags.insert(0, word),
            Value::Bool(true) => flags.push(flag),
            Value::Bool(false) => {}
            _ => flags.extend([flag, word]),
        }
    }
    flags
}

#[test]
fn the_same_fields_give_the_same_bytes_through_every_door() {
    let devices = vec![Box::new(Unmetered("cpu".into())) as _];
    let engine = Engine::start(Sketches, devices, EngineConfig::default()).unwrap();
    for (n, Case { request, pixels }) in cases().into_iter().enumerate() {
        let desk = Desk::new();
        // 1. flags
        let png = format!("{n}.png");
        let mut args = flags(&request);
        args.extend(["--model", "sketch", "--output", &png].map(str::to_owned));
        let ran = desk.run(["generate".to_owned()].into_iter().chain(args));
        assert_eq!(ran.code, Some(0), "{request:?}: {}", ran.stderr);
        let by_flags = fs::read(desk.path(&png)).unwrap();

        // 2. a line of a batch
        let mut line = request.clone();
        line.insert("name".into(), json!("sprite"));
        fs::write(desk.path("lines.jsonl"), Value::Object(line).to_string()).unwrap();
        let ran = desk.run(["batch", "lines.jsonl", "--model", "sketch", "--output", "out"]);
        assert_eq!(ran.code, Some(0), "{request:?}: {}", ran.stderr);
        assert!(fs::read(desk.path("out/sprite.png")).unwrap() == by_flags, "{request:?}: a batch");

        // 3. the library
        let fields = SpriteFields::take(&mut request.clone()).unwrap();
        let finished = engine.submit(fields.submission(fields.series.seed.unwrap())).unwrap().wait().unwrap();
        assert!(
            sprite_png(&finished.image, Some(&finished.made)).unwrap() == by_flags,
            "{request:?}: the library"
        );
        assert_eq!(blake3::hash(finished.image.as_raw()).to_hex().as_str(), pixels, "{request:?}");
    }
}

#[test]
fn a_wrong_field_is_refused_with_the_same_words_at_every_door() {
    let desk = Desk::new();
    for (field, value, words) in [
        ("steps", json!(0), "`steps` is 0; expected 1 to 1000"),
        ("guidance_scale", json!(101), "`guidance_scale` is 101; expected 0 to 100"),
        ("width", json!(64), "`width` is 64 and `height` is missing; expected both or neither"),
        ("count", json!(0), "`count` is 0; expected 1 to 10000"),
        ("strip", json!(0), "`strip` is `0`; expected one frame or more"),
        (
            "anchor",
            json!("bottom"),
            "`anchor` is `bottom` and there is no `size` that it places the sprite in; expected both or neither",
        ),
        ("prompt", json!("a (key:1e9)"), "`prompt` gives `key` the weight 1000000000; expected -10 to 10"),
        ("timesteps", json!([249, 499]), "`timesteps` is 499 after 249; expected falling numbers"),
        (
            "sigmas",
            json!([14.6]),
            "`sigmas` is a list of 1; expected 2 to 100000 noise levels, the last mostly 0",
        ),
        ("eta", json!(2), "`eta` is 2; expected 0 to 1"),
        ("max_colors", json!(0), "`max_colors` is `0`; expected `auto`, `elbow`, `all` or 1 to 256"),
    ] {
        let mut request =
            Object::from_iter([("prompt".to_owned(), json!("a key")), (field.to_owned(), value)]);
        fs::write(desk.path("lines.jsonl"), Value::Object(request.clone()).to_string()).unwrap();
        let ran = desk.run(["batch", "lines.jsonl", "--model", "sketch", "--output", "out"]);
        assert_eq!(ran.code, Some(2), "{words}");
        assert!(ran.stderr.starts_with(&format!("error: line 1: {words}\n")), "{}", ran.stderr);
        // A flag without its partner, and a word that a flag does not take, are refused by the
        // parser of flags.
        if field != "width" {
            let args =
                ["generate", "--model", "sketch"].map(str::to_owned).into_iter().chain(flags(&request));
            let ran = desk.run(args);
            assert_eq!(ran.code, Some(2), "{words}");
            assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        }
        let taken = SpriteFields::take(&mut request);
        let error = taken.and_then(|fields| {
            fields.series.seeds(10_000, || 7)?;
            fields.check(|name| name == field)?;
            Ok(fields.submission(7).validate())
        });
        let error = error.map_or_else(|error| error.to_string(), |valid| valid.unwrap_err().to_string());
        assert_eq!(error, words);
    }
}
