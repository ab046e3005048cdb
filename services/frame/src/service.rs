//! A service as a process of its own.

use std::{fmt, pin::Pin};

use anyhow::Context;
use axum::Router;
use clap::{Args, CommandFactory, FromArgMatches};
use sagamill::bus::{BoxError, Bus};
use sagamill_service_kit::{Check, Intake, LogFormat, Process};
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
    let command = T::command()
        .mut_arg("database", |arg| arg.default_value(database))
        .mut_arg("listen", |arg| arg.default_value(listen));
    T::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

/// Runs a service until SIGINT or SIGTERM.
///
/// # Errors
/// What keeps it from starting, and what stopped it.
pub async fn run(
    name: &'static str,
    options: &Options,
    open: impl AsyncFnOnce(Bus) -> anyhow::Result<Box<dyn Service>>,
) -> anyhow::Result<()> {
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
