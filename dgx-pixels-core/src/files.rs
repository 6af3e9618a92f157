//! Reading files that another program may have made, and writing files that are whole or not there.

#[cfg(feature = "engine")]
mod entry;
#[cfg(feature = "engine")]
mod folder;
#[cfg(any(feature = "engine", feature = "torch"))]
mod write;

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

#[cfg(feature = "engine")]
pub use self::entry::{Entry, EntryKind, PathError};
#[cfg(feature = "engine")]
pub use self::folder::Folder;
#[cfg(any(feature = "engine", feature = "torch"))]
pub use self::write::{check_replaceable, write_whole};

/// The most bytes of a file that describes something: a manifest, a certificate, a model's config.
pub const MAX_TEXT_BYTES: u64 = 16 << 20;
/// The most bytes of a picture file that a user hands in.
pub const MAX_PICTURE_BYTES: u64 = 256 << 20;

/// Reads a regular file whole, following links.
///
/// Opening never blocks: a named pipe that nobody writes to is refused at once, as is a device or a
/// socket.
///
/// # Errors
/// The system's own errors, and [`io::ErrorKind::InvalidInput`] for anything that is not a regular
/// file or is longer than `limit` bytes. Nothing of a refused file's content is in the error.
///
/// # Example
/// ```
/// use dgx_pixels_core::files::read_regular;
/// assert!(read_regular("/dev/zero".as_ref(), 1024).is_err());
/// ```
pub fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    read_opened(file, limit)
}

/// Reads `file` from where it stands to its end, under the same rules as [`read_regular`].
///
/// # Errors
/// As [`read_regular`].
///
/// # Example
/// ```
/// use std::fs::File;
/// use dgx_pixels_core::files::read_opened;
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("note.txt");
/// std::fs::write(&path, "text")?;
/// assert_eq!(read_opened(File::open(&path)?, 4)?, b"text");
/// assert!(read_opened(File::open(&path)?, 3).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read_opened(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let refuse = |reason: String| io::Error::new(io::ErrorKind::InvalidInput, reason);
    let about = file.metadata()?;
    if about.is_dir() {
        return Err(refuse("it is a folder; expected a file".into()));
    }
    if !about.is_file() {
        return Err(refuse("it is a pipe, a device or a socket; expected a regular file".into()));
    }
    let too_long = |bytes: u64| refuse(format!("it has {bytes} bytes; expected at most {limit}"));
    if about.len() > limit {
        return Err(too_long(about.len()));
    }
    let mut bytes = Vec::with_capacity(about.len() as usize);
    // The file may grow while it is read.
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(too_long(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Text in UTF-8: `bytes` as they are, or converted where they are UTF-16, as Windows programs
/// write it.
///
/// UTF-16 is known by its byte order mark, or by a zero in every other byte of its beginning.
///
/// # Errors
/// A clause that says what is wrong with the UTF-16.
///
/// # Example
/// ```
/// use dgx_pixels_core::files::utf16_to_utf8;
///
/// assert_eq!(*utf16_to_utf8("a key".as_bytes())?, *b"a key");
/// let little_endian: Vec<u8> = "\u{feff}a key".encode_utf16().flat_map(u16::to_le_bytes).collect();
/// assert_eq!(*utf16_to_utf8(&little_endian)?, *"\u{feff}a key".as_bytes());
/// # Ok::<(), String>(())
/// ```
pub fn utf16_to_utf8(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    let head = &bytes[..bytes.len().min(64)];
    let (pairs, _) = head.as_chunks::<2>();
    let all = |is_half: fn(&[u8; 2]) -> bool| pairs.len() > 1 && pairs.iter().all(is_half);
    let big = match bytes {
        [0xff, 0xfe, ..] => false,
        [0xfe, 0xff, ..] => true,
        _ if all(|[low, high]| *low != 0 && *high == 0) => false,
        _ if all(|[high, low]| *low != 0 && *high == 0) => true,
        _ => return Ok(Cow::Borrowed(bytes)),
    };
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units =
        pairs.iter().map(|pair| if big { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) });
    let text: Result<String, _> = char::decode_utf16(units).collect();
    match text {
        Ok(text) if rest.is_empty() => Ok(Cow::Owned(text.into_bytes())),
        _ => Err("it is text in UTF-16 that is damaged or was cut; save it as UTF-8".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn fault(path: &Path, limit: u64) -> String {
        read_regular(path, limit).unwrap_err().to_string()
    }

    #[test]
    fn pipes_folders_and_long_files_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let name = CString::new(pipe.as_os_str().as_bytes()).unwrap();
        // SAFETY: `name` is a string that ends in a zero byte and outlives the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        assert_eq!(fault(&pipe, 9), "it is a pipe, a device or a socket; expected a regular file");
        assert_eq!(fault(folder.path(), 9), "it is a folder; expected a file");
        let long = folder.path().join("long");
        std::fs::write(&long, "0123456789").unwrap();
        assert_eq!(fault(&long, 9), "it has 10 bytes; expected at most 9");
        assert_eq!(read_regular(&long, 10).unwrap(), b"0123456789");
    }

    #[test]
    fn utf16_becomes_utf8_and_all_else_stays() {
        let units = |text: &str, big: bool| -> Vec<u8> {
            let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
            text.encode_utf16().flat_map(bytes).collect()
        };
        for big in [false, true] {
            let marked = units("\u{feff}a sword, été 🗡", big);
            assert_eq!(utf16_to_utf8(&marked).unwrap(), "\u{feff}a sword, été 🗡".as_bytes());
            assert_eq!(utf16_to_utf8(&units("a sword", big)).unwrap(), &b"a sword"[..]);
            assert!(utf16_to_utf8(&marked[..marked.len() - 1]).unwrap_err().contains("UTF-16"));
            assert!(utf16_to_utf8(&marked[..marked.len() - 2]).unwrap_err().contains("UTF-16"));
        }
        for bytes in [&b""[..], b"a", b"ab", b"a sword", b"\0\0\0\0", b"a\0", &[0xff; 9]] {
            assert_eq!(utf16_to_utf8(bytes).unwrap(), bytes);
        }
    }
}
