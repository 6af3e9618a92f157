//! Kernels from source to machine code, at run time, for the GPU that is there; what was compiled
//! is kept on disk.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Once;

use libloading::{Library, Symbol};

use super::super::device::libtorch_folder;
use crate::error::Error;
use crate::files::write_whole;
use crate::folders;

/// CUDA's libraries come with libtorch: of CUDA 13.
const NVRTC: &str = "libnvrtc.so.13";
/// The library that NVRTC loads when it first compiles; its name ends with CUDA's minor version.
const NVRTC_BUILTINS: &str = "libnvrtc-builtins.so.13.";

/// Bytes before the machine code in a kept file: the BLAKE3 of what follows.
const HASH_BYTES: usize = 32;

/// What is to be compiled.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    /// As `-DBF16=1`.
    pub(super) options: &'a [&'a str],
    /// The compiler's name of the GPU, for example `sm_90`; `sm_90a` adds what only that GPU has.
    pub(super) architecture: String,
    /// The driver's CUDA.
    pub(super) driver: c_int,
}

/// Machine code for the GPU: kept from before, or compiled and kept.
pub(super) fn cubin(source: &Source) -> Result<Vec<u8>, String> {
    let kept = folders::cache().map(|cache| cache.join("kernels").join(format!("{}.cubin", source.key())));
    if let Some(cubin) = kept.as_deref().and_then(read) {
        return Ok(cubin);
    }
    let Compiled { cubin, log } = Nvrtc::open()?.compile(source, &[])?;
    if !log.is_empty() {
        tracing::debug!("NVRTC says of kernels for `{}`: {log}", source.architecture);
    }
    if let Some(path) = kept
        && let Err(error) = write(&path, &cubin)
    {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            let folder = path.parent().unwrap_or(&path).display();
            tracing::warn!(%error, "compiled kernels cannot be kept in `{folder}`, and are compiled at each start");
        });
    }
    Ok(cubin)
}

/// Or why it is not.
pub(in crate::torch) fn is_installed() -> Result<(), String> {
    Nvrtc::open().map(|_| ())
}

impl Source<'_> {
    /// Another for whatever may make other machine code.
    fn key(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in
            [self.text, &self.options.join(" "), &format!("{} {} {NVRTC}", self.architecture, self.driver)]
        {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

/// What lies at `path`, if it is whole.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(path).ok()?;
    let is_whole =
        bytes.len() > HASH_BYTES && blake3::hash(&bytes[HASH_BYTES..]).as_bytes() == &bytes[..HASH_BYTES];
    if !is_whole {
        tracing::warn!("`{}` is damaged; its kernels are compiled anew", path.display());
        return None;
    }
    bytes.drain(..HASH_BYTES);
    Some(bytes)
}

fn write(path: &Path, cubin: &[u8]) -> Result<(), Error> {
    write_whole(path, &[blake3::hash(cubin).as_bytes(), cubin].concat(), true)
}

/// NVIDIA's compiler as a library.
pub(super) struct Nvrtc {
    library: Library,
    /// Kept loaded, as `library` looks for it by its bare name.
    _builtins: Option<Library>,
}

/// The outcome of one compilation.
pub(super) struct Compiled {
    pub(super) cubin: Vec<u8>,
    /// The compiler's warnings, and whatever an option made it print.
    pub(super) log: String,
}

type Program = *mut c_void;

impl Nvrtc {
    fn open() -> Result<Nvrtc, String> {
        // The system's own comes first: a bare name is looked for where the loader looks.
        let mut folders = vec![PathBuf::new()];
        if let Ok(torch) = libtorch_folder() {
            // In a libtorch archive, and beside torch's wheel.
            folders.push(torch.clone());
            folders.push(torch.join("../../nvidia/cu13/lib"));
        }
        for folder in &folders {
            if let Ok(nvrtc) = Nvrtc::open_in(folder) {
                return Ok(nvrtc);
            }
        }
        Err(format!("NVRTC, NVIDIA's compiler, is not installed (`{NVRTC}` is not found)"))
    }

    /// Opens the compiler that lies in `folder`.
    pub(super) fn open_in(folder: &Path) -> Result<Nvrtc, String> {
        let path = folder.join(NVRTC);
        let open = |path: &Path| {
            // SAFETY: its initialisers ask nothing of us.
            unsafe { Library::new(path) }
                .map_err(|error| format!("cannot load `{}`: {error}", path.display()))
        };
        let builtins = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut builtins =
            builtins.filter(|entry| entry.file_name().to_string_lossy().starts_with(NVRTC_BUILTINS));
        // NVRTC asks the loader for its bare name, and a wheel's copy does not say where it lies.
        let builtins = builtins.next().map(|entry| open(&entry.path())).transpose()?;
        Ok(Nvrtc { library: open(&path)?, _builtins: builtins })
    }

    unsafe fn call<T>(&self, name: &str) -> Result<Symbol<'_, T>, String> {
        // SAFETY: the caller names a function of this type.
        unsafe { self.library.get(name.as_bytes()) }.map_err(|error| format!("NVRTC is too old: {error}"))
    }

    /// Compiles `source`; `more` are options that change nothing in the machine code.
    pub(super) fn compile(&self, source: &Source, more: &[&str]) -> Result<Compiled, String> {
        let text = CString::new(source.text).expect("our kernels have no zero in their text; this is a bug");
        let mut program = ptr::null_mut();
        // SAFETY: signatures as in NVRTC's header; all places and texts outlive the calls; the
        // program is destroyed once.
        unsafe {
            let create = self.call::<unsafe extern "C" fn(
                *mut Program,
                *const c_char,
                *const c_char,
                c_int,
                *const *const c_char,
                *const *const c_char,
            ) -> c_int>("nvrtcCreateProgram")?;
            let code =
                create(&mut program, text.as_ptr(), c"kernels.cu".as_ptr(), 0, ptr::null(), ptr::null());
            self.answered("nvrtcCreateProgram", code)?;
            let compiled = self.compile_program(program, source, more);
            let destroy = self.call::<unsafe extern "C" fn(*mut Program) -> c_int>("nvrtcDestroyProgram")?;
            destroy(&mut program);
            compiled
        }
    }

    /// # Safety
    /// `program` was made and not destroyed.
    unsafe fn compile_program(
        &self,
        program: Program,
        source: &Source,
        more: &[&str],
    ) -> Result<Compiled, String> {
        let architecture = format!("--gpu-architecture={}", source.architecture);
        let options: Vec<CString> = source
            .options
            .iter()
            .chain(more)
            .copied()
            .chain([architecture.as_str(), "--std=c++17"])
            .map(|option| CString::new(option).expect("an option has no zero; this is a bug"))
            .collect();
        let pointers: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: signatures as in NVRTC's header; all places and texts outlive the calls.
        unsafe {
            let compile = self.call::<unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int>(
                "nvrtcCompileProgram",
            )?;
            let code = compile(program, pointers.len() as c_int, pointers.as_ptr());
            let log = self.text(program, "nvrtcGetProgramLog").unwrap_or_default();
            // It ends with a zero.
            let log = String::from_utf8_lossy(&log).trim_end_matches(['\0', '\n']).to_owned();
            self.answered("nvrtcCompileProgram", code).map_err(|error| {
                let first = log.lines().find(|line| line.contains("error")).unwrap_or_default();
                format!("{error} {first}")
            })?;
            Ok(Compiled { cubin: self.text(program, "nvrtcGetCUBIN")?, log })
        }
    }

    /// # Safety
    /// `program` was made and not destroyed.
    unsafe fn text(&self, program: Program, name: &str) -> Result<Vec<u8>, String> {
        let mut size = 0usize;
        // SAFETY: signatures as in NVRTC's header; the bytes are as many as it said.
        unsafe {
            let get_size =
                self.call::<unsafe extern "C" fn(Program, *mut usize) -> c_int>(&format!("{name}Size"))?;
            self.answered(name, get_size(program, &mut size))?;
            let mut bytes = vec![0u8; size];
            let get = self.call::<unsafe extern "C" fn(Program, *mut u8) -> c_int>(name)?;
            self.answered(name, get(program, bytes.as_mut_ptr()))?;
            Ok(bytes)
        }
    }

    fn answered(&self, call: &str, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: signature as in NVRTC's header; it answers with a constant.
        let words = unsafe {
            self.call::<unsafe extern "C" fn(c_int) -> *const c_char>("nvrtcGetErrorString")
                .map(|get| CStr::from_ptr(get(code)).to_string_lossy().into_owned())
        };
        Err(format!("`{call}` answers {code}: {}", words.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_unless_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernels/0.cubin");
        assert_eq!(read(&path), None);
        write(&path, b"code").unwrap();
        assert_eq!(read(&path).unwrap(), b"code");
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[..HASH_BYTES], b""] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(read(&path), None);
        }
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(write(&folder.path().join("file/0.cubin"), b"code").is_err());
    }

    #[test]
    fn another_gpu_driver_option_or_text_has_another_key() {
        let source = |text, options, architecture: &str, driver| {
            Source { text, options, architecture: architecture.into(), driver }.key()
        };
        let one = source("a", &["-DBF16=1"], "sm_90", 13000);
        assert_eq!(one, source("a", &["-DBF16=1"], "sm_90", 13000));
        for other in [
            source("b", &["-DBF16=1"], "sm_90", 13000),
            source("a", &["-DBF16=0"], "sm_90", 13000),
            source("a", &["-DBF16=1"], "sm_121", 13000),
            source("a", &["-DBF16=1"], "sm_90", 13010),
        ] {
            assert_ne!(one, other);
        }
    }
}
