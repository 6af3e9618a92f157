//! Palette files. Sources: GIMP's `gimppalette-load.c` header, Aseprite's GPL with alpha, JASC-PAL,
//! Microsoft's RIFF PAL, Adobe's ACT, ASE and ACO, and what Lospec offers for download.

mod adobe;
mod text;

use std::io::Cursor;

use image::codecs::png::PngDecoder;
use image::{DynamicImage, ImageDecoder as _, Limits};

use crate::error::{Cause, Reason};
use crate::file_kind;
use crate::files;

/// A PNG of more pixels than these is no palette.
const MAX_PIXELS: u64 = 1 << 22;

/// Colours in the order of the file, the same one perhaps more than once.
///
/// # Errors
/// What is wrong, with its line and value.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<[u8; 3]>, Reason> {
    if let Some(named) = file_kind::pointer(bytes) {
        return Err(named.into());
    }
    match bytes {
        [] => return Err("it is empty (0 bytes)".into()),
        [0x89, b'P', b'N', b'G', ..] => return png(bytes),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'P', b'A', b'L', b' ', ..] => return Ok(riff(bytes)?),
        [b'A', b'S', b'E', b'F', ..] => return Ok(adobe::ase(bytes)?),
        _ => {}
    }
    if let Some(text) = as_text(bytes)? {
        return Ok(text::parse(&text)?);
    }
    if let Some(colors) = adobe::act(bytes) {
        return Ok(colors);
    }
    if let Some(colors) = adobe::aco(bytes) {
        return Ok(colors);
    }
    let named = file_kind::name(bytes).unwrap_or("it has no known header");
    Err(format!("{named} ({} bytes); expected hex, GPL, PAL, ACT, ASE, ACO, text or PNG", bytes.len()).into())
}

/// The file as text; `None` for one that is binary.
fn as_text(bytes: &[u8]) -> Result<Option<String>, String> {
    let text = String::from_utf8(files::utf16_to_utf8(bytes)?.into_owned()).ok();
    let is_text = |text: &String| !text.chars().any(|letter| letter.is_control() && !letter.is_whitespace());
    Ok(text.map(|text| text.trim_start_matches('\u{feff}').to_owned()).filter(is_text))
}

fn png(bytes: &[u8]) -> Result<Vec<[u8; 3]>, Reason> {
    if let Some(named) = file_kind::name(bytes) {
        return Err(named.into());
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(16 * MAX_PIXELS);
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(Cause::from)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let reason = format!("it is {width}x{height}; expected at most {MAX_PIXELS} pixels of a palette");
        return Err(reason.into());
    }
    let image = DynamicImage::from_decoder(decoder).map_err(Cause::from)?.into_rgba8();
    let mut seen = std::collections::HashSet::new();
    let visible = image.pixels().filter(|pixel| pixel.0[3] > 0);
    let visible = visible.map(|pixel| [pixel.0[0], pixel.0[1], pixel.0[2]]);
    Ok(visible.filter(|color| seen.insert(*color)).collect())
}

/// `RIFF size "PAL " "data" size version count`, then red, green, blue and flags.
fn riff(bytes: &[u8]) -> Result<Vec<[u8; 3]>, String> {
    let cut = || "it is a RIFF file that ends early or is no palette; expected `PAL ` and `data`".to_owned();
    if bytes.get(8..16) != Some(b"PAL data") {
        return Err(cut());
    }
    let count = bytes.get(22..24).ok_or_else(cut)?;
    let count = usize::from(u16::from_le_bytes([count[0], count[1]]));
    let colors = bytes.get(24..24 + 4 * count).ok_or_else(cut)?;
    Ok(colors.chunks_exact(4).map(|color| [color[0], color[1], color[2]]).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use image::ImageFormat;

    use super::*;

    const TWO: [[u8; 3]; 2] = [[0x1a, 0x1c, 0x2c], [255, 0, 9]];

    #[test]
    fn every_format_is_read() {
        let read = |text: &str| parse(text.as_bytes()).unwrap();
        assert_eq!(read("1a1c2c\r\nFF0009\n"), TWO);
        assert_eq!(read("; Paint.NET\n;Colors: 2\nFF1A1C2C\nFFff0009\n"), TWO);
        assert_eq!(read("GIMP Palette\nName: two\nColumns: 2\n#\n 26  28  44\tnight\n255 0 9\n"), TWO);
        assert_eq!(read("JASC-PAL\r\n0100\r\n2\r\n26 28 44\r\n255 0 9\r\n"), TWO);
        assert_eq!(read("JASC-PAL\n0100\n2\n26 28 44 255\n255\t0\t9 255\n\n"), TWO);
        assert_eq!(read("\u{feff}JASC-PAL\r\n0100\r\n2\r\n26 28 44\r\n255 0 9"), TWO);
        // Aseprite's GPL: what is invisible is no color.
        assert_eq!(
            read("GIMP Palette\nChannels: RGBA\n#\n  0   0   0   0 none\n 26  28  44 255\n255 0 9 128 7\n"),
            TWO
        );
        assert_eq!(read("GIMP Palette\r\nName: a: b\r\n# x\r\n26 28 44 255\r\n255 0 9\r\n"), TWO);
        for list in [
            "#1a1c2c,#ff0009",
            "#1A1c2C #FF0009",
            "1a1c2c\n\n# red\n#Palette of two\nff0009 ; the end\n",
            "0x1a1c2c\n0XFF0009\n",
            "0xFF1A1C2C, 0xffff0009",
            "#1a1c2cff\n#ff0009FF\n",
            "[\"#1a1c2c\", \"#ff0009\"]",
            "// two\n1a1c2c // night\nff0009",
        ] {
            assert_eq!(read(list), TWO, "{list}");
        }
        assert_eq!(read("#fff\n#000f\nABC"), [[255; 3], [0; 3], [0xaa, 0xbb, 0xcc]]);
        for big in [false, true] {
            let text = "\u{feff}#1a1c2c\r\n#ff0009\r\n";
            let bytes: Vec<u8> = text
                .encode_utf16()
                .flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() })
                .collect();
            assert_eq!(parse(&bytes).unwrap(), TWO);
        }
        let riff =
            [b"RIFF\x18\0\0\0PAL data\x0c\0\0\0\0\x03\x02\0", &[26, 28, 44, 0, 255, 0, 9, 0][..]].concat();
        assert_eq!(parse(&riff).unwrap(), TWO);
        let mut act = vec![0; 772];
        act[..6].copy_from_slice(&[26, 28, 44, 255, 0, 9]);
        act[769] = 2;
        assert_eq!(parse(&act).unwrap(), TWO);
        let mut png = std::io::Cursor::new(vec![]);
        let image = image::RgbaImage::from_fn(3, 2, |x, _| {
            let [r, g, b] = TWO[usize::from(x > 0)];
            image::Rgba([r, g, b, if x == 2 { 0 } else { 255 }])
        });
        image.write_to(&mut png, ImageFormat::Png).unwrap();
        assert_eq!(parse(png.get_ref()).unwrap(), TWO);
    }

    #[test]
    fn a_faulty_line_is_told() {
        assert_eq!(
            parse(b"1a1c2c\nred\n").unwrap_err().words,
            "line 2 is `red`; expected a color as `1A1C2C` or `#FFF`"
        );
        assert_eq!(
            parse(b"GIMP Palette\n300 0 0\n").unwrap_err().words,
            "line 2 is `300 0 0`; expected three numbers from 0 to 255"
        );
        assert!(parse(b"RIFF\0\0\0\0PAL data").unwrap_err().words.contains("ends early"));
        assert!(parse(&[0; 12]).unwrap_err().words.contains("(12 bytes); expected hex, GPL, PAL, ACT, ASE"));
        assert_eq!(parse(b"").unwrap_err().words, "it is empty (0 bytes)");
        assert!(
            parse(b"version https://git-lfs.github.com/spec/v1\n")
                .unwrap_err()
                .words
                .contains("`git lfs pull`")
        );
        assert!(
            parse(b"#fff\n#ff\n")
                .unwrap_err()
                .words
                .starts_with("line 2 is `#ff`; expected a color as `1A1C2C`")
        );
        assert!(parse(b"JASC-PAL\n0100\n3\n1 2 3\n").unwrap_err().words.contains("says 3 colors and has 1"));
        assert!(parse(b"<html>").unwrap_err().words.starts_with("line 1 is `<html>`"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..900), header in 0usize..6) {
            let headers: [&[u8]; 6] =
                [b"", b"RIFF\0\0\0\0PAL data\0\0\0\0\0\x03", b"\x89PNG\r\n\x1a\n", b"GIMP Palette\n", b"JASC-PAL\n", b"#"];
            let _ = parse(&[headers[header], &bytes].concat());
        }
    }
}
