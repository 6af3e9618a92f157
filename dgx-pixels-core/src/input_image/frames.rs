//! The structure of image files, read without decoding a pixel: how many frames there are, and
//! whether the file goes to its end.

/// The chunks of a PNG, as type and content, up to the first that is cut or `IEND`.
fn png_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let len = u32::from_be_bytes(*len) as usize;
        let (kind, after) = after.split_at_checked(4)?;
        let (content, after) = after.split_at_checked(len)?;
        rest = if kind == b"IEND" { &[] } else { after.get(4..).unwrap_or_default() };
        Some((kind, content))
    })
}

/// The facts in the chunks of a PNG beside its pixels.
#[derive(Debug, Default, PartialEq)]
pub(super) struct PngFacts<'a> {
    /// Frames of the animation; 0 for a PNG without one.
    pub(super) frames: usize,
    /// `true` if the image that is decoded first is not a frame of the animation.
    pub(super) default_is_no_frame: bool,
    /// EXIF, wherever it stands.
    pub(super) exif: Option<&'a [u8]>,
    /// Primaries, transfer, matrix and range of `cICP`.
    pub(super) cicp: Option<[u8; 4]>,
}

impl PngFacts<'_> {
    pub(super) fn new(bytes: &[u8]) -> PngFacts<'_> {
        let mut facts = PngFacts::default();
        let (mut is_animation, mut seen_pixels) = (false, false);
        for (kind, content) in png_chunks(bytes) {
            match kind {
                b"acTL" => is_animation |= !seen_pixels,
                b"fcTL" => facts.frames += 1,
                b"IDAT" if !seen_pixels => {
                    seen_pixels = true;
                    facts.default_is_no_frame = facts.frames == 0;
                }
                b"eXIf" => facts.exif = facts.exif.or(Some(content)),
                b"cICP" if !seen_pixels => facts.cicp = content.try_into().ok(),
                _ => {}
            }
        }
        if !is_animation {
            facts.frames = 0;
        }
        facts.default_is_no_frame &= facts.frames > 0;
        facts
    }
}

/// The frames of a GIF that are there to their end, and whether the file ends within one.
pub(super) fn gif_frames(bytes: &[u8]) -> (usize, bool) {
    let mut frames = 0;
    let is_cut = walk_gif(bytes, &mut frames).is_none();
    (frames, is_cut)
}

/// `None` where the file ends early.
fn walk_gif(bytes: &[u8], frames: &mut usize) -> Option<()> {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + table(*bytes.get(10)?);
    // Blocks of up to 255 bytes, each after its length, up to one of none.
    let skip_blocks = |mut at: usize| loop {
        match bytes.get(at)? {
            0 => return Some(at + 1),
            len => at += 1 + usize::from(*len),
        }
    };
    loop {
        match bytes.get(at)? {
            0x21 => at = skip_blocks(at + 2)?,
            0x2c => {
                at = skip_blocks(at + 11 + table(*bytes.get(at + 9)?))?;
                *frames += 1;
            }
            // The end, or damage.
            _ => return Some(()),
        }
    }
}

/// The chunks of a WebP, or of a frame in it, as type and content.
fn webp_chunks(mut rest: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (header, after) = rest.split_first_chunk::<8>()?;
        let [a, b, c, d, len @ ..] = *header;
        let len = u32::from_le_bytes(len) as usize;
        rest = after.get(len.saturating_add(len % 2)..).unwrap_or_default();
        Some(([a, b, c, d], &after[..len.min(after.len())]))
    })
}

/// The frames of an animated WebP; 0 for one that is not animated.
pub(super) fn webp_frames(bytes: &[u8]) -> usize {
    webp_chunks(bytes.get(12..).unwrap_or_default()).filter(|(kind, _)| kind == b"ANMF").count()
}

/// The first frame of an animated WebP as a file of its own, if it fills the image. The decoder
/// blends a frame with the background, which puts opaque colors off by one.
pub(super) fn webp_still(bytes: &[u8]) -> Option<Vec<u8>> {
    let chunks = || webp_chunks(bytes.get(12..).unwrap_or_default());
    let (_, canvas) = chunks().find(|(kind, _)| kind == b"VP8X")?;
    let (_, frame) = chunks().find(|(kind, _)| kind == b"ANMF")?;
    let (place, image) = frame.split_at_checked(16)?;
    if place[..6] != [0; 6] || place.get(6..12) != canvas.get(4..10) {
        return None;
    }
    let (alpha, size) = (0x10, &place[6..12]);
    let has_alpha = webp_chunks(image).next()?.0 == *b"ALPH";
    let header = [b"VP8X\x0a\0\0\0", &[alpha, 0, 0, 0][..], size].concat();
    let header = if has_alpha { &header[..] } else { &[] };
    let len = u32::try_from(4 + header.len() + image.len()).ok()?;
    Some([b"RIFF", &len.to_le_bytes()[..], b"WEBP", header, image].concat())
}

/// `true` unless a JPEG ends within its headers, or its pixels end without the marker of their end.
/// The decoder fills what is missing with gray, and does not report it.
pub(super) fn jpeg_is_whole(bytes: &[u8]) -> bool {
    // Headers may hold a thumbnail with an end marker of its own.
    let mut at = 2;
    while let Some([first, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            // Damaged: the decoder says how.
            _ if *first != 0xff => return true,
            0xff => at += 1,
            0xda => {
                let pixels = &bytes[at..];
                return pixels.windows(2).any(|pair| pair == [0xff, 0xd9]);
            }
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => at += 2 + usize::from(u16::from_be_bytes([*high, *low])),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32).to_be_bytes()[..], kind, content, &[0; 4]].concat()
    }

    fn png(kinds: &[&[u8; 4]]) -> Vec<u8> {
        let chunks = kinds.iter().flat_map(|kind| chunk(kind, b"MM\0*"));
        b"\x89PNG\r\n\x1a\n".iter().copied().chain(chunks).collect()
    }

    #[test]
    fn the_frames_of_a_png_are_those_with_a_frame_control() {
        let facts = |kinds: &[&[u8; 4]]| {
            let bytes = png(kinds);
            let facts = PngFacts::new(&bytes);
            (facts.frames, facts.default_is_no_frame, facts.exif.is_some())
        };
        assert_eq!(facts(&[b"IHDR", b"IDAT", b"IEND"]), (0, false, false));
        assert_eq!(facts(&[b"IHDR", b"acTL", b"fcTL", b"IDAT", b"eXIf", b"IEND"]), (1, false, true));
        assert_eq!(facts(&[b"IHDR", b"acTL", b"IDAT", b"fcTL", b"fdAT", b"IEND"]), (1, true, false));
        assert_eq!(
            facts(&[b"acTL", b"fcTL", b"IDAT", b"fcTL", b"fdAT", b"IEND", b"fcTL"]),
            (2, false, false)
        );
        assert_eq!(facts(&[b"IHDR", b"IDAT", b"acTL", b"fcTL", b"fdAT"]), (0, false, false));
    }

    #[test]
    fn any_bytes_are_walked_to_an_end() {
        for cut in 0..40 {
            let bytes: Vec<u8> = (0..cut).map(|i| (i * 37) as u8 | 0x80).collect();
            let _ = (PngFacts::new(&bytes), gif_frames(&bytes), webp_frames(&bytes), jpeg_is_whole(&bytes));
        }
        let endless = [&b"RIFF\0\0\0\0WEBPANMF"[..], &[0xff; 4], b"rest"].concat();
        assert_eq!(webp_frames(&endless), 1);
    }
}
