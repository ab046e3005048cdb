//! One process from its first line to its exit.

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Frontdoor, Health, LogError, LogFormat, Metrics, MetricsError, Shutdown, serve, start_logging};

/// Why a process could not start, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// Logging cannot be started.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Metrics cannot be recorded.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// `SAGAMILL_KILL` cannot be understood.
    #[cfg(feature = "failpoints")]
    #[error("{0}")]
    KillPoints(String),
    /// Signals cannot be listened to, or HTTP stopped.
    #[error("the operating system refused")]
    System(#[from] std::io::Error),
    /// The service itself ended with an error.
    #[error("the service stopped")]
    Service(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A process that logs, measures, and stops on SIGINT or SIGTERM.
#[derive(Debug)]
pub struct Process {
    /// The way out.
    pub shutdown: Shutdown,
    /// What `/metrics` shows.
    pub metrics: Metrics,
}

impl Process {
    /// Starts logs, metrics and the handling of signals.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn start(log: LogFormat, default_filter: &str) -> Result<Self, ProcessError> {
        #[cfg(feature = "failpoints")]
        crate::arm_kill_points().map_err(ProcessError::KillPoints)?;
        start_logging(log, default_filter)?;
        let metrics = Metrics::start()?;
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        shutdown.tasks().spawn(metrics.clone().upkeep(shutdown.token().clone()));
        Ok(Self { shutdown, metrics })
    }
    /// Not ready any more as soon as the shutdown begins.
    pub fn health(&self) -> Health {
        Health::new(self.shutdown.token().clone())
    }
    /// Serves routes beside a service, until a signal or until one of the two fails; then both have ended.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub async fn run<Fut, E>(
        self,
        listener: TcpListener,
        health: Health,
        routes: Router,
        service: impl FnOnce(CancellationToken) -> Fut,
    ) -> Result<(), ProcessError>
    where
        Fut: Future<Output = Result<(), E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let routes = Frontdoor {
            health,
            metrics: self.metrics,
        }
        .around(routes);
        let shutdown = &self.shutdown;
        let http = async {
            let served = serve(listener, routes, shutdown).await;
            shutdown.begin();
            served
        };
        let working = service(shutdown.token().clone());
        let work = async {
            let worked = working.await;
            shutdown.begin();
            worked
        };
        let (served, worked) = tokio::join!(http, work);
        shutdown.finished().await;
        worked.map_err(|error| ProcessError::Service(error.into()))?;
        Ok(served?)
    }
}
