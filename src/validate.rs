//! `dgx-pixels validate`: whether sprites are what a game can use.

use std::path::PathBuf;

use dgx_pixels_core::asset::{Report, Severity, validate};
use dgx_pixels_core::{Error, Reason};

use crate::failure::{Failure, counted};
use crate::output;

/// The text that `--help` prints after the flags.
pub(crate) const NOTES: &str = "\
Standard output has a line for each finding, with the way to fix it, and a last line with the
counts. A warning may be intended; an error is a failure. With --json there is one line:
{\"files\",\"errors\",\"warnings\",\"findings\":[{\"path\",\"severity\",\"check\",\"reason\",\"mend\"}]}

It checks the format, color type, size (16 to 4096), one-bit alpha, palette and name of an image,
and the certificate or the sheet's JSON beside it. It checks the form of a manifest, the hashes,
sizes and palettes of its images, its rectangles, and missing and orphan files.";

/// Check images, a manifest, or all of a folder.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// PNG files, manifests, or folders.
    #[arg(value_name = "DIR|FILE", required = true)]
    paths: Vec<PathBuf>,

    /// Print one JSON line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Says what is wrong.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut report = Report::default();
    for path in &args.paths {
        report.extend(validate(path).map_err(|error| match error {
            Error::NoFile { path, reason: words, cause } => Failure::input(path, Reason { words, cause }),
            error => error.into(),
        })?);
    }
    if args.json {
        output::say_json(&report)?;
    } else {
        for finding in &report.findings {
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            output::say(&format_args!(
                "{}: {severity}: {}; {}",
                finding.path.display(),
                finding.reason,
                finding.mend
            ))?;
        }
        let Report { files, errors, warnings, .. } = report;
        let told =
            [(files, "file"), (errors, "error"), (warnings, "warning")].map(|(n, what)| counted(n, what));
        output::say(&told.join(", "))?;
    }
    match report.errors {
        0 => Ok(()),
        errors => Err(Failure::Faults { errors }),
    }
}
