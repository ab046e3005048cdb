//! A way to a broker: the bus, or the bare client. The cases know no more of either than this.

use std::ops::ControlFlow;

use super::message::Numbered;

/// The group that reads.
pub(crate) const GROUP: &str = "bench";
/// Most messages that are handed over and not settled.
pub(crate) const IN_FLIGHT: usize = 256;

/// What a connection is for. The bus does not ask; a bare client may be set up for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// One publisher that waits for each message.
    One,
    /// Many of them.
    Many,
    /// Many messages in one call.
    Batch,
    /// Messages that come by the clock.
    Steady,
}

/// Takes the payload of each message that comes, and says whether more are wanted.
pub(crate) trait Receive: FnMut(&[u8]) -> anyhow::Result<ControlFlow<()>> + Send + 'static {}

impl<R: FnMut(&[u8]) -> anyhow::Result<ControlFlow<()>> + Send + 'static> Receive for R {}

/// A connection with a topic of its own, which one group reads from its beginning. Cheap to clone.
pub(crate) trait Way: Clone + Send + Sync + 'static {
    /// Connects, and makes what must be there.
    fn open(url: &str, load: Load) -> impl Future<Output = anyhow::Result<Self>> + Send;
    /// Publishes one message; returns when the broker has confirmed it.
    fn publish(&self, message: Numbered) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Publishes many as fast as can be; returns when the broker has confirmed all.
    fn publish_all(&self, batch: Vec<Numbered>) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Reads, and settles each message that was taken, until no more are wanted; returns when all are settled.
    fn consume(&self, receive: impl Receive) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Ends the connection.
    fn close(self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// A bare client, and what the results say of it.
pub(crate) trait Bare: Way {
    /// What each publisher does, one message a call.
    const PUBLISH: &'static str;
    /// How a batch is published.
    const BATCH: &'static str;
    /// How messages are read and settled.
    const CONSUME: &'static str;
    /// Messages that are read for each second of a round.
    const READ_PER_SECOND: f64;
}
