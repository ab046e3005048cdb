//! Dead letters in memory.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use tokio::time::Instant;

use super::broker::Broker;
use crate::{
    DeadLetter, DeadLetterQueue, DeadLetterStore, Error, Message, MessageId, Result, Topic, dead_letter::Death,
};

/// The dead letters of one topic and group, oldest first.
#[derive(Debug, Default)]
pub(super) struct Graveyard {
    letters: VecDeque<Letter>,
    buried: u64,
}

#[derive(Debug)]
struct Letter {
    position: u64,
    message: Message,
    last: Death,
    history: Vec<Death>,
    since: Instant,
}

impl Graveyard {
    pub(super) fn len(&self) -> usize {
        self.letters.len()
    }
    pub(super) fn bury(&mut self, message: Message, last: Death, history: Vec<Death>) {
        self.buried += 1;
        self.letters.push_back(Letter {
            position: self.buried,
            message,
            last,
            history,
            since: Instant::now(),
        });
    }
    fn list(&self, after: u64, limit: usize) -> Vec<DeadLetter> {
        let start = self.letters.partition_point(|letter| letter.position <= after);
        self.letters.range(start..).take(limit).map(Letter::show).collect()
    }
    fn take(&mut self, id: MessageId) -> Option<Letter> {
        let index = self.letters.iter().position(|letter| letter.message.id == id)?;
        self.letters.remove(index)
    }
}

impl Letter {
    fn show(&self) -> DeadLetter {
        let (message, last) = (self.message.clone(), self.last.clone());
        DeadLetter::new(self.position, message, last, self.history.clone(), self.since.elapsed())
    }
}

/// The dead letters of all groups.
#[derive(Debug)]
pub(super) struct DeadLetterOffice(pub(super) Arc<Broker>);

impl DeadLetterOffice {
    fn take(&self, topic: &Topic, group: &str, id: MessageId) -> Result<(Arc<super::group::Group>, Letter)> {
        for candidate in self.0.groups_of(topic, group) {
            if let Some(letter) = candidate.graveyard(topic, |graveyard| graveyard.take(id)) {
                return Ok((candidate, letter));
            }
        }
        Err(Error::no_dead_letter(topic, group, id))
    }
    fn requeue(&self, topic: &Topic, group: &str, id: MessageId, edited: Option<Bytes>) -> Result<()> {
        let (group, mut letter) = self.take(topic, group, id)?;
        letter.message.revive(edited);
        letter.history.push(letter.last);
        group.revive(letter.message, topic, letter.history);
        Ok(())
    }
    fn all(&self) -> Vec<DeadLetterQueue> {
        let mut queues: Vec<DeadLetterQueue> = Vec::new();
        for group in self.0.groups() {
            for (topic, count) in group.dead() {
                // A group may have given up messages of a topic under several subscriptions.
                match queues
                    .iter_mut()
                    .find(|queue| queue.topic == topic && queue.group == group.name)
                {
                    Some(queue) => queue.count += count,
                    None => queues.push(DeadLetterQueue {
                        topic,
                        group: group.name.clone(),
                        count,
                    }),
                }
            }
        }
        queues.sort_by(|a, b| (&a.topic, &a.group).cmp(&(&b.topic, &b.group)));
        queues
    }
    fn page(&self, topic: &Topic, group: &str, after: u64, limit: usize) -> Vec<DeadLetter> {
        let groups = self.0.groups_of(topic, group);
        let pages = groups
            .into_iter()
            .map(|group| group.graveyard(topic, |graveyard| graveyard.list(after, limit)));
        let mut letters: Vec<DeadLetter> = pages.flatten().collect();
        letters.sort_by_key(|letter| letter.position);
        letters.truncate(limit);
        letters
    }
}

impl DeadLetterStore for DeadLetterOffice {
    fn queues(&self) -> BoxFuture<'_, Result<Vec<DeadLetterQueue>>> {
        Box::pin(async { Ok(self.all()) })
    }
    fn list<'a>(
        &'a self,
        topic: &'a Topic,
        group: &'a str,
        after: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>>> {
        Box::pin(async move { Ok(self.page(topic, group, after.unwrap_or(0), limit)) })
    }
    fn requeue<'a>(
        &'a self,
        topic: &'a Topic,
        group: &'a str,
        id: MessageId,
        edited: Option<Bytes>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.requeue(topic, group, id, edited) })
    }
    fn discard<'a>(&'a self, topic: &'a Topic, group: &'a str, id: MessageId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.take(topic, group, id).map(drop) })
    }
}
