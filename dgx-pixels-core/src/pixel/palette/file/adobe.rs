//! Adobe's palettes: ACT, ASE (swatch exchange) and ACO (Photoshop's swatches).

/// 768 bytes, or 772 with the number of colours and the transparent one at the end.
pub(super) fn act(bytes: &[u8]) -> Option<Vec<[u8; 3]>> {
    let count = match bytes.len() {
        768 => 256,
        772 => usize::from(u16::from_be_bytes([bytes[768], bytes[769]])).min(256),
        _ => return None,
    };
    Some(bytes.chunks_exact(3).take(count).map(|color| [color[0], color[1], color[2]]).collect())
}

/// Numbers and pieces from the front of a file.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn f32(&mut self) -> Option<f32> {
        self.array().map(f32::from_be_bytes)
    }
}

/// `ASEF`, the version, the number of blocks, and the blocks: colors, and where groups begin and
/// end.
pub(super) fn ase(bytes: &[u8]) -> Result<Vec<[u8; 3]>, String> {
    let cut = || "it is an Adobe swatch file (ASE) that ends early".to_owned();
    let mut reader = Reader(bytes);
    let count = reader.bytes(8).and_then(|_| reader.u32()).ok_or_else(cut)?;
    let mut colors = vec![];
    for number in 1..=count {
        let kind = reader.u16().ok_or_else(cut)?;
        // The end of a group may have no length, where the file ends with it.
        let Some(len) = reader.u32() else { break };
        let block = reader.bytes(len as usize).ok_or_else(cut)?;
        if kind == 1 {
            let color = ase_color(block).ok_or_else(|| {
                format!("block {number} of the Adobe swatch file is damaged; expected RGB, CMYK, LAB or Gray")
            })?;
            colors.push(color);
        }
    }
    Ok(colors)
}

/// The length of the name in UTF-16 units, the name, the model, its numbers, and how the color is
/// used.
fn ase_color(block: &[u8]) -> Option<[u8; 3]> {
    let mut reader = Reader(block);
    let name = usize::from(reader.u16()?);
    reader.bytes(2 * name)?;
    let model = reader.array::<4>()?;
    let mut next = || reader.f32().filter(|value| value.is_finite());
    Some(match &model {
        b"RGB " => [level(next()?), level(next()?), level(next()?)],
        b"CMYK" => cmyk([next()?, next()?, next()?, next()?]),
        b"LAB " => {
            // L is a share in most files, and in percent in some.
            let (l, a, b) = (next()?, next()?, next()?);
            lab([if l > 1.0 { l } else { 100.0 * l }, a, b])
        }
        b"Gray" | b"GRAY" => [level(next()?); 3],
        _ => return None,
    })
}

/// The version, the number of colors, and for each its model and four numbers; then perhaps all of
/// it once more with names. `None` for a file that is no such.
pub(super) fn aco(bytes: &[u8]) -> Option<Vec<[u8; 3]>> {
    let mut reader = Reader(bytes);
    let (version, count) = (reader.u16()?, reader.u16()?);
    if !matches!(version, 1 | 2) || count == 0 {
        return None;
    }
    let mut colors = vec![];
    for _ in 0..count {
        let model = reader.u16()?;
        let numbers = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        if version == 2 {
            let name = reader.u32()? as usize;
            reader.bytes(name.checked_mul(2)?)?;
        }
        let share = numbers.map(|value| f32::from(value) / 65535.0);
        // As signed numbers in hundredths.
        let signed = |value: u16| f32::from(value.cast_signed()) / 100.0;
        colors.push(match model {
            0 => [level(share[0]), level(share[1]), level(share[2])],
            1 => hsb([share[0], share[1], share[2]]),
            2 => cmyk(share.map(|value| 1.0 - value)),
            7 => lab([f32::from(numbers[0]) / 100.0, signed(numbers[1]), signed(numbers[2])]),
            // In hundredths of a percent of white.
            8 => [level(f32::from(numbers[0]) / 10_000.0); 3],
            _ => return None,
        });
    }
    let is_whole = reader.0.is_empty() || version == 1 && reader.u16() == Some(2);
    is_whole.then_some(colors)
}

fn level(share: f32) -> u8 {
    // A cast keeps within the bounds.
    (255.0 * share).round() as u8
}

/// Without a profile, which such files do not carry.
fn cmyk([c, m, y, k]: [f32; 4]) -> [u8; 3] {
    [c, m, y].map(|ink| level((1.0 - ink.clamp(0.0, 1.0)) * (1.0 - k.clamp(0.0, 1.0))))
}

fn hsb([hue, saturation, brightness]: [f32; 3]) -> [u8; 3] {
    [5.0, 3.0, 1.0].map(|shift| {
        let k = (shift + 6.0 * hue) % 6.0;
        level(brightness * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0)))
    })
}

/// CIELAB under D50, as Adobe has it, in sRGB.
fn lab([l, a, b]: [f32; 3]) -> [u8; 3] {
    let y = (l + 16.0) / 116.0;
    let [x, y, z] = [y + a / 500.0, y, y - b / 200.0]
        .map(|t| if t > 6.0 / 29.0 { t * t * t } else { 3.0 * (6.0f32 / 29.0).powi(2) * (t - 4.0 / 29.0) });
    let (x, z) = (0.96422 * x, 0.82521 * z);
    // From D50 by Bradford's matrix, and to linear sRGB.
    let linear = [
        3.133_856 * x - 1.6168667 * y - 0.4906146 * z,
        -0.9787684 * x + 1.9161415 * y + 0.0334540 * z,
        0.0719453 * x - 0.2289914 * y + 1.4052427 * z,
    ];
    linear.map(|value| {
        let value = value.clamp(0.0, 1.0);
        level(if value <= 0.0031308 { 12.92 * value } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &str, model: &[u8; 4], numbers: &[f32]) -> Vec<u8> {
        let units: Vec<u16> = name.encode_utf16().chain([0]).collect();
        let name = units.iter().flat_map(|unit| unit.to_be_bytes());
        let numbers = numbers.iter().flat_map(|number| number.to_be_bytes());
        let content: Vec<u8> = (units.len() as u16)
            .to_be_bytes()
            .into_iter()
            .chain(name)
            .chain(*model)
            .chain(numbers)
            .chain([0, 2])
            .collect();
        [&[0, 1][..], &(content.len() as u32).to_be_bytes(), &content].concat()
    }

    #[test]
    fn every_model_of_a_swatch_file_is_read_in_groups_or_alone() {
        let blocks = [
            [&[0xc0, 1, 0, 0, 0, 6, 0, 2][..], &[0, b'A', 0, 0]].concat(),
            block("red", b"RGB ", &[1.0, 0.0, 0.2]),
            block("ink", b"CMYK", &[0.0, 1.0, 0.5, 0.2]),
            vec![0xc0, 2, 0, 0, 0, 0],
            block("", b"LAB ", &[0.5324, 80.09, 67.2]),
            block("gray", b"Gray", &[0.5]),
        ];
        let file = [&b"ASEF\0\x01\0\0\0\0\0\x06"[..], &blocks.concat()].concat();
        let colors = ase(&file).unwrap();
        assert_eq!((colors[0], colors[1], colors[3]), ([255, 0, 51], [204, 0, 102], [128; 3]));
        // Red in CIELAB under D65; under D50 it is near.
        let [r, g, b] = colors[2];
        assert!(r > 240 && g < 40 && b < 40, "{:?}", colors[2]);
        assert_eq!(lab([100.0, 0.0, 0.0]), [255; 3]);
        assert_eq!(lab([0.0, 0.0, 0.0]), [0; 3]);
        assert!(ase(&file[..file.len() - 3]).unwrap_err().ends_with("ends early"));
        let odd = [&b"ASEF\0\x01\0\0\0\0\0\x01"[..], &block("", b"HSB ", &[0.0; 3])].concat();
        assert!(ase(&odd).unwrap_err().starts_with("block 1 of the Adobe swatch file is damaged"));
    }

    #[test]
    fn photoshops_swatches_are_read_in_both_versions() {
        let numbers =
            |values: &[u16]| values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>();
        let one = numbers(&[
            1, 4, 0, 65535, 0, 32896, 0, 1, 21845, 65535, 65535, 0, 2, 65535, 0, 65535, 65535, 8, 5000, 0, 0,
            0,
        ]);
        let colors = [[255, 0, 128], [0, 255, 0], [255, 0, 255], [128; 3]];
        assert_eq!(aco(&one).unwrap(), colors);
        let two = numbers(&[2, 1, 0, 65535, 0, 32896, 0, 0, 2, 65, 0]);
        assert_eq!(aco(&two).unwrap(), colors[..1]);
        assert_eq!(aco(&[one, two].concat()).unwrap(), colors);
        assert_eq!(aco(&[0, 1, 0, 9, 0, 0]), None);
    }
}
