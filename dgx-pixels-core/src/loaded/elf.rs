//! The facts that a shared library states about itself, read without loading it.
//!
//! Loading a damaged library can kill the process: the loader maps segments that the file does not
//! have. So its size is held against its headers first.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;
use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, Sym};

/// The machine that this program runs on, as libraries name it.
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { elf::EM_AARCH64 } else { elf::EM_X86_64 };

/// A shared library that is whole and for this machine.
pub(super) struct Library(Mmap);

impl Library {
    /// # Errors
    /// The reason why the file cannot be loaded, in words that follow its path.
    pub(super) fn read(path: &Path) -> Result<Library, String> {
        let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
        // SAFETY: only headers and names are read; a file that another process cuts meanwhile would
        // end this one, as it would when it is loaded.
        let library =
            Library(unsafe { Mmap::map(&file) }.map_err(|error| format!("cannot be read: {error}"))?);
        library.check()?;
        Ok(library)
    }

    fn header(&self) -> Result<(&FileHeader64<Endianness>, Endianness), String> {
        let damaged = |error| format!("is no shared library: {error}");
        let header = FileHeader64::<Endianness>::parse(&*self.0).map_err(damaged)?;
        Ok((header, header.endian().map_err(damaged)?))
    }

    fn check(&self) -> Result<(), String> {
        let (header, endian) = self.header()?;
        if header.e_machine(endian) != MACHINE {
            return Err(format!("is for another machine; expected {}", std::env::consts::ARCH));
        }
        let len = self.0.len() as u64;
        let segments =
            header.program_headers(endian, &*self.0).map_err(|error| format!("is damaged: {error}"))?;
        let ends = segments.iter().map(|one| one.p_offset(endian).saturating_add(one.p_filesz(endian)));
        // The table of sections comes last, in a file that is whole.
        let table = u64::from(header.e_shentsize(endian)) * u64::from(header.e_shnum(endian));
        let table = header.e_shoff(endian).saturating_add(table);
        match ends.max().map(|end| end.max(table)) {
            Some(end) if end <= len => Ok(()),
            Some(end) => Err(format!("is cut off: it has {len} bytes, and its headers name {end}")),
            None => Err("is no shared library: it has no segments".into()),
        }
    }

    /// The names of exported symbols that begin with `stem`.
    pub(super) fn exports(&self, stem: &str) -> Result<Vec<String>, String> {
        let (header, endian) = self.header()?;
        let damaged = |error| format!("is damaged: {error}");
        let sections = header.sections(endian, &*self.0).map_err(damaged)?;
        let symbols = sections.symbols(endian, &*self.0, elf::SHT_DYNSYM).map_err(damaged)?;
        let defined = symbols.iter().filter(|symbol| symbol.st_shndx(endian) != elf::SHN_UNDEF);
        let names = defined.filter_map(|symbol| symbol.name(endian, symbols.strings()).ok());
        let names = names.filter_map(|name| std::str::from_utf8(name).ok());
        Ok(names.filter(|name| name.starts_with(stem)).map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// This test's own program: an ELF file with dynamic symbols or without, but with segments.
    fn program() -> Vec<u8> {
        fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    fn fault(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        fs::write(&path, bytes).unwrap();
        Library::read(&path).err().expect("a fault")
    }

    #[test]
    fn a_whole_library_is_taken() {
        let library = Library::read(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(library.exports("no symbol begins so").unwrap(), [""; 0]);
    }

    #[test]
    fn a_library_that_is_cut_off_is_refused_before_it_is_mapped() {
        let whole = program();
        assert!(fault(&whole[..whole.len() / 16]).starts_with("is cut off: it has "));
        assert!(fault(&whole[..40]).starts_with("is no shared library"));
        assert!(fault(b"not a library").starts_with("is no shared library"));
        assert!(fault(b"").starts_with("cannot be read") || fault(b"").starts_with("is no shared library"));
    }

    #[test]
    fn a_library_of_another_machine_is_named_so() {
        let mut other = program();
        // `e_machine`, of RISC-V.
        other[18..20].copy_from_slice(&elf::EM_RISCV.to_le_bytes());
        let expected = format!("is for another machine; expected {}", std::env::consts::ARCH);
        assert_eq!(fault(&other), expected);
    }
}
