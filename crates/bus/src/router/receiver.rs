//! Routes that hand deliveries to receivers in this process.

use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::{Incoming, Router};
use crate::{BoxError, Delivery, Error, Result, Settle, Settlement, Topic};

impl<S: Clone + Send + Sync + 'static> Router<S> {
    /// Hands every message of a topic to a receiver in this process, and waits until that has settled it. Several receivers
    /// may take the same topic, by one subscription: the message is acknowledged when all are done with it, and a retry goes
    /// only to those that are not.
    ///
    /// ```
    /// # use sagamill_bus::prelude::*;
    /// # use tokio::sync::mpsc;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> sagamill_bus::Result<()> {
    /// # let bus = Bus::memory();
    /// let (first, mut dashboard) = mpsc::channel(16);
    /// let (second, _cache) = mpsc::channel(16);
    /// let router = Router::new().hand_to("order", first).hand_to("order", second);
    /// let router = router.subscribe(bus.group("web")).await?;
    /// bus.publish_to("order", [Message::new("tea")]).await?;
    /// router.run(async move {
    ///     if let Some(delivery) = dashboard.recv().await {
    ///         delivery.ack().await.ok();
    ///     }
    /// }).await
    /// # }
    /// ```
    ///
    /// * A message goes to its receivers one after the other: a full channel or a slow receiver holds it up, and no message
    ///   of another key.
    /// * A delivery that is dropped comes again, and one whose receiver is gone is tried by the retry policy.
    /// * What a receiver settles is settled for its part; it is [`Error::Stale`] where the router has stopped waiting.
    #[must_use]
    pub fn hand_to(self, topic: impl Into<Topic>, receiver: mpsc::Sender<Delivery>) -> Self {
        self.serve(topic.into(), move |incoming| hand(incoming, receiver.clone()))
    }
}

/// The receiver of a route has ended.
#[derive(Debug, thiserror::Error)]
#[error("the receiver in this process is gone")]
struct ReceiverGone;

async fn hand<S>(incoming: Incoming<S>, receiver: mpsc::Sender<Delivery>) -> Result<Settlement, BoxError> {
    let (part, settled) = oneshot::channel();
    let delivery = Delivery::new(incoming.message, incoming.topic, incoming.attempt, Part(part));
    receiver.send(delivery).await.map_err(|_| ReceiverGone)?;
    // Dropped unsettled, also with a channel whose receiver ended.
    Ok(settled.await.unwrap_or(Settlement::Retry { after: Some(AGAIN) }))
}

/// A receiver that drops what it gets must not be given it over and over without a pause.
const AGAIN: Duration = Duration::from_millis(100);

/// One receiver's part of a delivery.
struct Part(oneshot::Sender<Settlement>);

impl Settle for Part {
    fn settle(self: Box<Self>, settlement: Settlement) -> BoxFuture<'static, Result<()>> {
        let told = self.0.send(settlement).map_err(|_| Error::Stale);
        Box::pin(std::future::ready(told))
    }
    fn dropped(self: Box<Self>) {}
}
