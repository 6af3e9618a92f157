//! Where pictures go, and whether they can. Also the program's two streams.

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dgx_pixels_core::job::JobTimings;
use dgx_pixels_core::picture_file::{self, Made};
use dgx_pixels_core::pixel::Certificate;
use image::RgbaImage;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::interrupt;

/// What the PNG file `bytes`, read from `path`, says of how it was made.
///
/// # Errors
/// [`Failure::Input`].
pub(crate) fn read_made(path: &Path, bytes: &[u8]) -> Result<Made, Failure> {
    Made::read(bytes).map_err(|reason| Failure::Input { path: path.to_owned(), reason })
}

/// Longest text taken from a prompt for a file's name, in characters.
const SLUG_CHARS: usize = 40;

/// The file for each seed. `output` that ends in `.png` is a file (`key.png`; for several seeds `key-7.png`), any other
/// a folder; none is the current folder. In a folder, prompt and seed give the name: `a-brass-key-7.png`.
pub(crate) fn paths(output: Option<&Path>, prompt: &str, seeds: &[u64]) -> Vec<PathBuf> {
    let named = |folder: &Path, stem: &str| {
        seeds.iter().map(|seed| folder.join(format!("{stem}-{seed}.png"))).collect()
    };
    match output {
        Some(path) if is_file_name(path) => match path.file_stem() {
            Some(stem) if seeds.len() > 1 => named(folder_of(path), &stem.to_string_lossy()),
            _ => vec![path.to_owned()],
        },
        folder => named(folder.unwrap_or(Path::new("")), &slug(prompt)),
    }
}

/// Finds out before anything is loaded or drawn whether `paths`, which share a folder, can be written. Leaves nothing
/// behind: a missing folder is made by [`write()`].
///
/// # Errors
/// [`Failure::Exists`] without `force`; otherwise the folder's fault.
pub(crate) fn check(output: Option<&Path>, paths: &[PathBuf], force: bool) -> Result<(), Failure> {
    if let Some(path) = output.filter(|path| is_other_picture(path)) {
        let reason = "pictures are written as PNG; expected a name that ends in `.png`, or a folder".into();
        return Err(Failure::Output { path: path.to_owned(), reason });
    }
    let Some(first) = paths.first() else { return Ok(()) };
    let folder = folder_of(first);
    let may_make_folder = output.is_some_and(|output| !is_file_name(output));
    let probed = match or_here(folder).metadata() {
        Ok(metadata) if metadata.is_dir() => folder,
        Ok(_) => return Err(Failure::Output { path: first.clone(), reason: not_a_folder(folder) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_make_folder => folder_of(folder),
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::Write { path: first.clone(), source });
        }
        Err(_) => return Err(Failure::Output { path: first.clone(), reason: missing(folder) }),
    };
    match or_here(probed).metadata() {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(Failure::Output { path: first.clone(), reason: not_a_folder(probed) }),
        Err(_) => return Err(Failure::Output { path: first.clone(), reason: missing(probed) }),
    }
    for path in paths {
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {
                let reason = "it is a folder; expected a file or a free name".into();
                return Err(Failure::Output { path: path.clone(), reason });
            }
            Ok(_) if !force => return Err(Failure::Exists { path: path.clone() }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Failure::Write { path: path.clone(), source }),
        }
    }
    // A file without a name: nothing is left even if the program is killed while it draws.
    match tempfile::tempfile_in(or_here(probed)) {
        Ok(_) => Ok(()),
        Err(source) => Err(Failure::Write { path: first.clone(), source }),
    }
}

/// Writes a picture's file, whole.
///
/// # Errors
/// As [`picture_file::write_whole`].
pub(crate) fn write(path: &Path, bytes: &[u8], force: bool) -> Result<(), Failure> {
    Ok(interrupt::whole(|| picture_file::write_whole(path, bytes, force))?)
}

/// Writes a sprite's file and its certificate beside it.
///
/// # Errors
/// As [`picture_file::write_sprite`].
pub(crate) fn write_sprite(
    path: &Path,
    bytes: &[u8],
    certificate: &Certificate,
    force: bool,
) -> Result<(), Failure> {
    Ok(interrupt::whole(|| picture_file::write_sprite(path, bytes, certificate, force))?)
}

/// Writes a picture that goes with a sprite.
///
/// # Errors
/// As [`write()`].
pub(crate) fn write_beside(path: &Path, image: &RgbaImage, force: bool) -> Result<(), Failure> {
    write(path, &picture_file::plain_png(image)?, force)
}

/// The prompt as a part of a file's name: its words in lower case, joined by hyphens.
pub(crate) fn slug(prompt: &str) -> String {
    let lower = prompt.to_lowercase();
    let mut slug = String::new();
    for word in lower.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let free = SLUG_CHARS - slug.chars().count();
        if slug.is_empty() {
            slug.extend(word.chars().take(free));
        } else if word.chars().count() < free {
            slug.push('-');
            slug.push_str(word);
        } else {
            break;
        }
    }
    if slug.is_empty() { "untitled".into() } else { slug }
}

pub(crate) fn is_file_name(path: &Path) -> bool {
    let slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) && !slash && !path.is_dir()
}

fn is_other_picture(path: &Path) -> bool {
    let others = ["jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif"];
    let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
    others.iter().any(|other| ending == *other) && !path.is_dir()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// The empty path is the current folder to people, and nothing to the system.
fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

fn missing(folder: &Path) -> String {
    format!("the folder `{0}` does not exist; `mkdir -p '{0}'` makes it", folder.display())
}

fn not_a_folder(path: &Path) -> String {
    format!("`{}` is a file; expected a folder", path.display())
}

/// In milliseconds. What is shared with others is told whole.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct TimingsMs {
    waiting: f64,
    begin: f64,
    denoise: f64,
    finish: f64,
    pixel: f64,
    total: f64,
}

impl From<JobTimings> for TimingsMs {
    fn from(timings: JobTimings) -> TimingsMs {
        let ms = |time: Duration| time.as_micros() as f64 / 1000.0;
        let JobTimings { waiting, begin, denoise, finish, pixel, total } = timings;
        TimingsMs {
            waiting: ms(waiting),
            begin: ms(begin),
            denoise: ms(denoise),
            finish: ms(finish),
            pixel: ms(pixel),
            total: ms(total),
        }
    }
}

/// A line on stdout, at once. A reader that has gone away is no error: what was asked for is done all the same.
///
/// # Errors
/// [`Failure::Stdout`], as for a full disk.
pub(crate) fn say(line: &impl fmt::Display) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
        _ => Ok(()),
    }
}

/// A line on stderr; unlike `eprintln!` it does not panic where nobody reads.
pub(crate) fn note(line: fmt::Arguments) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_makes_a_short_plain_name() {
        assert_eq!(slug("A brass key!"), "a-brass-key");
        assert_eq!(slug("../../etc/passwd"), "etc-passwd");
        assert_eq!(slug("ein Schlüssel, 鍵"), "ein-schlüssel-鍵");
        assert_eq!(slug(" … "), "untitled");
        assert_eq!(
            slug("a goblin with a torch in a very dark old cave"),
            "a-goblin-with-a-torch-in-a-very-dark-old"
        );
        assert_eq!(slug(&"x".repeat(300)), "x".repeat(40));
    }

    #[test]
    fn a_png_name_is_a_file_and_any_other_a_folder() {
        let path = |output: Option<&str>, seeds: &[u64]| {
            let paths = paths(output.map(Path::new), "a key", seeds);
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(path(None, &[7, 8]), ["a-key-7.png", "a-key-8.png"]);
        assert_eq!(path(Some("out"), &[7]), ["out/a-key-7.png"]);
        assert_eq!(path(Some("out/key.png"), &[7]), ["out/key.png"]);
        assert_eq!(path(Some("out/key.PNG"), &[7, 8]), ["out/key-7.png", "out/key-8.png"]);
        assert_eq!(path(Some("key.png/"), &[7]), ["key.png/a-key-7.png"]);
    }
}
