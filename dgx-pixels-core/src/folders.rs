//! Where this user's programs keep things, by the XDG Base Directory Specification.

use std::env;
use std::path::PathBuf;

/// `$XDG_DATA_HOME/dgx-pixels`, by default `~/.local/share/dgx-pixels`: models and assets. `None` without a home.
pub fn data() -> Option<PathBuf> {
    Some(of_xdg("XDG_DATA_HOME", ".local/share")?.join("dgx-pixels"))
}

/// `$XDG_CACHE_HOME/dgx-pixels`, by default `~/.cache/dgx-pixels`: what can be measured or made again.
pub fn cache() -> Option<PathBuf> {
    Some(of_xdg("XDG_CACHE_HOME", ".cache")?.join("dgx-pixels"))
}

/// `$XDG_STATE_HOME/dgx-pixels`, by default `~/.local/state/dgx-pixels`: journals of jobs.
pub fn state() -> Option<PathBuf> {
    Some(of_xdg("XDG_STATE_HOME", ".local/state")?.join("dgx-pixels"))
}

/// What the variable names, or the folder `inside` of the home. The specification has relative paths ignored.
pub(crate) fn of_xdg(variable: &str, inside: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::home_dir().filter(|home| !home.as_os_str().is_empty());
    named.or_else(|| Some(home()?.join(inside)))
}
