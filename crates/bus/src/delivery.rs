//! One message on loan: it is settled once, by value; dropped, it is a retry.

use std::{fmt, time::Duration};

use futures_core::future::BoxFuture;

use crate::{Message, Result, Topic};

/// How a delivery ends.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settlement {
    /// Handled: the group has done with it.
    Ack,
    /// Delivered again, after a time if one is given.
    Retry {
        /// How long to wait; none: at once.
        after: Option<Duration>,
    },
    /// Given up, to the dead letters.
    Dead {
        /// Why, for those who read the dead letters.
        reason: String,
    },
}

/// For authors of transports: takes a delivery's one settlement.
pub trait Settle: Send + Sync {
    /// Carries the settlement out; returns when the broker knows. [`Error::Stale`](crate::Error::Stale) where the delivery
    /// belongs to an earlier assignment.
    fn settle(self: Box<Self>, settlement: Settlement) -> BoxFuture<'static, Result<()>>;
    /// The delivery was dropped unsettled: deliver it again. Must not block.
    fn dropped(self: Box<Self>);
}

/// One message to be settled once. Dropping it is a retry, so that a panic or a cancelled task loses nothing.
#[must_use = "a delivery that is dropped is delivered again"]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Its topic, also where the subscription is to a pattern.
    pub topic: Topic,
    /// Which attempt this is, from 1. A delivery given back by a shutdown does not count.
    pub attempt: u32,
    settle: Option<Box<dyn Settle>>,
}

impl Delivery {
    /// For authors of transports.
    pub fn new(message: Message, topic: Topic, attempt: u32, settle: impl Settle + 'static) -> Self {
        Self {
            message,
            topic,
            attempt,
            settle: Some(Box::new(settle)),
        }
    }
    /// Handled.
    ///
    /// # Errors
    /// [`Error::Stale`](crate::Error::Stale): somebody else has it now, and may handle it again.
    pub async fn ack(self) -> Result<()> {
        self.settle(Settlement::Ack).await
    }
    /// To be delivered again, after a time if one is given.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn retry(self, after: Option<Duration>) -> Result<()> {
        self.settle(Settlement::Retry { after }).await
    }
    /// Given up, to the dead letters.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn dead(self, reason: impl Into<String>) -> Result<()> {
        self.settle(Settlement::Dead { reason: reason.into() }).await
    }
    /// Any of the three.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn settle(mut self, settlement: Settlement) -> Result<()> {
        match self.settle.take() {
            Some(settle) => {
                fail::fail_point!("bus.settle.before");
                let result = settle.settle(settlement).await;
                fail::fail_point!("bus.settle.after");
                result
            }
            None => Ok(()),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(settle) = self.settle.take() {
            settle.dropped();
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("message", &self.message.id)
            .field("topic", &self.topic)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
