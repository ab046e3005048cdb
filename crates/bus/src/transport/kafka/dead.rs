//! Dead letters: one compacted topic for all, each under its topic, group, id and generation, so that compaction keeps what is
//! not discarded. Looking for one reads the topic from its start.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
    message::{BorrowedMessage, OwnedHeaders},
};

use super::{
    envelope::{Origin, from_wire, to_wire},
    link::{ANSWER_WITHIN, Link, Purpose, blocking, failure},
    publish::Record,
};
use crate::{
    DeadLetter, DeadLetterQueue, DeadLetterStore, Error, Message, MessageId, Result, Topic, headers::name,
    transport::lanes::Letter,
};

/// What tells dead letters apart: each generation of a message has one of its own, so that a requeue that takes the last one
/// out never takes the next one with it.
fn grave_name(topic: &Topic, group: &str, message: &Message) -> String {
    let generation = message.headers.get(name::GENERATION).unwrap_or("0");
    format!("{topic}\0{group}\0{}\0{generation}", message.id)
}

impl Link {
    /// Puts a message among the dead letters. The same death twice is one dead letter.
    pub(super) async fn bury(&self, group: &str, letter: &Letter) -> Result<()> {
        let Letter { topic, message, .. } = letter;
        let origin = Origin {
            topic: Some(topic.clone()),
            group: group.to_owned(),
            story: letter.story(),
            key: message.key.clone(),
        };
        let dead = self.names.dead();
        self.declare(&dead, Purpose::Dead).await?;
        let record = Record {
            topic: &dead,
            key: Some(&grave_name(topic, group, message)),
            payload: Some(&message.payload),
            headers: to_wire(message, Some(&origin)),
        };
        self.send(record).await.map(drop)
    }
}

/// The dead letters of all groups.
pub(super) struct DeadLetterOffice(pub(super) Arc<Link>);

/// A dead letter as it lies.
struct Grave {
    name: String,
    position: u64,
    died: SystemTime,
    message: Message,
    origin: Origin,
}

impl DeadLetterOffice {
    async fn graves(&self) -> Result<Vec<Grave>> {
        let link = Arc::clone(&self.0);
        if link.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        link.declare(&link.names.dead(), Purpose::Dead).await?;
        blocking(move || read_all(&link)).await?.map_err(failure)
    }
    async fn all(&self) -> Result<Vec<DeadLetterQueue>> {
        let mut queues: BTreeMap<(Topic, String), usize> = BTreeMap::new();
        for Grave { origin, .. } in self.graves().await? {
            if let Some(topic) = origin.topic {
                *queues.entry((topic, origin.group)).or_default() += 1;
            }
        }
        let queue = |((topic, group), count)| DeadLetterQueue { topic, group, count };
        Ok(queues.into_iter().map(queue).collect())
    }
    async fn of(&self, topic: &Topic, group: &str) -> Result<impl Iterator<Item = Grave>> {
        let graves = self.graves().await?.into_iter();
        Ok(graves.filter(move |grave| grave.origin.topic.as_ref() == Some(topic) && grave.origin.group == group))
    }
    async fn page(&self, topic: &Topic, group: &str, after: Option<u64>, limit: usize) -> Result<Vec<DeadLetter>> {
        let graves = self.of(topic, group).await?;
        let behind = graves.filter(|grave| after.is_none_or(|after| grave.position > after));
        Ok(behind.filter_map(Grave::shown).take(limit).collect())
    }
    async fn find(&self, topic: &Topic, group: &str, id: MessageId) -> Result<Grave> {
        let found = self
            .of(topic, group)
            .await?
            .filter(|grave| grave.message.id == id)
            .last();
        found.ok_or_else(|| Error::no_dead_letter(topic, group, id))
    }
    /// Back first, then out of the dead letters: where this ends in between, it is in both.
    async fn revive(&self, topic: &Topic, group: &str, id: MessageId, edited: Option<Bytes>) -> Result<()> {
        let mut grave = self.find(topic, group, id).await?;
        grave.message.revive(edited);
        let again = self.0.names.again(group);
        self.0.declare(&again, Purpose::Again).await?;
        let record = Record {
            topic: &again,
            key: grave.message.key.as_ref().map(|key| key.0.as_ref()),
            payload: Some(&grave.message.payload),
            headers: to_wire(&grave.message, Some(&grave.origin)),
        };
        self.0.send(record).await?;
        self.exhume(&grave.name).await
    }
    async fn exhume(&self, grave: &str) -> Result<()> {
        let record = Record {
            topic: &self.0.names.dead(),
            key: Some(grave),
            payload: None,
            headers: OwnedHeaders::new(),
        };
        self.0.send(record).await.map(drop)
    }
}

/// All that are not discarded, oldest first.
fn read_all(link: &Link) -> KafkaResult<Vec<Grave>> {
    let consumer: BaseConsumer = link
        .config
        .clone()
        .set("group.id", format!("{}-reader", link.options.prefix))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10")
        .set("fetch.message.max.bytes", super::link::RECORD_MAX.to_string())
        .set("fetch.max.bytes", (super::link::RECORD_MAX * 2).to_string())
        .create()?;
    let dead = link.names.dead();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(&dead, 0, Offset::Beginning)?;
    consumer.assign(&from)?;
    let (mut graves, mut places) = (BTreeMap::new(), HashMap::new());
    let mut looked = std::time::Instant::now();
    while looked.elapsed() < ANSWER_WITHIN {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                looked = std::time::Instant::now();
                let name = record.key().map(|key| String::from_utf8_lossy(key).into_owned());
                let Some(name) = name else { continue };
                if let Some(last) = places.remove(&name) {
                    graves.remove(&last);
                }
                if let Some(grave) = Grave::open(&record, &name) {
                    places.insert(name, grave.position);
                    graves.insert(grave.position, grave);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(graves.into_values().collect()),
            Some(Err(error)) => tracing::debug!(%error, "dead letters are being read"),
            None => {}
        }
    }
    Err(KafkaError::MessageConsumption(
        rdkafka::error::RDKafkaErrorCode::OperationTimedOut,
    ))
}

impl Grave {
    /// None: a tombstone.
    fn open(record: &BorrowedMessage<'_>, name: &str) -> Option<Self> {
        record.payload()?;
        let (mut message, mut origin) = from_wire(record);
        message.key = origin.key.take();
        let millis = record
            .timestamp()
            .to_millis()
            .and_then(|millis| u64::try_from(millis).ok());
        Some(Self {
            name: name.to_owned(),
            position: u64::try_from(record.offset()).ok()?,
            died: SystemTime::UNIX_EPOCH + Duration::from_millis(millis.unwrap_or(0)),
            message,
            origin,
        })
    }
    /// None where it has no story: it is none of ours.
    fn shown(mut self) -> Option<DeadLetter> {
        let last = self.origin.story.pop()?;
        let age = self.died.elapsed().unwrap_or_default();
        Some(DeadLetter::new(
            self.position,
            self.message,
            last,
            self.origin.story,
            age,
        ))
    }
}

impl DeadLetterStore for DeadLetterOffice {
    fn queues(&self) -> BoxFuture<'_, Result<Vec<DeadLetterQueue>>> {
        Box::pin(self.all())
    }
    fn list<'a>(
        &'a self,
        topic: &'a Topic,
        group: &'a str,
        after: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>>> {
        Box::pin(self.page(topic, group, after, limit))
    }
    fn requeue<'a>(
        &'a self,
        topic: &'a Topic,
        group: &'a str,
        id: MessageId,
        edited: Option<Bytes>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.revive(topic, group, id, edited))
    }
    fn discard<'a>(&'a self, topic: &'a Topic, group: &'a str, id: MessageId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let grave = self.find(topic, group, id).await?;
            self.exhume(&grave.name).await
        })
    }
}
