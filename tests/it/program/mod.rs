//! The program as people and scripts run it: its streams, files and exit codes.

mod assets;
mod batch;
mod control;
mod doctor;
mod doors;
mod generate;
mod hub;
mod images;
mod input;
mod kills;
mod libtorch;
mod metrics;
mod models;
mod pixelize;
mod pull;
mod reproduce;
mod streams;
mod telemetry;
mod torch;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

/// An empty folder to run the program in, on a machine without models, and a home.
struct Desk {
    folder: TempDir,
    home: TempDir,
}

/// What a run left behind.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Desk {
    fn new() -> Self {
        Desk { folder: tempfile::tempdir().unwrap(), home: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The names in the folder, sorted.
    fn files(&self) -> Vec<String> {
        names(self.folder.path())
    }

    fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(program());
        command.args(args).current_dir(self.folder.path()).env("HOME", self.home.path()).stdin(Stdio::null());
        for name in [
            "DGX_PIXELS_MODELS",
            "XDG_DATA_HOME",
            "XDG_STATE_HOME",
            "XDG_CACHE_HOME",
            "HF_HOME",
            "HF_HUB_CACHE",
        ] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
        Ran::of(&mut self.command(args))
    }

    /// `generate` with the sketch, in few steps and pixels; the picture itself, not its sprite.
    fn sketch(&self, args: &[&str]) -> Ran {
        let small =
            ["generate", "--raw", "--model", "sketch", "--width", "64", "--height", "64", "--steps", "2"];
        self.run([&small, args].concat())
    }

    /// The whole tiny model as `models/tiny`, in files that a test may spoil.
    fn add_model(&self, name: &str) -> PathBuf {
        let to = self.path(name);
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_sdxl_a"), &to);
        to
    }
}

impl Ran {
    fn of(command: &mut Command) -> Ran {
        let output = command.output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The lines of stdout as JSON.
    fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Asserts that the run failed with `code`, said `message` and nothing else, and printed
    /// nothing.
    #[track_caller]
    fn assert_failed(&self, code: i32, message: &str) {
        assert_eq!((self.code, self.stderr.as_str()), (Some(code), format!("error: {message}\n").as_str()));
        assert_eq!(self.stdout, "");
    }
}

/// The program in a folder of its own, away from the checkout's models, which it would find.
fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("alone");
        fs::create_dir_all(&folder).unwrap();
        let built = Path::new(env!("CARGO_BIN_EXE_dgx-pixels"));
        for file in [built, &built.with_file_name("libdgx_pixels_torch.so")] {
            let linked = folder.join(file.file_name().unwrap());
            let _ = fs::remove_file(&linked);
            fs::hard_link(file, &linked).unwrap_or_else(|error| {
                panic!("{}: {error}; `make torch` builds the object", file.display())
            });
        }
        folder.join("dgx-pixels")
    });
    &PROGRAM
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

pub(crate) fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        names(from).iter().for_each(|name| copy(&from.join(name), &to.join(name)));
    } else {
        fs::copy(from, to).unwrap();
    }
}
