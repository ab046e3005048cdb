//! Publishing: each message confirmed by itself.

use super::{
    envelope::{delivery_id, to_watermill, to_wire, wire_size},
    link::Link,
};
use crate::{Error, Message, Receipt, Result, Topic, Wire, dead_letter::Death, headers::name, transport::chains};
use async_nats::{
    HeaderMap,
    jetstream::{context::PublishErrorKind, message::PublishMessage},
};
use bytes::Bytes;

impl Link {
    /// Publishes, one result for each message.
    pub(super) async fn publish(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let _busy = self.busy.token();
        chains::publish(batch, |message| self.publish_one(topic, message)).await
    }
    async fn publish_one(&self, topic: &Topic, message: Message) -> Result<Receipt> {
        if self.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        if message.headers.get(name::MANDATORY) == Some("1") && !self.has_audience(topic).await? {
            return Err(Error::NoSubscriber {
                topic: topic.to_string(),
            });
        }
        let id = delivery_id(&message, topic);
        let subject = self.names.topic(topic);
        match self.options.wire {
            Wire::CloudEvents => self.send(subject, &message, &id, &[]).await,
            Wire::Watermill => {
                let headers = to_watermill(&message, &id)?;
                self.send_wire(subject, headers, message.payload).await
            }
        }
    }
    /// Sends one message to a subject, and waits until the server has it.
    pub(super) async fn send(&self, subject: String, message: &Message, id: &str, story: &[Death]) -> Result<Receipt> {
        let (headers, payload) = to_wire(message, id, story);
        self.send_wire(subject, headers, payload).await
    }
    async fn send_wire(&self, subject: String, headers: HeaderMap, payload: Bytes) -> Result<Receipt> {
        let size = wire_size(&headers) + payload.len();
        self.online().await?;
        let max = self.client.max_payload();
        if size > max {
            let part = "message with its headers (see `max_payload` of the server)";
            return Err(Error::TooLarge { part, size, max });
        }
        self.confirmed(subject, headers, payload).await
    }
    /// Publishes something to a stream; returns when the server has it.
    pub(super) async fn confirmed(&self, subject: String, headers: HeaderMap, payload: Bytes) -> Result<Receipt> {
        let publish = PublishMessage::build().headers(headers).payload(payload);
        let confirmed = self.answered(async {
            match self.context.send_publish(subject, publish).await {
                Ok(sent) => Ok(sent.await),
                Err(error) => Ok(Err(error)),
            }
        });
        match confirmed.await? {
            Ok(ack) => Ok(Receipt {
                sequence: Some(ack.sequence),
            }),
            Err(error) if error.kind() == PublishErrorKind::StreamNotFound => {
                // Nobody took it: the server is just starting, or the stream was deleted.
                if let Err(cause) = self.declare().await {
                    tracing::debug!(error = crate::error::chain(&cause), "the streams cannot be made now");
                }
                Err(Error::Disconnected(Box::new(error)))
            }
            Err(error) => Err(Error::Unconfirmed(Box::new(error))),
        }
    }
}
