//! `reproduce`: a picture says how it was made, and is made again.

use std::fs;

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
