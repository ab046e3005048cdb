//! A service as a process of its own.

use std::{fmt, pin::Pin};

use anyhow::Context;
use axum::Router;
use clap::{Args, Command, CommandFactory, FromArgMatches};
use sagamill::bus::{BoxError, Bus};
use sagamill_service_kit::{Check, Intake, LogFormat, Process, ask_ready};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Location;

/// What each service is told.
#[derive(Debug, Clone, Args)]
// Beside a service's own, which would have the same name.
#[group(id = "service")]
pub struct Options {
    /// Its database: `sqlite:FILE`, made where it is missing, or `postgres://user@host:port/database`.
    #[arg(long, value_name = "URL", env = "SAGAMILL_DATABASE")]
    pub database: Location,
    /// The bus between the services.
    #[arg(long, value_name = "URL", env = "SAGAMILL_BUS", default_value = "memory:")]
    pub bus: String,
    /// Where it answers over HTTP.
    #[arg(long, value_name = "HOST:PORT", env = "SAGAMILL_LISTEN")]
    pub listen: String,
    /// How its log looks: pretty or json.
    #[arg(long, env = "SAGAMILL_LOG_FORMAT", default_value_t)]
    pub log: LogFormat,
    /// Asks the process that listens there whether it is ready, and ends: the health check of its container.
    #[arg(long)]
    pub ready: bool,
}

/// A service, over whichever database it was opened on.
pub trait Service: fmt::Debug + Send {
    /// Whether its database answers.
    fn check(&self) -> Check;
    /// Its own HTTP routes.
    fn routes(&self, intake: Intake) -> Router;
    /// Does its work until `stop`. Its error is what must stop it, not what can be tried again.
    fn run(self: Box<Self>, stop: CancellationToken) -> Running;
}

/// A service at work.
pub type Running = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// The command line of a service, and where its database is and it listens unless it is told.
pub fn parse<T: CommandFactory + FromArgMatches>(database: &'static str, listen: &'static str) -> T {
    let matches = command::<T>(database, listen).get_matches();
    T::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn command<T: CommandFactory>(database: &'static str, listen: &'static str) -> Command {
    let command = T::command().mut_arg("database", |arg| arg.required(false).default_value(database));
    command.mut_arg("listen", |arg| arg.required(false).default_value(listen))
}

/// Runs a service until SIGINT or SIGTERM, or only asks whether one is ready.
///
/// # Errors
/// What keeps it from starting, and what stopped it; that the one that was asked is not ready.
pub async fn run(
    name: &'static str,
    options: &Options,
    open: impl AsyncFnOnce(Bus) -> anyhow::Result<Box<dyn Service>>,
) -> anyhow::Result<()> {
    if options.ready {
        return ask_ready(&options.listen)
            .await
            .with_context(|| format!("{name} at {}", options.listen));
    }
    let process = Process::start(options.log, "info")?;
    let bus = sagamill::connect(&options.bus).await?;
    let transport = bus.transport();
    let service = open(bus.clone())
        .await
        .with_context(|| format!("{name} cannot be opened on {}", options.database))?;
    let listener = TcpListener::bind(&options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    tracing::info!(service = name, listen = %listener.local_addr()?, bus = transport, database = %options.database, "up");

    let health = process.health().check("database", service.check());
    let routes = service.routes(Intake::new(process.shutdown.tasks().clone()));
    let ran = process.run(listener, health, routes, |stop| service.run(stop)).await;
    // A bus that is not closed leaves its messages in doubt to whoever comes next.
    let closed = bus.close().await;
    // What stopped the service comes first: the other may well follow from it.
    ran?;
    Ok(closed?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Plain {
        #[command(flatten)]
        frame: Options,
    }

    fn parse(arguments: &[&str]) -> Options {
        let command = command::<Plain>("sqlite:order.db", "127.0.0.1:7701");
        let matches = command.try_get_matches_from([&["service"], arguments].concat());
        Plain::from_arg_matches(&matches.unwrap()).unwrap().frame
    }

    #[test]
    fn service_needs_no_argument_and_takes_each() {
        let plain = parse(&[]);
        assert_eq!(plain.database, Location::File(Path::new("order.db").into()));
        assert_eq!((plain.listen.as_str(), plain.ready), ("127.0.0.1:7701", false));
        let told = parse(&["--database", "sqlite:other.db", "--listen", "0.0.0.0:1", "--ready"]);
        assert_eq!(told.database, Location::File(Path::new("other.db").into()));
        assert_eq!((told.listen.as_str(), told.ready), ("0.0.0.0:1", true));
    }
}
