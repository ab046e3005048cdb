//! Dead letters: a stream of their own, each under its topic, its group and its id, with its story in a header.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use async_nats::jetstream::{
    message::StreamMessage,
    stream::{LastRawMessageErrorKind, RawMessageErrorKind, Stream},
};
use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::TryStreamExt;

use super::{
    envelope::{delivery_id, from_wire},
    link::Link,
};
use crate::{
    DeadLetter, DeadLetterQueue, DeadLetterStore, Death, Error, Message, MessageId, Result, Topic,
    transport::lanes::Letter,
};

impl Link {
    /// Puts a message among the dead letters. The same death twice is one dead letter.
    pub(super) async fn bury(&self, group: &str, letter: &Letter) -> Result<()> {
        let Letter { topic, message, .. } = letter;
        let id = format!("{}:{group}", delivery_id(message, topic));
        let subject = self.names.dead(topic, group, message.id);
        self.send(subject, message, &id, &letter.story()).await.map(drop)
    }
}

/// The dead letters of all groups.
pub(super) struct DeadLetterOffice(pub(super) Arc<Link>);

/// A dead letter as it lies.
struct Grave {
    position: u64,
    died: SystemTime,
    message: Message,
    story: Vec<Death>,
}

impl DeadLetterOffice {
    async fn stream(&self) -> Result<Stream<()>> {
        self.0.online().await?;
        self.0.stream(self.0.names.dead_stream()).await
    }
    async fn all(&self) -> Result<Vec<DeadLetterQueue>> {
        let subjects = self
            .stream()
            .await?
            .info_with_subjects(self.0.names.dead_subjects())
            .await;
        let mut subjects = subjects.map_err(|error| Error::Disconnected(Box::new(error)))?;
        let mut queues: BTreeMap<(Topic, String), usize> = BTreeMap::new();
        while let Some((subject, count)) = subjects
            .try_next()
            .await
            .map_err(|error| Error::Disconnected(Box::new(error)))?
        {
            if let Some(queue) = self.0.names.queue_of(&subject) {
                *queues.entry(queue).or_default() += count;
            }
        }
        let queue = |((topic, group), count)| DeadLetterQueue { topic, group, count };
        Ok(queues.into_iter().map(queue).collect())
    }
    async fn page(&self, topic: &Topic, group: &str, after: Option<u64>, limit: usize) -> Result<Vec<DeadLetter>> {
        let stream = self.stream().await?;
        let subject = self.0.names.all_dead(topic, group);
        let mut from = after.map_or(1, |after| after.saturating_add(1));
        let mut letters = Vec::new();
        while letters.len() < limit {
            let message = match stream
                .raw_message_builder()
                .next_by_subject(&subject)
                .sequence(from)
                .send()
                .await
            {
                Ok(message) => message,
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => break,
                Err(error) => return Err(Error::Disconnected(Box::new(error))),
            };
            from = message.sequence + 1;
            letters.extend(Grave::open(message).shown());
        }
        Ok(letters)
    }
    async fn find(&self, topic: &Topic, group: &str, id: MessageId) -> Result<Grave> {
        let subject = self.0.names.dead(topic, group, id);
        match self.stream().await?.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => Ok(Grave::open(message)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                Err(Error::no_dead_letter(topic, group, id))
            }
            Err(error) => Err(Error::Disconnected(Box::new(error))),
        }
    }
    /// Back first, then out of the dead letters: between the two it may be in both, and a second call puts it back once.
    async fn revive(&self, topic: &Topic, group: &str, id: MessageId, edited: Option<Bytes>) -> Result<()> {
        let mut grave = self.find(topic, group, id).await?;
        grave.message.revive(edited);
        let delivery = format!("{}:{group}", delivery_id(&grave.message, topic));
        let subject = self.0.names.again(group, topic);
        self.0.send(subject, &grave.message, &delivery, &grave.story).await?;
        self.exhume(grave.position).await.map(drop)
    }
    /// False: somebody else took it out.
    async fn exhume(&self, position: u64) -> Result<bool> {
        match self.stream().await?.delete_message(position).await {
            Ok(deleted) => Ok(deleted),
            Err(error)
                if matches!(
                    error.kind(),
                    async_nats::jetstream::stream::DeleteMessageErrorKind::JetStream(_)
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(Error::Unconfirmed(Box::new(error))),
        }
    }
}

impl Grave {
    fn open(lies: StreamMessage) -> Self {
        let place = || format!("dead:{}", lies.sequence);
        let (message, story) = from_wire(&lies.headers, lies.payload, place);
        Self {
            position: lies.sequence,
            died: lies.time.into(),
            message,
            story,
        }
    }
    /// None where it has no story: it is none of ours.
    fn shown(mut self) -> Option<DeadLetter> {
        let last = self.story.pop()?;
        let age = self.died.elapsed().unwrap_or_default();
        Some(DeadLetter::new(self.position, self.message, last, self.story, age))
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
            let taken = self.exhume(grave.position).await?;
            taken
                .then_some(())
                .ok_or_else(|| Error::no_dead_letter(topic, group, id))
        })
    }
}
