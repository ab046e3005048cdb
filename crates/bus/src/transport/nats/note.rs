//! What is done with one message of a consumer: settled, given back, and noted. A note is the one message of its subject.

use std::{sync::Arc, time::Duration};

use async_nats::{
    HeaderMap, Request, RequestErrorKind, Subject,
    jetstream::{AckKind, stream::LastRawMessageErrorKind},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::link::Link;
use crate::{
    Error, Result,
    transport::lanes::{Broker, Letter, Note},
};

/// A consumer's messages, by their places in the stream of topics. A token is where a delivery is answered.
pub(super) struct Consumed {
    pub(super) link: Arc<Link>,
    pub(super) consumer: String,
    pub(super) group: String,
}

#[derive(Serialize, Deserialize)]
struct Written {
    attempts: u32,
    closed: u64,
}

impl Consumed {
    fn subject(&self, id: u64) -> String {
        self.link.names.note(&self.consumer, id)
    }
}

impl Broker for Consumed {
    type Id = u64;
    type Token = Subject;

    fn patience(&self) -> Duration {
        self.link.options.ack_wait
    }
    async fn recall(&self, id: u64) -> Result<Option<Note>> {
        let stream = self.link.stream(self.link.names.note_stream()).await?;
        // Of the stream's leader: a replica may not have it yet.
        match stream.get_last_raw_message_by_subject(&self.subject(id)).await {
            Ok(message) => {
                let written: Option<Written> = serde_json::from_slice(&message.payload).ok();
                Ok(written.map(|Written { attempts, closed }| Note { attempts, closed }))
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(Error::Disconnected(Box::new(error))),
        }
    }
    async fn note(&self, id: u64, Note { attempts, closed }: Note) -> Result<()> {
        let written = serde_json::to_vec(&Written { attempts, closed }).map_err(|error| Error::Codec(error.into()))?;
        self.link.online().await?;
        let confirmed = self.link.confirmed(self.subject(id), HeaderMap::new(), written.into());
        confirmed.await.map(drop)
    }
    async fn forget(&self, id: u64) {
        let purged = async {
            let stream = self.link.stream(self.link.names.note_stream()).await?;
            let purge = stream.purge().filter(self.subject(id));
            purge.await.map_err(|error| Error::Unconfirmed(Box::new(error)))
        };
        if let Err(error) = purged.await {
            // It goes by its age.
            tracing::debug!(id, error = crate::error::chain(&error), "a note is left behind");
        }
    }
    async fn ack(&self, token: &Subject) -> Result<()> {
        self.link.online().await?;
        let ack = Request::new().payload(AckKind::Ack.into());
        let told = self.link.answered(async {
            let told = self.link.client.send_request(token.clone(), ack).await;
            told.map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => Error::Disconnected(Box::new(error)),
                _ => Error::Unconfirmed(Box::new(error)),
            })
        });
        told.await.map(drop)
    }
    async fn give_back(&self, token: &Subject, after: Option<Duration>) -> Result<()> {
        let nak: Bytes = AckKind::Nak(after.filter(|after| !after.is_zero())).into();
        let sent = self.link.client.publish(token.clone(), nak).await;
        sent.map_err(|error| Error::Disconnected(Box::new(error)))
    }
    async fn bury(&self, letter: &Letter) -> Result<()> {
        self.link.bury(&self.group, letter).await
    }
}
