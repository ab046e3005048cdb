//! RabbitMQ (feature `amqp`), from 3.10 on: `amqp://user:password@host:5672/vhost`; `amqps://` with the feature `amqp-tls`.
//!
//! # What lies on the broker
//!
//! | | name | |
//! |---|---|---|
//! | topic exchange | `sagamill` | what is published, by its topic as the routing key |
//! | quorum queue | `sagamill.group.GROUP.TOPIC.HASH` | what a group has to do of a topic or pattern |
//! | quorum queue | `sagamill.dead.GROUP.TOPIC.HASH` | its dead letters, 50,000 at most |
//! | quorum queue | `sagamill.register` | the topics and groups that have had dead letters |
//! | quorum queue | …`.wait.MILLISECONDS` | what waits without order; from there it goes back to that queue alone |
//! | queue | `sagamill.note.HASH` | how often one message was tried that was tried more than once |
//!
//! One exchange for all topics, and not one each: so a pattern is a binding, and sees topics that are yet to come. One queue
//! for each group and topic, which outlives its members: what is published while none is there waits for them. Names are
//! there to be read, and made unique by a hash. Applications are kept apart by [`Options::prefix`].
//!
//! # What holds
//!
//! - A group gets what is published from its first subscription on; RabbitMQ keeps nothing that no queue is bound for.
//! - A publish is confirmed by the queues it went to. Of one key the next message is sent when the last one is confirmed; a
//!   message that could not be confirmed may be there nevertheless, and is there twice when it is published again.
//! - RabbitMQ 3.10 forgets a quorum queue, with all it has confirmed, that was made half a second before a crash: so the first
//!   subscription of a group to a topic takes a second longer than others, and so does its first dead letter. A queue in which
//!   messages wait is not waited for.
//! - While the broker is short of memory or disk it takes nothing: a publish waits for [`Options::confirm_within`] and fails.
//! - The order of a key holds within one connection, across a retry; see the transports' common rules on attempts and doubt.
//!   Two processes of a group share the messages of a key.
//! - RabbitMQ does not say that it has seen a settlement. One that was lost with its connection makes its message come again.
//! - A connection that is lost takes with it what nobody had begun to handle: the broker delivers that again. What is with a
//!   handler is known by its message id, topic and generation when it comes again to this process, and is not handled twice;
//!   where another process got it, its settlement is [`Error::Stale`]. A retry that was to wait comes early then.
//! - RabbitMQ counts deliveries and no attempts: they are noted, for 30 days after the last one. Two copies of a message,
//!   published twice under one id, are counted together; so are messages of others without an id and with the same content.
//! - Without order, or without a key, a delayed retry waits on the broker for up to half as long again as it asked for, 30
//!   days at most. With its key it waits in the process.
//! - Acknowledged too late is what a handler has for longer than the broker's `consumer_timeout`, 30 minutes: it closes the
//!   channel, and the message comes again.
//! - A mandatory message that nobody gets comes back, and the client library logs it with its payload, as a warning of the
//!   target `lapin::returned_messages`: turn that off where payloads must not be in logs.
//! - The broker tells the names of its queues to operators alone: [`Bus::topics`](crate::Bus::topics) is refused, and
//!   [`Bus::lag`](crate::Bus::lag) needs a topic and a group. It tells what is ready to be delivered, and neither what
//!   consumers have nor what waits for its time.
//! - Dead letters are looked through by one reader at a time, and from the beginning: for people, not for programs.

mod dead;
mod desk;
mod envelope;
mod inspect;
mod line;
mod link;
mod naming;
mod note;
mod options;
mod publish;
mod reading;
mod register;
mod session;
mod subscribe;

use std::{sync::Arc, time::Duration};

pub use self::options::Options;
use self::{dead::DeadLetterOffice, inspect::Inspector, link::Link};
use crate::{
    Capabilities, DeadLetterStore, Deliveries, Error, Inspect, Message, OrderScope, Receipt, Result, Subscribe, Topic,
    Transport,
};

const NAME: &str = "amqp";
/// So long a close waits for publishes and subscriptions to end.
const CLOSE_WITHIN: Duration = Duration::from_secs(15);

/// A connection to RabbitMQ: one to publish and one to consume. Dropped, it ends when its subscriptions do.
pub struct Amqp(Arc<Link>);

impl Amqp {
    /// How to connect to a broker, to be refined.
    pub fn options(url: impl Into<String>) -> Options {
        Options::new(url)
    }
    async fn connect(options: Options) -> Result<Self> {
        Link::connect(options).await.map(Self)
    }
}

impl std::fmt::Debug for Amqp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Amqp")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

impl Transport for Amqp {
    fn name(&self) -> &'static str {
        NAME
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            order_scope: OrderScope::Process,
            ordered_retry: false,
            durable: true,
            delay: true,
            groups: true,
            replay: false,
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
            tracing::warn!("closed before the broker has taken everything: messages come again in their time");
        }
        self.0.hang_up().await
    }
    fn dead_letters(&self) -> Option<Arc<dyn DeadLetterStore>> {
        Some(Arc::new(DeadLetterOffice(Arc::clone(&self.0))))
    }
    fn inspection(&self) -> Option<Arc<dyn Inspect>> {
        Some(Arc::new(Inspector(Arc::clone(&self.0))))
    }
}
