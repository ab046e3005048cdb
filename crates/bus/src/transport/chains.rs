//! Publishing to a broker that confirms each message by itself: many at once, those of one key one after the other.
//!
//! A message that is not confirmed could be passed by a later one of its key, when it is published again. Hence of one key the
//! next message is sent when the last one is confirmed; where that fails, those after it are not sent.

use std::collections::HashMap;

use futures_util::{StreamExt, stream};

use crate::{Error, Key, Message, Receipt, Result};

/// Most messages of one call that are sent and not confirmed.
const UNCONFIRMED_MAX: usize = 256;

/// Messages that are published one after the other, by their places in the batch.
type Chain = Vec<(usize, Message)>;

/// Publishes a batch by what publishes one message; one result for each.
pub(crate) async fn publish<F>(batch: Vec<Message>, one: impl Fn(Message) -> F) -> Vec<Result<Receipt>>
where
    F: Future<Output = Result<Receipt>>,
{
    // As most calls have it: nothing to put in order.
    let batch = match <[Message; 1]>::try_from(batch) {
        Ok([message]) => return vec![one(message).await],
        Err(batch) => batch,
    };
    let count = batch.len();
    let sent = stream::iter(chains(batch)).map(|chain| publish_chain(chain, &one));
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

async fn publish_chain<F>(chain: Chain, one: &impl Fn(Message) -> F) -> Vec<(usize, Result<Receipt>)>
where
    F: Future<Output = Result<Receipt>>,
{
    let mut results = Vec::with_capacity(chain.len());
    let mut broken = false;
    for (place, message) in chain {
        let result = if broken {
            Err(Error::Disconnected(
                "an earlier message of its key was not confirmed".into(),
            ))
        } else {
            one(message).await
        };
        // What can never be published does not hold up others; what may be published again must not be passed.
        broken |= result.as_ref().is_err_and(Error::is_retryable);
        results.push((place, result));
    }
    results
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
        let batch = vec![
            keyed(1),
            Message::new(""),
            keyed(2),
            keyed(1),
            Message::new(""),
            keyed(2),
        ];
        let places: Vec<Vec<usize>> = chains(batch)
            .into_iter()
            .map(|chain| chain.into_iter().map(|(place, _)| place).collect())
            .collect();
        assert_eq!(places, [vec![0, 3], vec![1], vec![2, 5], vec![4]]);
    }
}
