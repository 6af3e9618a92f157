//! The places that images go to, and the checks that they can be written. The program's two streams
//! are here too.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dgx_pixels_core::files;
use dgx_pixels_core::job::JobTimings;
use dgx_pixels_core::model::search::Note;
use dgx_pixels_core::picture_file::{self, Made};
use dgx_pixels_core::pixel::Certificate;
use dgx_pixels_core::{Cause, printable};
use image::RgbaImage;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::interrupt;

/// The record in the PNG file `bytes`, read from `path`, of how it was made.
///
/// # Errors
/// [`Failure::Input`].
pub(crate) fn read_made(path: &Path, bytes: &[u8]) -> Result<Made, Failure> {
    Made::read(bytes).map_err(|error| Failure::input(path, Cause::from(error)))
}

/// Longest text taken from a prompt for a file's name, in characters.
const SLUG_CHARS: usize = 40;

/// The place that images go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination<'a> {
    /// Standard output, for `-`. One image, and nothing else.
    Stdout,
    /// A name that ends in `.png`.
    File(&'a Path),
    /// Any other name.
    Folder(&'a Path),
}

impl<'a> Destination<'a> {
    /// Reads `--output`.
    ///
    /// # Errors
    /// [`Failure::Output`] for the name of another format, which would become a folder of that
    /// name; for standard output that is a terminal.
    pub(crate) fn of(output: &'a Path) -> Result<Destination<'a>, Failure> {
        let fault = |reason: String| Err(Failure::output(output, reason));
        if output == Path::new("-") {
            return match io::stdout().is_terminal() {
                true => {
                    fault("standard output is a terminal; expected a pipe or a file, as after `>`".into())
                }
                false => Ok(Destination::Stdout),
            };
        }
        if is_file_name(output) {
            return Ok(Destination::File(output));
        }
        let is_folder = output.as_os_str().as_encoded_bytes().ends_with(b"/") || output.is_dir();
        let ending = output.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if !is_folder && OTHER_ENDINGS.contains(&ending.as_str()) {
            return fault(format!(
                "images are written as PNG, and it ends in `.{ending}`; expected a name that ends in `.png`, or a folder"
            ));
        }
        Ok(Destination::Folder(output))
    }

    /// Refuses flags that do nothing where an image goes to standard output.
    ///
    /// # Errors
    /// [`Failure::Flags`] for the first of `flags` that is given.
    pub(crate) fn refuse_beside_stdout(self, flags: &[(&str, bool)]) -> Result<(), Failure> {
        let given = flags.iter().find(|(_, given)| *given).filter(|_| self == Destination::Stdout);
        given.map_or(Ok(()), |(flag, _)| {
            let reason = "which writes one image to standard output and nothing else";
            Err(Failure::Flags(format!("`{flag}` does not go with `--output -`, {reason}; leave one out")))
        })
    }
}

/// Reads `--output` where a single file is written.
///
/// # Errors
/// As [`Destination::of`]; [`Failure::Output`] for a folder.
pub(crate) fn single(output: &Path) -> Result<Destination<'_>, Failure> {
    match Destination::of(output)? {
        Destination::Folder(_) => {
            let reason = "one image is written; expected a file's name that ends in `.png`, or `-`";
            Err(Failure::output(output, reason))
        }
        destination => Ok(destination),
    }
}

/// Reads `--output` where many files are written.
///
/// # Errors
/// As [`Destination::of`]; [`Failure::Output`] for anything but a folder.
pub(crate) fn folder(output: &Path) -> Result<&Path, Failure> {
    let fault = |reason: &str| Err(Failure::output(output, reason));
    if output == Path::new("-") {
        return fault("many files do not go to standard output; expected a folder");
    }
    match Destination::of(output)? {
        Destination::Folder(folder) => Ok(folder),
        _ => fault("it is an image's name; expected a folder"),
    }
}

/// Endings of formats that are not written. A name with one of them is a mistake and no folder.
const OTHER_ENDINGS: [&str; 84] = [
    "act",
    "ai",
    "apng",
    "ase",
    "aseprite",
    "atlas",
    "avi",
    "avif",
    "bin",
    "bmp",
    "css",
    "csv",
    "cur",
    "dat",
    "dds",
    "dib",
    "dng",
    "eps",
    "exr",
    "ff",
    "gif",
    "gpl",
    "gz",
    "hdr",
    "heic",
    "heif",
    "hex",
    "html",
    "icns",
    "ico",
    "iff",
    "ini",
    "jfif",
    "jp2",
    "jpe",
    "jpeg",
    "jpg",
    "json",
    "jsonl",
    "jxl",
    "kra",
    "ktx",
    "ktx2",
    "lbm",
    "log",
    "md",
    "mkv",
    "mng",
    "mov",
    "mp4",
    "ndjson",
    "ora",
    "pal",
    "pam",
    "pbm",
    "pcx",
    "pdf",
    "pgm",
    "pnm",
    "ppm",
    "psb",
    "psd",
    "qoi",
    "raw",
    "ron",
    "rs",
    "safetensors",
    "sgi",
    "svg",
    "svgz",
    "tar",
    "tga",
    "tif",
    "tiff",
    "toml",
    "tsv",
    "txt",
    "webm",
    "webp",
    "xcf",
    "xml",
    "yaml",
    "yml",
    "zip",
];

/// The file for each seed. `output` that ends in `.png` is a file (`key.png`; for several seeds
/// `key-7.png`), any other a folder; none is the current folder. In a folder, prompt and seed give
/// the name: `a-brass-key-7.png`.
pub(crate) fn paths(output: Option<&Path>, prompt: &str, seeds: &[u64]) -> Vec<PathBuf> {
    let named = |folder: &Path, stem: &OsStr| {
        let name = |seed: &u64| {
            let mut name = stem.to_owned();
            name.push(format!("-{seed}.png"));
            folder.join(name)
        };
        seeds.iter().map(name).collect()
    };
    match output {
        Some(path) if is_file_name(path) => match path.file_stem() {
            Some(stem) if seeds.len() > 1 => named(folder_of(path), stem),
            _ => vec![path.to_owned()],
        },
        folder => named(folder.unwrap_or(Path::new("")), slug(prompt).as_ref()),
    }
}

/// Finds out before anything is loaded or drawn whether files can be written that share a folder:
/// those that the user asked for (`named`), and those that go `beside` them. Leaves nothing behind:
/// a missing folder is made by [`write()`].
///
/// # Errors
/// [`Failure::Exists`] without `force`; [`Failure::Output`] for what `force` does not replace, see
/// [`files::check_replaceable`] and [`picture_file::check_beside`]; otherwise the folder's fault.
pub(crate) fn check(
    output: Option<&Path>,
    named: &[PathBuf],
    beside: &[PathBuf],
    force: bool,
) -> Result<(), Failure> {
    let Some(first) = named.first() else { return Ok(()) };
    let folder = folder_of(first);
    let may_make_folder = output.is_some_and(|output| !is_file_name(output));
    let probed = match or_here(folder).metadata() {
        Ok(metadata) if metadata.is_dir() => folder,
        Ok(_) => return Err(Failure::output(first, not_a_folder(folder))),
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_make_folder => folder_of(folder),
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::Write { path: first.clone(), source });
        }
        Err(_) => return Err(Failure::output(first, missing(folder))),
    };
    match or_here(probed).metadata() {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(Failure::output(first, not_a_folder(probed))),
        Err(_) => return Err(Failure::output(first, missing(probed))),
    }
    named.iter().try_for_each(|path| files::check_replaceable(path, force))?;
    beside.iter().try_for_each(|path| picture_file::check_beside(path, force))?;
    // A file without a name: nothing is left even if the program is killed while it draws.
    match tempfile::tempfile_in(or_here(probed)) {
        Ok(_) => Ok(()),
        Err(source) => Err(Failure::Write { path: first.clone(), source }),
    }
}

/// Writes a picture's file, whole.
///
/// # Errors
/// As [`files::write_whole`].
pub(crate) fn write(path: &Path, bytes: &[u8], force: bool) -> Result<(), Failure> {
    Ok(interrupt::whole(|| files::write_whole(path, bytes, force))?)
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

/// Durations in milliseconds. Time that several images share is counted in full for each.
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

/// A line on stdout, at once. Nothing of it reaches a terminal that the terminal would obey. A
/// reader that has gone away is no error: what was asked for is done all the same.
///
/// # Errors
/// [`Failure::Stdout`], as for a full disk.
pub(crate) fn say(line: &impl fmt::Display) -> Result<(), Failure> {
    let line = line.to_string();
    match io::stdout().is_terminal() {
        true => say_bytes(format!("{}\n", printable::one_line(&line)).as_bytes()),
        false => say_bytes(format!("{line}\n").as_bytes()),
    }
}

/// A path as a line on stdout: its own bytes for a script, and printable on a terminal.
///
/// # Errors
/// As [`say`].
pub(crate) fn say_path(path: &Path) -> Result<(), Failure> {
    let mut line = path.as_os_str().as_encoded_bytes().to_owned();
    if io::stdout().is_terminal() {
        line = printable::one_line(&printable::printable_bytes(&line)).into_owned().into_bytes();
    }
    line.push(b'\n');
    say_bytes(&line)
}

/// A value as a line of JSON on stdout. Characters that a terminal would obey are escaped as JSON
/// escapes them.
///
/// # Errors
/// As [`say`].
pub(crate) fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    say_bytes(format!("{}\n", json_line(value)).as_bytes())
}

/// The line that [`say_json`] writes.
pub(crate) fn json_line(value: &impl Serialize) -> String {
    let line = serde_json::to_string(value).expect("plain data turns into JSON; this is a bug");
    printable::printable_json(&line).into_owned()
}

/// Bytes as they are on stdout: a PNG file.
///
/// # Errors
/// As [`say`].
pub(crate) fn say_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
        _ => Ok(()),
    }
}

/// A line on stderr, which people read: nothing of it reaches a terminal that the terminal would
/// obey. Unlike `eprintln!` it does not panic if stderr is closed.
pub(crate) fn note(line: fmt::Arguments) {
    let line = line.to_string();
    let _ = writeln!(io::stderr().lock(), "{}", printable::one_line(&line));
}

/// Warns of what the user may not expect of the model that was chosen.
pub(crate) fn warn(notes: &[Note]) {
    notes.iter().for_each(|text| note(format_args!("warning: {text}")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::one_line;

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

    #[test]
    fn an_output_is_what_its_name_says_or_refused() {
        for (name, expected) in [
            ("key.png", Destination::File(Path::new("key.png"))),
            ("KEY.PNG", Destination::File(Path::new("KEY.PNG"))),
            ("art", Destination::Folder(Path::new("art"))),
            ("art.v2", Destination::Folder(Path::new("art.v2"))),
            (".hidden", Destination::Folder(Path::new(".hidden"))),
            ("art.json/", Destination::Folder(Path::new("art.json/"))),
        ] {
            assert_eq!(Destination::of(Path::new(name)).unwrap(), expected, "{name}");
        }
        for name in ["o.tga", "o.json", "hero.aseprite", "a/o.JPG", "o.qoi", "o.psd", "o.txt"] {
            let failure = one_line(&Destination::of(Path::new(name)).unwrap_err());
            assert!(failure.contains("ends in `.png`"), "{failure}");
            assert!(folder(Path::new(name)).is_err() && single(Path::new(name)).is_err(), "{name}");
        }
        assert!(folder(Path::new("-")).is_err() && folder(Path::new("key.png")).is_err());
        assert!(single(Path::new("art")).is_err());
        let sorted = OTHER_ENDINGS.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(sorted, "an ending stands twice, or in no order");
    }
}
