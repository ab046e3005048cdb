//! Publishing: each key's messages of a call are appended together, all keys side by side.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use futures_util::future::join_all;
use sagamill_bus::{Error, Key, Message, Receipt, Result, Topic, headers::name};
use uuid::Uuid;

use super::{Audience, envelope, fault};
use crate::{Append, EventStore, Expected, NewEvent, Position, StreamId, metric_definitions::BUS_REPEATS};

/// Most messages of one append.
const CHUNK: usize = 256;
/// Most bytes of their payloads, unless a single message has more.
const CHUNK_BYTES: usize = 8 << 20;

/// Publishes to a log.
#[derive(Debug, Clone)]
pub(super) struct Publisher {
    pub(super) store: EventStore,
    pub(super) transport: &'static str,
    pub(super) audience: std::sync::Arc<Audience>,
}

/// The messages of one key, in order, and their places in the call.
#[derive(Default)]
struct Lane {
    stream: Option<StreamId>,
    events: Vec<(usize, NewEvent)>,
    /// Why one was refused: those behind it must not pass it.
    refused: Option<Refused>,
}

/// Why a message is not published, for it and those of its key behind it.
#[derive(Clone, Copy)]
enum Refused {
    NoSubscriber,
    /// One before it cannot be carried.
    Behind,
}

impl Publisher {
    pub(super) async fn publish(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let mut results: Vec<Option<Result<Receipt>>> = batch.iter().map(|_| None).collect();
        let mut lanes: Vec<Lane> = Vec::new();
        let mut by_key: HashMap<Key, usize, FixedState> = HashMap::default();
        for (place, message) in batch.into_iter().enumerate() {
            let new = lanes.len();
            let lane = match &message.key {
                Some(key) => *by_key.entry(key.clone()).or_insert(new),
                None => new,
            };
            if lane == new {
                lanes.push(Lane::default());
            }
            results[place] = self.prepare(topic, message, place, &mut lanes[lane]).await;
        }
        let append = |lane: Lane| self.append_lane(lane);
        for (place, result) in join_all(lanes.into_iter().map(append)).await.into_iter().flatten() {
            results[place] = Some(result);
        }
        let unanswered = || Err(Error::Unconfirmed("it was not appended".into()));
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(unanswered))
            .collect()
    }

    /// Queues a message in its lane; else says what became of it.
    async fn prepare(&self, topic: &Topic, message: Message, place: usize, lane: &mut Lane) -> Option<Result<Receipt>> {
        if let Some(refused) = lane.refused {
            return Some(Err(refused.error(topic)));
        }
        if let Some(receipt) = self.is_here(topic, &message).await {
            return Some(receipt);
        }
        if message.headers.get(name::MANDATORY) == Some("1") {
            match self.audience.takes(&self.store, topic).await {
                Ok(true) => (),
                Ok(false) => {
                    lane.refused = Some(Refused::NoSubscriber);
                    return Some(Err(Refused::NoSubscriber.error(topic)));
                }
                Err(error) => {
                    lane.refused = Some(Refused::Behind);
                    return Some(Err(fault(&error)));
                }
            }
        }
        match envelope::carrier(self.transport, topic, message) {
            Ok((stream, event)) => {
                lane.stream = Some(stream);
                lane.events.push((place, event));
                None
            }
            Err(error) => {
                lane.refused = Some(Refused::Behind);
                Some(Err(error))
            }
        }
    }
    /// A message that was relayed from this very log is there already: its event is the message.
    async fn is_here(&self, topic: &Topic, message: &Message) -> Option<Result<Receipt>> {
        let log = message.headers.get(name::LOG)?;
        let from_here = Uuid::try_parse(log).is_ok_and(|log| log == self.store.log_id());
        let first = message.generation() == 0;
        let place = message.headers.get(name::SEQUENCE).filter(|_| from_here && first)?;
        let position = Position(place.split_once('.')?.0.parse().ok()?);
        let event = self.store.read_all().from(position).limit(1).next().await?;
        match event {
            Ok(event) if event.id == message.id.0 && event.topic.as_ref() == Some(topic) => Some(Ok(receipt(position))),
            Ok(_) => None,
            Err(error) => Some(Err(fault(&error))),
        }
    }

    /// Appends a lane in chunks, one after the other; what comes behind a chunk that failed is not tried.
    async fn append_lane(&self, lane: Lane) -> Vec<(usize, Result<Receipt>)> {
        let mut results = Vec::with_capacity(lane.events.len());
        let Some(stream) = lane.stream else { return results };
        let mut events = lane.events.into_iter().peekable();
        while events.peek().is_some() {
            let (mut places, mut chunk, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some((place, event)) = events.next_if(|_| chunk.len() < CHUNK && bytes < CHUNK_BYTES) {
                bytes += event.payload.len();
                places.push(place);
                chunk.push(event);
            }
            let appended = self.append(&stream, chunk).await;
            let failed = appended.iter().any(Result::is_err);
            results.extend(places.into_iter().zip(appended));
            if failed {
                let behind = || Err(Error::Unconfirmed("one before it was not published".into()));
                results.extend(events.map(|(place, _)| (place, behind())));
                break;
            }
        }
        results
    }
    /// Appends to one stream, all or nothing; where some are there already, one by one up to the first that fails.
    async fn append(&self, stream: &StreamId, events: Vec<NewEvent>) -> Vec<Result<Receipt>> {
        let count = events.len();
        match self.commit(stream, events.clone()).await {
            Ok(receipt) => (receipt.first.0..=receipt.last.0)
                .map(|position| Ok(self::receipt(Position(position))))
                .collect(),
            Err(crate::Error::IdReused(_)) => self.append_each(stream, events).await,
            Err(error) => (0..count).map(|_| Err(fault(&error))).collect(),
        }
    }
    async fn append_each(&self, stream: &StreamId, events: Vec<NewEvent>) -> Vec<Result<Receipt>> {
        let count = events.len();
        let mut results: Vec<Result<Receipt>> = Vec::with_capacity(count);
        for event in events {
            match self.commit(stream, vec![event]).await {
                Ok(appended) => results.push(Ok(receipt(appended.first))),
                Err(crate::Error::IdReused(_)) => {
                    // The delivery id is known: whatever the message holds now, it is there.
                    metrics::counter!(BUS_REPEATS).increment(1);
                    results.push(Ok(Receipt::default()));
                }
                Err(error) => {
                    results.extend((results.len()..count).map(|_| Err(fault(&error))).collect::<Vec<_>>());
                    break;
                }
            }
        }
        results
    }
    async fn commit(&self, stream: &StreamId, events: Vec<NewEvent>) -> crate::Result<crate::Receipt> {
        let append = Append {
            stream: stream.clone(),
            expected: Expected::Any,
            events,
        };
        let receipt = self.store.commit(append).await?[0];
        if receipt.repeated {
            metrics::counter!(BUS_REPEATS).increment(1);
        }
        Ok(receipt)
    }
}

impl Refused {
    fn error(self, topic: &Topic) -> Error {
        match self {
            Self::NoSubscriber => Error::NoSubscriber {
                topic: topic.to_string(),
            },
            Self::Behind => Error::Unconfirmed("one of its key before it was not published".into()),
        }
    }
}

fn receipt(position: Position) -> Receipt {
    let mut receipt = Receipt::default();
    receipt.sequence = u64::try_from(position.0).ok();
    receipt
}
