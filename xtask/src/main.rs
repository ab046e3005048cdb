//! The project's own commands: `cargo xtask test` is the whole gate, `cargo xtask bench` the measurements, `cargo xtask infra`
//! the servers that tests want.
#![expect(clippy::print_stdout, reason = "a command speaks on standard output")]

mod bench;
mod count;
mod feature;
mod gate;
mod images;
mod infra;
mod packages;
mod processes;
mod servers;
mod step;

use std::{path::Path, process::ExitCode};

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
    /// Runs the whole gate: format, lints, documentation, features, tests, on servers that it gets itself
    Test,
    /// Measures, side by side with a baseline in the same run
    Bench(bench::Args),
    /// Servers for development, which stay until they are told to stop
    #[command(subcommand)]
    Infra(infra::Verb),
    /// The images of docker-compose.yml, of programs built on this host
    Images,
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Test => gate::run(),
        Command::Bench(args) => bench::run(&args),
        Command::Infra(verb) => infra::run(&verb),
        Command::Images => images::run(),
    }
}

/// The workspace.
fn root() -> &'static Path {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.expect("invariant: xtask is in the workspace")
}
