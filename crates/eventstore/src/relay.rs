//! The outbox publisher: from the log to a bus.

use sagamill_bus::Bus;

use crate::{EventStore, Result};

/// Publishes every event that has a topic to a bus, at least once, first deliveries in order per key.
///
/// 64 virtual shards by message key, leased; at most one unconfirmed message per key where the transport cannot retry in
/// order; a checkpoint that is the low watermark of what the transport confirmed as safe. Start it after this process's
/// groups have subscribed.
#[derive(Debug)]
pub struct Relay {}

impl Relay {
    /// From this log to this bus.
    pub fn new<D>(_store: &EventStore<D>, _bus: &Bus) -> Self {
        Self {}
    }
    /// Runs until `shutdown`, then waits for what is being published, saves and gives the leases back.
    ///
    /// # Errors
    /// [`Error::LogDiverged`](crate::Error::LogDiverged); a bus or database that is down is waited for.
    pub async fn run(self, _shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        todo!()
    }
}
