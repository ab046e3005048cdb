//! Dead letters: a queue for each topic and group, in which each letter says how it died, when it was put away, and which
//! queue it came from.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use lapin::{
    message::Delivery,
    types::{AMQPValue, FieldTable},
};
use tokio::time::Instant;

use super::{
    desk::{Fate, Parcel},
    envelope::{Arrived, Marks, from_wire, nanoseconds, to_wire},
    link::{Link, quorum},
    reading::Reading,
};
use crate::{DeadLetter, DeadLetterQueue, DeadLetterStore, Error, MessageId, Result, Topic, transport::lanes::Letter};

/// Most dead letters of a topic and group: all can be looked through at once.
const LETTERS_MAX: i64 = 50_000;

impl Link {
    /// Puts a message among the dead letters, and remembers the queue it came from.
    pub(super) async fn bury(&self, group: &str, origin: &str, letter: &Letter) -> Result<()> {
        let Letter { topic, message, .. } = letter;
        let marks = Marks {
            topic: Some(topic.clone()),
            story: letter.story(),
            origin: Some(origin.to_owned()),
            buried: Some(self.next_place()),
        };
        let queue = self.names.dead(group, topic);
        self.enrol(topic, group, settings()).await?;
        self.declare_queue(&queue, settings()).await?;
        let (properties, payload) = to_wire(message, &marks);
        match self.send_to(&queue, parcel(properties, payload)).await? {
            Fate::Stored => Ok(()),
            _ => Err(Error::DeadLettersFull {
                topic: topic.to_string(),
                group: group.to_owned(),
            }),
        }
    }
    /// The time, but never the same twice.
    fn next_place(&self) -> u64 {
        let now = nanoseconds();
        let later = |last: u64| Some(now.max(last + 1));
        let last = self.buried.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        last.map_or(now, |last| now.max(last + 1))
    }
}

fn parcel(properties: lapin::BasicProperties, payload: Bytes) -> Parcel {
    Parcel {
        exchange: String::new(),
        routing_key: String::new(),
        properties,
        payload,
    }
}

/// A full queue refuses, and loses nothing.
fn settings() -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(LETTERS_MAX));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    arguments
}

/// The dead letters of all groups.
pub(super) struct DeadLetterOffice(pub(super) Arc<Link>);

impl DeadLetterOffice {
    async fn all(&self) -> Result<Vec<DeadLetterQueue>> {
        let mut queues = Vec::new();
        for (topic, group) in self.0.enrolled().await? {
            let name = self.0.names.dead(&group, &topic);
            let _alone = self.0.reading.lock().await;
            let until = Instant::now() + self.0.options.confirm_within;
            let count = self.0.count_alone(&name, &settings(), until).await?;
            if count > 0 {
                queues.push(DeadLetterQueue { topic, group, count });
            }
        }
        Ok(queues)
    }
    async fn page(&self, topic: &Topic, group: &str, after: Option<u64>, limit: usize) -> Result<Vec<DeadLetter>> {
        let name = self.0.names.dead(group, topic);
        let mut reading = Reading::open(&self.0, &name, settings()).await?;
        let mut page = BTreeMap::new();
        while let Some(delivery) = reading.next().await? {
            let letter = open(delivery);
            let place = letter.marks.buried.unwrap_or(0);
            if limit > 0 && after.is_none_or(|after| place > after) {
                page.insert(place, letter);
                // Several processes put letters away by clocks of their own: the first by place are not the first to come.
                if page.len() > limit {
                    page.pop_last();
                }
            }
        }
        reading.close().await?;
        Ok(page.into_values().filter_map(shown).collect())
    }
    /// Finds a letter, has something done with it, and takes it out.
    async fn with<F: Future<Output = Result<()>>>(
        &self,
        topic: &Topic,
        group: &str,
        id: MessageId,
        then: impl FnOnce(Arrived) -> F,
    ) -> Result<()> {
        let name = self.0.names.dead(group, topic);
        let mut reading = Reading::open(&self.0, &name, settings()).await?;
        let mut done = Err(Error::no_dead_letter(topic, group, id));
        while let Some(mut delivery) = reading.next().await? {
            let letter = open_in(&mut delivery);
            if letter.message.id == id {
                done = then(letter).await;
                if done.is_ok() {
                    done = reading.take_out(&delivery).await;
                }
                break;
            }
        }
        reading.close().await?;
        done
    }
    /// Back first, then out of the dead letters: between the two it may be in both.
    async fn revive(&self, topic: &Topic, group: &str, id: MessageId, edited: Option<Bytes>) -> Result<()> {
        let then = async |letter: Arrived| {
            let Arrived { mut message, marks, .. } = letter;
            message.revive(edited);
            let queue = marks.origin.unwrap_or_else(|| self.0.names.queue(group, topic));
            let marks = Marks {
                topic: Some(topic.clone()),
                story: marks.story,
                ..Marks::default()
            };
            let (properties, payload) = to_wire(&message, &marks);
            match self.0.send_to(&queue, parcel(properties, payload)).await? {
                Fate::Stored => Ok(()),
                _ => Err(Error::Unconfirmed("the group's queue did not take it".into())),
            }
        };
        self.with(topic, group, id, then).await
    }
}

fn open(mut delivery: Delivery) -> Arrived {
    open_in(&mut delivery)
}
/// Reads a letter, and leaves the rest of its delivery.
fn open_in(delivery: &mut Delivery) -> Arrived {
    let payload = Bytes::from(std::mem::take(&mut delivery.data));
    let routing_key = delivery.routing_key.as_str();
    from_wire(&delivery.properties, payload, routing_key, delivery.redelivered)
}
/// None where it has no story: it is none of ours.
fn shown(letter: Arrived) -> Option<DeadLetter> {
    let Arrived { message, mut marks, .. } = letter;
    let place = marks.buried?;
    let last = marks.story.pop()?;
    let age = Duration::from_nanos(nanoseconds().saturating_sub(place));
    Some(DeadLetter::new(place, message, last, marks.story, age))
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
        Box::pin(self.with(topic, group, id, async |_| Ok(())))
    }
}
