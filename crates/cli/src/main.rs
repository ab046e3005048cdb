//! `sagamill`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sagamill_cli::Cli::new().run()
}
