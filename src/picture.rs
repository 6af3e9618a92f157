//! Images that users hand in: found in folders, and read.

use std::collections::HashSet;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dgx_pixels_core::files::MAX_PICTURE_BYTES;
use dgx_pixels_core::input_image::{self, InputImage};
use dgx_pixels_core::{Cause, Reason};
use image::RgbaImage;

use crate::failure::Failure;
use crate::order::by_number;
use crate::output;

const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// The files that `inputs` mean: files as they are, the images of folders, and those that match
/// patterns, in the order given and then by name, with numbers in their own order. A file is taken
/// once, also if links or other spellings of its path name it again.
///
/// # Errors
/// [`Failure::Input`] for an input that is none of these or has no pictures.
pub(crate) fn expand(inputs: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found: Vec<PathBuf> = vec![];
    let mut seen = HashSet::new();
    for path in inputs {
        let input = path.to_str().unwrap_or_default();
        let fault = |reason: Reason| Failure::input(path, reason);
        let mut new = if path.is_dir() {
            let entries = path.read_dir().map_err(|error| fault(error.into()))?;
            let mut files: Vec<_> =
                entries.flatten().map(|entry| entry.path()).filter(|path| is_picture(path)).collect();
            files.sort_unstable_by(|a, b| by_number(a, b));
            files
        } else if path.exists() || !input.contains(['*', '?', '[']) {
            vec![path.clone()]
        } else {
            let paths = glob::glob(input).map_err(|error| fault(Cause::from(error).into()))?;
            let mut files: Vec<_> = paths.flatten().filter(|path| is_picture(path)).collect();
            files.sort_unstable_by(|a, b| by_number(a, b));
            files
        };
        if new.is_empty() {
            let reason = format!("it has no pictures; expected files that end in {}", ENDINGS.join(", "));
            return Err(fault(reason.into()));
        }
        // A file that is not there is reported when it is read.
        new.retain(|path| {
            path.metadata().map_or(!found.contains(path), |about| seen.insert((about.dev(), about.ino())))
        });
        found.append(&mut new);
    }
    Ok(found)
}

fn is_picture(path: &Path) -> bool {
    let known = |ending: &str| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known));
    path.is_file() && path.extension().and_then(|ending| ending.to_str()).is_some_and(known)
}

/// The image at `path` in 8-bit RGBA; warnings go to standard error unless `quiet`.
///
/// # Errors
/// [`Failure::Input`]: it is not there, no image, damaged, too large, or animated.
pub(crate) fn read(path: &Path, quiet: bool) -> Result<RgbaImage, Failure> {
    decode(
        path,
        &input_image::read_file(path).map_err(|error| Failure::input(path, Cause::from(error)))?,
        quiet,
    )
}

/// Reads standard input, which stands for the file `-`.
///
/// # Errors
/// [`Failure::Input`] if it cannot be read, or is larger than an image file may be.
pub(crate) fn read_stdin(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![];
    let stdin = io::stdin().lock();
    stdin.take(MAX_PICTURE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| Failure::input(path, error))?;
    match bytes.len() as u64 > MAX_PICTURE_BYTES {
        true => {
            let reason = format!("it has more than {MAX_PICTURE_BYTES} bytes; expected a smaller file");
            Err(Failure::input(path, reason))
        }
        false => Ok(bytes),
    }
}

/// Decodes the bytes of the file at `path`, like [`read`].
///
/// # Errors
/// As [`read`].
pub(crate) fn decode(path: &Path, bytes: &[u8], quiet: bool) -> Result<RgbaImage, Failure> {
    let InputImage { pixels, warnings } =
        input_image::decode(bytes).map_err(|error| Failure::input(path, Cause::from(error)))?;
    for warning in warnings.iter().filter(|_| !quiet) {
        output::note(format_args!("warning: `{}`: {warning}", path.display()));
    }
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_taken_once_however_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        for name in ["b.png", "a.png", "notes.txt"] {
            fs::write(at(name), name).unwrap();
        }
        symlink(at("a.png"), at("z.png")).unwrap();
        symlink(folder.path(), at("again")).unwrap();
        fs::hard_link(at("b.png"), at("y.png")).unwrap();
        let inputs = [
            at("b.png"),
            at("./b.png"),
            at(""),
            at("*.png"),
            at("again/a.png"),
            at("none.png"),
            at("none.png"),
        ];
        let found = expand(&inputs.map(PathBuf::from)).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["b.png", "a.png", "none.png"]);
    }
}
