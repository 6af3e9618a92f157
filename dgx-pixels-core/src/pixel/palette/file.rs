//! Palette files. Sources: GIMP's `gimppalette-load.c` header, JASC-PAL, Microsoft's RIFF PAL, Adobe's ACT, and what
//! Lospec offers for download.

use image::ImageFormat;

/// Colours in the order of the file, the same one perhaps more than once.
///
/// # Errors
/// What is wrong, with its line and value.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<[u8; 3]>, String> {
    if bytes.starts_with(b"\x89PNG") {
        return png(bytes);
    }
    if bytes.starts_with(b"RIFF") {
        return riff(bytes);
    }
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let Some(text) = text else { return act(bytes) };
    let text = text.trim_start_matches('\u{feff}');
    if text.starts_with("GIMP Palette") {
        return gpl(text);
    }
    if text.starts_with("JASC-PAL") {
        return jasc(text);
    }
    hex(text)
}

fn png(bytes: &[u8]) -> Result<Vec<[u8; 3]>, String> {
    let image =
        image::load_from_memory_with_format(bytes, ImageFormat::Png).map_err(|error| error.to_string())?;
    let mut seen = std::collections::HashSet::new();
    let visible = image.to_rgba8();
    let visible =
        visible.pixels().filter(|pixel| pixel.0[3] > 0).map(|pixel| [pixel.0[0], pixel.0[1], pixel.0[2]]);
    Ok(visible.filter(|color| seen.insert(*color)).collect())
}

/// 768 bytes, or 772 with the number of colours and the transparent one at the end.
fn act(bytes: &[u8]) -> Result<Vec<[u8; 3]>, String> {
    let count = match bytes.len() {
        768 => 256,
        772 => usize::from(u16::from_be_bytes([bytes[768], bytes[769]])).min(256),
        len => {
            return Err(format!(
                "it has {len} bytes and no known header; expected hex, GPL, PAL, ACT, text or PNG"
            ));
        }
    };
    Ok(bytes.chunks_exact(3).take(count).map(|color| [color[0], color[1], color[2]]).collect())
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

/// Lines of three numbers and perhaps a name, after a header.
fn gpl(text: &str) -> Result<Vec<[u8; 3]>, String> {
    let is_color = |line: &str| {
        let line = line.trim();
        !line.is_empty()
            && !line.starts_with('#')
            && !line.starts_with("Name:")
            && !line.starts_with("Columns:")
    };
    let lines = (1..).zip(text.lines()).skip(1).filter(|(_, line)| is_color(line));
    lines.map(|(number, line)| numbers(number, line)).collect()
}

/// `JASC-PAL`, `0100`, the count, then lines of three numbers.
fn jasc(text: &str) -> Result<Vec<[u8; 3]>, String> {
    let lines = (1..).zip(text.lines()).skip(3).filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(number, line)| numbers(number, line)).collect()
}

fn numbers(number: usize, line: &str) -> Result<[u8; 3], String> {
    let mut words = line.split_whitespace().map(str::parse::<u8>);
    match (words.next(), words.next(), words.next()) {
        (Some(Ok(r)), Some(Ok(g)), Some(Ok(b))) => Ok([r, g, b]),
        _ => Err(format!("line {number} is `{}`; expected three numbers from 0 to 255", short(line))),
    }
}

/// A colour a line in six digits, or eight with alpha first (Paint.NET); `#` before it and `;` comments are allowed.
fn hex(text: &str) -> Result<Vec<[u8; 3]>, String> {
    let lines =
        (1..).zip(text.lines()).map(|(number, line)| (number, line.split(';').next().unwrap_or("").trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
        .map(|(number, line)| {
            let digits = line.trim_start_matches('#').trim_start_matches("0x");
            let rgb = if digits.len() == 8 { digits.get(2..) } else { Some(digits) };
            let rgb = rgb.filter(|rgb| rgb.len() == 6 && rgb.bytes().all(|digit| digit.is_ascii_hexdigit()));
            let value = rgb.and_then(|rgb| u32::from_str_radix(rgb, 16).ok());
            let [_, r, g, b] = value.map(u32::to_be_bytes).ok_or_else(|| {
                format!("line {number} is `{}`; expected a colour as `1A1C2C`", short(line))
            })?;
            Ok([r, g, b])
        })
        .collect()
}

fn short(line: &str) -> String {
    line.trim().chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TWO: [[u8; 3]; 2] = [[0x1a, 0x1c, 0x2c], [255, 0, 9]];

    #[test]
    fn every_format_is_read() {
        let read = |text: &str| parse(text.as_bytes()).unwrap();
        assert_eq!(read("1a1c2c\r\nFF0009\n"), TWO);
        assert_eq!(read("; Paint.NET\n;Colors: 2\nFF1A1C2C\nFFff0009\n"), TWO);
        assert_eq!(read("GIMP Palette\nName: two\nColumns: 2\n#\n 26  28  44\tnight\n255 0 9\n"), TWO);
        assert_eq!(read("JASC-PAL\r\n0100\r\n2\r\n26 28 44\r\n255 0 9\r\n"), TWO);
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
        assert_eq!(parse(b"1a1c2c\nred\n").unwrap_err(), "line 2 is `red`; expected a colour as `1A1C2C`");
        assert_eq!(
            parse(b"GIMP Palette\n300 0 0\n").unwrap_err(),
            "line 2 is `300 0 0`; expected three numbers from 0 to 255"
        );
        assert!(parse(b"RIFF\0\0\0\0PAL data").unwrap_err().contains("ends early"));
        assert!(parse(&[0; 12]).unwrap_err().starts_with("it has 12 bytes"));
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
