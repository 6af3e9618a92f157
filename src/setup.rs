//! `dgx-pixels setup`: fetches libtorch into the user's data folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dgx_pixels_core::abi::LIBTORCH_VERSION;
use dgx_pixels_core::loaded::setup_folder;

use crate::failure::Failure;
use crate::interrupt;
use crate::output::{note, say_path};

/// The end of the text of `--help`.
pub(crate) const NOTES: &str = "\
pip fetches torch 2.11.0 and the libraries that it needs, into
`$XDG_DATA_HOME/dgx-pixels/libtorch-2.11.0`. Nothing else is changed. That libtorch is then used,
unless `LIBTORCH` names another. `dgx-pixels doctor` says which one is used.";

/// Libraries of CUDA's that libtorch needs on every machine.
const ALWAYS: [&str; 2] = ["nvidia-cuda-runtime==13.0.*", "nvidia-cuda-cupti==13.0.*"];

/// Fetch libtorch into your data folder, with the CUDA libraries if you have an NVIDIA GPU.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fetch the CUDA libraries too, which only a GPU needs: 2 GB more to download.
    #[arg(long)]
    cuda: bool,

    /// The Python whose pip fetches: 3.10 to 3.14.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,

    /// Fetch again where libtorch is there already.
    #[arg(long)]
    force: bool,
}

/// Fetches, and prints the folder.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let folder = setup_folder().ok_or_else(|| {
        Failure::Flags("there is no home folder to fetch libtorch into; set `XDG_DATA_HOME`".into())
    })?;
    if is_there(&folder, args.cuda) && !args.force {
        note(format_args!("libtorch {LIBTORCH_VERSION} is there already; `--force` fetches it again"));
        return say_path(&folder);
    }
    let parent = folder.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(|error| Failure::output(parent, error))?;
    // Whole or not at all: what an interrupted run has fetched is never taken for libtorch.
    let fetched = tempfile::Builder::new().prefix("libtorch-").tempdir_in(parent);
    let fetched = fetched.map_err(|error| Failure::output(parent, error))?;
    interrupt::listen();
    fetch(args, fetched.path())?;
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| Failure::output(&folder, error))?;
    }
    fs::rename(fetched.keep(), &folder).map_err(|error| Failure::output(&folder, error))?;
    say_path(&folder)
}

/// `true` if `folder` holds libtorch, and with `cuda` one of the libraries that only a GPU needs.
fn is_there(folder: &Path, cuda: bool) -> bool {
    folder.join("torch/lib/libtorch_cpu.so").exists() && (!cuda || folder.join("nvidia/cudnn").exists())
}

fn fetch(args: &Args, into: &Path) -> Result<(), Failure> {
    let mut pip = Command::new(&args.python);
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--target"]).arg(into);
    pip.arg(format!("torch=={LIBTORCH_VERSION}")).stdin(Stdio::null()).stdout(Stdio::null());
    if !args.cuda {
        pip.arg("--no-deps").args(ALWAYS);
    }
    let status = pip.status().map_err(|error| {
        let python = args.python.display();
        Failure::Flags(format!(
            "`{python}` cannot be started: {error}; install Python 3.10 to 3.14 with pip, or name one with `--python`"
        ))
    })?;
    interrupt::check()?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Flags(format!("`{} -m pip` failed, see above; nothing was changed", args.python.display())))
}
