//! `dgx-pixels validate`: whether sprites are what a game can use.

use std::path::PathBuf;

use dgx_pixels_core::asset::{Report, Severity, validate};
use dgx_pixels_core::{Error, Reason};

use crate::failure::{Failure, counted};
use crate::output;

/// What `--help` says after the flags.
pub(crate) const NOTES: &str = "\
Standard output has a line for each finding, with what mends it, and a last one that counts. Warnings may be meant; errors are a failure.
With --json there is one line: {\"files\",\"errors\",\"warnings\",\"findings\":[{\"path\",\"severity\",\"check\",\"reason\",\"mend\"}]}

Looked at are: format, colour type, size (16 to 4096), alpha of one bit, palette, names; what a certificate or a sheet's JSON beside a
picture says of it; and of a manifest its form, the hashes, sizes and palettes of its pictures, rectangles, missing and orphan files.";

/// Check pictures, a manifest, or all of a folder.
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
