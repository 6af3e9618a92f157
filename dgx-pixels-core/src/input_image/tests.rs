use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, Frame, ImageEncoder, ImageFormat, Rgba};
use proptest::prelude::*;

use super::*;

const FORMATS: [ImageFormat; 5] =
    [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp];

fn art() -> RgbaImage {
    RgbaImage::from_fn(9, 7, |x, y| Rgba([(x * 28) as u8, (y * 36) as u8, 99, 255]))
}

fn file(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(vec![]);
    DynamicImage::from(art()).into_rgb8().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// An encoded image with EXIF that records `orientation`, and perhaps a profile.
fn tagged(format: ImageFormat, orientation: u8, icc: Option<Vec<u8>>) -> Vec<u8> {
    fn write(mut encoder: impl ImageEncoder, exif: Vec<u8>, icc: Option<Vec<u8>>) {
        encoder.set_exif_metadata(exif).unwrap();
        if let Some(icc) = icc {
            encoder.set_icc_profile(icc).unwrap();
        }
        let rgb = DynamicImage::from(art()).into_rgb8();
        encoder.write_image(&rgb, 9, 7, ExtendedColorType::Rgb8).unwrap();
    }
    // One entry: tag 0x0112, a short.
    let exif =
        [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", &[orientation, 0, 0, 0, 0, 0, 0, 0][..]].concat();
    let mut bytes = vec![];
    match format {
        ImageFormat::Png => write(PngEncoder::new(&mut bytes), exif, icc),
        ImageFormat::Jpeg => write(JpegEncoder::new_with_quality(&mut bytes, 100), exif, icc),
        _ => write(WebPEncoder::new_lossless(&mut bytes), exif, icc),
    }
    bytes
}

/// A PNG of `frames` frames; the first of them is the default image, or not.
fn apng(frames: u32, default_is_frame: bool) -> Vec<u8> {
    let mut bytes = vec![];
    let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_animated(frames, 0).unwrap();
    encoder.set_sep_def_img(!default_is_frame).unwrap();
    let mut writer = encoder.write_header().unwrap();
    let images = frames + u32::from(!default_is_frame);
    for i in 0..images {
        writer.write_image_data(&[i as u8 + 1, 0, 0, 255, 0, 0, 9, 255]).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

fn gif(frames: u8) -> Vec<u8> {
    let mut bytes = vec![];
    let mut encoder = GifEncoder::new(&mut bytes);
    for i in 0..frames {
        encoder.encode_frame(Frame::new(RgbaImage::from_pixel(4, 3, Rgba([i, 200, 0, 255])))).unwrap();
    }
    drop(encoder);
    bytes
}

/// The animated form of a WebP, of `frames` times the same frame.
fn animated_webp(frames: usize) -> Vec<u8> {
    let mut still = vec![];
    WebPEncoder::new_lossless(&mut still).write_image(&art(), 9, 7, ExtendedColorType::Rgba8).unwrap();
    let pixels = &still[12..];
    let chunk = |kind: &[u8], content: &[u8]| [kind, &(content.len() as u32).to_le_bytes(), content].concat();
    // Sides less 1 in three bytes.
    let frame = [&[0, 0, 0, 0, 0, 0, 8, 0, 0, 6, 0, 0, 100, 0, 0, 0][..], pixels].concat();
    let mut chunks = chunk(b"VP8X", &[2, 0, 0, 0, 8, 0, 0, 6, 0, 0]);
    chunks.extend(chunk(b"ANIM", &[0; 6]));
    for _ in 0..frames {
        chunks.extend(chunk(b"ANMF", &frame));
    }
    [b"RIFF", &(chunks.len() as u32 + 4).to_le_bytes()[..], b"WEBP", &chunks].concat()
}

fn fault(bytes: &[u8]) -> String {
    decode(bytes).unwrap_err().to_string()
}

#[test]
fn whole_files_are_read_and_their_size_is_known_before() {
    for format in FORMATS {
        let bytes = file(format);
        let image = decode(&bytes).unwrap();
        assert_eq!(image.pixels.dimensions(), (9, 7), "{format:?}");
        assert_eq!(image.warnings, [""; 0], "{format:?}");
        assert_eq!(dimensions(&bytes).unwrap(), (9, 7), "{format:?}");
        if format != ImageFormat::Jpeg {
            assert!(image.pixels == art(), "{format:?}");
        }
    }
}

#[test]
fn the_orientation_that_is_recorded_is_applied() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let upright = decode(&tagged(format, 1, None)).unwrap().pixels;
        for orientation in 0..10 {
            let bytes = tagged(format, orientation, None);
            let image = decode(&bytes).unwrap().pixels;
            let mut turned = DynamicImage::from(upright.clone());
            if let Some(orientation) = Orientation::from_exif(orientation) {
                turned.apply_orientation(orientation);
            }
            assert!(image == turned.into_rgba8(), "{format:?} {orientation}");
            assert_eq!(dimensions(&bytes).unwrap(), image.dimensions(), "{format:?} {orientation}");
        }
    }
}

#[test]
fn profiles_are_converted_and_those_that_cannot_be_are_told() {
    let icc = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let plain = decode(&tagged(format, 1, None)).unwrap().pixels;
        let image = decode(&tagged(format, 1, Some(icc.clone()))).unwrap();
        let (before, after) = (plain.get_pixel(8, 0).0, image.pixels.get_pixel(8, 0).0);
        assert!(after[0] > before[0] + 10 && image.warnings.is_empty(), "{format:?} {before:?} {after:?}");
        let image = decode(&tagged(format, 1, Some(b"no profile".to_vec()))).unwrap();
        assert!(image.pixels == plain, "{format:?}");
        let [warning] = &image.warnings[..] else { panic!("{format:?}") };
        assert!(warning.starts_with("its color profile cannot be used ("), "{warning}");
    }
}

#[test]
fn sixteen_bits_are_rounded_to_eight() {
    let deep =
        image::ImageBuffer::from_fn(3, 1, |x, _| image::Luma([[0x7f7f_u16, 0x7fff, 0x8000][x as usize]]));
    let mut bytes = Cursor::new(vec![]);
    DynamicImage::ImageLuma16(deep).write_to(&mut bytes, ImageFormat::Png).unwrap();
    let image = decode(bytes.get_ref()).unwrap().pixels;
    assert_eq!(image.pixels().map(|pixel| pixel[0]).collect::<Vec<_>>(), [127, 127, 128]);
}

#[test]
fn an_animation_of_one_frame_is_that_frame_and_one_of_several_is_refused() {
    assert_eq!(decode(&apng(1, true)).unwrap().pixels.get_pixel(0, 0)[0], 1);
    assert_eq!(decode(&apng(1, false)).unwrap().pixels.get_pixel(0, 0)[0], 2);
    assert_eq!(decode(&gif(1)).unwrap().pixels.get_pixel(3, 2)[1], 200);
    assert!(decode(&animated_webp(1)).unwrap().pixels == art());
    for bytes in [apng(2, true), apng(2, false), gif(2), animated_webp(2)] {
        assert!(matches!(decode(&bytes), Err(InputImageError::Animated)));
        assert!(matches!(dimensions(&bytes), Err(InputImageError::Animated)));
    }
}

#[test]
fn a_file_that_was_cut_is_no_image_wherever_it_was_cut() {
    for format in FORMATS {
        let whole = file(format);
        // Behind a PNG's, GIF's or JPEG's pixels stands nothing that is needed.
        for len in (0..whole.len() - 24).step_by(3) {
            assert!(decode(&whole[..len]).is_err(), "{format:?}: {len} of {}", whole.len());
        }
        let error = fault(&whole[..whole.len() * 2 / 3]);
        assert!(error.starts_with("it ends early") || format == ImageFormat::WebP, "{format:?}: {error}");
    }
}

#[test]
fn sizes_are_refused_from_the_header() {
    let mut bmp = file(ImageFormat::Bmp);
    bmp[18..26].copy_from_slice(&[0x40, 0x1f, 0, 0, 0x40, 0x1f, 0, 0]);
    assert_eq!(fault(&bmp), "it is 8000x8000; expected at most 33554432 pixels, and 65535 along a side");
    assert!(matches!(dimensions(&bmp), Err(InputImageError::Size { .. })));
}

#[test]
fn a_link_of_git_annex_without_its_content_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("hero.png");
    std::os::unix::fs::symlink("../.git/annex/objects/Xk/1/SHA256E-s1--ab.png", &link).unwrap();
    assert!(read(&link).unwrap_err().to_string().contains("`git annex get`"));
    assert!(matches!(read(&folder.path().join("none.png")), Err(InputImageError::Read(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn damaged_files_are_read_or_refused(
        kind in 0..12usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
        cut in prop::bool::weighted(0.3),
    ) {
        let icc = || Some(moxcms::ColorProfile::new_display_p3().encode().unwrap());
        let mut bytes = match kind {
            0..5 => file(FORMATS[kind]),
            5 => apng(1, false),
            6 => gif(1),
            7 => animated_webp(1),
            8 => tagged(ImageFormat::Png, 6, icc()),
            9 => tagged(ImageFormat::Jpeg, 6, icc()),
            10 => tagged(ImageFormat::WebP, 6, icc()),
            _ => apng(2, true),
        };
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(image) = decode(&bytes) {
            prop_assert_eq!(dimensions(&bytes).unwrap(), image.pixels.dimensions());
        }
    }

    #[test]
    fn anything_is_read_or_refused(start in 0..FORMATS.len(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
        let _ = decode(&[&file(FORMATS[start])[..12], &bytes].concat());
    }

    #[test]
    fn any_profile_is_used_or_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        gray in any::<bool>(),
    ) {
        let profile = match gray {
            true => moxcms::ColorProfile::new_gray_with_gamma(2.2),
            false => moxcms::ColorProfile::new_adobe_rgb(),
        };
        let mut icc = profile.encode().unwrap();
        for (place, value) in damage {
            let place = place.index(icc.len());
            icc[place] = value;
        }
        let image = if gray { DynamicImage::new_luma8(3, 3) } else { DynamicImage::new_rgb16(3, 3) };
        if let Ok(conversion) = Conversion::from_icc(&icc, !gray) {
            let _ = conversion.apply(image);
        }
    }
}
