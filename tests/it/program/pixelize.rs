//! `pixelize`: what goes in, what comes out, and what is wrong with it.

use std::fs;

use image::imageops::{self, FilterType};
use image::{DynamicImage, Rgb, RgbImage, Rgba, RgbaImage};
use serde_json::{Value, json};

use super::{Desk, names};

/// 24x16 cells of eight colours, without a plain background.
fn art() -> RgbaImage {
    RgbaImage::from_fn(24, 16, |x, y| {
        let hash = ((x * 73_856_093) ^ (y * 19_349_663)).wrapping_mul(2_654_435_761) >> 29;
        Rgba([(40 * hash) as u8, (255 - 30 * hash) as u8, (hash * hash * 5) as u8, 255])
    })
}

fn enlarged(step: u32, filter: FilterType) -> RgbaImage {
    imageops::resize(&art(), 24 * step, 16 * step, filter)
}

fn read(desk: &Desk, name: &str) -> RgbaImage {
    image::open(desk.path(name)).unwrap().into_rgba8()
}

#[test]
fn enlarged_art_comes_back_byte_for_byte() {
    let desk = Desk::new();
    for step in [1, 5, 8] {
        enlarged(step, FilterType::Nearest).save(desk.path("in.png")).unwrap();
        let ran = desk.run(["pixelize", "in.png", "--output", "out.png", "--force", "--json"]);
        let [line] = ran.json().try_into().unwrap();
        assert_eq!(
            (&line["verdict"], &line["cols"], &line["rows"]),
            (&json!(if step == 1 { "native" } else { "grid" }), &json!(24), &json!(16))
        );
        assert_eq!(read(&desk, "out.png"), art(), "step {step}");
    }
}

#[test]
fn blurred_art_has_the_right_size_and_no_invented_colours() {
    let desk = Desk::new();
    let blurred = enlarged(9, FilterType::Lanczos3);
    blurred.save(desk.path("in.png")).unwrap();
    assert_eq!(desk.run(["pixelize", "in.png", "--output", "out.png"]).code, Some(0));
    let sprite = read(&desk, "out.png");
    assert_eq!(sprite.dimensions(), (24, 16));
    assert!(sprite.pixels().all(|pixel| blurred.pixels().any(|other| other == pixel)));
}

#[test]
fn a_sprite_is_left_as_it_is() {
    let desk = Desk::new();
    enlarged(9, FilterType::Lanczos3).save(desk.path("in.png")).unwrap();
    desk.run(["pixelize", "in.png", "--output", "once.png"]);
    desk.run(["pixelize", "once.png", "--output", "twice.png"]);
    assert_eq!(read(&desk, "once.png"), read(&desk, "twice.png"));
}

#[test]
fn a_large_sprite_of_many_colours_is_known_as_one() {
    let desk = Desk::new();
    let soft = RgbaImage::from_fn(120, 90, |x, y| Rgba([(2 * x) as u8, (2 * y) as u8, (x + y) as u8, 255]));
    let bold = imageops::resize(&soft, 120 * 6, 90 * 6, FilterType::Nearest);
    bold.save(desk.path("in.png")).unwrap();
    assert_eq!(desk.run(["pixelize", "in.png", "--output", "once.png", "--grid", "6"]).code, Some(0));
    let ran = desk.run(["pixelize", "once.png", "--output", "twice.png", "--json"]);
    let [line] = ran.json().try_into().unwrap();
    assert_eq!((&line["verdict"], &line["cols"], &line["rows"]), (&json!("grid"), &json!(120), &json!(90)));
    assert_eq!(read(&desk, "once.png"), read(&desk, "twice.png"));

    // Many programs keep a file's texts when they enlarge its picture.
    let larger = desk.path("larger.png");
    let file = fs::File::create(&larger).unwrap();
    let mut encoder = png::Encoder::new(file, 720, 540);
    encoder.set_color(png::ColorType::Rgba);
    encoder.add_itxt_chunk("dgx-pixels-sprite".into(), "120x90".into()).unwrap();
    encoder.write_header().unwrap().write_image_data(bold.as_raw()).unwrap();
    let ran = desk.run(["pixelize", "larger.png", "--output", "third.png", "--json"]);
    let [line] = ran.json().try_into().unwrap();
    assert_eq!((&line["cols"], &line["rows"]), (&json!(120), &json!(90)));
}

#[test]
fn the_grid_may_be_given() {
    let desk = Desk::new();
    enlarged(8, FilterType::Nearest).save(desk.path("in.png")).unwrap();
    for (grid, size) in [("12x8", (12, 8)), ("16", (12, 8)), ("48x16", (48, 16))] {
        let ran = desk.run(["pixelize", "in.png", "--output", "out.png", "--force", "--grid", grid]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(read(&desk, "out.png").dimensions(), size, "{grid}");
    }
    desk.run(["pixelize", "in.png", "--output", "new.png", "--grid", "500x2"])
        .assert_failed(2, "`grid` is 500x2; expected at most 192x128, the picture's pixels");
}

#[test]
fn a_palette_a_size_and_a_background_are_honoured() {
    let desk = Desk::new();
    let sprite = RgbaImage::from_fn(16, 16, |x, y| match (x, y) {
        (4..12, 3..13) => art().get_pixel(x, y).to_owned(),
        _ => Rgba([255, 0, 255, 255]),
    });
    imageops::resize(&sprite, 128, 128, FilterType::Nearest).save(desk.path("in.png")).unwrap();
    let args =
        ["pixelize", "in.png", "--output", "out.png", "--palette", "pico-8", "--size", "20x20", "--json"];
    let [line] = desk.run(args).json().try_into().unwrap();
    let certificate = &line["certificate"];
    for name in ["on_palette", "one_bit_alpha", "idempotent"] {
        assert_eq!(certificate[name], json!(true), "{name}");
    }
    let made = read(&desk, "out.png");
    assert_eq!(made.dimensions(), (20, 20));
    assert_eq!(made.pixels().filter(|pixel| pixel.0[3] == 255).count(), 80);
    desk.run(["pixelize", "in.png", "--output", "new.png", "--size", "4x4"])
        .assert_failed(2, "`size` is 4x4; expected at least 8x10, the sprite's visible part");
}

#[test]
fn one_bad_picture_of_a_folder_is_told_and_the_others_are_made() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    enlarged(8, FilterType::Nearest).save(desk.path("in/a.png")).unwrap();
    fs::write(desk.path("in/b.png"), "no picture").unwrap();
    enlarged(5, FilterType::Nearest).save(desk.path("in/c.png")).unwrap();
    let ran = desk.run(["pixelize", "in", "--output", "out", "--json"]);
    assert_eq!(ran.code, Some(8));
    let lines = ran.json();
    let inputs: Vec<_> = lines[..3].iter().map(|line| line["input"].as_str().unwrap()).collect();
    assert_eq!(inputs, ["in/a.png", "in/b.png", "in/c.png"]);
    assert_eq!(lines[1]["error"]["kind"], "input");
    assert_eq!(names(&desk.path("out")), ["a.json", "a.png", "c.json", "c.png"]);
}

#[test]
fn any_storage_is_read() {
    let desk = Desk::new();
    let art = DynamicImage::ImageRgba8(enlarged(8, FilterType::Nearest));
    for (name, picture) in [
        ("grey.png", DynamicImage::ImageLuma8(art.to_luma8())),
        ("deep.png", DynamicImage::ImageRgba16(art.to_rgba16())),
        ("plain.bmp", DynamicImage::ImageRgb8(art.to_rgb8())),
        ("photo.jpg", DynamicImage::ImageRgb8(art.to_rgb8())),
        ("still.gif", art.clone()),
        ("web.webp", art.clone()),
    ] {
        picture.save(desk.path(name)).unwrap();
        let ran = desk.run(["pixelize", name, "--output", "out.png", "--force"]);
        assert_eq!(ran.code, Some(0), "{name}: {ran:?}");
        assert_eq!(read(&desk, "out.png").dimensions(), (24, 16), "{name}");
    }
}

#[test]
fn what_cannot_be_read_is_told() {
    let desk = Desk::new();
    fs::write(desk.path("text.png"), "no picture").unwrap();
    let whole = {
        enlarged(8, FilterType::Nearest).save(desk.path("whole.png")).unwrap();
        fs::read(desk.path("whole.png")).unwrap()
    };
    fs::write(desk.path("cut.png"), &whole[..whole.len() / 2]).unwrap();
    RgbImage::from_pixel(8000, 8000, Rgb([1, 2, 3])).save(desk.path("huge.png")).unwrap();
    fs::create_dir(desk.path("empty")).unwrap();
    let frames = [0, 90].map(|red| image::Frame::new(RgbaImage::from_pixel(32, 32, Rgba([red, 0, 0, 255]))));
    let gif = fs::File::create(desk.path("moving.gif")).unwrap();
    image::codecs::gif::GifEncoder::new(gif).encode_frames(frames).unwrap();
    let frame = [0, 90].map(|red| vec![red; 3 * 32 * 32]);
    let mut apng = png::Encoder::new(fs::File::create(desk.path("moving.png")).unwrap(), 32, 32);
    apng.set_color(png::ColorType::Rgb);
    apng.set_animated(2, 0).unwrap();
    let mut apng = apng.write_header().unwrap();
    frame.iter().for_each(|frame| apng.write_image_data(frame).unwrap());
    apng.finish().unwrap();
    for (name, text) in [
        ("absent.png", "No such file"),
        ("text.png", "it is text, not an image; expected PNG, JPEG, WebP, GIF or BMP"),
        ("cut.png", "cannot read `cut.png`"),
        ("huge.png", "it is 8000x8000; expected at most 33554432 pixels"),
        ("moving.gif", "it is animated"),
        ("moving.png", "it is animated"),
        ("empty", "it has no pictures; expected files that end in png, "),
        ("*.tif", "it has no pictures"),
    ] {
        let ran = desk.run(["pixelize", name, "--output", "out.png"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(8), ""), "{name}");
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(text), "{name}: {}", ran.stderr);
        assert!(!desk.path("out.png").exists());
    }
}

#[test]
fn values_that_are_out_of_range_are_told() {
    let desk = Desk::new();
    art().save(desk.path("in.png")).unwrap();
    for (flag, value, text) in [
        ("--grid", "0", "`grid` is `0`; expected `auto`, columns and rows"),
        ("--max-colors", "300", "`max_colors` is `300`; expected `auto`, `elbow`, `all` or 1 to 256"),
        (
            "--palette",
            "picotron",
            "expected a file, colors such as `#1A1C2C,#5D275D`, or one of 1-bit, aap-64",
        ),
        ("--dither", "bayer3", "expected `none`, `bayer2`"),
        ("--transparent", "red", "expected `auto`, `off` or a color"),
        ("--size", "0x4", "`size` is `0x4`; expected sides from 1 to 2048"),
        ("--outline", "thick", "`outline` is `thick`"),
    ] {
        let ran = desk.run(["pixelize", "in.png", "--output", "out.png", flag, value]);
        assert_eq!(ran.code, Some(2), "{flag}: {ran:?}");
        assert!(ran.stderr.contains(text), "{flag}: {}", ran.stderr);
    }
}

#[test]
fn two_inputs_do_not_become_one_file() {
    let desk = Desk::new();
    for folder in ["a", "b"] {
        fs::create_dir(desk.path(folder)).unwrap();
        art().save(desk.path(folder).join("key.png")).unwrap();
    }
    desk.run(["pixelize", "a", "b", "--output", "out"])
        .assert_failed(7, "cannot write `out/key.png`: `a/key.png` and `b/key.png` would both become it");
    desk.run(["pixelize", "a/key.png", "b/key.png", "--output", "out.png"])
        .assert_failed(7, "cannot write `out.png`: 2 images do not go into one file; expected a folder");
}

#[test]
fn a_preview_and_the_grid_are_drawn_beside() {
    let desk = Desk::new();
    enlarged(8, FilterType::Nearest).save(desk.path("in.png")).unwrap();
    let ran = desk.run(["pixelize", "in.png", "--output", "out.png", "--preview", "4", "--overlay"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(read(&desk, "out.preview.png").dimensions(), (96, 64));
    assert_eq!(read(&desk, "out.grid.png").dimensions(), (192, 128));
    let certificate = fs::read_to_string(desk.path("out.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&certificate).unwrap()["width"], 24);
}

#[test]
fn the_order_and_number_of_inputs_change_nothing() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    for step in 4..12 {
        enlarged(step, FilterType::CatmullRom).save(desk.path("in").join(format!("{step}.png"))).unwrap();
    }
    assert_eq!(desk.run(["pixelize", "in", "--output", "all"]).code, Some(0));
    let mut alone = desk.command(["pixelize", "in/7.png", "--output", "alone.png"]);
    assert!(alone.env("RAYON_NUM_THREADS", "1").status().unwrap().success());
    assert_eq!(fs::read(desk.path("all/7.png")).unwrap(), fs::read(desk.path("alone.png")).unwrap());
}

#[test]
fn a_doubtful_grid_is_told_and_its_candidates_are_drawn() {
    let desk = Desk::new();
    imageops::blur(&enlarged(8, FilterType::Triangle), 4.5).save(desk.path("in.png")).unwrap();
    let ran = desk.run(["pixelize", "in.png", "--output", "out.png", "--json"]);
    let [line] = ran.json().try_into().unwrap();
    let others = line["others"].as_array().unwrap();
    assert!((1..=3).contains(&others.len()), "{line}");
    assert!(line["confidence"].as_f64().unwrap() < 0.8, "{line}");
    assert!(ran.stderr.contains("not sure ") && ran.stderr.contains("out.candidates.png"), "{ran:?}");
    assert!(read(&desk, "out.candidates.png").width() > 256);

    // Said by hand, there is no doubt.
    let ran = desk.run(["pixelize", "in.png", "--output", "out.png", "--force", "--grid", "24x16", "--json"]);
    let [line] = ran.json().try_into().unwrap();
    assert_eq!(
        (&line["cols"], &line["confidence"], &line["others"]),
        (&json!(24), &json!(1.0), &Value::Null)
    );
}

#[test]
fn what_is_not_sure_is_drawn_kept_or_refused() {
    let desk = Desk::new();
    let mut two = RgbaImage::from_pixel(360, 96, Rgba([9, 9, 9, 255]));
    imageops::replace(&mut two, &enlarged(6, FilterType::Nearest), 0, 0);
    imageops::replace(&mut two, &enlarged(9, FilterType::Nearest), 144, 0);
    two.save(desk.path("two.png")).unwrap();
    let ran = desk.run(["pixelize", "two.png", "--output", "best.png", "--json"]);
    assert_eq!((ran.code, &ran.json()[0]["verdict"]), (Some(0), &json!("unsure")));
    assert!(ran.stderr.contains("not sure of the grid") && ran.stderr.contains("--grid"), "{}", ran.stderr);

    let ran = desk.run(["pixelize", "two.png", "--output", "kept.png", "--unsure", "keep", "--json"]);
    assert_eq!((ran.code, &ran.json()[0]["verdict"]), (Some(0), &json!("unsure")));
    assert!(read(&desk, "kept.png") == two);

    let ran = desk.run(["pixelize", "two.png", "--output", "none.png", "--unsure", "fail", "--json"]);
    assert_eq!((ran.code, &ran.json()[0]["error"]["kind"]), (Some(22), &json!("unsure")));
    assert!(ran.stderr.contains("give `grid`") && !desk.path("none.png").exists(), "{}", ran.stderr);
}

#[test]
fn a_background_that_is_not_sure_stays_and_is_told() {
    let desk = Desk::new();
    // Black outlines and black eyes on black.
    let head = RgbaImage::from_fn(24, 24, |x, y| match x.abs_diff(12).pow(2) + y.abs_diff(12).pow(2) {
        _ if matches!((x, y), (8..10 | 14..16, 9..11)) => Rgba([0, 0, 0, 255]),
        0..70 => Rgba([190, 140, (60 + 5 * x) as u8, 255]),
        _ => Rgba([0, 0, 0, 255]),
    });
    imageops::resize(&head, 240, 240, FilterType::Nearest).save(desk.path("in.png")).unwrap();
    let ran = desk.run(["pixelize", "in.png", "--output", "out.png", "--json"]);
    assert_eq!(ran.json()[0]["unsure_background"], json!("#000000"), "{ran:?}");
    assert!(ran.stderr.contains("not sure that #000000 is its background"), "{}", ran.stderr);
    assert!(read(&desk, "out.png") == head);
    let args = ["pixelize", "in.png", "--output", "cut.png", "--transparent", "#000000", "--json"];
    assert_eq!(desk.run(args).json()[0]["unsure_background"], Value::Null);
    assert!(read(&desk, "cut.png").pixels().any(|pixel| pixel[3] == 0));
}

#[test]
fn a_palette_is_shared_over_all_inputs() {
    let desk = Desk::new();
    let colors = |names: &[&str]| {
        let pixels = names.iter().flat_map(|name| read(&desk, name).into_raw());
        let pixels: Vec<_> = pixels.collect();
        pixels.chunks(4).map(|pixel| pixel.to_vec()).collect::<std::collections::HashSet<_>>().len()
    };
    enlarged(5, FilterType::Nearest).save(desk.path("one.png")).unwrap();
    imageops::huerotate(&enlarged(5, FilterType::Nearest), 90).save(desk.path("two.png")).unwrap();
    let run = |output: &str, shared: &[&str]| {
        let plain = ["pixelize", "one.png", "two.png", "--max-colors", "6", "--output", output];
        assert_eq!(desk.run(plain.iter().chain(shared)).code, Some(0));
    };
    run("own", &[]);
    run("shared", &["--shared-palette"]);
    assert!(colors(&["own/one.png", "own/two.png"]) > 6);
    assert_eq!(colors(&["shared/one.png", "shared/two.png"]), 6);
}

#[test]
fn an_image_that_is_all_background_is_no_sprite() {
    let desk = Desk::new();
    RgbaImage::from_pixel(64, 64, Rgba([255, 0, 255, 255])).save(desk.path("plain.png")).unwrap();
    let ran =
        desk.run(["pixelize", "plain.png", "--output", "out.png", "--transparent", "#ff00ff", "--json"]);
    assert_eq!(ran.code, Some(18));
    assert_eq!(ran.json()[0]["error"]["kind"], "empty_sprite");
    assert!(!desk.path("out.png").exists());

    RgbaImage::new(64, 64).save(desk.path("empty.png")).unwrap();
    let ran = desk.run(["pixelize", "empty.png", "--output", "out.png"]);
    assert_eq!(ran.code, Some(0), "it was empty before");
    assert!(ran.stderr.contains("warning: `empty.png` has no visible pixel"), "{}", ran.stderr);
    let ran = desk.run(["validate", "out.png", "--json"]);
    assert_eq!(ran.code, Some(16));
    assert!(ran.stdout.contains("\"check\":\"empty\""), "{}", ran.stdout);
}
