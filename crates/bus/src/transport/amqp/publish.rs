//! Publishing: each message confirmed by itself.

use super::{
    desk::{Fate, Parcel},
    envelope::{Marks, to_watermill, to_wire},
    link::{Link, is_not_found},
};
use crate::{Error, Message, Receipt, Result, Topic, Wire, headers::name, transport::chains};

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
        let (properties, payload) = match self.options.wire {
            Wire::CloudEvents => to_wire(&message, &Marks::default()),
            Wire::Watermill => (to_watermill(&message)?, message.payload.clone()),
        };
        let parcel = Parcel {
            exchange: self.names.exchange(),
            routing_key: topic.to_string(),
            properties,
            payload,
        };
        let sent = if message.headers.get(name::MANDATORY) == Some("1") {
            self.desk.send_mandatory(parcel).await
        } else {
            self.desk.send(parcel).await
        };
        match sent {
            Ok(Fate::Stored) => Ok(Receipt::default()),
            Ok(Fate::Unroutable) => Err(Error::NoSubscriber {
                topic: topic.to_string(),
            }),
            Ok(Fate::Refused) => Err(Error::Unconfirmed("a queue of the topic did not take it".into())),
            Err(error) => Err(self.look_after(error).await),
        }
    }
    /// Makes the exchange again where it was deleted, so that the next try succeeds.
    async fn look_after(&self, error: Error) -> Error {
        if is_exchange_gone(&error)
            && let Err(cause) = self.declare().await
        {
            tracing::debug!(error = crate::error::chain(&cause), "the exchange cannot be made now");
        }
        error
    }
    /// Sends something to a queue by its name; returns when the broker has it.
    pub(super) async fn send_to(&self, queue: &str, mut parcel: Parcel) -> Result<Fate> {
        queue.clone_into(&mut parcel.routing_key);
        parcel.exchange = String::new();
        match self.desk.send_mandatory(parcel).await? {
            Fate::Unroutable => Err(Error::Disconnected(format!("the queue `{queue}` is gone").into())),
            fate => Ok(fate),
        }
    }
}

fn is_exchange_gone(error: &Error) -> bool {
    let Error::Unconfirmed(cause) = error else { return false };
    cause.downcast_ref().is_some_and(is_not_found)
}
