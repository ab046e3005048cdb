//! Dead letters: their stories in a table, their messages where they always were, in the log.

use bytes::Bytes;
use futures_core::future::BoxFuture;
use sagamill_bus::{DeadLetter, DeadLetterQueue, DeadLetterStore, Death, Error, MessageId, Result, Topic};

use super::{
    envelope::{self, Letter, letter},
    fault,
};
use crate::{
    Append, EventStore, Expected,
    backlog::{Grave, Graves},
    relay::Origin,
};

/// The dead letters of all groups of a log.
pub(super) struct DeadLetterOffice {
    pub(super) store: EventStore,
    pub(super) transport: &'static str,
    pub(super) origin: Origin,
}

impl DeadLetterOffice {
    async fn all(&self) -> Result<Vec<DeadLetterQueue>> {
        let yards = self.store.backend().graveyards().await.map_err(|error| fault(&error))?;
        let queue = |(topic, group, count)| DeadLetterQueue { topic, group, count };
        Ok(yards.into_iter().map(queue).collect())
    }
    async fn page(&self, topic: &Topic, group: &str, after: u64, limit: usize) -> Result<Vec<DeadLetter>> {
        let ask = Graves {
            topic: topic.clone(),
            group: group.to_owned(),
            after: i64::try_from(after).unwrap_or(i64::MAX),
            message: None,
            limit,
        };
        let graves = self.store.backend().graves(&ask).await.map_err(|error| fault(&error))?;
        let now = self.store.now();
        let mut letters = Vec::with_capacity(graves.len());
        for grave in graves {
            let Some(Letter { message, story, .. }) = self.message(&grave).await? else {
                continue;
            };
            let age = now.duration_since(grave.died).try_into().unwrap_or_default();
            let number = u64::try_from(grave.number).unwrap_or_default();
            letters.push(DeadLetter::new(number, message, death(&grave), story, age));
        }
        Ok(letters)
    }
    async fn grave(&self, topic: &Topic, group: &str, id: MessageId) -> Result<Grave> {
        let ask = Graves {
            topic: topic.clone(),
            group: group.to_owned(),
            after: i64::MIN,
            message: Some(id.0),
            limit: 1,
        };
        let graves = self.store.backend().graves(&ask).await.map_err(|error| fault(&error))?;
        graves
            .into_iter()
            .next()
            .ok_or_else(|| Error::no_dead_letter(topic, group, id))
    }
    /// The message; none where the log has lost it.
    async fn message(&self, grave: &Grave) -> Result<Option<Letter>> {
        let event = self.store.read_all().from(grave.at.position).limit(1).next().await;
        let event = event.transpose().map_err(|error| fault(&error))?;
        let event = event.filter(|event| Some(event.id) == grave.at.event);
        if event.is_none() {
            tracing::warn!(position = %grave.at.position, "a dead letter's message is not in the log any more");
        }
        Ok(event.and_then(|event| letter(event, &self.origin)))
    }
    /// Back first, then out of the dead letters: between the two it may be in both, and a second call puts it back once.
    async fn revive(&self, topic: &Topic, group: &str, id: MessageId, edited: Option<Bytes>) -> Result<()> {
        let grave = self.grave(topic, group, id).await?;
        let mut letter = self
            .message(&grave)
            .await?
            .ok_or_else(|| Error::no_dead_letter(topic, group, id))?;
        letter.message.revive(edited);
        let (stream, event) = envelope::revival(self.transport, group, letter, death(&grave))?;
        let append = Append {
            stream,
            expected: Expected::Any,
            events: vec![event],
        };
        fail::fail_point!("bus.requeue.before");
        match self.store.commit(append).await {
            Ok(_) | Err(crate::Error::IdReused(_)) => (),
            Err(error) => return Err(fault(&error)),
        }
        fail::fail_point!("bus.requeue.after");
        // Not there any more: it died again meanwhile, under another number, or somebody else took it.
        self.exhume(grave.number).await.map(drop)
    }
    async fn exhume(&self, number: i64) -> Result<bool> {
        self.store.backend().exhume(number).await.map_err(|error| fault(&error))
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
        Box::pin(self.page(topic, group, after.unwrap_or(0), limit))
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
            let grave = self.grave(topic, group, id).await?;
            let taken = self.exhume(grave.number).await?;
            taken
                .then_some(())
                .ok_or_else(|| Error::no_dead_letter(topic, group, id))
        })
    }
}

fn death(grave: &Grave) -> Death {
    Death {
        reason: grave.reason.clone(),
        attempts: grave.attempts,
    }
}
