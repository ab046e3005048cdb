//! Messages that were given up: kept with all that is known of them, to be read, put back or thrown away.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_core::future::BoxFuture;

use crate::{Error, Message, MessageId, Result, Topic};

/// A message that a group gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its place among the dead letters of its topic and group; grows with time.
    pub position: u64,
    /// The message as it was published: id, key, headers, payload.
    pub message: Message,
    /// Its last death.
    pub last: Death,
    /// The deaths before that, oldest first; it was requeued after each.
    pub history: Vec<Death>,
    /// How long ago it was given up.
    pub age: Duration,
}

/// How a message was given up once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// What the handler or the retry policy said.
    pub reason: String,
    /// How many attempts were made since it was published or requeued.
    pub attempts: u32,
}

/// Dead letters of one topic and group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterQueue {
    /// Where the messages were published.
    pub topic: Topic,
    /// Who gave them up.
    pub group: String,
    /// How many there are.
    pub count: usize,
}

impl DeadLetter {
    /// For authors of transports.
    #[must_use]
    pub fn new(position: u64, message: Message, last: Death, history: Vec<Death>, age: Duration) -> Self {
        Self {
            position,
            message,
            last,
            history,
            age,
        }
    }
}

/// For authors of transports: where they keep the dead letters.
pub trait DeadLetterStore: Send + Sync + 'static {
    /// All topics and groups that have some, by topic, then by group.
    fn queues(&self) -> BoxFuture<'_, Result<Vec<DeadLetterQueue>>>;
    /// Those behind a position, oldest first, at most `limit`.
    fn list<'a>(
        &'a self,
        topic: &'a Topic,
        group: &'a str,
        after: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>>>;
    /// Gives a message to its group again, and to no other: same id, attempts from 1, the header
    /// [`GENERATION`](crate::headers::name::GENERATION) one higher, and where it was edited another payload
    /// ([`Message::revive`]). [`Error::NoDeadLetter`] where it is gone.
    fn requeue<'a>(
        &'a self,
        topic: &'a Topic,
        group: &'a str,
        id: MessageId,
        edited: Option<Bytes>,
    ) -> BoxFuture<'a, Result<()>>;
    /// Throws a message away for good. [`Error::NoDeadLetter`] where it is gone.
    fn discard<'a>(&'a self, topic: &'a Topic, group: &'a str, id: MessageId) -> BoxFuture<'a, Result<()>>;
}

/// The dead letters of one topic and group.
#[derive(Clone)]
pub struct DeadLetters {
    store: Arc<dyn DeadLetterStore>,
    topic: Topic,
    group: String,
}

impl DeadLetters {
    pub(crate) fn new(store: Arc<dyn DeadLetterStore>, topic: Topic, group: String) -> Self {
        Self { store, topic, group }
    }
    /// Those behind a position, oldest first, at most `limit`.
    ///
    /// # Errors
    /// What the transport says.
    pub async fn list(&self, after: Option<u64>, limit: usize) -> Result<Vec<DeadLetter>> {
        self.store.list(&self.topic, &self.group, after, limit).await
    }
    /// One of them.
    ///
    /// # Errors
    /// [`Error::NoDeadLetter`] where there is none of this id.
    pub async fn get(&self, id: MessageId) -> Result<DeadLetter> {
        const PAGE: usize = 256;
        let mut after = None;
        loop {
            let page = self.list(after, PAGE).await?;
            let Some(last) = page.last() else {
                return Err(Error::no_dead_letter(&self.topic, &self.group, id));
            };
            after = Some(last.position);
            if let Some(found) = page.into_iter().find(|letter| letter.message.id == id) {
                return Ok(found);
            }
        }
    }
    /// Gives a message to its group again: same id, attempts from 1, its history kept.
    ///
    /// # Errors
    /// [`Error::NoDeadLetter`] where there is none of this id.
    pub async fn requeue(&self, id: MessageId) -> Result<()> {
        self.store.requeue(&self.topic, &self.group, id, None).await
    }
    /// Gives a message to its group again with another payload, for one that nobody could have handled as it was: same id, key
    /// and headers, attempts from 1, its history kept. Called again after an error, the first payload that arrived counts.
    ///
    /// # Errors
    /// [`Error::NoDeadLetter`] where there is none of this id; [`Error::TooLarge`] where the payload is.
    pub async fn requeue_edited(&self, id: MessageId, payload: impl Into<Bytes>) -> Result<()> {
        let payload = payload.into();
        Message::new(payload.clone()).check()?;
        self.store.requeue(&self.topic, &self.group, id, Some(payload)).await
    }
    /// Throws a message away for good.
    ///
    /// # Errors
    /// [`Error::NoDeadLetter`] where there is none of this id.
    pub async fn discard(&self, id: MessageId) -> Result<()> {
        self.store.discard(&self.topic, &self.group, id).await
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters")
            .field("topic", &self.topic)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
