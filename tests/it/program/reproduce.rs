//! `reproduce`: a picture says how it was made, and is made again.

use std::fs;

use serde_json::{Value, json};

use super::Desk;

#[test]
fn a_sketch_is_made_again_byte_for_byte() {
    let desk = Desk::new();
    desk.run([
        "generate",
        "a key",
        "--model",
        "sketch",
        "--seed",
        "3",
        "--max-colors",
        "4",
        "--output",
        "key.png",
    ]);
    let ran = desk.run(["reproduce", "key.png", "--output", "again.png"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "same\n"));
    assert_eq!(fs::read(desk.path("key.png")).unwrap(), fs::read(desk.path("again.png")).unwrap());
}

#[test]
fn what_is_not_the_same_is_told() {
    let desk = Desk::new();
    desk.run(["generate", "a key", "--model", "sketch", "--seed", "3", "--raw", "--output", "key.png"]);
    // The same text in a file whose pixels were painted over.
    let mut reader =
        png::Decoder::new(fs::File::open(desk.path("key.png")).map(std::io::BufReader::new).unwrap())
            .read_info()
            .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let info = reader.info();
    let told = info.utf8_text[0].get_text().unwrap().replace(env!("CARGO_PKG_VERSION"), "0.0.9");
    pixels[..6].fill(77);
    let mut encoder =
        png::Encoder::new(fs::File::create(desk.path("painted.png")).unwrap(), info.width, info.height);
    encoder.set_color(info.color_type);
    encoder.add_itxt_chunk("dgx-pixels".into(), told).unwrap();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();

    let ran = desk.run(["reproduce", "painted.png"]);
    assert_eq!(ran.code, Some(9));
    assert!(ran.stderr.contains("2 of "), "{}", ran.stderr);
    assert!(ran.stderr.contains("program 0.0.9 to "), "{}", ran.stderr);
}

/// `key.png` of a sketch, with its record edited.
fn edited(desk: &Desk, edit: impl FnOnce(&mut Value)) {
    let args = ["generate", "a key", "--model", "sketch", "--seed", "3", "--force", "--output", "key.png"];
    assert_eq!(desk.run(args).code, Some(0));
    let file = fs::File::open(desk.path("key.png")).map(std::io::BufReader::new).unwrap();
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let info = reader.info();
    let told = info.utf8_text.iter().find(|text| text.keyword == "dgx-pixels").unwrap().get_text().unwrap();
    let mut told: Value = serde_json::from_str(&told).unwrap();
    edit(&mut told);
    let file = fs::File::create(desk.path("key.png")).unwrap();
    let mut encoder = png::Encoder::new(file, info.width, info.height);
    encoder.set_color(info.color_type);
    encoder.add_itxt_chunk("dgx-pixels".into(), told.to_string()).unwrap();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

#[test]
fn a_model_that_the_picture_names_is_never_opened_as_a_path() {
    let desk = Desk::new();
    desk.add_model("elsewhere/tiny");
    desk.add_model("tiny");
    let absolute = desk.path("elsewhere/tiny").display().to_string();
    for name in ["elsewhere/tiny", "tiny", "./tiny", "..", &absolute, "//host/share"] {
        edited(&desk, |made| made["model"] = name.into());
        let ran = desk.run(["reproduce", "key.png", "--output", "again.png"]);
        assert_eq!(ran.code, Some(3), "{}", ran.stderr);
        let expected = format!("the image records the model `{name}`, and no model of this name is in `");
        assert!(ran.stderr.contains(&expected) && ran.stderr.contains("`--model PATH`"), "{}", ran.stderr);
        assert!(!desk.path("again.png").exists());
    }
}

#[test]
fn the_device_of_a_server_that_drew_a_sketch_changes_nothing() {
    let desk = Desk::new();
    edited(&desk, |made| made["device"] = "cuda:0".into());
    let ran = desk.run(["reproduce", "key.png", "--quiet"]);
    // The edited file is compressed in another way.
    let expected =
        "its pixels are the same, and the bytes around them are not; changed since: nothing that is told";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
}

#[test]
fn another_hash_is_told_before_drawing() {
    let desk = Desk::new();
    edited(&desk, |made| made["model_hash"] = "0a1b".into());
    let ran = desk.run(["reproduce", "key.png", "--quiet"]);
    assert_eq!(ran.code, Some(9));
    let expected = "warning: the model `sketch` is not the one that drew `key.png`: its hash is none, and the image records 0a1b";
    assert!(ran.stderr.starts_with(expected), "{}", ran.stderr);
}

#[test]
fn numbers_that_no_user_may_give_are_refused_before_drawing() {
    let desk = Desk::new();
    for (pointer, value, expected) in [
        (
            "/pixel/grid",
            json!({ "step": 0.02 }),
            "`grid` is `0.02`; expected a number of pixels from 1 to 256",
        ),
        ("/pixel/grid", json!({ "step": 1e-9 }), "`grid` is `0.000000001`"),
        ("/pixel/grid", json!({ "step": 1e-300 }), "`grid` is `0.0000"),
        ("/pixel/grid", json!({ "cells": { "width": 0, "height": 0 } }), "`grid` is `0x0`"),
        ("/pixel/expected_step", json!(-8.0), "`expected_step` is `-8`"),
        ("/pixel/strip", json!(0), "`strip` is `0`"),
        ("/pixel/size", json!({ "width": 4294967295u32, "height": 1 }), "`size` is `4294967295x1`"),
        ("/pixel/palette", json!([]), "a palette has 0 colours"),
        ("/request/steps", json!(1_000_000_000), "`steps` is 1000000000; expected 1 to 1000"),
        ("/request/size", json!({ "width": 1_000_000, "height": 64 }), "`width` is 1000000"),
        ("/request/guidance_scale", json!(1e300), "`guidance_scale` is "),
    ] {
        edited(&desk, |made| *made.pointer_mut(pointer).unwrap() = value);
        let ran = desk.run(["reproduce", "key.png"]);
        assert_eq!(ran.code, Some(8), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
}

#[test]
fn a_text_of_many_bytes_is_refused_compressed_or_not() {
    let desk = Desk::new();
    for compressed in [true, false] {
        let file = fs::File::create(desk.path("bomb.png")).unwrap();
        let mut encoder = png::Encoder::new(file, 1, 1);
        encoder.set_color(png::ColorType::Rgba);
        let mut text = png::text_metadata::ITXtChunk::new("dgx-pixels", " ".repeat(16 << 20));
        text.compressed = compressed;
        let mut writer = encoder.write_header().unwrap();
        writer.write_text_chunk(&text).unwrap();
        writer.write_image_data(&[0; 4]).unwrap();
        writer.finish().unwrap();
        assert_eq!(fs::metadata(desk.path("bomb.png")).unwrap().len() < 8 << 20, compressed);
        let ran = desk.run(["reproduce", "bomb.png"]);
        assert_eq!(ran.code, Some(8), "{}", ran.stderr);
        assert!(ran.stderr.contains("is damaged, or takes more than 1048576 bytes"), "{}", ran.stderr);
    }
}

#[test]
fn a_picture_that_says_nothing_is_told() {
    let desk = Desk::new();
    image::RgbImage::new(8, 8).save(desk.path("mute.png")).unwrap();
    fs::write(desk.path("no.png"), "no picture").unwrap();
    for (name, reason) in [("mute.png", "does not say how it was made"), ("no.png", ""), ("absent.png", "")] {
        let ran = desk.run(["reproduce", name]);
        assert_eq!(ran.code, Some(8), "{name}");
        assert!(ran.stderr.contains(reason) && ran.stderr.contains(name), "{}", ran.stderr);
    }
}
