//! Control nets: flags, lines of a batch, records, and values that name none.

use std::fs;
use std::path::Path;

use dgx_pixels_core::picture_file::plain_png;
use image::{Rgba, RgbaImage};

use super::Desk;

const DRAW: [&str; 8] = ["generate", "a key", "--steps", "2", "--device", "cpu", "--seed", "7"];

/// A desk with a model, a control net of the name `canny`, and a sprite of 8x8, `disk.png`.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.add_model("models/tiny");
    let net = desk.path("models/controlnet/canny");
    fs::create_dir_all(&net).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/control/canny");
    for name in ["config.json", "diffusion_pytorch_model.safetensors"] {
        fs::copy(fixture.join(name), net.join(name)).unwrap();
    }
    let is_inside = |x: u32, y: u32| (2..6).contains(&x) && (1..7).contains(&y);
    let disk = RgbaImage::from_fn(8, 8, |x, y| match is_inside(x, y) {
        true => Rgba([x as u8 * 30, y as u8 * 30, 90, 255]),
        false => Rgba([0; 4]),
    });
    fs::write(desk.path("disk.png"), plain_png(&disk).unwrap()).unwrap();
    desk
}

#[test]
fn a_control_by_flag_as_json_and_in_a_batch_draws_the_same_and_is_made_again() {
    let desk = desk();
    let listed = desk.run(["models", "--json"]);
    assert!(listed.stdout.contains(r#""kind":"controlnet","name":"canny""#), "{}", listed.stdout);
    let object =
        r#"{"model": "canny", "image": "disk.png", "scale": 0.8, "end": 0.9, "preprocess": "edges"}"#;
    for (name, control) in [("word.png", "canny:disk.png:0.8:0:0.9:edges"), ("json.png", object)] {
        let drawn = desk.run([&DRAW[..], &["--control", control, "--output", name]].concat());
        assert_eq!(drawn.code, Some(0), "{}", drawn.stderr);
    }
    let word = fs::read(desk.path("word.png")).unwrap();
    assert!(fs::read(desk.path("json.png")).unwrap() == word);
    assert_eq!(image::load_from_memory(&word).unwrap().into_rgba8().dimensions(), (8, 8));
    let line =
        format!(r#"{{"prompt": "a key", "seed": 7, "steps": 2, "name": "key", "control": [{object}]}}"#);
    fs::write(desk.path("lines.jsonl"), line).unwrap();
    let batch = desk.run(["batch", "lines.jsonl", "--device", "cpu", "--output", "out"]);
    assert_eq!(batch.code, Some(0), "{}", batch.stderr);
    let pixels = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().into_rgba8();
    assert_eq!(pixels(&fs::read(desk.path("out/key.png")).unwrap()), pixels(&word));

    // The record finds the net and the image by their hashes.
    let again = |more: &[&str]| desk.run([&["reproduce", "word.png"][..], more].concat());
    fs::rename(desk.path("models/controlnet/canny"), desk.path("models/controlnet/edges")).unwrap();
    assert_eq!(again(&[]).stdout, "same\n");
    fs::rename(desk.path("models/controlnet/edges"), desk.path("moved")).unwrap();
    let gone = again(&[]);
    assert_eq!(gone.code, Some(3));
    let expected = "the image records the control net `canny`, and no file with its hash";
    assert!(gone.stderr.contains(expected) && gone.stderr.contains("`--control PATH`"), "{}", gone.stderr);
    assert_eq!(again(&["--control", "moved"]).stdout, "same\n");
    fs::remove_dir_all(desk.home.path().join(".local/state/dgx-pixels/inputs")).unwrap();
    let gone = again(&["--control", "moved"]);
    assert!(
        gone.stderr.contains("which is not kept here; expected the path of the image"),
        "{}",
        gone.stderr
    );
    assert_eq!(again(&["--control", "moved", "--image", "disk.png"]).stdout, "same\n");
}

#[test]
fn what_is_no_control_is_named_with_what_would_be_right() {
    let desk = desk();
    for (control, words) in [
        ("canny", "expected `NAME:IMAGE`, `NAME:IMAGE:SCALE:START:END` or a JSON object"),
        ("canny:none.png", "is `none.png`: No such file or directory"),
        ("canny:disk.png:11", "`control` has `canny` with the scale 11; expected 0 to 10"),
        ("canny:disk.png:1:0.5:0.25", "the end 0.25; expected more than the start, 0.5, and at most 1"),
        ("pose:disk.png", "no control net, folder or file is called `pose`; there are `canny`"),
        (r#"{"model": "canny"}"#, "missing field `image`"),
        (r#"{"model": "canny", "image": "disk.png", "preprocess": "depth"}"#, "unknown variant `depth`"),
        (r#"{"model": "canny", "image": "disk.png", "strength": 1}"#, "unknown field `strength`"),
    ] {
        let ran = desk.run([&DRAW[..], &["--control", control, "--output", "no.png"]].concat());
        assert!(
            ran.code.is_some_and(|code| (2..4).contains(&code)),
            "{control}: {:?} {}",
            ran.code,
            ran.stderr
        );
        assert!(ran.stderr.contains(words), "{control}: {}", ran.stderr);
    }
    let line = r#"{"prompt": "a key", "control": [{"model": "canny", "image": "none.png"}]}"#;
    fs::write(desk.path("lines.jsonl"), line).unwrap();
    let batch = desk.run(["batch", "lines.jsonl", "--device", "cpu", "--output", "out"]);
    let words = "`control` has an image that is `none.png`: No such file or directory";
    assert!(
        batch.stderr.contains(words) || batch.stdout.contains(words),
        "{} {}",
        batch.stdout,
        batch.stderr
    );
}
