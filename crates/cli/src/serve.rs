//! `serve`: the coordinator of a user's own definitions, as a process.

use std::time::Duration;

use anyhow::{Context, anyhow};
use axum::Router;
use clap::Args;
use sagamill::{
    eventstore::EventStore,
    prelude::Coordinator,
    saga::{Data, Definition},
};
use sagamill_service_kit::{Check, LogFormat, Process};
use tokio::net::TcpListener;

use crate::failure::{Code, Failure};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The store that the sagas are in, made where it is missing: `sqlite:FILE` or `postgres://user@host:port/database`.
    #[arg(long, value_name = "URL", env = "SAGAMILL_STORE")]
    store: String,
    /// The bus to the participants. Without it, definitions may have local steps only.
    #[arg(long, value_name = "URL", env = "SAGAMILL_BUS")]
    bus: Option<String>,
    /// Where it answers over HTTP: /livez, /readyz, /metrics.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "SAGAMILL_LISTEN",
        default_value = "127.0.0.1:7780"
    )]
    listen: String,
    /// How many seconds a process may be silent before another takes over its sagas' local steps and timers.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    lease: u64,
    /// How its log looks: pretty or json.
    #[arg(long, env = "SAGAMILL_LOG_FORMAT", default_value_t)]
    log: LogFormat,
}

/// What is done to a coordinator before it runs: a definition registered, a state given.
type Setup = Box<dyn FnOnce(Coordinator) -> sagamill::Result<Coordinator> + Send>;

/// All that a user's binary has set up.
#[derive(Default)]
pub(crate) struct Setups(Vec<Setup>);

impl std::fmt::Debug for Setups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Setups").field(&self.0.len()).finish()
    }
}

impl Setups {
    pub(crate) fn register<S: Data>(&mut self, definition: Definition<S>) {
        self.0.push(Box::new(move |coordinator| {
            coordinator.register(definition)?;
            Ok(coordinator)
        }));
    }
    pub(crate) fn with_state<T: Clone + Send + Sync + 'static>(&mut self, state: T) {
        self.0
            .push(Box::new(move |coordinator| Ok(coordinator.with_state(state))));
    }
}

pub(crate) async fn run(options: Options, setups: Setups) -> Result<Code, Failure> {
    if setups.0.is_empty() {
        return Err(Failure::usage(
            "no definition is registered in this binary: in one of your own, \
             `sagamill_cli::Cli::new().register(definition).run()` is the whole command line",
        ));
    }
    let process = Process::start(options.log, "info").context("cannot start")?;
    let unavailable = |error: anyhow::Error| Failure::new(Code::Unavailable, error);
    let store = EventStore::connect(&options.store)
        .await
        .context("cannot open the store")
        .map_err(unavailable)?;
    let mut coordinator = Coordinator::new(&store).lease(Duration::from_secs(options.lease));
    let mut bus = None;
    if let Some(url) = &options.bus {
        let connected = sagamill::connect(url)
            .await
            .context("cannot connect to the bus")
            .map_err(unavailable)?;
        coordinator = coordinator.bus(connected.clone());
        bus = Some(connected);
    }
    for setup in setups.0 {
        coordinator = setup(coordinator)?;
    }
    let listener = TcpListener::bind(&options.listen)
        .await
        .map_err(|error| {
            anyhow!(
                "cannot listen on {}: {error}; choose another with --listen",
                options.listen
            )
        })
        .map_err(unavailable)?;
    tracing::info!(listen = %listener.local_addr()?, "the coordinator is up");
    let asked = store.clone();
    let answers = Check::new(move || {
        let store = asked.clone();
        async move { store.head().await.map(drop).map_err(|error| error.to_string()) }
    });
    let health = process.health().check("store", answers);
    let ended = process
        .run(listener, health, Router::new(), |stop| {
            // In a place of its own: it is large.
            Box::pin(coordinator.run(stop.cancelled_owned()))
        })
        .await;
    store.close().await;
    let closed = match bus {
        Some(bus) => bus.close().await,
        None => Ok(()),
    };
    // What stopped the sagas comes first: the other may well follow from it.
    ended?;
    closed?;
    Ok(Code::Success)
}
