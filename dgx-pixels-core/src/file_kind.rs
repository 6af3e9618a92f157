//! Names for files that are no image this program reads, from their first bytes.

/// An image format that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Png,
    Jpeg,
    WebP,
    Gif,
    Bmp,
}

/// The format of `bytes`, from their signature.
pub(crate) fn format(bytes: &[u8]) -> Option<Format> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Format::Png),
        [0xff, 0xd8, 0xff, ..] => Some(Format::Jpeg),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::WebP),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
        [b'B', b'M', ..] if bytes.len() >= 26 => Some(Format::Bmp),
        _ => None,
    }
}

/// The number of bytes of a file that are looked at.
const HEAD: usize = 1024;

/// A clause about `bytes` that says what they are and what to do, for example
/// `it is an SVG, a vector image; export it as a PNG first`; `None` for an image that can be
/// decoded, and for bytes of no known kind.
pub(crate) fn name(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("it is empty (0 bytes)");
    }
    let head = &bytes[..bytes.len().min(HEAD)];
    match format(bytes) {
        Some(Format::Png) => return broken_png(head),
        // Text may begin with its two letters.
        Some(Format::Bmp) => return text(head),
        Some(_) => return None,
        None => {}
    }
    if head.iter().all(|byte| *byte == 0) {
        return Some("it begins with nothing but zero bytes; its content was lost");
    }
    pointer(head).or_else(|| broken_png(head)).or_else(|| binary(head)).or_else(|| text(head))
}

/// A stand-in of a version control system for a large file.
pub(crate) fn pointer(bytes: &[u8]) -> Option<&'static str> {
    let head = trimmed(&bytes[..bytes.len().min(HEAD)]);
    let starts = |with: &str| head.starts_with(with.as_bytes());
    if starts("version https://git-lfs.github.com/spec/") || starts("version https://hawser.github.com/spec/")
    {
        return Some("it is a Git LFS pointer, not the file itself; run `git lfs pull` first");
    }
    // A link's target, where links are checked out as text.
    let mut target = head;
    while let Some(rest) = target.strip_prefix(b"../") {
        target = rest;
    }
    if starts("/annex/objects/") || target.starts_with(b".git/annex/objects/") {
        return Some("it is a git-annex pointer, not the file itself; run `git annex get` first");
    }
    None
}

/// A PNG that was changed by what carried it.
fn broken_png(head: &[u8]) -> Option<&'static str> {
    if head.get(..8) == Some(b"\x89PNG\r\n\x1a\n") && head.get(12..16) == Some(b"CgBI") {
        return Some(
            "it is a PNG that Xcode changed for iOS (`CgBI`), which only Apple's software reads; take the \
             original, or restore it with `xcrun -sdk iphoneos pngcrush -revert-iphone-optimizations`",
        );
    }
    let changed: [&[u8]; 4] = [b"\x89PNG\n\x1a\n", b"\x89PNG\r\r\n", b"\xef\xbf\xbdPNG", b"\xc2\x89PNG"];
    let is_changed = changed.iter().any(|start| head.starts_with(start)) || head.starts_with(b"\x09PNG");
    is_changed.then_some("it is a PNG that was damaged by a transfer as text; transfer it again as binary")
}

fn binary(head: &[u8]) -> Option<&'static str> {
    let at = |from: usize, what: &[u8]| head.get(from..).is_some_and(|rest| rest.starts_with(what));
    let any = |starts: &[&[u8]]| starts.iter().any(|start| head.starts_with(start));
    let has = |what: &[u8]| head.windows(what.len()).any(|window| window == what);
    if at(4, b"ftyp") {
        let brands = &head[8..head.len().min(64)];
        let brand = |names: &[&[u8; 4]]| brands.as_chunks::<4>().0.iter().any(|brand| names.contains(&brand));
        return Some(if brand(&[b"avif", b"avis"]) {
            "it is an AVIF image; export it as a PNG first"
        } else if brand(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]) {
            "it is a HEIC image; export it as a PNG first"
        } else {
            "it is a video (MP4 or QuickTime); export a frame of it as a PNG first"
        });
    }
    // Aseprite: the file's length in 4 bytes, then 0xA5E0.
    if at(4, &[0xe0, 0xa5]) {
        return Some(
            "it is an Aseprite file; export it as a PNG first: `aseprite -b FILE --save-as NAME.png`",
        );
    }
    if any(&[b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]) {
        return Some("it is a TIFF (or a camera's raw image); export it as a PNG first");
    }
    if any(&[b"PK\x03\x04", b"PK\x05\x06"]) {
        return Some(if has(b"application/x-krita") {
            "it is a Krita file; export it as a PNG first"
        } else if has(b"image/openraster") {
            "it is an OpenRaster file; export it as a PNG first"
        } else {
            "it is a ZIP archive; unpack it first"
        });
    }
    let known: [(&[&[u8]], &str); 16] = [
        (&[b"8BPS", b"8BPB"], "it is a Photoshop file (PSD); export it as a PNG first"),
        (&[b"gimp xcf"], "it is a GIMP file (XCF); export it as a PNG first"),
        (&[b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"], "it is a JPEG XL image; export it as a PNG first"),
        (
            &[b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"],
            "it is a JPEG 2000 image; export it as a PNG first",
        ),
        (&[b"\0\0\x01\0", b"\0\0\x02\0"], "it is a Windows icon or cursor; export it as a PNG first"),
        (&[b"DDS "], "it is a DDS texture; export it as a PNG first"),
        (&[b"\xabKTX"], "it is a KTX texture; export it as a PNG first"),
        (&[b"qoif"], "it is a QOI image; export it as a PNG first"),
        (&[b"v/1\x01"], "it is an OpenEXR image; export it as a PNG first"),
        (&[b"#?RADIANCE", b"#?RGBE"], "it is a Radiance HDR image; export it as a PNG first"),
        (&[b"\x8aMNG", b"\x8bJNG"], "it is an MNG or JNG image; export it as a PNG first"),
        (&[b"%PDF"], "it is a PDF; export a page of it as a PNG first"),
        (&[b"\x1a\x45\xdf\xa3"], "it is a video (WebM or Matroska); export a frame as a PNG first"),
        (&[b"\x1f\x8b"], "it is compressed with gzip; unpack it first"),
        (&[b"Rar!", b"7z\xbc\xaf\x27\x1c"], "it is an archive; unpack it first"),
        (&[b"RIFF"], "it is a RIFF file of sound or video, not a WebP image"),
    ];
    if let Some((_, named)) = known.iter().find(|(starts, _)| any(starts)) {
        return Some(named);
    }
    let netpbm = matches!(head, [b'P', b'1'..=b'7', b' ' | b'\n' | b'\r' | b'\t', ..]);
    netpbm.then_some("it is a Netpbm image (PBM, PGM, PPM or PAM); export it as a PNG first")
}

fn text(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Some("it is text in UTF-16, not an image");
    }
    let mut start = trimmed(head);
    let lower = start.to_ascii_lowercase();
    let has = |what: &str| lower.windows(what.len()).any(|window| window == what.as_bytes());
    // Comments may stand before the first element.
    let is_markup = start.starts_with(b"<");
    if is_markup && has("<svg") && !has("<html") && !has("<!doctype html") {
        return Some("it is an SVG, a vector image; export it as a PNG first");
    }
    let web = ["<!doctype html", "<html", "<head", "<body", "<script", "<meta", "<title"];
    if is_markup && web.iter().any(|element| has(element)) {
        return Some(
            "it is a web page (HTML), as a download that failed leaves it; download the image itself",
        );
    }
    if is_markup {
        return Some("it is XML text, not an image");
    }
    if start.starts_with(b"data:image/") || start.starts_with(b"iVBORw0KGgo") {
        return Some("it is an image as base64 text; decode it first, for example with `base64 --decode`");
    }
    // The cut may have split the last letter.
    if let Err(error) = std::str::from_utf8(start)
        && error.error_len().is_none()
    {
        start = &start[..error.valid_up_to()];
    }
    let is_text = std::str::from_utf8(start)
        .is_ok_and(|text| text.chars().all(|letter| !letter.is_control() || letter.is_ascii_whitespace()));
    is_text.then_some("it is text, not an image")
}

/// `head` without a byte order mark and white space at its start.
fn trimmed(head: &[u8]) -> &[u8] {
    head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_what_they_are() {
        let cases: [(&[u8], &str); 31] = [
            (b"", "empty"),
            (&[0; 40], "zero bytes"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "`git lfs pull`"),
            (b"\xef\xbb\xbfversion https://git-lfs.github.com/spec/v1\r\noid", "`git lfs pull`"),
            (b"/annex/objects/SHA256E-s1234--abc.png\n", "`git annex get`"),
            (b"../../notes/objects/x", "text, not"),
            (b"../../.git/annex/objects/Xk/1/SHA256E-s1--ab.png", "`git annex get`"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\x04CgBI\x50\0\x20\x02", "CgBI"),
            (b"\x89PNG\n\x1a\n\0\0\0\rIHDR", "damaged by a transfer"),
            (b"\xef\xbf\xbdPNG\r\n\x1a\n\0\0\0\rIHDR", "damaged by a transfer"),
            (b"<!DOCTYPE html><title>404", "web page"),
            (b"\n  <HTML lang=en><svg>", "web page"),
            (b"<?xml version=\"1.0\"?>\n<!-- x -->\n<svg width='1'>", "SVG"),
            (b"<svg xmlns=", "SVG"),
            (b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey", "XML"),
            (b"\0\0\0\x1cftypavif\0\0\0\0mif1miaf", "AVIF"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0avifmiaf", "AVIF"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
            (b"\0\0\0\x18ftypisom\0\0\x02\0", "video"),
            (b"II*\0\x08\0\0\0", "TIFF"),
            (b"8BPS\0\x01", "Photoshop"),
            (b"\x40\x02\0\0\xe0\xa5\x01\0\x10\0", "Aseprite"),
            (b"PK\x03\x04\x0a\0\0\0\0\0mimetypeapplication/x-krita", "Krita"),
            (b"PK\x03\x04", "ZIP"),
            (b"\0\0\x01\0\x01\0\x10\x10", "icon"),
            (b"P6\n3 2\n255\n", "Netpbm"),
            (b"RIFF\x24\0\0\0AVI LIST", "RIFF"),
            (b"data:image/png;base64,iVBORw0KGgo=", "base64"),
            (b"\xff\xfea\0b\0", "UTF-16"),
            (b"{\"error\": \"not found\"}", "text, not"),
            ("Grüße".as_bytes(), "text, not"),
        ];
        for (bytes, named) in cases {
            let said = name(bytes).unwrap_or("nothing");
            assert!(said.contains(named), "{}: {said}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(name(b"\x01\x02\x03\x9f"), None);
        // A letter of two bytes that ends past the part that is looked at.
        let long = format!("{}é", "a".repeat(HEAD - 1));
        assert_eq!(name(long.as_bytes()), Some("it is text, not an image"));
    }
}
