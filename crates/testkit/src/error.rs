//! What can go wrong with a server, and what to do about it.

use std::{error::Error as StdError, fmt, path::PathBuf, sync::Arc, time::Duration};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a driver or the system says.
pub(crate) type Source = Arc<dyn StdError + Send + Sync>;

/// What can go wrong with a server that a test wants.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This machine has no such server and no way to run one: the message ends with the command that changes this.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A program of the server could not be run, or failed: see its own words.
    #[error("{program} failed: {words}")]
    Program {
        /// The program.
        program: String,
        /// What it said, or the system on its behalf.
        words: String,
    },
    /// A server did not come up, or not as it was asked to: see the end of its log.
    #[error("{server} did not start: {why}; the end of its log:\n{log}")]
    Start {
        /// The server.
        server: String,
        /// What was seen.
        why: String,
        /// The last lines of its log.
        log: String,
    },
    /// What was asked for needs a server that runs (or one that does not).
    #[error("{server} is {state}, and cannot {verb}")]
    State {
        /// The server.
        server: String,
        /// How it is.
        state: &'static str,
        /// What was asked for.
        verb: &'static str,
    },
    /// Something did not happen in time; the machine is stuck, or the server is.
    #[error("{what} did not happen within {within:?}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
    },
    /// A directory cannot be used: where it is on the way of another user, let that user pass, or choose another place.
    #[error("{} cannot be used: {why}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        why: String,
    },
    /// The server in the environment is not fit for tests: give the URL of another.
    #[error("the server of {variable} is not fit for tests: {why}")]
    Unfit {
        /// The environment variable.
        variable: &'static str,
        /// What it lacks.
        why: String,
    },
    /// A proxy that cannot listen, or was not told where its server is.
    #[error("no proxy before `{server}`: {why}")]
    Proxy {
        /// Where the server was said to be.
        server: String,
        /// What stands in the way.
        why: String,
    },
    /// A name that the server would refuse, or cut short.
    #[error("`{0}` is no name for a test's database or role: 1 to 48 of a-z, 0-9 and _, beginning with a letter")]
    Name(String),
    /// The server could not be talked to, or refused.
    #[error("cannot {verb}")]
    Sql {
        /// What was to be done.
        verb: String,
        /// What the driver says.
        #[source]
        source: Source,
    },
}

/// No server of a kind can be had on this machine as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What is wanted: `PostgreSQL 15 or newer`.
    pub wanted: &'static str,
    /// What was found instead, in words: `PostgreSQL 13.4 in /usr/bin`; nothing: an empty list.
    pub found: Vec<String>,
    /// The command that gets it.
    pub remedy: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "needs {}", self.wanted)?;
        if !self.found.is_empty() {
            write!(f, " (found {})", self.found.join(", "))?;
        }
        write!(f, ": {}", self.remedy)
    }
}

impl StdError for Missing {}

impl Error {
    /// A program that cannot even be run.
    pub(crate) fn run(program: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let program = program.into();
        move |error| Self::Program {
            program,
            words: error.to_string(),
        }
    }
    /// A directory that cannot be used.
    pub(crate) fn directory(directory: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let directory = directory.into();
        move |error| Self::Directory {
            directory,
            why: error.to_string(),
        }
    }
}
