//! The seam to brokers: written with async functions, held as `dyn` inside [`Bus`](crate::Bus).

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_core::{Stream, future::BoxFuture};

use crate::{DeadLetterStore, Delivery, Error, Inspect, Message, Result, Topic};

#[cfg(feature = "amqp")]
pub mod amqp;
#[cfg(any(feature = "kafka", feature = "nats"))]
mod audience;
#[cfg(any(feature = "amqp", feature = "nats"))]
mod chains;
#[cfg(any(feature = "kafka", feature = "nats"))]
mod digits;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(any(feature = "amqp", feature = "kafka", feature = "nats"))]
mod lanes;
pub mod memory;
#[cfg(feature = "nats")]
pub mod nats;
mod roster;
mod trials;
mod wake;
#[cfg(any(feature = "amqp", feature = "kafka", feature = "nats"))]
mod watermill;
#[cfg(any(feature = "amqp", feature = "kafka", feature = "nats"))]
mod wire;

#[cfg(any(feature = "amqp", feature = "kafka", feature = "nats"))]
pub use self::wire::Wire;
pub use self::{roster::Roster, trials::Trials, wake::Wake};

/// How far the order of a key holds while several messages are in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum OrderScope {
    /// No order is promised.
    #[default]
    None,
    /// Among the messages that one process of the group handles.
    Process,
    /// Over all processes of the group.
    Group,
}

/// What a transport can promise; checked at start-up against what handlers ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// How far the order of a key holds.
    pub order_scope: OrderScope,
    /// A publish that is retried inside the transport keeps its place before later ones of the same key.
    pub ordered_retry: bool,
    /// What was published outlives the process. Without it a publish is confirmed for the relay when it is settled.
    pub durable: bool,
    /// A retry can be delayed without holding its key.
    pub delay: bool,
    /// Each group gets every message once.
    pub groups: bool,
    /// A new group can start at the oldest message; without it, at the time it subscribes.
    pub replay: bool,
    /// A message published again under the same delivery id is dropped.
    pub dedupe: bool,
    /// `payment.*` subscribes to several topics.
    pub wildcards: bool,
}

impl Capabilities {
    /// Refuses a subscription that asks for more.
    pub(crate) fn check(&self, transport: &'static str, request: &Subscribe) -> Result<()> {
        request.topic.check_pattern()?;
        let wanted = if request.topic.is_pattern() && !self.wildcards {
            "subscriptions to patterns"
        } else if request.group.is_empty() {
            "groups without a name"
        } else if request.max_in_flight == 0 {
            "progress with nothing in flight"
        } else if request.order == Order::Key && request.order_scope > self.order_scope {
            match request.order_scope {
                OrderScope::None => return Ok(()),
                OrderScope::Process => "order of a key within a process",
                OrderScope::Group => "order of a key over all processes of a group",
            }
        } else {
            return Ok(());
        };
        Err(Error::Unsupported { transport, wanted })
    }
}

/// The transport's word that it has the message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Receipt {
    /// Where it lies in its topic or partition, where the transport says so.
    pub sequence: Option<u64>,
}

/// Where a group that is new to a topic begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Start {
    /// At the oldest message that is still there.
    #[default]
    Earliest,
    /// At what is published from now on.
    Latest,
}

/// Which order a subscription keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Order {
    /// Messages of one key are handled one after the other, also across a retry, which holds its key: a transport has at most
    /// one message of a key delivered and unsettled at a time, within its [`OrderScope`]. A key is held for as long as it is
    /// active and for no other key's sake.
    #[default]
    Key,
    /// Any order; a delayed retry lets later messages pass.
    None,
}

/// What is asked of [`Transport::subscribe`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Subscribe {
    /// A topic, or a pattern (`payment.*`) where the transport has wildcards.
    pub topic: Topic,
    /// The consumer group: its members share the messages.
    pub group: String,
    /// Where a new group begins.
    pub start: Start,
    /// Which order is kept.
    pub order: Order,
    /// How far that order must hold; more than the transport promises is refused.
    pub order_scope: OrderScope,
    /// Most messages that are delivered and not settled yet.
    pub max_in_flight: usize,
    /// Most attempts that the subscriber makes of a message; none: it does not say. A transport must know where there is but
    /// one: after a process has died it may then try none together with others, of which each would count as the culprit.
    pub attempts_max: Option<u32>,
}

impl Subscribe {
    /// All of `topic` for `group`: from the oldest, in order per key within the process, 64 in flight.
    pub fn new(topic: impl Into<Topic>, group: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            group: group.into(),
            start: Start::default(),
            order: Order::default(),
            order_scope: OrderScope::Process,
            max_in_flight: 64,
            attempts_max: None,
        }
    }
    /// Where a new group begins.
    #[must_use]
    pub fn start(self, start: Start) -> Self {
        Self { start, ..self }
    }
    /// Which order is kept.
    #[must_use]
    pub fn order(self, order: Order) -> Self {
        Self { order, ..self }
    }
    /// How far that order must hold.
    #[must_use]
    pub fn order_scope(self, order_scope: OrderScope) -> Self {
        Self { order_scope, ..self }
    }
    /// Most messages that are delivered and not settled yet; at least 1.
    #[must_use]
    pub fn max_in_flight(self, max_in_flight: usize) -> Self {
        Self { max_in_flight, ..self }
    }
    /// Most attempts that the subscriber makes of a message.
    #[must_use]
    pub fn attempts_max(self, attempts_max: Option<u32>) -> Self {
        Self { attempts_max, ..self }
    }
}

/// A subscription: ends when the transport is closed; an error in it is of the connection, not of a message.
pub type Deliveries = Pin<Box<dyn Stream<Item = Result<Delivery>> + Send>>;

/// A broker, for those who write one: plain async functions.
///
/// The conformance suite (feature `conformance`) checks what [`capabilities`](Transport::capabilities) declares, both ways.
pub trait Transport: Send + Sync + 'static {
    /// Its name in errors and metrics: `memory`, `kafka`.
    fn name(&self) -> &'static str;
    /// What it can promise.
    fn capabilities(&self) -> Capabilities;
    /// Publishes, one result for each message in its order; returns when the broker has confirmed or refused each.
    /// Several are not atomic. A message marked [`MANDATORY`](crate::headers::name::MANDATORY) fails with
    /// [`Error::NoSubscriber`](crate::Error::NoSubscriber) where nobody would get it.
    fn publish(&self, topic: &Topic, batch: Vec<Message>) -> impl Future<Output = Vec<Result<Receipt>>> + Send;
    /// Publishes, and returns when each message is safe without its publisher: at once where the transport is durable;
    /// else when every group that was subscribed has settled it. A relay moves its checkpoint by this.
    fn publish_settled(&self, topic: &Topic, batch: Vec<Message>) -> impl Future<Output = Vec<Result<Receipt>>> + Send {
        self.publish(topic, batch)
    }
    /// Subscribes; returns when messages published from now on will be seen. More than what is declared is never asked for:
    /// [`Bus::subscribe`](crate::Bus::subscribe) has refused it. Dropping the stream gives back what it has not settled,
    /// uncounted; a stream that is not polled any more still lets its deliveries be settled.
    fn subscribe(&self, request: Subscribe) -> impl Future<Output = Result<Deliveries>> + Send;
    /// Flushes what is being published, ends all subscriptions, closes connections. A second call does nothing.
    /// Afterwards publishing and subscribing fail with [`Error::Closed`](crate::Error::Closed).
    fn close(&self) -> impl Future<Output = Result<()>> + Send;
    /// Where it keeps what was given up; none: [`Router::dead_letters`](crate::Router::dead_letters) must name a topic.
    fn dead_letters(&self) -> Option<Arc<dyn DeadLetterStore>> {
        None
    }
    /// What it knows of topics and groups; none: [`Bus::topics`](crate::Bus::topics) and [`Bus::lag`](crate::Bus::lag) are
    /// refused.
    fn inspection(&self) -> Option<Arc<dyn Inspect>> {
        None
    }
}

/// The same with boxed futures: private, so that nobody has two traits to learn.
pub(crate) trait DynTransport: Send + Sync {
    fn name(&self) -> &'static str;
    fn capabilities(&self) -> Capabilities;
    fn publish<'a>(&'a self, topic: &'a Topic, batch: Vec<Message>) -> BoxFuture<'a, Vec<Result<Receipt>>>;
    fn publish_settled<'a>(&'a self, topic: &'a Topic, batch: Vec<Message>) -> BoxFuture<'a, Vec<Result<Receipt>>>;
    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Deliveries>>;
    fn close(&self) -> BoxFuture<'_, Result<()>>;
    fn dead_letters(&self) -> Option<Arc<dyn DeadLetterStore>>;
    fn inspection(&self) -> Option<Arc<dyn Inspect>>;
}

impl<T: Transport> DynTransport for T {
    fn name(&self) -> &'static str {
        Transport::name(self)
    }
    fn capabilities(&self) -> Capabilities {
        Transport::capabilities(self)
    }
    fn publish<'a>(&'a self, topic: &'a Topic, batch: Vec<Message>) -> BoxFuture<'a, Vec<Result<Receipt>>> {
        Box::pin(Transport::publish(self, topic, batch))
    }
    fn publish_settled<'a>(&'a self, topic: &'a Topic, batch: Vec<Message>) -> BoxFuture<'a, Vec<Result<Receipt>>> {
        Box::pin(Transport::publish_settled(self, topic, batch))
    }
    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<Deliveries>> {
        Box::pin(Transport::subscribe(self, request))
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Transport::close(self))
    }
    fn dead_letters(&self) -> Option<Arc<dyn DeadLetterStore>> {
        Transport::dead_letters(self)
    }
    fn inspection(&self) -> Option<Arc<dyn Inspect>> {
        Transport::inspection(self)
    }
}

/// How long a retry may hold its key before the message is dead-lettered, unless a router says otherwise.
pub const HOLD_MAX: Duration = Duration::from_secs(60);
