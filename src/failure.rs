//! Why the program gives up: one line for people, one word and one exit code for scripts.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use dgx_pixels_core::fields::FieldError;
use dgx_pixels_core::{Error, ErrorKind};
use serde_json::json;

use crate::{interrupt, output};

/// The exit codes, as `--help` tells them. [`Failure::exit_code`] is the same table.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    internal: a fault of ours or of the installation; from `doctor`: no model can be drawn with
  2    invalid_request: a flag or its value
  3    invalid_model: no model, several to choose from, or its files are not what they should be
  4    device_unavailable: the device asked for is not there
  5    out_of_memory
  6    not_finite: the arithmetic left the number range; no picture is written
  7    output: the picture cannot be written
  8    input: a file cannot be read, or a picture not made; of several, the others were
  9    changed: `reproduce` made another picture
  10   queue_full: as many pictures wait as may; try again
  11   deadline_exceeded: it took longer than it may
  12   shut_down: the engine stopped before the picture was made
  13   not_found: an asset or a file that is not there, or not as it was
  14   forbidden_path: a path out of the folders that may be used
  15   library_full: as many assets are kept as may be
  16   faults: `validate` found what a game would stumble over
  17   process_died: the process died each time that the job ran
  18   empty_sprite: no draw gave a sprite with a visible pixel
  19   quota_exceeded: as much of one client waits as may; try again
  130  cancelled: Ctrl-C

With --json a failure is also the last line of standard output: {\"error\":{\"kind\",\"message\"}}";

/// What ends a subcommand early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Not [`Error::Exists`], which is [`Failure::Exists`].
    #[error(transparent)]
    Core(Error),
    /// What clap refuses, in its words.
    #[error("{0}")]
    Flags(String),
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("cannot read `{}`: {reason}", path.display())]
    Input { path: PathBuf, reason: String },
    /// The faults themselves are told before.
    #[error("`{}` has {}; nothing was drawn", path.display(), counted(*faults, "fault"))]
    Lines { path: PathBuf, faults: usize },
    #[error("{failed} of {of} pictures could not be made; the others were")]
    Some { failed: usize, of: usize },
    #[error("`{}` already exists; give `--force` to replace it, or another `--output`", path.display())]
    Exists { path: PathBuf },
    #[error(
        "`{}` holds a batch of which {made} of {} are made; give `--resume` to go on, `--force` to begin anew, or another `--output`",
        path.display(), counted(*of, "picture")
    )]
    Unfinished { path: PathBuf, made: usize, of: usize },
    #[error("cannot write `{}`: {reason}", path.display())]
    Output { path: PathBuf, reason: String },
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// `reproduce` made something else. The text is whole: it says what has changed.
    #[error("{0}")]
    Changed(String),
    /// `validate` has told them.
    #[error("{} found", counted(*errors, "error"))]
    Faults { errors: usize },
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
    #[error("interrupted; no picture is left half written")]
    Interrupted,
    /// Ctrl-C during a batch.
    #[error("interrupted; {made} of {} are made; `{command}` goes on", counted(*of, "picture"))]
    Paused { made: usize, of: usize, command: String },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Exists { path } => Failure::Exists { path },
            error => Failure::Core(error),
        }
    }
}

impl Failure {
    /// The one word: a core error's own, `input`, `output`, `changed` or `faults`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Failure::Core(error) => error.kind().as_str(),
            Failure::Flags(_) | Failure::Field(_) | Failure::Lines { .. } => {
                ErrorKind::InvalidRequest.as_str()
            }
            Failure::Input { .. } | Failure::Some { .. } => "input",
            Failure::Exists { .. }
            | Failure::Unfinished { .. }
            | Failure::Output { .. }
            | Failure::Write { .. }
            | Failure::Stdout(_) => "output",
            Failure::Changed(_) => "changed",
            Failure::Faults { .. } => "faults",
            Failure::Interrupted | Failure::Paused { .. } => ErrorKind::Cancelled.as_str(),
        }
    }

    /// As [`EXIT_CODES`] tells.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.kind() {
            "invalid_request" => 2,
            "invalid_model" => 3,
            "device_unavailable" => 4,
            "out_of_memory" => 5,
            "not_finite" => 6,
            "output" => 7,
            "input" => 8,
            "changed" => 9,
            "queue_full" => 10,
            "deadline_exceeded" => 11,
            "shut_down" => 12,
            "not_found" => 13,
            "forbidden_path" => 14,
            "library_full" => 15,
            "faults" => 16,
            "process_died" => 17,
            "empty_sprite" => 18,
            "quota_exceeded" => 19,
            "cancelled" => interrupt::EXIT_CODE,
            _ => 1,
        }
    }

    /// Says why on stderr in one line, with `json` on stdout too, and gives the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let message = one_line(self);
        output::note(format_args!("error: {message}"));
        if json {
            // Nobody is left to be told that stdout does not take it.
            let _ = output::say_json(&json!({ "error": { "kind": self.kind(), "message": message } }));
        }
        if self.exit_code() == interrupt::EXIT_CODE {
            interrupt::exit_now();
        }
        ExitCode::from(self.exit_code())
    }
}

/// As `1 picture` or `7 pictures`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The error and its causes in one line, joined by `: `.
pub(crate) fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn help_tells_the_code_of_each_kind() {
        let path = PathBuf::from("key.png");
        let core = |error| Failure::Core(error);
        let failures = [
            core(Error::Internal { doing: "loading", message: "no".into() }),
            FieldError::new("seed", "no").into(),
            core(Error::ModelChoice("none".into())),
            core(Error::Device { device: "cuda:7".into(), reason: "no".into() }),
            core(Error::OutOfMemory { device: "cpu".into(), doing: "decoding" }),
            core(Error::NotFinite { what: "the picture", dtype: "f16" }),
            Error::Exists { path }.into(),
            Failure::Changed("no".into()),
            core(Error::QueueFull { waiting: 9, capacity: 9, retry_after: Duration::ZERO }),
            core(Error::DeadlineExceeded { deadline: Duration::ZERO, steps_done: 1, steps: 2 }),
            core(Error::ShutDown),
            core(Error::ProcessDied { deaths: 2, alone: 2, place: None }),
            core(Error::EmptySprite { seeds: vec![7, 8] }),
            core(Error::QuotaExceeded {
                client: "one".into(),
                used: 3,
                allowed: 2,
                unit: "jobs",
                retry_after: Duration::ZERO,
            }),
            core(Error::NoAsset { id: "key".into() }),
            core(Error::ForbiddenPath { path: "/key.png".into(), reason: "no".into(), roots: vec![] }),
            core(Error::LibraryFull { root: "/".into(), used: "2".into(), allowed: "1".into() }),
            Failure::Faults { errors: 1 },
            core(Error::Cancelled { steps_done: 1, steps: 2 }),
        ];
        for failure in failures {
            let line = format!("\n  {:<5}{}", failure.exit_code(), failure.kind());
            assert!(EXIT_CODES.contains(&line), "{line:?}");
        }
    }

    #[test]
    fn causes_follow_in_the_same_line() {
        let source = io::Error::other("the disk\nis full");
        let failure = Failure::Write { path: "key.png".into(), source };
        assert_eq!(one_line(&failure), "cannot write `key.png`: the disk is full");
    }
}
