//! Sprites in the terminal, two pixels a character.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use image::RgbaImage;

/// Alpha from which a pixel is seen.
const VISIBLE: u8 = 128;

/// Shows a sprite on stderr where that is a terminal with 24-bit colours and wide enough; nothing
/// elsewhere.
pub(crate) fn show(sprite: &RgbaImage) {
    let colors = std::env::var("COLORTERM").unwrap_or_default();
    let columns = console::Term::stderr().size_checked().map_or(0, |(_, columns)| u32::from(columns));
    if io::stderr().is_terminal()
        && ["truecolor", "24bit"].contains(&colors.as_str())
        && sprite.width() <= columns
    {
        // A picture less on the screen is no failure.
        let _ = io::stderr().lock().write_all(blocks(sprite).as_bytes());
    }
}

/// Upper half blocks in the upper pixel's colour, over the lower one's.
fn blocks(sprite: &RgbaImage) -> String {
    let color = |x: u32, y: u32| {
        let pixel = sprite.get_pixel_checked(x, y).filter(|pixel| pixel[3] >= VISIBLE)?;
        let [r, g, b, _] = pixel.0;
        Some(format!("2;{r};{g};{b}m"))
    };
    let mut text = String::new();
    for y in (0..sprite.height()).step_by(2) {
        for x in 0..sprite.width() {
            let _ = match (color(x, y), color(x, y + 1)) {
                (Some(upper), Some(lower)) => write!(text, "\x1b[38;{upper}\x1b[48;{lower}\u{2580}\x1b[0m"),
                (Some(upper), None) => write!(text, "\x1b[38;{upper}\u{2580}\x1b[0m"),
                (None, Some(lower)) => write!(text, "\x1b[38;{lower}\u{2584}\x1b[0m"),
                (None, None) => write!(text, " "),
            };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use image::Rgba;

    use super::*;

    #[test]
    fn two_rows_share_a_line_and_invisible_pixels_show_the_terminal() {
        let sprite = RgbaImage::from_fn(2, 3, |x, y| Rgba([9, y as u8, 7, if x == 0 { 255 } else { 0 }]));
        let upper_and_lower = "\x1b[38;2;9;0;7m\x1b[48;2;9;1;7m\u{2580}\x1b[0m \n";
        assert_eq!(blocks(&sprite), format!("{upper_and_lower}\x1b[38;2;9;2;7m\u{2580}\x1b[0m \n"));
    }
}
