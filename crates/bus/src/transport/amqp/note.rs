//! What is done with one message of a queue: settled, given back, put to wait, and noted. A note is the one message of a
//! queue of its own, which RabbitMQ replaces when another comes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use lapin::{
    BasicProperties,
    options::{BasicGetOptions, BasicNackOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use serde::{Deserialize, Serialize};

use super::{
    desk::{Fate, Parcel},
    envelope::again,
    link::{Link, quorum},
    naming::{wait, wait_step},
    session::Session,
};
use crate::{
    Error, Order, Result, Topic,
    transport::lanes::{Broker, Letter, Note},
};

/// Notes of messages that nobody came back for are thrown away after 30 days.
const NOTES_KEPT: i64 = 30 * 24 * 60 * 60 * 1_000;
/// A queue for waits stays so long after it was last used, beyond twice what its messages wait: they are gone by then.
const WAITS_KEPT: i64 = 60_000;
/// So long a settlement is tried while the broker cannot be reached.
const PATIENCE: Duration = Duration::from_secs(15);

/// A message of a queue, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    /// Counts what came to this subscription.
    pub(super) order: u64,
    /// The same in all processes.
    pub(super) identity: u128,
}

/// One delivery, with all that is needed to send it to another queue.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) session: Arc<Session>,
    pub(super) tag: u64,
    pub(super) delivered: u64,
    pub(super) keyed: bool,
    pub(super) topic: Topic,
    pub(super) properties: Arc<BasicProperties>,
    pub(super) payload: Bytes,
}

/// The messages of a group's queue.
pub(super) struct Consumed {
    pub(super) link: Arc<Link>,
    pub(super) queue: String,
    pub(super) group: String,
    pub(super) order: Order,
}

#[derive(Serialize, Deserialize)]
struct Written {
    attempts: u32,
    closed: u64,
}

impl Consumed {
    /// The queue of a message's note. Gives whether there is one.
    async fn note_queue(&self, id: Id) -> Result<(String, bool)> {
        let name = self.link.names.note(&self.queue, id.identity);
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
        arguments.insert("x-expires".into(), AMQPValue::LongLongInt(NOTES_KEPT));
        let (notes, _) = self.link.declare_queue(&name, arguments).await?;
        Ok((name, notes > 0))
    }
    /// Sends a message to where it waits, from where it comes back to this queue alone.
    async fn put_to_wait(&self, token: &Token, after: Duration) -> Result<()> {
        let step = wait_step(after);
        let name = wait(&self.queue, step);
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let mut arguments = quorum();
        for (argument, value) in [
            ("x-message-ttl", AMQPValue::LongLongInt(step)),
            (
                "x-expires",
                AMQPValue::LongLongInt((2 * step + WAITS_KEPT).min(u32::MAX.into())),
            ),
            ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
            (
                "x-dead-letter-routing-key",
                AMQPValue::LongString(self.queue.as_str().into()),
            ),
            // The broker keeps it until the queue has it.
            ("x-dead-letter-strategy", AMQPValue::LongString("at-least-once".into())),
            ("x-overflow", AMQPValue::LongString("reject-publish".into())),
        ] {
            arguments.insert(argument.into(), value);
        }
        self.link.declare_queue(&name, arguments).await?;
        let parcel = Parcel {
            exchange: String::new(),
            routing_key: String::new(),
            properties: again(&token.properties, &token.topic, token.delivered),
            payload: token.payload.clone(),
        };
        stored(self.link.send_to(&name, parcel).await?)
    }
}

impl Broker for Consumed {
    type Id = Id;
    type Token = Token;

    fn patience(&self) -> Duration {
        PATIENCE
    }
    async fn recall(&self, id: Id) -> Result<Option<Note>> {
        let (name, is_noted) = self.note_queue(id).await?;
        if !is_noted {
            return Ok(None);
        }
        let channel = self.link.office().await?;
        let got = channel.basic_get(name.as_str().into(), BasicGetOptions::default());
        let Some(got) = self.link.answer("a note", got).await? else {
            return Ok(None);
        };
        let back = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        self.link
            .answer("a note", channel.basic_nack(got.delivery_tag, back))
            .await?;
        let written: Option<Written> = serde_json::from_slice(&got.data).ok();
        Ok(written.map(|Written { attempts, closed }| Note { attempts, closed }))
    }
    async fn note(&self, id: Id, Note { attempts, closed }: Note) -> Result<()> {
        let written = serde_json::to_vec(&Written { attempts, closed }).map_err(|error| Error::Codec(error.into()))?;
        let (name, _) = self.note_queue(id).await?;
        let parcel = Parcel {
            exchange: String::new(),
            routing_key: String::new(),
            properties: BasicProperties::default()
                .with_delivery_mode(2)
                .with_message_id(format!("{:032x}", id.identity).into()),
            payload: written.into(),
        };
        stored(self.link.send_to(&name, parcel).await?)
    }
    async fn forget(&self, id: Id) {
        let name = self.link.names.note(&self.queue, id.identity);
        let deleted = async {
            let channel = self.link.office().await?;
            let deleted = channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
            self.link.answer("a note", deleted).await
        };
        if let Err(error) = deleted.await {
            // It goes by its age.
            tracing::debug!(name, error = crate::error::chain(&error), "a note is left behind");
        }
    }
    async fn ack(&self, token: &Token) -> Result<()> {
        token.session.ack(token.tag).await
    }
    /// Under order of keys a message goes back to its place at once, and comes too early rather than too late for its key.
    async fn give_back(&self, token: &Token, after: Option<Duration>) -> Result<()> {
        match after.filter(|after| !after.is_zero()) {
            Some(after) if self.order == Order::None || !token.keyed => {
                self.put_to_wait(token, after).await?;
                token.session.ack(token.tag).await
            }
            _ => token.session.give_back(token.tag).await,
        }
    }
    async fn bury(&self, letter: &Letter) -> Result<()> {
        self.link.bury(&self.group, &self.queue, letter).await
    }
}

fn stored(fate: Fate) -> Result<()> {
    match fate {
        Fate::Stored => Ok(()),
        _ => Err(Error::Unconfirmed("the queue did not take it".into())),
    }
}
