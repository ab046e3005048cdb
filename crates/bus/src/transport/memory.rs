//! The transport inside this process, and the reference for all others: ordered per key, bounded, with groups, delays on
//! tokio's clock and faults on demand. It starts no thread and no task, reads no other clock and draws no random number of
//! its own, so that under a current-thread runtime a run can be repeated exactly.
//!
//! Bounds, all of them in [`Limits`]:
//! * A publish waits while the queue of one of its topic's groups is full, and goes on when a quarter of it is free. Messages
//!   that come back (a retry, a delivery that was dropped, a requeued dead letter) are taken in beyond the bound.
//! * A topic keeps its newest messages for groups that are yet to come. Older ones are gone for those: a new group begins at
//!   the oldest that is still there. A group that is subscribed has a queue of its own and misses nothing.
//! * Dead letters are never thrown away to make room: where they are full, giving up a message fails with
//!   [`Error::DeadLettersFull`](crate::Error::DeadLettersFull), and it comes again after a second.
//!
//! A group lives from its first subscription until the broker is dropped; while it has no member its messages wait. Of
//! several subscriptions of one group that cover the same topic one gets its messages: the topic's own before a pattern.

mod broker;
mod confirm;
mod dead;
mod fault;
mod group;
mod inspect;
mod member;
mod queue;
mod roster;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    broker::{Broker, Refused, TopicLog},
    confirm::Confirm,
    dead::DeadLetterOffice,
    fault::PublishFault,
    group::Group,
    inspect::Inspector,
    member::Member,
};
use crate::{
    Bus, Capabilities, DeadLetterStore, Deliveries, Error, Inspect, Key, Message, OrderScope, Receipt, Result,
    Subscribe, Topic, Transport,
};

pub use self::fault::Faults;

/// A publish that has waited so long for room says so.
const SAY_AFTER: Duration = Duration::from_secs(10);

/// How much the in-memory transport holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages that wait in one group's queue before publishers wait too; at least 1.
    pub queue: usize,
    /// Newest messages of a topic that are kept for groups that are yet to come.
    pub retained: usize,
    /// Bytes of their payloads.
    pub retained_bytes: usize,
    /// Dead letters of one topic and group.
    pub dead_letters: usize,
}

impl Default for Limits {
    /// 4,096 messages in a queue, as many retained up to 16 MiB, 10,000 dead letters.
    fn default() -> Self {
        Self {
            queue: 4_096,
            retained: 4_096,
            retained_bytes: 16 << 20,
            dead_letters: 10_000,
        }
    }
}

/// A broker inside this process. Each [`connect`](Self::connect) is a connection that is closed by itself.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Broker>);

/// What waits for one subscription of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// The group.
    pub group: String,
    /// The topic or pattern it is subscribed to.
    pub topic: Topic,
    /// Messages that wait to be delivered, now or later.
    pub waiting: usize,
    /// Messages that are delivered and not settled.
    pub in_flight: usize,
    /// Messages that were given up.
    pub dead: usize,
}

impl Memory {
    /// A broker with the usual limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// A broker with limits of one's own.
    #[must_use]
    pub fn with(limits: Limits) -> Self {
        let limits = Limits {
            queue: limits.queue.max(1),
            ..limits
        };
        Self(Arc::new(Broker::new(limits)))
    }
    /// A connection to it.
    #[must_use]
    pub fn connect(&self) -> Bus {
        let id = self.0.connections.fetch_add(1, Ordering::Relaxed);
        Bus::new(Connection {
            broker: Arc::clone(&self.0),
            id,
            closed: CancellationToken::new(),
        })
    }
    /// Breaks things from now on; in place of what was broken before.
    pub fn inject(&self, faults: Faults) {
        self.0.faults.set(Some(faults));
    }
    /// Breaks nothing from now on. What was lost or delayed before comes in its time.
    pub fn calm(&self) {
        self.0.faults.set(None);
    }
    /// What waits, by group and topic.
    #[must_use]
    pub fn backlog(&self) -> Vec<Backlog> {
        let groups = self.0.groups();
        groups
            .iter()
            .map(|group| {
                let (waiting, in_flight) = group.backlog();
                let dead = group.dead().iter().map(|(_, count)| count).sum();
                Backlog {
                    group: group.name.clone(),
                    topic: group.pattern.clone(),
                    waiting,
                    in_flight,
                    dead,
                }
            })
            .collect()
    }
}

struct Connection {
    broker: Arc<Broker>,
    id: u64,
    closed: CancellationToken,
}

impl Connection {
    /// Publishes in order; tells each message's fate by its own result.
    async fn publish_all(
        &self,
        topic: &Topic,
        batch: Vec<Message>,
        confirms: Option<&[Arc<Confirm>]>,
    ) -> Vec<Result<Receipt>> {
        let log = self.broker.topic(topic);
        let mut results = Vec::with_capacity(batch.len());
        let mut refused: Vec<Key> = Vec::new();
        for (index, message) in batch.into_iter().enumerate() {
            let confirm = confirms.map(|confirms| &confirms[index]);
            let fault = self.fault(&message, &mut refused);
            let result = match fault {
                PublishFault::Refused => Err(Error::Disconnected("refused by an injected fault".into())),
                PublishFault::None | PublishFault::Unconfirmed => self.put(topic, &log, message, confirm).await,
            };
            results.push(match (result, fault) {
                (Ok(_), PublishFault::Unconfirmed) => Err(Error::Unconfirmed("lost by an injected fault".into())),
                (result, _) => result,
            });
        }
        results
    }
    /// Where a message is refused, later ones of its key in the same call are too: they must not pass it.
    fn fault(&self, message: &Message, refused: &mut Vec<Key>) -> PublishFault {
        let follows = message.key.as_ref().is_some_and(|key| refused.contains(key));
        let fault = self.broker.faults.ask(PublishFault::None, Faults::on_publish);
        let fault = if follows { PublishFault::Refused } else { fault };
        if fault == PublishFault::Refused && !follows {
            refused.extend(message.key.clone());
        }
        fault
    }
    /// Waits for room in all groups. Cancel safe: a message is in all of them or in none.
    async fn put(
        &self,
        topic: &Topic,
        log: &TopicLog,
        message: Message,
        confirm: Option<&Arc<Confirm>>,
    ) -> Result<Receipt> {
        let message = Arc::new(message);
        let mut said = false;
        loop {
            if self.closed.is_cancelled() {
                return Err(Error::Closed);
            }
            tokio::task::coop::consume_budget().await;
            match log.push(&message, confirm) {
                Ok(sequence) => {
                    return Ok(Receipt {
                        sequence: Some(sequence),
                    });
                }
                Err(Refused::NoSubscriber) => {
                    return Err(Error::NoSubscriber {
                        topic: topic.to_string(),
                    });
                }
                Err(Refused::Full(group)) => self.room(topic, &group, &mut said).await,
            }
        }
    }
    async fn room(&self, topic: &Topic, group: &Group, said: &mut bool) {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => {}
            () = group.room() => {}
            () = tokio::time::sleep(SAY_AFTER), if !*said => {
                *said = true;
                let (waiting, in_flight) = group.backlog();
                tracing::warn!(%topic, group = group.name, waiting, in_flight, "publishing waits: this group's queue is full");
            }
        }
    }
    async fn settled(&self, confirm: &Confirm, result: Result<Receipt>) -> Result<Receipt> {
        let receipt = result?;
        tokio::select! {
            biased;
            () = confirm.settled() => Ok(receipt),
            () = self.closed.cancelled() => Err(Error::Unconfirmed("the connection was closed before it was settled".into())),
        }
    }
}

impl Transport for Connection {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            order_scope: OrderScope::Group,
            ordered_retry: false,
            durable: false,
            delay: true,
            groups: true,
            replay: true,
            dedupe: false,
            wildcards: true,
        }
    }
    async fn publish(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        self.publish_all(topic, batch, None).await
    }
    async fn publish_settled(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let confirms: Vec<Arc<Confirm>> = batch.iter().map(|_| Arc::default()).collect();
        let mut results = self.publish_all(topic, batch, Some(&confirms)).await;
        for (confirm, result) in confirms.iter().zip(&mut results) {
            let published = std::mem::replace(result, Err(Error::Closed));
            *result = self.settled(confirm, published).await;
        }
        results
    }
    async fn subscribe(&self, request: Subscribe) -> Result<Deliveries> {
        if self.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        let group = self.broker.group(&request);
        let member = group.join(self.id, request.order, request.max_in_flight)?;
        let stream = Box::pin(Member::new(Arc::clone(&group), member));
        // Closed in between: this membership was not there to be ended.
        if self.closed.is_cancelled() {
            group.end(self.id);
        }
        Ok(stream)
    }
    async fn close(&self) -> Result<()> {
        self.closed.cancel();
        self.broker.groups().iter().for_each(|group| group.end(self.id));
        Ok(())
    }
    fn dead_letters(&self) -> Option<Arc<dyn DeadLetterStore>> {
        Some(Arc::new(DeadLetterOffice(Arc::clone(&self.broker))))
    }
    fn inspection(&self) -> Option<Arc<dyn Inspect>> {
        Some(Arc::new(Inspector(Arc::clone(&self.broker))))
    }
}

/// A panic under a lock leaves nothing half done that a later caller could not live with; and a delivery that is dropped by
/// a panic must not panic again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A time from now on, at most a year: what is further is never, and adding it could overflow.
fn later(after: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    Instant::now() + after.min(YEAR)
}
