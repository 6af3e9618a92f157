//! `dgx-pixels`, the program: its flags and exit codes. One file a subcommand.

mod batch;
mod bench;
mod completions;
mod deploy;
mod doctor;
mod drawing;
mod failure;
mod follow;
mod generate;
mod interrupt;
mod metrics;
mod models;
mod order;
mod output;
mod picture;
mod pixelize;
mod progress;
mod pull;
mod report;
mod reproduce;
mod setup;
mod sheet;
mod terminal;
mod validate;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use dgx_pixels_core::telemetry::{LogStyle, Telemetry};

use crate::failure::{Failure, exit_codes};
use crate::report::report;

/// Game-ready pixel art from a prompt, on your own machine.
#[derive(Parser)]
#[command(name = "dgx-pixels", bin_name = "dgx-pixels", version, after_help = exit_codes(), max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(after_help = format!("{}\n\n{}", generate::NOTES, exit_codes()))]
    Generate(generate::Args),
    #[command(after_help = format!("{}\n\n{}", batch::NOTES, exit_codes()))]
    Batch(batch::Args),
    #[command(after_help = format!("{}\n\n{}", pixelize::NOTES, exit_codes()))]
    Pixelize(pixelize::Args),
    #[command(after_help = format!("{}\n\n{}", reproduce::NOTES, exit_codes()))]
    Reproduce(reproduce::Args),
    #[command(after_help = format!("{}\n\n{}", deploy::NOTES, exit_codes()))]
    Deploy(deploy::Args),
    #[command(after_help = format!("{}\n\n{}", sheet::NOTES, exit_codes()))]
    Sheet(sheet::Args),
    #[command(after_help = format!("{}\n\n{}", validate::NOTES, exit_codes()))]
    Validate(validate::Args),
    #[command(after_help = format!("{}\n\n{}", bench::NOTES, exit_codes()))]
    Bench(bench::Args),
    #[command(after_help = exit_codes())]
    Models(models::Args),
    #[command(after_help = format!("{}\n\n{}", pull::NOTES, exit_codes()))]
    Pull(pull::Args),
    #[command(after_help = format!("{}\n\n{}", metrics::NOTES, exit_codes()))]
    Metrics(metrics::Args),
    #[command(after_help = exit_codes())]
    Doctor(doctor::Args),
    #[command(after_help = format!("{}\n\n{}", setup::NOTES, exit_codes()))]
    Setup(setup::Args),
    #[command(after_help = exit_codes())]
    Completions(completions::Args),
}

impl Command {
    /// The name of the subcommand on the command line.
    fn name(&self) -> &'static str {
        match self {
            Command::Generate(_) => "generate",
            Command::Batch(_) => "batch",
            Command::Pixelize(_) => "pixelize",
            Command::Reproduce(_) => "reproduce",
            Command::Deploy(_) => "deploy",
            Command::Sheet(_) => "sheet",
            Command::Validate(_) => "validate",
            Command::Bench(_) => "bench",
            Command::Models(_) => "models",
            Command::Pull(_) => "pull",
            Command::Metrics(_) => "metrics",
            Command::Doctor(_) => "doctor",
            Command::Setup(_) => "setup",
            Command::Completions(_) => "completions",
        }
    }
}

fn main() -> ExitCode {
    // What the library warns of; its faults are told as ours.
    let style = LogStyle { filter: "dgx_pixels_core=warn,opentelemetry_sdk=warn", full: false };
    let _telemetry = Telemetry::begin("dgx-pixels", style);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version, which clap prints itself.
        Err(error)
            if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            error.exit()
        }
        Err(error) => {
            let json = std::env::args_os().any(|arg| arg == "--json");
            return report(&Failure::Flags(one_line(&error)), json);
        }
    };
    let _span = tracing::info_span!("command", otel.name = cli.command.name()).entered();
    let (json, result) = match &cli.command {
        Command::Generate(args) => (args.json, generate::run(args).map(|()| ExitCode::SUCCESS)),
        Command::Batch(args) => (args.json, batch::run(args).map(|()| ExitCode::SUCCESS)),
        Command::Pixelize(args) => (args.json, pixelize::run(args).map(|()| ExitCode::SUCCESS)),
        Command::Reproduce(args) => (args.json, reproduce::run(args).map(|()| ExitCode::SUCCESS)),
        Command::Deploy(args) => (args.json, deploy::run(args).map(|()| ExitCode::SUCCESS)),
        Command::Sheet(args) => (args.json, sheet::run(args).map(|()| ExitCode::SUCCESS)),
        Command::Validate(args) => (args.json, validate::run(args).map(|()| ExitCode::SUCCESS)),
        Command::Bench(args) => (args.json, bench::run(args).map(|()| ExitCode::SUCCESS)),
        Command::Models(args) => (args.json, models::run(args).map(|()| ExitCode::SUCCESS)),
        Command::Pull(args) => (args.json, pull::run(args).map(|()| ExitCode::SUCCESS)),
        Command::Metrics(args) => (false, metrics::run(args).map(|()| ExitCode::SUCCESS)),
        Command::Doctor(args) => (args.json, doctor::run(args)),
        Command::Setup(args) => (false, setup::run(args).map(|()| ExitCode::SUCCESS)),
        Command::Completions(args) => (false, completions::run::<Cli>(args).map(|()| ExitCode::SUCCESS)),
    };
    result.unwrap_or_else(|failure| report(&failure, json))
}

/// The message of clap without its advice on usage, for example
/// `invalid value 'x' for '--seed <N>': expected a whole number`.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraphs =
        text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let advice = |paragraph: &String| ["Usage:", "For more"].iter().any(|start| paragraph.starts_with(start));
    let said: Vec<_> = paragraphs.filter(|paragraph| !paragraph.is_empty() && !advice(paragraph)).collect();
    said.join("; ").trim_start_matches("error: ").to_owned()
}
