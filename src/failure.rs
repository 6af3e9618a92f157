//! Failures of the program: one line for people, one word and one exit code for scripts.

use std::io;
use std::path::PathBuf;

use dgx_pixels_core::fields::FieldError;
pub(crate) use dgx_pixels_core::one_line;
use dgx_pixels_core::{Error, ErrorKind, Reason, ValueError};

use crate::interrupt::Interrupted;

/// The one word and the exit code of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// A kind that the library has too.
    Core(ErrorKind),
    /// An input cannot be read.
    Input,
    /// `reproduce` drew another image.
    Changed,
    /// `validate` found errors.
    Faults,
    /// The hub, or the way to it.
    Fetch,
}

impl FailureKind {
    /// All kinds.
    fn all() -> impl Iterator<Item = FailureKind> {
        let own = [FailureKind::Input, FailureKind::Changed, FailureKind::Faults, FailureKind::Fetch];
        ErrorKind::ALL.iter().copied().map(FailureKind::Core).chain(own)
    }

    /// The word, for example `invalid_request`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            FailureKind::Core(kind) => kind.as_str(),
            FailureKind::Input => "input",
            FailureKind::Changed => "changed",
            FailureKind::Faults => "faults",
            FailureKind::Fetch => "fetch",
        }
    }

    /// The program's exit code.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            FailureKind::Core(kind) => kind.exit_code(),
            FailureKind::Input => 8,
            FailureKind::Changed => 9,
            FailureKind::Faults => 16,
            FailureKind::Fetch => 23,
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            FailureKind::Core(ErrorKind::Internal) => {
                "a fault of the program or its installation; `doctor` found no model that can draw"
            }
            FailureKind::Core(kind) => kind.meaning(),
            FailureKind::Input => {
                "a file cannot be read, or an image cannot be made of it; of several, the others are made"
            }
            FailureKind::Changed => "`reproduce` drew another image",
            FailureKind::Faults => "`validate` found errors",
            FailureKind::Fetch => "a model cannot be fetched from the hub",
        }
    }
}

/// The exit codes for `--help`, in their order.
pub(crate) fn exit_codes() -> String {
    let mut kinds: Vec<_> = FailureKind::all().collect();
    kinds.sort_by_key(|kind| kind.exit_code());
    let mut text = "Exit codes:\n  0    done".to_owned();
    for kind in kinds {
        text += &format!("\n  {:<5}{}: {}", kind.exit_code(), kind.as_str(), kind.meaning());
    }
    text + "\n\nWith --json a failure is also the last line of standard output: {\"error\":{\"kind\",\"message\"}}"
}

/// The reason why a subcommand ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Not [`Error::Exists`], which is [`Failure::Exists`].
    #[error(transparent)]
    Core(Error),
    /// Flags that clap refuses, in its words.
    #[error("{0}")]
    Flags(String),
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("cannot read `{}`", path.display())]
    Input {
        path: PathBuf,
        #[source]
        reason: Reason,
    },
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
    #[error("cannot write `{}`", path.display())]
    Output {
        path: PathBuf,
        #[source]
        reason: Reason,
    },
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The hub does not give a repository's files.
    #[error("cannot fetch `{name}`")]
    Fetch {
        name: String,
        #[source]
        reason: Reason,
    },
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

impl From<Interrupted> for Failure {
    fn from(Interrupted: Interrupted) -> Failure {
        Failure::Interrupted
    }
}

impl From<ValueError> for Failure {
    fn from(error: ValueError) -> Failure {
        Failure::Core(error.into())
    }
}

impl Failure {
    /// A [`Failure::Input`].
    pub(crate) fn input(path: impl Into<PathBuf>, reason: impl Into<Reason>) -> Failure {
        Failure::Input { path: path.into(), reason: reason.into() }
    }

    /// A [`Failure::Output`].
    pub(crate) fn output(path: impl Into<PathBuf>, reason: impl Into<Reason>) -> Failure {
        Failure::Output { path: path.into(), reason: reason.into() }
    }

    /// The kind, which decides the word and the exit code.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Failure::Core(error) => FailureKind::Core(error.kind()),
            Failure::Flags(_) | Failure::Field(_) | Failure::Lines { .. } => {
                FailureKind::Core(ErrorKind::InvalidRequest)
            }
            Failure::Input { .. } | Failure::Some { .. } => FailureKind::Input,
            Failure::Exists { .. }
            | Failure::Unfinished { .. }
            | Failure::Output { .. }
            | Failure::Write { .. }
            | Failure::Stdout(_) => FailureKind::Core(ErrorKind::Output),
            Failure::Changed(_) => FailureKind::Changed,
            Failure::Fetch { .. } => FailureKind::Fetch,
            Failure::Faults { .. } => FailureKind::Faults,
            Failure::Interrupted | Failure::Paused { .. } => FailureKind::Core(ErrorKind::Cancelled),
        }
    }
}

/// Returns the count with its noun, for example `1 image` or `7 images`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn help_lists_each_kind_once_with_a_code_of_its_own() {
        let help = exit_codes();
        let codes: HashSet<_> = FailureKind::all().map(FailureKind::exit_code).collect();
        assert_eq!(codes.len(), FailureKind::all().count());
        for kind in FailureKind::all() {
            let line = format!("\n  {:<5}{}: ", kind.exit_code(), kind.as_str());
            assert_eq!(help.matches(&line).count(), 1, "{line:?}");
        }
    }

    #[test]
    fn the_programs_own_kinds_keep_their_words_and_codes() {
        let own = |failure: Failure| (failure.kind().as_str(), failure.kind().exit_code());
        assert_eq!(own(Failure::input("key.png", "no")), ("input", 8));
        assert_eq!(own(Failure::Changed("no".into())), ("changed", 9));
        assert_eq!(own(Failure::Faults { errors: 1 }), ("faults", 16));
        let reason = "no".into();
        assert_eq!(own(Failure::Fetch { name: "org/frog".into(), reason }), ("fetch", 23));
        assert_eq!(own(Failure::Interrupted), ("cancelled", 130));
        assert_eq!(own(Error::Exists { path: "key.png".into() }.into()), ("output", 7));
        assert_eq!(own(Error::ShutDown.into()), ("shut_down", 12));
    }

    #[test]
    fn causes_follow_in_the_same_line() {
        let source = io::Error::other("the disk\nis full");
        let failure = Failure::Write { path: "key.png".into(), source };
        assert_eq!(one_line(&failure), "cannot write `key.png`: the disk is full");
    }
}
