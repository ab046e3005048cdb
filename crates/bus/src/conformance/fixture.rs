//! What scenarios share: a connection, topics of their own, and a stream that is read with patience.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt;
use tokio::time::timeout;
use uuid::Uuid;

use super::Harness;
use crate::{Bus, Capabilities, Deliveries, Delivery, Message, MessageId, OrderScope, Subscribe, Topic};

pub(super) struct Fixture<'a, H> {
    pub(super) harness: &'a H,
    pub(super) bus: Bus,
    pub(super) promised: Capabilities,
    pub(super) topic: Topic,
}

impl<'a, H: Harness> Fixture<'a, H> {
    pub(super) async fn new(harness: &'a H) -> Self {
        let bus = harness.connect().await;
        Self {
            harness,
            promised: bus.capabilities(),
            bus,
            topic: topic(),
        }
    }
    /// The scenario's topic for a group, on the scenario's connection.
    pub(super) async fn subscribe(&self, group: &str) -> Inbox {
        self.subscribe_to(Subscribe::new(self.topic.clone(), group)).await
    }
    pub(super) async fn subscribe_to(&self, request: Subscribe) -> Inbox {
        self.subscribe_on(&self.bus, request).await
    }
    pub(super) async fn subscribe_on(&self, bus: &Bus, mut request: Subscribe) -> Inbox {
        // A scenario that is not about order must not fail for a promise that was not made.
        request.order_scope = request.order_scope.min(self.promised.order_scope);
        let stream = bus.subscribe(request).await.expect("the subscription is accepted");
        Inbox {
            stream,
            patience: self.harness.patience(),
            quiet: self.harness.quiet(),
            seen: BTreeMap::new(),
        }
    }
    pub(super) async fn publish(&self, batch: impl IntoIterator<Item = Message>) {
        self.bus
            .publish_to(self.topic.clone(), batch)
            .await
            .expect("the batch is published");
    }
    /// Whether the scenario has anything to say: keys are kept in order at least within a process.
    pub(super) fn keeps_order(&self) -> bool {
        self.promised.order_scope > OrderScope::None
    }
}

/// A topic nobody else has.
pub(super) fn topic() -> Topic {
    Topic::from(format!("conformance-{}", Uuid::new_v4().simple()))
}

/// Messages with their number as payload.
pub(super) fn numbered(numbers: std::ops::Range<usize>) -> Vec<Message> {
    numbers.map(|n| Message::new(n.to_string())).collect()
}

/// The same, over so many keys.
pub(super) fn keyed(numbers: std::ops::Range<usize>, keys: usize) -> Vec<Message> {
    numbers.map(|n| Message::new(n.to_string()).key(n % keys)).collect()
}

pub(super) fn number(message: &Message) -> usize {
    let text = std::str::from_utf8(&message.payload).expect("the payload is text");
    text.parse().expect("the payload is a number")
}

/// A subscription, and how often each message came.
pub(super) struct Inbox {
    stream: Deliveries,
    patience: Duration,
    quiet: Duration,
    seen: BTreeMap<MessageId, usize>,
}

impl Inbox {
    pub(super) async fn next(&mut self) -> Delivery {
        // The time is looked at first: a stream that is not woken must not be saved by the look at the end.
        let next = tokio::select! {
            biased;
            () = tokio::time::sleep(self.patience) => panic!("no message arrives in time"),
            next = self.stream.next() => next,
        };
        let delivery = next
            .expect("the subscription goes on")
            .expect("the subscription is not disturbed");
        *self.seen.entry(delivery.message.id).or_default() += 1;
        delivery
    }
    /// None: nothing came for a while.
    pub(super) async fn maybe_next(&mut self) -> Option<Delivery> {
        let next = timeout(self.quiet, self.stream.next()).await.ok()?;
        next.map(|delivery| delivery.expect("the subscription is not disturbed"))
    }
    pub(super) async fn is_silent(&mut self) -> bool {
        self.maybe_next().await.is_none()
    }
    /// Whether the stream has ended, rather than that nothing comes.
    pub(super) async fn has_ended(&mut self) -> bool {
        matches!(timeout(self.patience, self.stream.next()).await, Ok(None))
    }
    pub(super) async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let mut deliveries = Vec::with_capacity(count);
        while deliveries.len() < count {
            deliveries.push(self.next().await);
        }
        deliveries
    }
    /// Acks until so many different messages have come; gives each once, in order of their first delivery.
    pub(super) async fn ack(&mut self, different: usize) -> Vec<Message> {
        let mut messages = Vec::with_capacity(different);
        while messages.len() < different {
            let delivery = self.next().await;
            if self.seen[&delivery.message.id] == 1 {
                messages.push(delivery.message.clone());
            }
            delivery.ack().await.expect("the ack is taken");
        }
        messages
    }
    /// Acks until so many different numbers have come, and checks that they are all of them.
    pub(super) async fn ack_numbers(&mut self, numbers: std::ops::Range<usize>) {
        let mut got: Vec<usize> = self.ack(numbers.len()).await.iter().map(number).collect();
        got.sort_unstable();
        assert!(got.into_iter().eq(numbers), "every message arrives");
    }
    /// Deliveries beyond the first of each message.
    pub(super) fn duplicates(&self) -> usize {
        self.seen.values().map(|times| times - 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{keyed, number, topic};

    #[test]
    fn topics_are_valid_and_keys_go_round() {
        assert!(topic().check_name().is_ok());
        let messages = keyed(3..6, 2);
        assert_eq!(messages.iter().map(number).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(messages[0].key, messages[2].key);
    }
}
