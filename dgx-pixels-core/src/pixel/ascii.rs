//! Small sprites as text, for tests: a letter a colour, `.` an invisible cell.

use image::{Rgba, RgbaImage};

const COLORS: [(char, [u8; 3]); 13] = [
    ('r', [200, 40, 40]),
    ('R', [110, 20, 25]),
    ('p', [222, 66, 58]),
    ('g', [60, 170, 60]),
    ('G', [25, 90, 35]),
    ('b', [50, 80, 210]),
    ('B', [25, 35, 100]),
    ('k', [12, 10, 14]),
    ('K', [52, 50, 56]),
    ('e', [130, 130, 130]),
    ('w', [255, 255, 255]),
    ('W', [246, 247, 245]),
    ('m', [255, 0, 255]),
];

/// The sprite that `art` shows, a line a row. Blanks around lines are dropped.
pub(super) fn draw(art: &str) -> RgbaImage {
    let rows: Vec<&str> = art.lines().map(str::trim).filter(|row| !row.is_empty()).collect();
    RgbaImage::from_fn(rows[0].len() as u32, rows.len() as u32, |x, y| {
        let letter = rows[y as usize].as_bytes()[x as usize] as char;
        let color = COLORS.iter().find(|(known, _)| *known == letter);
        color.map_or(Rgba([0; 4]), |(_, [r, g, b])| Rgba([*r, *g, *b, 255]))
    })
}

/// The text that [`draw`] reads; `?` is a color that it does not know.
pub(super) fn show(sprite: &RgbaImage) -> String {
    let letter = |pixel: &Rgba<u8>| match pixel.0 {
        [.., 0] => '.',
        [r, g, b, _] => {
            COLORS.iter().find(|(_, color)| *color == [r, g, b]).map_or('?', |(letter, _)| *letter)
        }
    };
    sprite.rows().map(|row| row.map(letter).collect::<String>()).collect::<Vec<_>>().join("\n")
}
