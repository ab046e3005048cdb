//! `sagamill`.

use std::process::ExitCode;

#[cfg(feature = "failpoints")]
mod kill;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    if let Err(error) = kill::arm() {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    sagamill_cli::Cli::new().run()
}
