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

/// Bytes before the machine code in a kept file: the BLAKE3 of what follows.
const HASH_BYTES: usize = 32;

/// What is to be compiled.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    /// As `-DBF16=1`.
    pub(super) options: &'a [&'a str],
    /// As `sm_90`; with an `a` behind it, for what only this one GPU has.
    pub(super) architecture: &'a str,
    /// The driver's CUDA.
    pub(super) driver: c_int,
}

/// Machine code for the GPU: kept from before, or compiled and kept.
pub(super) fn cubin(source: &Source) -> Result<Vec<u8>, String> {
    let kept = folders::cache().map(|cache| cache.join("kernels").join(format!("{}.cubin", source.key())));
    if let Some(cubin) = kept.as_deref().and_then(read) {
        return Ok(cubin);
    }
    let cubin = Nvrtc::open()?.compile(source)?;
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
struct Nvrtc(Library);

type Program = *mut c_void;

impl Nvrtc {
    fn open() -> Result<Nvrtc, String> {
        let mut places = vec![PathBuf::from(NVRTC)];
        if let Ok(torch) = libtorch_folder() {
            // In a libtorch archive, and beside torch's wheel.
            places.push(torch.join(NVRTC));
            places.push(torch.join("../../nvidia/cu13/lib").join(NVRTC));
        }
        for place in &places {
            // SAFETY: its initialisers ask nothing of us.
            if let Ok(library) = unsafe { Library::new(place) } {
                return Ok(Nvrtc(library));
            }
        }
        Err(format!("NVRTC, NVIDIA's compiler, is not installed (`{NVRTC}` is not found)"))
    }

    unsafe fn call<T>(&self, name: &str) -> Result<Symbol<'_, T>, String> {
        // SAFETY: the caller names a function of this type.
        unsafe { self.0.get(name.as_bytes()) }.map_err(|error| format!("NVRTC is too old: {error}"))
    }

    fn compile(&self, source: &Source) -> Result<Vec<u8>, String> {
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
            let compiled = self.compile_program(program, source);
            let destroy = self.call::<unsafe extern "C" fn(*mut Program) -> c_int>("nvrtcDestroyProgram")?;
            destroy(&mut program);
            compiled
        }
    }

    /// # Safety
    /// `program` was made and not destroyed.
    unsafe fn compile_program(&self, program: Program, source: &Source) -> Result<Vec<u8>, String> {
        let architecture = format!("--gpu-architecture={}", source.architecture);
        let options: Vec<CString> = source
            .options
            .iter()
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
            if code != 0 {
                let log = self.text(program, "nvrtcGetProgramLog").unwrap_or_default();
                let log = String::from_utf8_lossy(&log);
                let first = log.lines().find(|line| line.contains("error")).unwrap_or_default();
                return self
                    .answered("nvrtcCompileProgram", code)
                    .map_err(|error| format!("{error} {first}"))
                    .map(|()| vec![]);
            }
            self.text(program, "nvrtcGetCUBIN")
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
        let source =
            |text, options, architecture, driver| Source { text, options, architecture, driver }.key();
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
