//! The folders that belong to this user, by the XDG Base Directory Specification, and to this
//! installation.

use std::env;
use std::ffi::CStr;
use std::fs;
use std::path::PathBuf;

/// `$XDG_DATA_HOME/dgx-pixels`, by default `~/.local/share/dgx-pixels`: models and assets. `None`
/// without a home.
///
/// # Example
/// ```
/// use dgx_pixels_core::folders;
/// // By the specification a relative path in the variable is ignored, so the result is absolute.
/// assert!(folders::data().is_none_or(|folder| folder.is_absolute() && folder.ends_with("dgx-pixels")));
/// ```
pub fn data() -> Option<PathBuf> {
    Some(of_xdg("XDG_DATA_HOME", ".local/share")?.join("dgx-pixels"))
}

/// `$XDG_CACHE_HOME/dgx-pixels`, by default `~/.cache/dgx-pixels`: what can be measured or made
/// again.
pub fn cache() -> Option<PathBuf> {
    Some(of_xdg("XDG_CACHE_HOME", ".cache")?.join("dgx-pixels"))
}

/// `$XDG_STATE_HOME/dgx-pixels`, by default `~/.local/state/dgx-pixels`: journals of jobs.
pub fn state() -> Option<PathBuf> {
    Some(of_xdg("XDG_STATE_HOME", ".local/state")?.join("dgx-pixels"))
}

/// The folder that the variable names, or the folder `inside` of the home. By the specification,
/// relative paths are ignored.
pub(crate) fn of_xdg(variable: &str, inside: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::home_dir().filter(|home| !home.as_os_str().is_empty());
    named.or_else(|| Some(home()?.join(inside)))
}

/// The folders of this code and of the program that runs it: two where this code is a library.
pub(crate) fn own_folders() -> Vec<PathBuf> {
    let mut folders = vec![];
    for file in [own_file(), env::current_exe().ok()].into_iter().flatten() {
        let folder = fs::canonicalize(file).ok().and_then(|file| file.parent().map(PathBuf::from));
        folders.extend(folder.filter(|folder| !folders.contains(folder)));
    }
    folders
}

/// The library or program that this function is part of.
fn own_file() -> Option<PathBuf> {
    // SAFETY: `dladdr` fills `info` alone; the path that it names lives as long as this code.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let found = libc::dladdr(own_file as *const () as *const libc::c_void, &mut info) != 0;
        let path = || CStr::from_ptr(info.dli_fname).to_string_lossy().into_owned().into();
        (found && !info.dli_fname.is_null()).then(path)
    }
}

/// The folders of installed Python packages, `site-packages`, that this code belongs to or may use:
/// the one that the package `dgx_pixels` lies in, if this code is part of it; that of the
/// environment whose program this is; and those of the environment that is active.
pub(crate) fn python_packages() -> Vec<PathBuf> {
    let own = own_folders();
    let in_package =
        own.iter().filter(|folder| folder.ends_with(PYTHON_PACKAGE)).filter_map(|it| it.parent());
    let roots = own.iter().filter(|folder| folder.ends_with("bin")).filter_map(|bin| bin.parent());
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let roots = roots.map(PathBuf::from).chain(active.filter(|root| root.is_absolute()));
    let versions = roots.flat_map(|root| fs::read_dir(root.join("lib"))).flatten().flatten();
    let is_python =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3"));
    let installed = versions.map(|entry| entry.path()).filter(is_python).map(|it| it.join("site-packages"));
    let mut packages: Vec<PathBuf> = vec![];
    for folder in in_package.map(PathBuf::from).chain(installed) {
        if !packages.contains(&folder) {
            packages.push(folder);
        }
    }
    packages
}

/// The Python package of this project.
pub(crate) const PYTHON_PACKAGE: &str = "dgx_pixels";
