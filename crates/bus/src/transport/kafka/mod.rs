//! Apache Kafka (feature `kafka`), from brokers 2.4 on: `kafka://user:password@host:9092`, several hosts with commas; over TLS
//! `kafkas://` (feature `kafka-tls`). A user signs in by SASL `PLAIN`, or as [`Options::mechanism`] says; other ways to sign in
//! are librdkafka's [properties](Options::property). What [`Options`] says of the connection can stand in the URL:
//! `kafkas://user:password@host:9093?mechanism=SCRAM-SHA-512&ca=/etc/kafka/ca.pem`.
//!
//! # What lies on the brokers
//!
//! | topic | |
//! |---|---|
//! | as it is named | what was published, in CloudEvents' binding for Kafka |
//! | `sagamill-again-GROUP-HASH` | what was requeued, for one group |
//! | `sagamill-dead` | dead letters of all groups, compacted |
//!
//! A topic is made where it is not there, with [`Options::partitions`]. Kafka takes `a.b` and `a_b` for one in some places, and
//! so refuses the second of them. A group on a topic or pattern is the consumer group `sagamill:TOPIC:GROUP`. Brokers forget
//! a group that has no members for 7 days (`offsets.retention.minutes`), and where it was.
//!
//! # What holds
//!
//! - A publish is confirmed by all replicas that are in step. The producer is idempotent and sends in order for as long as it
//!   takes: a message that is *unconfirmed* keeps its place before later ones. A repeat by the caller is a second message.
//! - A key always goes to the same partition (murmur2, as Java's clients do), and a partition to one process of a group. When
//!   it goes to another, handlers may finish for [`Options::drain_within`]; what they settle later is stale. What was
//!   requeued comes out of order.
//! - Of a partition the first unsettled message is committed, five times a second, and beside it which of those behind it are
//!   settled, and how often they were tried. After a crash what was settled since the last commit comes again.
//! - What is beside the offset must fit into 4 KiB, which a thousand gaps do. What does not fit is forgotten when the partition
//!   goes to another process: settled messages come again, and attempts begin at 1.
//! - Attempts in doubt (see the transports' common rules) are those from the committed offset on, to some 512 messages behind
//!   the last one that was handed out. What is behind them waits until each of them was tried.
//! - A delayed retry without a key waits in this process; when the process ends it comes at once, as the next attempt. A
//!   partition is not read further than [`Options::span`] behind its first unsettled message.
//! - [`Bus::lag`](crate::Bus::lag) is as of the last commit. What is delivered and what waits the brokers do not know apart,
//!   and they count offsets: what was compacted away, and marks of transactions of others, count as messages. What was
//!   requeued for a group counts for each of its subscriptions, until that one has passed it.
//! - A settlement returns before its commit. A dead letter is confirmed before its message is passed.
//! - A requeue that is cut off between its two steps leaves the message in both places.
//! - Headers may repeat, the last one holds; values that are no UTF-8 are read with replacement characters.

mod audience;
mod commit;
mod dead;
mod envelope;
mod inspect;
mod ledger;
mod link;
mod listener;
mod mark;
mod naming;
mod note;
mod options;
mod publish;
mod reader;
mod servers;
mod subscribe;
mod turns;

use std::{sync::Arc, time::Duration};

pub use self::options::{Mechanism, Options};
use self::{dead::DeadLetterOffice, inspect::Inspector, link::Link};
use crate::{
    Capabilities, DeadLetterStore, Deliveries, Error, Inspect, Message, OrderScope, Receipt, Result, Subscribe, Topic,
    Transport,
};

const NAME: &str = "kafka";
/// So long a close waits for publishes and subscriptions to end.
const CLOSE_WITHIN: Duration = Duration::from_secs(20);

/// A connection to Kafka. Dropped, it ends when its subscriptions do.
pub struct Kafka(Arc<Link>);

impl Kafka {
    /// How to connect to brokers, to be refined.
    pub fn options(url: impl Into<String>) -> Options {
        Options::new(url)
    }
    async fn connect(options: Options) -> Result<Self> {
        Link::connect(options).await.map(Self)
    }
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

impl Transport for Kafka {
    fn name(&self) -> &'static str {
        NAME
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            order_scope: OrderScope::Group,
            ordered_retry: true,
            durable: true,
            delay: true,
            groups: true,
            replay: true,
            dedupe: false,
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
            tracing::warn!("closed before the brokers have taken everything: messages come again");
        }
        let publisher = Arc::clone(&self.0.publisher);
        link::blocking(move || publisher.end()).await
    }
    fn dead_letters(&self) -> Option<Arc<dyn DeadLetterStore>> {
        Some(Arc::new(DeadLetterOffice(Arc::clone(&self.0))))
    }
    fn inspection(&self) -> Option<Arc<dyn Inspect>> {
        Some(Arc::new(Inspector(Arc::clone(&self.0))))
    }
}
