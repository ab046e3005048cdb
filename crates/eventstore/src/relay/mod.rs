//! The outbox publisher: from the log to a bus.

pub(crate) mod envelope;
mod lane;
mod publisher;

use std::{pin::pin, sync::Arc, time::Duration};

use sagamill_bus::Bus;

use crate::{EventStore, Feed, Result, ShardBy, Subscription, backend::Backend, subscription::Pauses};
pub(crate) use envelope::Origin;
use publisher::Publisher;

/// The name of its subscription. All relays of a log share it, whichever process they run in.
const NAME: &str = "relay";
/// Fixed for ever: the shard of a key is kept by it.
const SHARDS: u16 = 64;
/// Most events that wait to be published, held up ones included. At the bound, reading waits.
const HELD: usize = 8_192;

/// Publishes every event that has a topic to a bus, at least once, first deliveries in order per key.
///
/// 64 virtual shards by message key, leased; at most one unconfirmed message per key where the transport cannot retry in
/// order; a checkpoint that is the low watermark of what the transport confirmed as safe. Start it after this process's
/// groups have subscribed.
///
/// A publish that fails is tried again for ever, with growing pauses, and holds its key alone. A repeat of what was
/// published before may come at any time: consumers tell it by the message id.
#[must_use = "a relay does nothing until `run`"]
pub struct Relay {
    backend: Arc<dyn Backend>,
    bus: Bus,
    origin: Origin,
    ttl: Duration,
    drain: Duration,
}

impl Relay {
    /// From this log to this bus.
    pub fn new<D>(store: &EventStore<D>, bus: &Bus) -> Self {
        Self::over(store.backend().clone(), bus.clone())
    }
    pub(crate) fn over(backend: Arc<dyn Backend>, bus: Bus) -> Self {
        let origin = Origin::of(backend.log_id());
        let (ttl, drain) = (Duration::from_secs(10), Duration::from_secs(5));
        Self {
            backend,
            bus,
            origin,
            ttl,
            drain,
        }
    }
    /// What the messages name as their source (`ce-source`), say the service; the log's id by default.
    pub fn source(mut self, name: impl Into<String>) -> Self {
        self.origin.source = name.into();
        self
    }
    /// How long a process may be silent before another takes over its shards; 10 s by default.
    pub fn lease(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }
    /// How long the shutdown waits for what is being published; 5 s by default. What is not confirmed then is published
    /// again by the next relay.
    pub fn drain(self, time: Duration) -> Self {
        Self { drain: time, ..self }
    }
    /// Runs until `shutdown`, then waits for what is being published, saves and gives the leases back.
    ///
    /// # Errors
    /// [`Error::LogDiverged`](crate::Error::LogDiverged); a bus or database that is down is waited for.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        let mut shutdown = pin!(shutdown);
        let mut feed = tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            feed = self.open() => feed?,
        };
        let mut publisher = Publisher::new(self.bus, self.origin, feed.progress());
        let ended = publisher.run(&mut feed, shutdown).await;
        publisher.drain(self.drain).await;
        ended.and(feed.close().await)
    }

    /// Waits for a database that is down.
    async fn open(&self) -> Result<Feed> {
        let mut pauses = Pauses::default();
        loop {
            let subscription = Subscription::new(self.backend.clone(), NAME)
                .published()
                .shards(SHARDS, ShardBy::Key);
            match subscription.lease(self.ttl).max_in_flight(HELD).open().await {
                Err(error) if error.is_retryable() => {
                    let pause = pauses.next(Duration::from_secs(5));
                    tracing::warn!(%error, ?pause, "the relay cannot start; trying again");
                    tokio::time::sleep(pause).await;
                }
                opened => return opened,
            }
        }
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay")
            .field("bus", &self.bus)
            .field("source", &self.origin.source)
            .finish_non_exhaustive()
    }
}
