//! The project's own commands: `cargo xtask test` is the whole gate, `cargo xtask bench` the measurements.
#![expect(clippy::print_stdout, reason = "a command speaks on standard output")]

mod bench;
mod count;
mod feature;
mod gate;
mod step;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "The project's own commands",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the whole gate: format, lints, documentation, features, tests
    Test,
    /// Measures, side by side with a baseline in the same run
    Bench(bench::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Test => gate::run(),
        Command::Bench(args) => bench::run(&args),
    }
}
