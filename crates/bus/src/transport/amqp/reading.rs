//! Looks through a queue from its head without taking anything out but what is asked for. RabbitMQ has no way to look: so all
//! is consumed, nothing is acknowledged, and in the end all goes back to its place.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::{
    Channel, Consumer, ErrorKind,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
};
use tokio::{
    sync::MutexGuard,
    time::{Instant, sleep, timeout},
};

use super::link::Link;
use crate::{Error, Result};

/// Between two looks whether somebody else is done.
const LOOK: Duration = Duration::from_millis(5);
/// Between two questions to a queue's leader.
const LEADER: Duration = Duration::from_millis(100);
/// Most messages that can be looked through: a consumer's limit is a short number.
const READ_MAX: usize = 65_535;

/// Whoever looks through a queue, alone: what one is shown is hidden from others meanwhile.
pub(super) struct Reading<'a> {
    link: &'a Link,
    queue: &'a str,
    arguments: FieldTable,
    channel: Channel,
    consumer: Consumer,
    /// What is to come.
    left: usize,
    _alone: MutexGuard<'a, ()>,
}

impl<'a> Reading<'a> {
    /// Begins at the head of a queue, which is made where it is not there.
    pub(super) async fn open(link: &'a Link, queue: &'a str, arguments: FieldTable) -> Result<Self> {
        let alone = link.reading.lock().await;
        let until = Instant::now() + link.options.confirm_within;
        loop {
            // Counted before: what a consumer has been sent is not counted.
            let messages = link.count_alone(queue, &arguments, until).await?;
            let channel = link.answer("a channel", link.line.live().await?.channel()).await?;
            if let Some(consumer) = consume(link, &channel, queue).await? {
                return Ok(Self {
                    link,
                    queue,
                    arguments,
                    channel,
                    consumer,
                    left: messages.min(READ_MAX),
                    _alone: alone,
                });
            }
            if Instant::now() > until {
                return Err(busy(queue));
            }
        }
    }
    /// The next message; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Delivery>> {
        if self.left == 0 {
            return Ok(None);
        }
        let next = timeout(self.link.options.confirm_within, self.consumer.next()).await;
        let lost = || Error::Disconnected(format!("`{}` could not be read to its end", self.queue).into());
        let delivery = next.map_err(|_| lost())?.ok_or_else(lost)?;
        self.left -= 1;
        delivery.map(Some).map_err(super::line::disconnected)
    }
    /// Takes one out that was shown.
    pub(super) async fn take_out(&self, delivery: &Delivery) -> Result<()> {
        let acked = self
            .channel
            .basic_ack(delivery.delivery_tag, BasicAckOptions::default());
        self.link.answer("a dead letter", acked).await
    }
    /// Gives all back, and waits until it is there again for others.
    pub(super) async fn close(self) -> Result<()> {
        let closed = self.channel.close(200, "read".into());
        self.link.answer("a channel", closed).await?;
        let until = Instant::now() + self.link.options.confirm_within;
        self.link
            .count_alone(self.queue, &self.arguments, until)
            .await
            .map(drop)
    }
}

impl Link {
    /// How many messages a queue has, as soon as nobody looks through it: whoever does hides them, and gives them back in the
    /// moment in which it goes.
    pub(super) async fn count_alone(&self, queue: &str, arguments: &FieldTable, until: Instant) -> Result<usize> {
        loop {
            let (messages, readers) = self.declare_queue(queue, arguments.clone()).await?;
            // Just after a restart a quorum queue without a leader says that it has none.
            match (messages, readers) {
                (0, 0) => return self.count_by_leader(queue, until).await,
                (_, 0) => return Ok(messages),
                _ if Instant::now() > until => return Err(busy(queue)),
                _ => sleep(LOOK).await,
            }
        }
    }
    /// How many messages a queue has by the word of its leader, who alone can hand out its first one, which goes back.
    async fn count_by_leader(&self, queue: &str, until: Instant) -> Result<usize> {
        loop {
            let channel = self.answer("a channel", self.line.live().await?.channel()).await?;
            let asked = channel.basic_get(queue.into(), BasicGetOptions::default());
            match timeout(self.options.confirm_within, asked).await {
                Ok(Ok(first)) => {
                    self.answer("a channel", channel.close(200, "asked".into())).await?;
                    return Ok(first.map_or(0, |first| first.message_count as usize + 1));
                }
                // There is none yet.
                Ok(Err(error)) if Instant::now() > until => return Err(super::line::disconnected(error)),
                Ok(Err(_)) => sleep(LEADER).await,
                Err(_) => return Err(Error::Disconnected(format!("`{queue}`: no answer in time").into())),
            }
        }
    }
}

fn busy(queue: &str) -> Error {
    let why = format!("somebody else has been reading `{queue}` all the time, or nobody may: try again");
    Error::Disconnected(why.into())
}

/// Consumes alone. None: somebody else does.
async fn consume(link: &Link, channel: &Channel, queue: &str) -> Result<Option<Consumer>> {
    let limit = u16::try_from(READ_MAX).unwrap_or(u16::MAX);
    link.answer("a limit", channel.basic_qos(limit, BasicQosOptions::default()))
        .await?;
    let options = BasicConsumeOptions {
        exclusive: true,
        ..BasicConsumeOptions::default()
    };
    let asked = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    match timeout(link.options.confirm_within, asked).await {
        Ok(Ok(consumer)) => Ok(Some(consumer)),
        Ok(Err(error)) if is_taken(&error) => Ok(None),
        Ok(Err(error)) => Err(super::line::disconnected(error)),
        Err(_) => Err(Error::Disconnected(format!("`{queue}`: no answer in time").into())),
    }
}
fn is_taken(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error)
        if matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::RESOURCELOCKED)))
}
