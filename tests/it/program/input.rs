//! Files that users hand in: images of every kind, palettes and prompts.

use std::fs;
use std::os::unix::fs::symlink;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::imageops::{FilterType, resize};
use image::{ExtendedColorType, ImageEncoder, Rgba, RgbaImage};

use super::{Desk, names};

/// 12x16 cells of three colors.
fn art() -> RgbaImage {
    RgbaImage::from_fn(12, 16, |x, y| match (x * 7 + y * y * 5) % 3 {
        0 => Rgba([180, 60, 80, 255]),
        1 => Rgba([60, 60, 180, 255]),
        _ => Rgba([240, 240, 200, 255]),
    })
}

/// A scene at its own size: tiles of 16 pixels with outlines and single pixels.
fn scene() -> RgbaImage {
    RgbaImage::from_fn(320, 180, |x, y| {
        let (x, y) = (x + 5, y + 11);
        let hash = |x: u32, y: u32| {
            (x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663)).wrapping_mul(2_654_435_761)
        };
        let (tile, grain) = (hash(x / 16, y / 16) >> 30, hash(x, y) >> 28);
        match (tile, x % 16, y % 16) {
            (0, 0, _) | (0, _, 15) => Rgba([30, 20, 30, 255]),
            (0 | 1, 4..12, 4) | (1, 5, 6..12) => Rgba([250, 240, 220, 255]),
            (_, 8, 8) | (2, _, 3) => Rgba([200, 60, 80, 255]),
            _ if grain == 3 => Rgba([90, 170, 60, 255]),
            _ => Rgba([60 + 20 * tile as u8, 130, 50, 255]),
        }
    })
}

#[test]
fn native_art_is_kept_and_a_word_says_so_unless_a_grid_is_given() {
    let desk = Desk::new();
    scene().save(desk.path("scene.png")).unwrap();
    let flags = ["pixelize", "scene.png", "--output", "out.png", "--force", "--transparent", "off"];
    let ran = desk.run(flags);
    assert_eq!(ran.code, Some(0));
    assert_eq!(
        ran.stderr,
        "note: `scene.png` is pixel art at its own size, 320x180; it was kept, not reduced\n"
    );
    assert_eq!(image::open(desk.path("out.png")).unwrap().into_rgba8(), scene());
    let [line] = desk.run([&flags[..], &["--json", "--quiet"]].concat()).json().try_into().unwrap();
    assert_eq!((line["verdict"].as_str(), line["cols"].as_u64()), (Some("native"), Some(320)));
    let [line] = desk.run([&flags[..], &["--json", "--grid", "40x20"]].concat()).json().try_into().unwrap();
    assert_eq!((line["verdict"].as_str(), line["cols"].as_u64()), (Some("grid"), Some(40)));
}

#[test]
fn a_photograph_that_lies_on_its_side_is_turned() {
    let desk = Desk::new();
    let large = resize(&image::imageops::rotate270(&art()), 128, 96, FilterType::Nearest);
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let mut bytes = vec![];
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 100);
    encoder.set_exif_metadata(exif).unwrap();
    let rgb = image::DynamicImage::from(large).into_rgb8();
    encoder.write_image(&rgb, 128, 96, ExtendedColorType::Rgb8).unwrap();
    fs::write(desk.path("lying.jpg"), bytes).unwrap();
    let ran = desk.run(["pixelize", "lying.jpg", "--output", "o.png", "--json", "--grid", "12x16"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let sprite = image::open(desk.path("o.png")).unwrap().into_rgba8();
    let near = |(a, b): (&u8, &u8)| a.abs_diff(*b) < 40;
    assert!(sprite.iter().zip(art().iter()).all(near));
}

#[test]
fn a_profile_that_cannot_be_used_is_a_warning() {
    let desk = Desk::new();
    let mut bytes = vec![];
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_icc_profile(b"no profile".to_vec()).unwrap();
    encoder.write_image(&art(), 12, 16, ExtendedColorType::Rgba8).unwrap();
    fs::write(desk.path("odd.png"), bytes).unwrap();
    let ran = desk.run(["pixelize", "odd.png", "--output", "o.png", "--transparent", "off"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("warning: `odd.png`: its color profile cannot be used ("), "{}", ran.stderr);
    assert_eq!(image::open(desk.path("o.png")).unwrap().into_rgba8(), art());
}

#[test]
fn files_of_other_kinds_are_named_as_what_they_are() {
    let desk = Desk::new();
    let cases: [(&str, &[u8], &str); 7] = [
        (
            "lfs.png",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n",
            "run `git lfs pull`",
        ),
        ("ios.png", b"\x89PNG\r\n\x1a\n\0\0\0\x04CgBI\x50\0\x20\x02\x2b\xd5\xb3\x7f\0\0\0\rIHDR", "(`CgBI`)"),
        ("page.png", b"<!DOCTYPE html>\n<html><title>404</title>", "a web page (HTML)"),
        ("drawing.png", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "an SVG"),
        ("empty.png", b"", "it is empty (0 bytes)"),
        ("new.png", b"\0\0\0\x1cftypavif\0\0\0\0mif1miaf", "an AVIF image"),
        ("layers.png", b"8BPS\0\x01", "a Photoshop file"),
    ];
    for (name, bytes, named) in cases {
        fs::write(desk.path(name), bytes).unwrap();
        let ran = desk.run(["pixelize", name, "--output", "o.png"]);
        assert_eq!(ran.code, Some(8), "{name}");
        let start = format!("error: cannot read `{name}`: ");
        assert!(ran.stderr.starts_with(&start) && ran.stderr.contains(named), "{name}: {}", ran.stderr);
    }
}

#[test]
fn the_same_image_named_twice_is_made_once() {
    let desk = Desk::new();
    fs::create_dir(desk.path("art")).unwrap();
    art().save(desk.path("art/a.png")).unwrap();
    symlink("a.png", desk.path("art/link.png")).unwrap();
    let ran = desk.run(["pixelize", "art/a.png", "./art/a.png", "art", "art/link.png", "--output", "out"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(names(&desk.path("out")), ["a.json", "a.png"]);
}

#[test]
fn palettes_of_other_programs_are_read() {
    let desk = Desk::new();
    art().save(desk.path("in.png")).unwrap();
    let gpl = "GIMP Palette\nChannels: RGBA\n#\n  0   0   0   0 none\n 26  28  44 255\n244 244 244 255\n";
    fs::write(desk.path("alpha.gpl"), gpl).unwrap();
    let wide: Vec<u8> = "\u{feff}#1A1C2C\r\n#f4f4f4\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(desk.path("wide.hex"), wide).unwrap();
    for palette in ["alpha.gpl", "wide.hex", "#1A1C2C,#f4f4f4"] {
        let flags = ["pixelize", "in.png", "--output", "o.png", "--force", "--palette", palette];
        assert_eq!(desk.run(flags).code, Some(0), "{palette}");
        let sprite = image::open(desk.path("o.png")).unwrap().into_rgba8();
        let known = [[26, 28, 44, 255], [244, 244, 244, 255], [0; 4]];
        assert!(sprite.pixels().all(|pixel| known.contains(&pixel.0)), "{palette}");
    }
    fs::write(desk.path("bad.hex"), "#fff\n#12345g\n").unwrap();
    let ran = desk.run(["pixelize", "in.png", "--output", "o.png", "--force", "--palette", "bad.hex"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("line 2 is `#12345g`"), "{}", ran.stderr);
}

#[test]
fn prompts_in_utf16_are_read_as_such() {
    let desk = Desk::new();
    let text: Vec<u8> = "\u{feff}a red key\r\na café\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(desk.path("prompts.txt"), &text).unwrap();
    let flags =
        ["batch", "prompts.txt", "--output", "out", "--model", "sketch", "--width", "64", "--height", "64"];
    let ran = desk.run([&flags[..], &["--steps", "2", "--seed", "1"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let made = names(&desk.path("out"));
    assert!(made.iter().any(|name| name == "a-red-key-1.png"), "{made:?}");
    fs::write(desk.path("prompts.txt"), &text[..text.len() - 1]).unwrap();
    let ran = desk.run([&flags[..], &["--force"]].concat());
    assert!(ran.stderr.contains("it is text in UTF-16 that is damaged or was cut"), "{}", ran.stderr);
}
