//! NATS JetStream (feature `nats`), from server 2.10 on: `nats://user:password@host:4222`, several servers with commas.
//!
//! # What lies on the server
//!
//! | stream | subjects | |
//! |---|---|---|
//! | `sagamill` | `sagamill.topic.TOPIC` | what was published |
//! | | `sagamill.again.GROUP.TOPIC` | what was requeued, for one group |
//! | `sagamill-dead` | `sagamill.dead.GROUP.TOPIC.ID` | dead letters |
//! | `sagamill-note` | `sagamill.note.CONSUMER.SEQUENCE` | how often messages were tried that were tried more than once |
//!
//! All topics share one stream, so that a subscription to a pattern is one consumer and sees topics that are yet to come; a
//! stream cannot be read together with another. A group has one durable pull consumer for each topic or pattern it subscribes
//! to; subscriptions of a group that overlap each get a message. Applications are kept apart by [`Options::prefix`].
//!
//! # What holds
//!
//! - A publish is confirmed by the stream. Of one key the next message is sent when the last one is confirmed. The delivery
//!   id (message, topic, generation) is the `Nats-Msg-Id`: a repeat within [`Options::duplicate_window`] is dropped.
//! - The server's `max_payload` holds for a message with its headers. Its default of 1 MiB is less than the bus carries:
//!   set 2 MiB or more. A larger message fails alone.
//! - The order of a key holds within one connection, across a retry; see the transports' common rules on attempts and doubt.
//!   Two processes of a group share the messages of a key.
//! - Attempts are kept for 30 days after the last one.
//! - While a message is held, its signs of life are sent three times in each [`Options::ack_wait`], so that a handler may take
//!   as long as it needs. A process that dies has its messages given to others after that time.
//! - A topic is in the list of [`Bus::topics`](crate::Bus::topics) while a message of it is there. [`Bus::lag`](crate::Bus::lag)
//!   counts a retry that is to come as delivered; who takes messages the server does not tell.
//! - What is settled is confirmed by the server. Where it cannot be reached a settlement is tried until the server has given the
//!   message to somebody else.

mod audience;
mod consumer;
mod dead;
mod envelope;
mod inspect;
mod link;
mod naming;
mod note;
mod options;
mod publish;
mod pull;
mod subscribe;

use std::{sync::Arc, time::Duration};

pub use self::options::{Options, Storage};
use self::{dead::DeadLetterOffice, inspect::Inspector, link::Link};
use crate::{
    Capabilities, DeadLetterStore, Deliveries, Error, Inspect, Message, OrderScope, Receipt, Result, Subscribe, Topic,
    Transport,
};

const NAME: &str = "nats";
/// So long a close waits for publishes and subscriptions to end.
const CLOSE_WITHIN: Duration = Duration::from_secs(15);

/// A connection to NATS JetStream. Dropped, it ends when its subscriptions do.
pub struct Nats(Arc<Link>);

impl Nats {
    /// How to connect to a server, to be refined.
    pub fn options(url: impl Into<String>) -> Options {
        Options::new(url)
    }
    async fn connect(options: Options) -> Result<Self> {
        Link::connect(options).await.map(Self)
    }
}

impl std::fmt::Debug for Nats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nats")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

impl Transport for Nats {
    fn name(&self) -> &'static str {
        NAME
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            order_scope: OrderScope::Process,
            ordered_retry: false,
            durable: self.0.options.storage == Storage::File,
            delay: true,
            groups: true,
            replay: true,
            dedupe: true,
            wildcards: true,
        }
    }
    async fn publish(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        if self.0.closed.is_cancelled() {
            return batch.iter().map(|_| Err(Error::Closed)).collect();
        }
        self.0.publish(topic, batch).await
    }
    async fn subscribe(&self, request: Subscribe) -> Result<Deliveries> {
        subscribe::subscribe(&self.0, request).await
    }
    async fn close(&self) -> Result<()> {
        if self.0.closed.is_cancelled() {
            return Ok(());
        }
        self.0.closed.cancel();
        self.0.busy.close();
        if tokio::time::timeout(CLOSE_WITHIN, self.0.busy.wait()).await.is_err() {
            tracing::warn!("closed before the server has taken everything: messages come again in their time");
        }
        let drained = self.0.client.drain().await;
        drained.map_err(|error| Error::Disconnected(Box::new(error)))
    }
    fn dead_letters(&self) -> Option<Arc<dyn DeadLetterStore>> {
        Some(Arc::new(DeadLetterOffice(Arc::clone(&self.0))))
    }
    fn inspection(&self) -> Option<Arc<dyn Inspect>> {
        Some(Arc::new(Inspector(Arc::clone(&self.0))))
    }
}
