//! Images to begin from: flags, lines of a batch, records, and files that give none.

use std::fs;

use dgx_pixels_core::picture_file::plain_png;
use image::{Rgba, RgbaImage};

use super::{Desk, Ran};

/// A sprite of 16x16 whose right half is transparent, as `half.png`.
fn half(desk: &Desk) -> RgbaImage {
    let color =
        |x: u32, y: u32| if x < 8 { Rgba([x as u8 * 9, y as u8 * 11, 90, 255]) } else { Rgba([0; 4]) };
    let half = RgbaImage::from_fn(16, 16, color);
    fs::write(desk.path("half.png"), plain_png(&half).unwrap()).unwrap();
    half
}

fn generate(desk: &Desk, args: &[&str]) -> Ran {
    let fixed = ["generate", "a key", "--model", "sketch", "--seed", "5", "--steps", "10", "--force"];
    desk.run([&fixed, args].concat())
}

#[track_caller]
fn drawn(desk: &Desk, name: &str) -> RgbaImage {
    image::open(desk.path(name)).unwrap().into_rgba8()
}

#[test]
fn a_drawing_from_a_sprite_has_its_size_and_keeps_what_a_mask_leaves_out() {
    let desk = Desk::new();
    let half = half(&desk);
    let ran = generate(&desk, &["--init-image", "half.png", "--mask", "alpha", "--output", "whole.png"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let whole = drawn(&desk, "whole.png");
    assert_eq!(whole.dimensions(), (16, 16));
    for (x, y, pixel) in half.enumerate_pixels().filter(|(x, ..)| *x < 8) {
        assert_eq!(whole.get_pixel(x, y), pixel);
    }
    assert!((8..16).any(|x| (0..16).any(|y| whole.get_pixel(x, y)[3] == 255)));

    // The same mask as a rectangle, and as an image.
    let white = |x: u32, _| Rgba(if x < 8 { [0, 0, 0, 255] } else { [255; 4] });
    fs::write(desk.path("mask.png"), plain_png(&RgbaImage::from_fn(16, 16, white)).unwrap()).unwrap();
    for mask in ["8,0,8x16", "mask.png"] {
        let ran = generate(&desk, &["--init-image", "half.png", "--mask", mask, "--output", "again.png"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(drawn(&desk, "again.png"), whole, "{mask}");
    }

    // A line of a batch names the same files.
    let line =
        r#"{"prompt":"a key","seed":5,"steps":10,"init_image":"half.png","mask":"mask.png","name":"key"}"#;
    fs::write(desk.path("lines.jsonl"), line).unwrap();
    let ran = desk.run(["batch", "lines.jsonl", "--model", "sketch", "--output", "out"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(drawn(&desk, "out/key.png"), whole);
}

#[test]
fn a_record_is_drawn_again_from_the_kept_image_or_from_one_that_is_given() {
    let desk = Desk::new();
    half(&desk);
    let args = ["--init-image", "half.png", "--mask", "alpha", "--strength", "0.5", "--output", "key.png"];
    assert_eq!(generate(&desk, &args).code, Some(0));
    fs::rename(desk.path("half.png"), desk.path("moved.png")).unwrap();
    let ran = desk.run(["reproduce", "key.png"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "same\n"), "{}", ran.stderr);

    fs::remove_dir_all(desk.home.path().join(".local/state/dgx-pixels/inputs")).unwrap();
    let ran = desk.run(["reproduce", "key.png"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("which is not kept here; expected the path of the image"), "{}", ran.stderr);
    let ran = desk.run(["reproduce", "key.png", "--image", "moved.png"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "same\n"), "{}", ran.stderr);
}

#[test]
fn what_gives_no_image_to_begin_from_is_named_with_what_would_be_right() {
    let desk = Desk::new();
    half(&desk);
    let large = RgbaImage::new(5000, 4000);
    fs::write(desk.path("large.png"), plain_png(&large).unwrap()).unwrap();
    fs::write(desk.path("black.png"), plain_png(&RgbaImage::new(16, 16)).unwrap()).unwrap();
    fs::write(desk.path("small.png"), plain_png(&RgbaImage::new(8, 16)).unwrap()).unwrap();
    fs::write(desk.path("words.png"), "no image").unwrap();
    let half = ["--init-image", "half.png"];
    for (args, words) in [
        (
            vec!["--strength", "0.5"],
            "`strength` is 0.5 and there is no `init_image`; expected both or neither",
        ),
        (vec!["--mask", "alpha"], "`mask` is `alpha` and there is no `init_image`; expected both or neither"),
        (
            [&half[..], &["--strength", "0"]].concat(),
            "`strength` is 0.0; expected more than 0, and at most 1",
        ),
        (
            [&half[..], &["--strength", "0.05"]].concat(),
            "`strength` is 0.05; expected at least 0.1, so that one of 10 steps is left",
        ),
        (
            [&half[..], &["--mask", "black.png"]].concat(),
            "`mask` is black everywhere; expected white where the image is drawn anew",
        ),
        (
            [&half[..], &["--mask", "small.png"]].concat(),
            "`mask` is 8x16; expected 16x16, the size of `init_image`",
        ),
        (
            [&half[..], &["--mask", "12,0,8x8"]].concat(),
            "`mask` is `12,0,8x8`; expected a rectangle of the 16x16 pixels of `init_image`",
        ),
        (
            [&half[..], &["--size", "16x32"]].concat(),
            "`init_image` is 16x16 and the canvas is 128x256; expected the same proportions",
        ),
        (vec!["--init-image", "none.png"], "is `none.png`: No such file or directory"),
        (vec!["--init-image", "words.png"], "is `words.png`: it is text, not an image; expected PNG"),
        (vec!["--init-image", "large.png"], "it is 5000x4000; expected at most 16777216 pixels"),
        (vec!["--init-image", "data:image/png;base64,AAAA"], "it begins with nothing but zero bytes"),
        (vec!["--init-image", "data:image/png,AAAA"], "it has no bytes in base64 after `;base64,`"),
    ] {
        let ran = generate(&desk, &[&args[..], &["--output", "no.png"]].concat());
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
        assert!(!desk.path("no.png").exists());
    }
}

#[test]
fn an_image_of_one_pixel_and_a_photograph_are_drawn_from() {
    let desk = Desk::new();
    fs::write(desk.path("dot.png"), plain_png(&RgbaImage::from_pixel(1, 1, Rgba([9, 9, 9, 255]))).unwrap())
        .unwrap();
    let photo = RgbaImage::from_fn(900, 600, |x, y| Rgba([(x / 4) as u8, (y / 3) as u8, 7, 255]));
    fs::write(desk.path("photo.png"), plain_png(&photo).unwrap()).unwrap();
    for (name, size, raw) in [("dot", (1, 1), (64, 64)), ("photo", (39, 26), (312, 208))] {
        let input = format!("{name}.png");
        let ran = generate(&desk, &["--init-image", &input, "--raw", "--output", "raw.png"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(drawn(&desk, "raw.png").dimensions(), raw, "{name}");
        let ran =
            generate(&desk, &["--init-image", &input, "--transparent", "off", "--output", "sprite.png"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(drawn(&desk, "sprite.png").dimensions(), size, "{name}");
    }
}
