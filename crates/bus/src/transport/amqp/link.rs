//! The two lines to a broker, and what is declared there.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
    uri::{AMQPScheme, AMQPUri},
};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    desk::Desk,
    line::{Line, disconnected, unusable},
    naming::Names,
    note::Consumed,
    options::Options,
    register::Register,
};
use crate::{Error, Result, transport::lanes::Subscriptions};

/// A limit that is never reached: attempts are counted, and given up, on this side. RabbitMQ 4 has a limit of 20 unless
/// another is set, 3 has none and does not know a word for none.
const DELIVERIES_MAX: i64 = 1_000_000_000;

/// RabbitMQ 3.10 writes half a second later to disk that a quorum queue was made: a crash before that loses the queue, with
/// all that it has confirmed, and leaves a name that never answers.
const WRITTEN_DOWN: Duration = Duration::from_secs(1);

pub(super) struct Link {
    pub(super) names: Names,
    pub(super) options: Options,
    /// To consume, to declare, to settle.
    pub(super) line: Line,
    publishing: Line,
    pub(super) desk: Desk,
    /// For questions and declarations; made again when one of them was refused.
    office: Mutex<Option<Channel>>,
    /// One look through dead letters at a time: what one has seen is hidden from others meanwhile.
    pub(super) reading: Mutex<()>,
    pub(super) register: Register,
    /// The place of the last dead letter that was put away.
    pub(super) buried: AtomicU64,
    pub(super) closed: CancellationToken,
    /// What a close waits for: publishes and subscriptions.
    pub(super) busy: TaskTracker,
    pub(super) subscriptions: Subscriptions<Consumed>,
    /// The lines end with the link.
    _hang_up: DropGuard,
}

impl Link {
    pub(super) async fn connect(options: Options) -> Result<Arc<Self>> {
        let names = Names::new(&options.prefix)
            .ok_or_else(|| unusable("the prefix must be 1 to 32 ASCII letters, digits, `_` or `-`"))?;
        let address = address(&options)?;
        let hang_up = CancellationToken::new();
        let guard = hang_up.clone().drop_guard();
        let within = options.reconnect_within;
        let open = |purpose| Line::open(address.clone(), purpose, within, hang_up.clone());
        let (line, publishing) = (open("consume").await?, open("publish").await?);
        let link = Self {
            desk: Desk::open(&publishing, options.confirm_within),
            names,
            options,
            line,
            publishing,
            office: Mutex::default(),
            reading: Mutex::default(),
            register: Register::default(),
            buried: AtomicU64::new(0),
            closed: CancellationToken::new(),
            busy: TaskTracker::new(),
            subscriptions: Subscriptions::default(),
            _hang_up: guard,
        };
        link.declare().await?;
        Ok(Arc::new(link))
    }
    /// Makes the exchange where it is not there. Several processes may do so at once.
    pub(super) async fn declare(&self) -> Result<()> {
        let name = self.names.exchange();
        let channel = self.office().await?;
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let declared = channel.exchange_declare(
            name.as_str().into(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        );
        self.answer(&format!("the exchange `{name}`"), declared).await
    }
    /// Makes a queue where it is not there; gives how many messages and consumers it has.
    pub(super) async fn declare_queue(&self, name: &str, arguments: FieldTable) -> Result<(usize, usize)> {
        let channel = self.office().await?;
        let declared = channel.queue_declare(name.into(), durable(), arguments);
        let queue = self.answer(&format!("the queue `{name}`"), declared).await?;
        Ok((queue.message_count() as usize, queue.consumer_count() as usize))
    }
    /// Makes a queue that must outlive a crash of the broker, and waits until it does, where it is new. By channels of its own,
    /// which a refusal closes.
    pub(super) async fn make_lasting(&self, name: &str, arguments: FieldTable) -> Result<()> {
        let what = format!("the queue `{name}`");
        let is_there = self.look_at(name).await?.is_some();
        let channel = self.answer("a channel", self.line.live().await?.channel()).await?;
        let declared = channel.queue_declare(name.into(), durable(), arguments);
        self.answer(&what, declared).await?;
        self.answer("a channel", channel.close(200, "declared".into())).await?;
        if !is_there {
            sleep(WRITTEN_DOWN).await;
        }
        Ok(())
    }
    /// How many messages are ready in a queue, and how many consume it; none where it is not there. By a channel of its own,
    /// which the broker closes then.
    pub(super) async fn look_at(&self, name: &str) -> Result<Option<(u32, u32)>> {
        let channel = self.answer("a channel", self.line.live().await?.channel()).await?;
        let options = QueueDeclareOptions {
            passive: true,
            ..durable()
        };
        let asked = channel.queue_declare(name.into(), options, FieldTable::default());
        match timeout(self.options.confirm_within, asked).await {
            Ok(Ok(queue)) => {
                self.answer("a channel", channel.close(200, "asked".into())).await?;
                Ok(Some((queue.message_count(), queue.consumer_count())))
            }
            Ok(Err(error)) if is_not_found(&error) => Ok(None),
            Ok(Err(error)) => Err(error.about(&format!("the queue `{name}`"))),
            Err(_) => Err(Error::Disconnected(
                format!("the queue `{name}`: no answer in time").into(),
            )),
        }
    }
    /// The channel for questions.
    pub(super) async fn office(&self) -> Result<Channel> {
        let mut office = self.office.lock().await;
        if let Some(channel) = office.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let live = self.line.live().await?;
        let channel = self.answer("a channel", live.channel()).await?;
        *office = Some(channel.clone());
        Ok(channel)
    }
    /// What the broker answers about something, not waited for for ever.
    pub(super) async fn answer<T, E: Refusal>(
        &self,
        what: &str,
        asked: impl Future<Output = std::result::Result<T, E>>,
    ) -> Result<T> {
        match timeout(self.options.confirm_within, asked).await {
            Ok(answer) => answer.map_err(|error| error.about(what)),
            Err(_) => Err(Error::Disconnected(
                format!("{what}: no answer in {:?}", self.options.confirm_within).into(),
            )),
        }
    }
    pub(super) async fn hang_up(&self) -> Result<()> {
        let published = self.publishing.close().await;
        published.and(self.line.close().await)
    }
}

/// Something that the broker refused, or that nobody answered.
pub(super) trait Refusal {
    fn about(self, what: &str) -> Error;
}
impl Refusal for Error {
    fn about(self, _: &str) -> Error {
        self
    }
}
impl Refusal for lapin::Error {
    fn about(self, what: &str) -> Error {
        let ErrorKind::ProtocolError(refusal) = self.kind() else {
            return disconnected(self);
        };
        match refusal.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::ACCESSREFUSED) => {
                unusable(format!("{what}: {refusal}; delete it, or use another prefix"))
            }
            _ => disconnected(self),
        }
    }
}

/// Whether the broker knows no such thing.
pub(super) fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error)
        if matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND)))
}

/// Settings that are the same each time: a queue cannot be declared with others than it has.
fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    }
}
/// A queue that is replicated, and written to disk before anything is confirmed.
pub(super) fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERIES_MAX));
    arguments
}

/// The broker of a URL. What is wrong with it is told without it, for its password.
fn address(options: &Options) -> Result<AMQPUri> {
    let mut address: AMQPUri = options
        .url
        .parse()
        .map_err(|_| unusable("the URL is none: write `amqp://user:password@host:5672/vhost`"))?;
    if address.scheme == AMQPScheme::AMQPS && !cfg!(feature = "amqp-tls") {
        return Err(Error::FeatureOff {
            scheme: "amqps".to_owned(),
            feature: "amqp-tls",
        });
    }
    let seconds = u16::try_from(options.heartbeat.as_secs().max(1)).unwrap_or(u16::MAX);
    address.query.heartbeat.get_or_insert(seconds);
    Ok(address)
}
