//! Loading: libtorch's libraries by their full paths first, then the object, which finds them
//! loaded.

use std::path::Path;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::elf;
use super::find;
use crate::abi::{ENTRY, Functions, Text};
use crate::error::{Cause, Error};

/// libtorch's libraries for the CPU, in the order in which they need each other. The first may be
/// of the system, and the others of CUDA's are found by libtorch itself.
const LIBRARIES: [&str; 3] = ["libgomp.so.1", "libc10.so", "libtorch_cpu.so"];

/// Loads the object, and its functions.
///
/// A library that is loaded is taken wherever another needs its name, so `LD_LIBRARY_PATH` with
/// another torch changes nothing.
pub(super) fn open() -> Result<&'static Functions, Error> {
    let (object, _) = find::object().map_err(Error::libtorch)?;
    let (folder, origin) = find::libtorch(Some(&object)).map_err(Error::libtorch)?;
    if origin != find::Origin::Loaded {
        for name in LIBRARIES {
            let path = folder.join(name);
            if path.is_file() {
                load(&path)?;
            }
        }
    }
    let library = load(&object)?;
    // SAFETY: the symbol is the object's entry in this version, as its file says.
    unsafe {
        let entry = library.get::<unsafe extern "C" fn() -> *const Functions>(ENTRY.as_bytes());
        let entry = entry.map_err(|error| {
            Error::libtorch((format!("`{}` lacks `{ENTRY}`", object.display()), Cause::from(error)))
        })?;
        Ok(&*entry())
    }
}

/// Loads a library for as long as the process runs.
fn load(path: &Path) -> Result<&'static Library, Error> {
    elf::Library::read(path).map_err(|fault| Error::libtorch(format!("`{}` {fault}", path.display())))?;
    // SAFETY: the library is libtorch's or ours; their initialisers register operators and ask
    // nothing of us.
    match unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) } {
        // Never dropped: libtorch registers itself in ways that cannot be undone.
        Ok(library) => Ok(Box::leak(Box::new(library))),
        Err(error) => Err(Error::libtorch(refusal(path, &error))),
    }
}

/// The loader's refusal, with the next step.
fn refusal(path: &Path, error: &libloading::Error) -> String {
    let words = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let advice = if words.contains("undefined symbol") {
        "; the libtorch that is loaded is of another version"
    } else if words.contains("failed to map segment") {
        "; its file system may be mounted with `noexec`"
    } else if words.contains("cannot open shared object file") {
        "; a library that it needs is not installed, and `dgx-pixels setup` fetches libtorch whole"
    } else {
        ""
    };
    format!("`{}` cannot be loaded: {words}{advice}", path.display())
}

/// The object's log, as this program's.
pub(super) unsafe extern "C" fn log(level: i32, text: Text) {
    // SAFETY: the text lives until we return.
    let words = unsafe { std::slice::from_raw_parts(text.data, text.len) };
    let words = String::from_utf8_lossy(words);
    match level {
        ..=1 => tracing::error!("{words}"),
        2 => tracing::warn!("{words}"),
        3 => tracing::info!("{words}"),
        _ => tracing::debug!("{words}"),
    }
}
