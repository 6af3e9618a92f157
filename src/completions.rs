//! `dgx-pixels completions`: what a shell needs to complete the program's flags.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::failure::Failure;
use crate::output::say_bytes;

/// Print a script that lets a shell complete the commands and flags.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run<C: CommandFactory>(args: &Args) -> Result<(), Failure> {
    let mut script = vec![];
    generate(args.shell, &mut C::command(), "dgx-pixels", &mut script);
    say_bytes(&script)
}
