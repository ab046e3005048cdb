//! The command line: `sagamill`.
//!
//! Data goes to stdout, talk to stderr. `failure.rs` has the exit codes.

mod bus;
#[cfg(feature = "shop")]
mod dev;
mod doctor;
mod failure;
#[cfg(feature = "shop")]
mod load;
mod migrate;
mod output;
mod replay;
mod saga;
mod serve;
mod source;
mod subscription;
mod view;

use std::{ffi::OsString, process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser, Subcommand};
use sagamill::saga::{Data, Definition};

use crate::failure::{Code, Failure};

/// How long threads that still hang in a read or a write are waited for at the end.
const LINGER: Duration = Duration::from_millis(200);

/// The command line as a whole. A binary of your own is all of it, for your own definitions:
///
/// ```no_run
/// use sagamill::prelude::*;
///
/// async fn reserve(_: u32) -> Answer<()> {
///     Done(())
/// }
///
/// fn main() -> std::process::ExitCode {
///     let definition = Saga::define("book-trip").step("reserve", local(reserve).no_undo()).build();
///     sagamill_cli::Cli::new().register(definition).run() // serve, saga, replay, …
/// }
/// ```
#[derive(Debug, Default)]
pub struct Cli {
    setups: serve::Setups,
}

#[derive(Debug, Parser)]
#[command(
    name = "sagamill",
    version,
    about = "Sagas over several services: watch them, look into them, replay them."
)]
#[command(propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sample shop in one process: orders succeed, fail and are undone.
    #[cfg(feature = "shop")]
    Dev(dev::Options),
    /// Order from a shop of several processes, until told to stop.
    #[cfg(feature = "shop")]
    Load(load::Options),
    /// Run the sagas of the definitions that are registered in this binary.
    Serve(serve::Options),
    /// Look into sagas.
    #[command(subcommand)]
    Saga(saga::Command),
    /// See how far the readers of the log are, and help them where it went another way.
    #[command(subcommand)]
    Subscription(subscription::Command),
    /// Read the log again: all of it, or one stream.
    Replay(replay::Options),
    /// Publish messages on a bus, watch and count them, and measure how fast it is.
    #[command(subcommand)]
    Bus(bus::Command),
    /// See what was given up on a bus, give it to its group again, or throw it away.
    #[command(subcommand)]
    Dlq(bus::dead::Command),
    /// Look whether the log is well, and say what to do where it is not.
    Doctor(doctor::Options),
    /// Make the tables of log and sagas where they are missing, or print their statements.
    Migrate(migrate::Options),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// The command line with all its commands.
    pub fn new() -> Self {
        Self::default()
    }
    /// Registers a definition for `serve`, old versions too.
    #[must_use]
    pub fn register<S: Data>(mut self, definition: Definition<S>) -> Self {
        self.setups.register(definition);
        self
    }
    /// State for the local steps of what is registered, found by its type.
    #[must_use]
    pub fn with_state<T: Clone + Send + Sync + 'static>(mut self, state: T) -> Self {
        self.setups.with_state(state);
        self
    }
    /// Runs what this process was asked for, and says how it ended.
    pub fn run(self) -> ExitCode {
        self.run_from(std::env::args_os())
    }
    /// Runs what these arguments ask for; the first one is the program's name.
    pub fn run_from(self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        let arguments = match Arguments::try_parse_from(arguments) {
            Ok(arguments) => arguments,
            Err(refusal) => {
                // Help and version are refusals to clap, and go to stdout with 0; a broken pipe there is nobody's concern.
                refusal.print().ok();
                return ExitCode::from(u8::try_from(refusal.exit_code()).unwrap_or(Code::Usage as u8));
            }
        };
        match execute(arguments.command, self.setups) {
            Ok(code) => code.into(),
            Err(failure) => failure.report(),
        }
    }
}

fn execute(command: Command, setups: serve::Setups) -> Result<Code, Failure> {
    if let Command::Completions { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "sagamill", &mut script);
        std::io::Write::write_all(&mut std::io::stdout(), &script)?;
        return Ok(Code::Success);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        match command {
            #[cfg(feature = "shop")]
            Command::Dev(options) => dev::run(options).await,
            #[cfg(feature = "shop")]
            Command::Load(options) => load::run(options).await,
            Command::Serve(options) => Box::pin(serve::run(options, setups)).await,
            Command::Saga(command) => saga::run(command).await,
            Command::Subscription(command) => subscription::run(command).await,
            Command::Replay(options) => replay::run(options).await,
            Command::Bus(command) => bus::run(command).await,
            Command::Dlq(command) => bus::dead::run(command).await,
            Command::Doctor(options) => doctor::run(options).await,
            Command::Migrate(options) => migrate::run(options).await,
            Command::Completions { .. } => Ok(Code::Success),
        }
    });
    runtime.shutdown_timeout(LINGER);
    done
}
