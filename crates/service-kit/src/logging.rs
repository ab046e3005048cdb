//! Logs: one line an event, on stderr.

use std::{fmt, io::IsTerminal, str::FromStr};

use tracing_subscriber::EnvFilter;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// For machines.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is not one of pretty, json")),
        }
    }
}
impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pretty => "pretty",
            Self::Json => "json",
        })
    }
}

/// Logging cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// `SAGAMILL_LOG` or `RUST_LOG` is not a filter.
    #[error("`{filter}` in the environment variable {variable} is not a log filter such as `info,sagamill=debug`")]
    Filter {
        /// Where it came from.
        variable: &'static str,
        /// What it says.
        filter: String,
    },
    /// This process logs already.
    #[error("logging has been started before")]
    Started,
}

/// Starts logging: what `SAGAMILL_LOG`, else `RUST_LOG`, else `default` lets through.
///
/// # Errors
/// [`LogError`].
pub fn start_logging(format: LogFormat, default: &str) -> Result<(), LogError> {
    let filter = filter(default)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Pretty => lines.compact().with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).try_init(),
    };
    started.map_err(|_| LogError::Started)
}

fn filter(default: &str) -> Result<EnvFilter, LogError> {
    for variable in ["SAGAMILL_LOG", "RUST_LOG"] {
        if let Some(filter) = std::env::var(variable).ok().filter(|filter| !filter.is_empty()) {
            return EnvFilter::try_new(&filter).map_err(|_| LogError::Filter { variable, filter });
        }
    }
    EnvFilter::try_new(default).map_err(|_| LogError::Filter {
        variable: "(default)",
        filter: default.to_owned(),
    })
}
