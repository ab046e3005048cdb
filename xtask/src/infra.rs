//! `cargo xtask infra`: servers for development, which stay until they are told to stop.

use std::{path::PathBuf, process::ExitCode};

use clap::{Subcommand, ValueEnum};
use sagamill_testkit::postgres::{self, Daemon, Installation, State};

use crate::root;

/// What is done with the servers.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Verb {
    /// Starts them, and prints the variables that tests look for: eval "$(cargo xtask infra up)"
    Up {
        /// All of them where none is named
        servers: Vec<Server>,
    },
    /// Stops them; their data stays in `.infra`
    Down {
        /// All of them where none is named
        servers: Vec<Server>,
    },
    /// Says which run, and how to get those that this machine does not have
    Status {
        /// All of them where none is named
        servers: Vec<Server>,
    },
}

/// A server that tests want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    Postgres,
}

/// Does it to one after the other.
pub(crate) fn run(verb: &Verb) -> anyhow::Result<ExitCode> {
    let (servers, each): (_, fn(Server) -> anyhow::Result<()>) = match verb {
        Verb::Up { servers } => (servers, Server::up),
        Verb::Down { servers } => (servers, Server::down),
        Verb::Status { servers } => (servers, Server::status),
    };
    let named: &[Server] = if servers.is_empty() {
        Server::value_variants()
    } else {
        servers
    };
    for &server in named {
        each(server)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Server {
    fn up(self) -> anyhow::Result<()> {
        let installation = Installation::find()?;
        let url = self.daemon().up(&installation)?;
        eprintln!("{}: {installation}", self.name());
        export(&url);
        Ok(())
    }
    fn down(self) -> anyhow::Result<()> {
        let stopped = self.daemon().down()?;
        let what = if stopped { "stopped" } else { "did not run" };
        println!("{}: {what}", self.name());
        Ok(())
    }
    fn status(self) -> anyhow::Result<()> {
        let found = Installation::find();
        let how = found.as_ref().map_or_else(ToString::to_string, ToString::to_string);
        match self.daemon().state() {
            State::Running { url } => {
                println!("{}: running ({how})", self.name());
                export(&url);
            }
            _ if found.is_err() => println!("{}: {how}", self.name()),
            State::Stopped => println!("{}: stopped ({how}): cargo xtask infra up", self.name()),
            State::Absent => println!("{}: not set up ({how}): cargo xtask infra up", self.name()),
        }
        Ok(())
    }
    fn daemon(self) -> Daemon {
        Daemon::at(self.directory())
    }
    /// Below the workspace, and not of the repository.
    fn directory(self) -> PathBuf {
        root().join(".infra").join(self.name())
    }
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
        }
    }
}

/// The line by which tests find it.
fn export(url: &str) {
    println!("export {}='{url}'", postgres::URL);
}
