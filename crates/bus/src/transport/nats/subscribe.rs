//! A subscription in this process: what the server delivers goes to the group's members, with signs of life for all that is
//! held, until nobody wants more.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Subscriber,
    jetstream::{AckKind, Message},
};
use futures_util::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::{
    envelope::from_wire,
    link::Link,
    note::Consumed,
    pull::{Notice, Pull},
};
use crate::{
    Deliveries, Error, Result, Subscribe,
    error::chain,
    transport::lanes::{Arrival, Group},
};

/// So long a new subscription waits for one of its group that is ending, so that what that one gives back comes in order.
const PREDECESSOR: Duration = Duration::from_secs(5);
/// So long settlements that are on their way are waited for in the end.
const SETTLING: Duration = Duration::from_secs(5);
/// So long the last messages on their way are waited for.
const LAST: Duration = Duration::from_secs(2);

type Shared = Arc<Group<Consumed>>;

/// Subscribes; returns when messages published from now on will be seen.
pub(super) async fn subscribe(link: &Arc<Link>, request: Subscribe) -> Result<Deliveries> {
    if link.closed.is_cancelled() {
        return Err(Error::Closed);
    }
    let consumer = link.consumer(&request).await?;
    loop {
        if let Some(stream) = link.subscriptions.join(&request, PREDECESSOR).await? {
            return Ok(stream);
        }
        let inbox = link.client.new_inbox();
        let answers = link.client.subscribe(format!("{inbox}.*")).await;
        let answers = answers.map_err(|error| Error::Disconnected(Box::new(error)))?;
        let consumed = Consumed {
            link: Arc::clone(link),
            consumer: consumer.cached_info().name.clone(),
            group: request.group.clone(),
        };
        let stop = link.closed.child_token();
        let group = Arc::new(Group::new(consumed, super::NAME, &request, stop));
        let Some(stream) = link.subscriptions.begin(&request, &group, &link.closed)? else {
            continue;
        };
        let pump = Pump {
            link: Arc::clone(link),
            group,
            pull: Pull::new(consumer, inbox),
            answers,
            request,
        };
        link.busy.spawn(pump.run());
        return Ok(stream);
    }
}

struct Pump {
    link: Arc<Link>,
    group: Shared,
    pull: Pull,
    answers: Subscriber,
    request: Subscribe,
}

impl Pump {
    async fn run(mut self) {
        let group = Arc::clone(&self.group);
        tokio::select! {
            () = group.stop.cancelled() => {}
            () = self.fetch() => {}
            () = group.clerk() => {}
        }
        self.end().await;
        self.link.subscriptions.remove(&self.request, &self.group);
        self.group.ended.cancel();
    }
    /// Until the connection is gone for good.
    async fn fetch(&mut self) {
        let mut changes = self.link.changes();
        let mut life = interval((self.pull.ack_wait() / 3).max(Duration::from_millis(100)));
        life.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.link.is_online()
                && let Err(error) = self.pull.ask(self.group.room()).await
            {
                tracing::warn!(error = chain(&error), "the server cannot be asked for messages");
                self.pull.rest();
            }
            tokio::select! {
                answer = self.answers.next() => match answer {
                    Some(answer) => self.take(answer).await,
                    None => return,
                },
                _ = life.tick() => self.show_life().await,
                () = self.group.work.notified() => {}
                _ = changes.changed() => self.pull.forget(),
                () = sleep_until(self.pull.look_at()) => if self.pull.is_silent() {
                    tracing::warn!(group = self.request.group, topic = %self.request.topic, "the server is silent: asked again");
                    self.find_consumer().await;
                },
            }
        }
    }
    async fn take(&mut self, answer: async_nats::Message) {
        let Some(status) = answer.status else {
            self.pull.delivered();
            return self.deliver(answer).await;
        };
        if self.pull.notice(&answer.subject, status, answer.description.as_deref()) == Notice::Gone {
            self.find_consumer().await;
        }
    }
    /// Makes the consumer again where it is gone: the group begins again where it was to begin.
    async fn find_consumer(&mut self) {
        match self.link.consumer(&self.request).await {
            Ok(consumer) => {
                if consumer.cached_info().created != self.pull.created() {
                    tracing::warn!(group = self.request.group, topic = %self.request.topic, "the consumer was deleted: made anew");
                    self.group.report(Error::Disconnected(
                        "the group's consumer was deleted; it is made anew".into(),
                    ));
                }
                self.pull.renew(consumer);
            }
            Err(error) => {
                tracing::warn!(
                    group = self.request.group,
                    error = chain(&error),
                    "the consumer cannot be found now"
                );
                self.pull.rest();
                if matches!(error, Error::Unusable(_)) {
                    self.group.report(error);
                }
            }
        }
    }
    async fn deliver(&mut self, answer: async_nats::Message) {
        let Some(arrival) = self.read(answer) else { return };
        let token = arrival.token.clone();
        if !self.group.arrive(arrival) {
            self.say(token, AckKind::Nak(None)).await;
        }
    }
    fn read(&self, answer: async_nats::Message) -> Option<Arrival<u64, async_nats::Subject>> {
        let message = Message {
            message: answer,
            context: self.link.context.clone(),
        };
        let (id, delivered) = match message.info() {
            Ok(info) => (info.stream_sequence, u64::try_from(info.delivered).unwrap_or(1)),
            Err(error) => {
                tracing::warn!(%error, "an answer that is no message");
                return None;
            }
        };
        let answer = message.message;
        // Only subjects of topics are asked for.
        let topic = self.link.names.topic_of(&answer.subject)?;
        let place = || format!("{}:{id}", self.link.names.stream());
        let (message, history) = from_wire(&answer.headers.unwrap_or_default(), answer.payload, place);
        Some(Arrival {
            id,
            token: answer.reply?,
            delivered,
            topic,
            message,
            history,
        })
    }
    async fn show_life(&self) {
        if !self.link.is_online() {
            // They would wait for the connection, one round of them after the other.
            return;
        }
        for token in self.group.tokens() {
            self.say(token, AckKind::Progress).await;
        }
    }
    async fn say(&self, token: async_nats::Subject, what: AckKind) {
        if let Err(error) = self.link.client.publish(token, what.into()).await {
            tracing::debug!(error = chain(&error), "the server was not told of a message");
        }
    }

    /// Gives back what is held, oldest first, then what is still coming, and waits for what is being settled.
    async fn end(&mut self) {
        let until = Instant::now() + LAST;
        let drained = self.answers.drain().await;
        self.group.end().await;
        if drained.is_ok() {
            while let Ok(Some(answer)) = tokio::time::timeout_at(until, self.answers.next()).await {
                if answer.status.is_none()
                    && let Some(token) = answer.reply
                {
                    self.say(token, AckKind::Nak(None)).await;
                }
            }
        }
        let until = Instant::now() + SETTLING;
        while self.group.is_settling() && Instant::now() < until {
            self.show_life().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _ = timeout(LAST, self.link.client.flush()).await;
    }
}
