//! Routes that take messages from topic to topic.

use std::{sync::Arc, time::Duration};

use super::{Incoming, Router};
use crate::{BoxError, HandlerError, Message, Settlement, Topic, headers::name};

/// Where a message that was given up goes back to, when, and how often.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Requeue {
    /// Its new topic; none: the one it was on.
    pub to: Option<Topic>,
    /// How long it waits before that.
    pub after: Duration,
    /// The most times that a message is put back, by whomever.
    pub times_max: u32,
}

impl Requeue {
    /// Back to where each message was, after a time, and three times at most.
    #[must_use]
    pub fn after(after: Duration) -> Self {
        Self {
            to: None,
            after,
            times_max: 3,
        }
    }
    /// To this topic, wherever each message was.
    #[must_use]
    pub fn to(self, topic: impl Into<Topic>) -> Self {
        Self {
            to: Some(topic.into()),
            ..self
        }
    }
    /// The most times that a message is put back.
    #[must_use]
    pub fn times(self, max: u32) -> Self {
        Self { times_max: max, ..self }
    }
}

impl<S: Clone + Send + Sync + 'static> Router<S> {
    /// Publishes every message of a topic or pattern to other topics: as it is, under the same id. It is acknowledged when
    /// all have confirmed it; where one does not, it is published to all again.
    ///
    /// ```
    /// use sagamill_bus::prelude::*;
    ///
    /// // Several topics to one, and one to several.
    /// let router: Router = Router::new()
    ///     .forward("eu.order", ["order"])
    ///     .forward("us.order", ["order"])
    ///     .forward("order", ["billing", "audit"]);
    /// ```
    ///
    /// A key keeps its order on its way from each topic. A message whose topic is one of those that it would go to is a dead
    /// letter, and does not go round for ever.
    #[must_use]
    pub fn forward<T: Into<Topic>>(self, from: impl Into<Topic>, to: impl IntoIterator<Item = T>) -> Self {
        let to: Arc<[Topic]> = to.into_iter().map(Into::into).collect();
        self.serve(from.into(), move |incoming| forward(incoming, Arc::clone(&to)))
    }
    /// Puts messages back that were given up: from a topic of [dead letters](Router::dead_letters), or any other, after a
    /// time, and so often at most. A message that was put back as often is a dead letter of this router.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sagamill_bus::{Groups, Requeue, delays, prelude::*};
    /// # async fn reserve(_: Message) -> Result<(), HandlerError> { Ok(()) }
    ///
    /// let groups = Groups::new()
    ///     .with("inventory", Router::new().route("order", reserve).dead_letters("order.dead"))
    ///     .with("second-chance", Router::new().requeue("order.dead", Requeue::after(Duration::from_mins(10)).times(2)))
    ///     .with("delays", delays());
    /// ```
    ///
    /// It waits as a [delayed](crate::Bus::publish_after) message does, so a router of [`delays`](crate::delays) must run. It
    /// keeps its id and its key and has its attempts anew; every group of its topic gets it, and not the one alone that gave
    /// it up: for that there is [`DeadLetters::requeue`](crate::DeadLetters::requeue), which counts as often.
    #[must_use]
    pub fn requeue(self, from: impl Into<Topic>, requeue: Requeue) -> Self {
        let requeue = Arc::new(requeue);
        self.serve(from.into(), move |incoming| put_back(incoming, Arc::clone(&requeue)))
    }
}

async fn forward<S>(incoming: Incoming<S>, to: Arc<[Topic]>) -> Result<Settlement, BoxError> {
    if to.contains(&incoming.topic) {
        return Err(HandlerError::permanent("it would be forwarded to where it comes from").into());
    }
    for topic in &*to {
        incoming
            .bus
            .publish_to(topic.clone(), [incoming.message.clone()])
            .await?;
    }
    Ok(Settlement::Ack)
}

async fn put_back<S>(incoming: Incoming<S>, requeue: Arc<Requeue>) -> Result<Settlement, BoxError> {
    let times = incoming.message.generation();
    if times >= requeue.times_max {
        let reason = format!("put back {times} times: {}", reason(&incoming.message));
        return Ok(Settlement::Dead { reason });
    }
    let before = incoming.message.headers.get(name::DEAD_TOPIC);
    let before = before.map_or_else(|| incoming.topic.clone(), |topic| topic.to_owned().into());
    let topic = requeue.to.clone().unwrap_or(before);
    let mut message = incoming.message;
    for own in [
        name::DEAD_REASON,
        name::DEAD_TOPIC,
        name::DEAD_GROUP,
        name::DEAD_ATTEMPTS,
    ] {
        message.headers.remove(own);
    }
    // A delivery of its own: a broker that drops repeats would drop it.
    message.revive(None);
    incoming.bus.publish_after(topic, requeue.after, [message]).await?;
    Ok(Settlement::Ack)
}

fn reason(message: &Message) -> &str {
    message.headers.get(name::DEAD_REASON).unwrap_or("no reason was given")
}
