//! Publishing: many messages at once, those of one key one after the other.
//!
//! The broker confirms each message by itself, so a message that is not confirmed could be passed by a later one of its key,
//! when it is published again. Hence of one key the next message is sent when the last one is confirmed; where that fails,
//! those after it are not sent.

use std::collections::HashMap;

use futures_util::{StreamExt, stream};

use super::{
    desk::{Fate, Parcel},
    envelope::{Marks, to_wire},
    link::{Link, is_not_found},
};
use crate::{Error, Key, Message, Receipt, Result, Topic, headers::name};

/// Most messages of one call that are sent and not confirmed.
const UNCONFIRMED_MAX: usize = 256;

/// Messages that are published one after the other, by their places in the batch.
type Chain = Vec<(usize, Message)>;

impl Link {
    /// Publishes, one result for each message.
    pub(super) async fn publish(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let _busy = self.busy.token();
        let count = batch.len();
        let sent = stream::iter(chains(batch)).map(|chain| self.publish_chain(topic, chain));
        let mut sent = sent.buffer_unordered(UNCONFIRMED_MAX);
        let mut results: Vec<Option<Result<Receipt>>> = Vec::new();
        results.resize_with(count, || None);
        while let Some(chain) = sent.next().await {
            for (place, result) in chain {
                results[place] = Some(result);
            }
        }
        let unanswered = || Err(Error::Unconfirmed("no answer was taken down".into()));
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(unanswered))
            .collect()
    }
    async fn publish_chain(&self, topic: &Topic, chain: Chain) -> Vec<(usize, Result<Receipt>)> {
        let mut results = Vec::with_capacity(chain.len());
        let mut broken = false;
        for (place, message) in chain {
            let result = if broken {
                Err(Error::Disconnected(
                    "an earlier message of its key was not confirmed".into(),
                ))
            } else {
                self.publish_one(topic, &message).await
            };
            // What can never be published does not hold up others; what may be published again must not be passed.
            broken |= result.as_ref().is_err_and(Error::is_retryable);
            results.push((place, result));
        }
        results
    }
    async fn publish_one(&self, topic: &Topic, message: &Message) -> Result<Receipt> {
        if self.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        let (properties, payload) = to_wire(message, &Marks::default());
        let parcel = Parcel {
            exchange: self.names.exchange(),
            routing_key: topic.to_string(),
            properties,
            payload,
        };
        let sent = if message.headers.get(name::MANDATORY) == Some("1") {
            self.desk.send_mandatory(parcel).await
        } else {
            self.desk.send(parcel).await
        };
        match sent {
            Ok(Fate::Stored) => Ok(Receipt::default()),
            Ok(Fate::Unroutable) => Err(Error::NoSubscriber {
                topic: topic.to_string(),
            }),
            Ok(Fate::Refused) => Err(Error::Unconfirmed("a queue of the topic did not take it".into())),
            Err(error) => Err(self.look_after(error).await),
        }
    }
    /// Makes the exchange again where it was deleted, so that the next try succeeds.
    async fn look_after(&self, error: Error) -> Error {
        if is_exchange_gone(&error)
            && let Err(cause) = self.declare().await
        {
            tracing::debug!(error = crate::error::chain(&cause), "the exchange cannot be made now");
        }
        error
    }
    /// Sends something to a queue by its name; returns when the broker has it.
    pub(super) async fn send_to(&self, queue: &str, mut parcel: Parcel) -> Result<Fate> {
        queue.clone_into(&mut parcel.routing_key);
        parcel.exchange = String::new();
        match self.desk.send_mandatory(parcel).await? {
            Fate::Unroutable => Err(Error::Disconnected(format!("the queue `{queue}` is gone").into())),
            fate => Ok(fate),
        }
    }
}

fn is_exchange_gone(error: &Error) -> bool {
    let Error::Unconfirmed(cause) = error else { return false };
    cause.downcast_ref().is_some_and(is_not_found)
}

/// One chain for each key, and one for each message without; in the order of their first messages.
fn chains(batch: Vec<Message>) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::with_capacity(batch.len());
    let mut by_key: HashMap<Key, usize> = HashMap::new();
    for (place, message) in batch.into_iter().enumerate() {
        let chain = match &message.key {
            Some(key) => *by_key.entry(key.clone()).or_insert(chains.len()),
            None => chains.len(),
        };
        if chain == chains.len() {
            chains.push(Chain::new());
        }
        chains[chain].push((place, message));
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::chains;
    use crate::Message;

    #[test]
    fn messages_of_a_key_are_in_one_chain_in_their_order() {
        let keyed = |key: u32| Message::new("").key(key);
        let batch = vec![keyed(1), Message::new(""), keyed(2), keyed(1)];
        let places: Vec<Vec<usize>> = chains(batch)
            .into_iter()
            .map(|chain| chain.into_iter().map(|(place, _)| place).collect())
            .collect();
        assert_eq!(places, [vec![0, 3], vec![1], vec![2]]);
    }
}
