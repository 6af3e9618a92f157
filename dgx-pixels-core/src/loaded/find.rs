//! The places of the object and of libtorch, in the order in which they are looked for.
//!
//! A folder of somebody else's is never one of them: the current folder is not, and neither are its
//! parents. What is loaded runs with the user's rights.

use std::env;
use std::ffi::CStr;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde::Serialize;

use super::elf::Library;
use super::has_libtorch;
use crate::abi::{ENTRY, ENTRY_STEM, FILE_NAME, LIBTORCH_VERSION, VERSION};
use crate::folders;

/// The environment variable that names the object, or the folder that it lies in.
const OBJECT_VARIABLE: &str = "DGX_PIXELS_TORCH";
/// The environment variable that names libtorch's folder, the one with `lib` in it.
const LIBTORCH_VARIABLE: &str = "LIBTORCH";

/// The reason why a file is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// This process has loaded it already, for example because Python has imported torch.
    Loaded,
    /// An environment variable names it: `DGX_PIXELS_TORCH` or `LIBTORCH`.
    Variable,
    /// The file lies beside the program, or in `../lib`; libtorch may also lie beside the object.
    Beside,
    /// The file belongs to the active Python environment, or to the `python3` on `PATH`.
    Python,
    /// `.torch` in a folder above the object or the program: a checkout of this project.
    Checkout,
    /// `dgx-pixels setup` has fetched it into the user's data folder.
    Setup,
}

/// The object and libtorch as they would be loaded now, by files alone.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The object, or what is wrong with it.
    pub object: Result<(PathBuf, Origin), String>,
    /// The folder with `libtorch_cpu.so`, or what is wrong.
    pub libtorch: Result<(PathBuf, Origin), String>,
    /// `true` if this libtorch can use GPUs.
    pub has_cuda: bool,
}

/// Says what would be loaded, or what is missing, without loading anything.
pub fn report() -> Report {
    let object = object();
    let libtorch = libtorch(object.as_ref().ok().map(|(path, _)| path.as_path()));
    let has_cuda = libtorch.as_ref().is_ok_and(|(folder, _)| folder.join("libtorch_cuda.so").is_file());
    Report { object, libtorch, has_cuda }
}

/// The object, checked.
pub(super) fn object() -> Result<(PathBuf, Origin), String> {
    let (path, origin) = match env::var_os(OBJECT_VARIABLE).filter(|value| !value.is_empty()) {
        Some(named) => {
            let named = PathBuf::from(named);
            let path = if named.is_dir() { named.join(FILE_NAME) } else { named };
            (path, Origin::Variable)
        }
        None => {
            let places = object_places();
            let found = places.iter().find(|(path, _)| path.is_file()).cloned();
            found.ok_or_else(|| {
                let places: Vec<_> = places.iter().map(|(path, _)| format!("`{}`", path.display())).collect();
                format!(
                    "`{FILE_NAME}` is not found; it was looked for as {}. Build it with `make torch` in a checkout, unpack \
                     a release, or name it in `{OBJECT_VARIABLE}`",
                    places.join(", ")
                )
            })?
        }
    };
    match check_object(&path) {
        Ok(()) => Ok((path, origin)),
        Err(fault) if origin == Origin::Variable => {
            Err(format!("`{OBJECT_VARIABLE}` names `{}`, which {fault}", path.display()))
        }
        Err(fault) => Err(format!("`{}` {fault}", path.display())),
    }
}

fn check_object(path: &Path) -> Result<(), String> {
    let entries = Library::read(path)?.exports(ENTRY_STEM)?;
    if entries.iter().any(|entry| entry == ENTRY) {
        return Ok(());
    }
    let versions: Vec<_> = entries.iter().filter_map(|entry| entry.strip_prefix(ENTRY_STEM)).collect();
    Err(match versions.as_slice() {
        [] => format!("is not `{FILE_NAME}`: it has no symbol `{ENTRY}`"),
        versions => format!(
            "is of another version: its border has version {}, and this program needs {VERSION}. Install both from one \
             release",
            versions.join(" and ")
        ),
    })
}

fn object_places() -> Vec<(PathBuf, Origin)> {
    let mut places = vec![];
    for folder in folders::own_folders() {
        places.push((folder.join(FILE_NAME), Origin::Beside));
        // Cargo builds examples into a folder below that of the programs.
        let programs = folder.parent().filter(|_| folder.ends_with("examples"));
        places.extend(programs.map(|programs| (programs.join(FILE_NAME), Origin::Beside)));
        places.extend(folder.parent().map(|parent| (parent.join("lib").join(FILE_NAME), Origin::Beside)));
    }
    let packages = folders::python_packages().into_iter();
    let package = |packages: PathBuf| packages.join(folders::PYTHON_PACKAGE);
    places.extend(packages.map(|packages| (package(packages).join(FILE_NAME), Origin::Python)));
    places
}

/// The folder with `libtorch_cpu.so`, for the object at `object`.
pub(super) fn libtorch(object: Option<&Path>) -> Result<(PathBuf, Origin), String> {
    if let Some(folder) = loaded_libtorch() {
        return match version_in(&folder) {
            Some(version) if version != LIBTORCH_VERSION => Err(format!(
                "this process has loaded libtorch {version} from `{}`; expected {LIBTORCH_VERSION}",
                folder.display()
            )),
            _ => Ok((folder, Origin::Loaded)),
        };
    }
    if let Some(named) = env::var_os(LIBTORCH_VARIABLE).filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        let folder = has_libtorch(named.join("lib")).or_else(|| has_libtorch(named.clone())).ok_or_else(|| {
            format!(
                "`{LIBTORCH_VARIABLE}` names `{}`, which holds no `lib/libtorch_cpu.so`; unset it, or name libtorch \
                 {LIBTORCH_VERSION}",
                named.display()
            )
        })?;
        return match version_in(&folder) {
            Some(version) if version != LIBTORCH_VERSION => Err(format!(
                "`{LIBTORCH_VARIABLE}` names `{}`, which is libtorch {version}; expected {LIBTORCH_VERSION}",
                named.display()
            )),
            _ => Ok((folder, Origin::Variable)),
        };
    }
    let mut passed_over = vec![];
    let places = libtorch_places(object).into_iter();
    for (folder, origin) in places.chain(iter::once_with(python_on_path).flatten()) {
        let Some(folder) = has_libtorch(folder) else { continue };
        match version_in(&folder) {
            Some(version) if version != LIBTORCH_VERSION => {
                passed_over.push(format!("`{}` is {version}", folder.display()));
            }
            _ => return Ok((folder, origin)),
        }
    }
    let passed_over = match passed_over.as_slice() {
        [] => String::new(),
        others => format!(" ({})", others.join(", ")),
    };
    Err(format!(
        "no libtorch {LIBTORCH_VERSION} is found{passed_over}; `dgx-pixels setup` fetches it, or name one in \
         `{LIBTORCH_VARIABLE}`"
    ))
}

fn libtorch_places(object: Option<&Path>) -> Vec<(PathBuf, Origin)> {
    let mut places = vec![];
    let object = object.and_then(|path| fs::canonicalize(path).ok());
    let folder = object.as_deref().and_then(Path::parent);
    // In a Python package libtorch is the one that Python would load.
    let beside_package = folder.and_then(Path::parent).map(|packages| packages.join("torch/lib"));
    places.extend(beside_package.map(|place| (place, Origin::Python)));
    places.extend(setup_folder().map(|folder| (folder.join("torch/lib"), Origin::Setup)));
    places.extend(folder.map(|folder| (folder.into(), Origin::Beside)));
    let own = folders::own_folders();
    let own_libraries = own.iter().filter_map(|folder| Some(folder.parent()?.join("lib")));
    places.extend(own.iter().cloned().chain(own_libraries).map(|folder| (folder, Origin::Beside)));
    let packages = folders::python_packages().into_iter();
    places.extend(packages.map(|packages| (packages.join("torch/lib"), Origin::Python)));
    let above = folder.into_iter().chain(own.iter().map(PathBuf::as_path)).flat_map(Path::ancestors);
    places.extend(above.map(|folder| (folder.join(".torch/lib"), Origin::Checkout)));
    places
}

/// The folder that `dgx-pixels setup` installs libtorch's packages into.
pub fn setup_folder() -> Option<PathBuf> {
    Some(folders::data()?.join(format!("libtorch-{LIBTORCH_VERSION}")))
}

/// The torch of `python3`, which has to be started to be asked: the last resort, and asked once.
fn python_on_path() -> Option<(PathBuf, Origin)> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let ask = || {
        let script = "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])";
        let mut python = Command::new("python3");
        // Isolated: neither the current folder nor a variable of Python's decides what is found.
        python.args(["-I", "-c", script]).stdin(Stdio::null()).stderr(Stdio::null());
        let output = python.output().ok().filter(|output| output.status.success())?;
        let folder = String::from_utf8(output.stdout).ok()?;
        Some(PathBuf::from(folder.trim_end()).join("lib"))
    };
    FOLDER.get_or_init(ask).clone().map(|folder| (folder, Origin::Python))
}

/// The folder of the libtorch that this process has loaded.
fn loaded_libtorch() -> Option<PathBuf> {
    use libloading::os::unix::{Library, RTLD_LAZY};
    // SAFETY: with RTLD_NOLOAD nothing is loaded and no initialiser runs; `dladdr` fills `info`
    // alone.
    unsafe {
        let library = Library::open(Some("libtorch_cpu.so"), RTLD_LAZY | libc::RTLD_NOLOAD).ok()?;
        // `at::get_num_threads()`, as a symbol that every libtorch has.
        let symbol = library.get::<unsafe extern "C" fn()>(b"_ZN2at15get_num_threadsEv").ok()?;
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(*symbol as *const libc::c_void, &mut info) == 0 {
            return None;
        }
        let path = PathBuf::from(CStr::from_ptr(info.dli_fname).to_string_lossy().into_owned());
        path.parent().map(PathBuf::from)
    }
}

/// The version that the package around `folder` states; `None` if it states none.
fn version_in(folder: &Path) -> Option<String> {
    let package = folder.parent()?;
    let stated = match fs::read_to_string(package.join("version.py")) {
        Ok(text) => {
            let line = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
            line.trim_matches(['\'', '"']).to_owned()
        }
        Err(_) => fs::read_to_string(package.join("build-version")).ok()?,
    };
    Some(stated.trim().split('+').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like libtorch of `version`, stated in the file `stated_in`.
    fn libtorch_in(folder: &Path, stated_in: &str, version: &str) -> PathBuf {
        fs::create_dir_all(folder.join("lib")).unwrap();
        fs::write(folder.join("lib/libtorch_cpu.so"), "").unwrap();
        fs::write(folder.join(stated_in), version).unwrap();
        folder.join("lib")
    }

    #[test]
    fn a_version_is_read_from_a_wheel_and_from_an_archive() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = libtorch_in(
            &folder.path().join("wheel"),
            "version.py",
            "from typing import Optional\n\n__version__ = '2.11.0+cu130'\n",
        );
        let archive = libtorch_in(&folder.path().join("archive"), "build-version", "2.13.0+cpu\n");
        assert_eq!(version_in(&wheel).as_deref(), Some("2.11.0"));
        assert_eq!(version_in(&archive).as_deref(), Some("2.13.0"));
        assert_eq!(version_in(folder.path()), None);
    }

    #[test]
    fn a_checkout_is_looked_for_above_the_object_and_never_above_the_current_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let object = root.join("target/release").join(FILE_NAME);
        fs::create_dir_all(object.parent().unwrap()).unwrap();
        fs::write(&object, "").unwrap();
        let places = libtorch_places(Some(&object));
        assert!(places.contains(&(root.join("target/release"), Origin::Beside)));
        assert!(places.contains(&(root.join(".torch/lib"), Origin::Checkout)));
        let here = env::current_dir().unwrap();
        assert!(libtorch_places(None).iter().all(|(place, _)| !place.starts_with(&here)));
    }
}
