//! Messages routed as axum routes requests, over any broker.
//!
//! A [`Bus`] is a connection, picked by its URL. An [`Event`] is a type with a name. A [`Router`] takes events and raw
//! messages to handlers: plain async functions whose last argument says what they handle and whose others are extracted.
//!
//! ```
//! use sagamill_bus::prelude::*;
//! use serde::{Deserialize, Serialize};
//! use tokio::sync::mpsc;
//!
//! #[derive(Serialize, Deserialize)]
//! struct OrderPlaced {
//!     order: u64,
//!     sku: String,
//! }
//! impl Event for OrderPlaced {
//!     const NAME: &'static str = "order.placed";
//!     fn key(&self) -> Option<Key> {
//!         Some(self.order.into()) // events of one order are handled one after the other
//!     }
//! }
//!
//! async fn reserve(State(reserved): State<mpsc::Sender<String>>, placed: OrderPlaced) -> Result<(), HandlerError> {
//!     if placed.sku.is_empty() {
//!         return Err(HandlerError::permanent("an order without a sku")); // a dead letter at once
//!     }
//!     reserved.send(placed.sku).await?; // any other error: tried again
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> sagamill_bus::Result<()> {
//! let bus = Bus::connect("memory:").await?;
//! let (reserved, mut done) = mpsc::channel(8);
//! let app = Router::new().on(reserve).retry(Retry::default().attempts(5)).with_state(reserved);
//! let app = app.subscribe(bus.group("inventory")).await?;
//!
//! bus.publish(&OrderPlaced { order: 42, sku: "tea".into() }).await?;
//! app.run(async move { assert_eq!(done.recv().await.as_deref(), Some("tea")) }).await
//! # }
//! ```
//!
//! # What is promised
//!
//! * *At least once*: a message is delivered until its group acknowledges it or gives it up. A delivery that is dropped, by a
//!   panic or a cancelled task, comes again.
//! * *Order per key*: many messages are in flight, those of one key one after the other, also across a retry, which holds its
//!   key for at most [`Retry::hold_max`]. How far that reaches is the transport's [`OrderScope`].
//! * *Dead letters* keep a message with its reason, its attempts and its history, and can be requeued.
//! * *What a transport cannot promise is refused*, when it is asked for, with [`Error::Unsupported`].
//!
//! # What else there is
//!
//! | for | |
//! |---|---|
//! | handlers that do not hold up each other | [`Groups`]: a group for each |
//! | commands, with one handler each | [`Bus::send`], [`Router::on_command`] |
//! | their answers | [`Requests`] |
//! | many messages at once | [`Router::on_batch`] |
//! | messages that come twice | [`layer::Deduplicate`] |
//! | messages that are published later | [`Bus::publish_after`], [`delays`] |
//! | from topic to topic, one or several | [`Router::forward`] |
//! | receivers in this process | [`Router::hand_to`] |
//! | topics, and how far groups are behind | [`Bus::topics`], [`Bus::lag`], [`Group::lag`] |
//! | a second chance for what was given up | [`Router::requeue`], [`DeadLetters::requeue`] |
//! | tests of handlers | [`layer::Duplicate`], [`layer::FailRandomly`], [`memory::Faults`] |
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `nats` | the bus over NATS JetStream: `nats://` |
//! | `kafka`, `kafka-tls` | the bus over Apache Kafka: `kafka://`, `kafkas://` |
//! | `amqp`, `amqp-tls` | the bus over RabbitMQ: `amqp://`, `amqps://` |
//! | `conformance` | the suite for those who write a transport |
//! | `failpoints` | see below |
//!
//! # Kill points
//!
//! With the feature `failpoints` a test can stop the process at `bus.publish.before`, `bus.publish.after`,
//! `bus.process.before`, `bus.process.after`, `bus.settle.before` and `bus.settle.after`.

mod batch;
mod bus;
pub mod codec;
mod command;
#[cfg(feature = "conformance")]
pub mod conformance;
mod dead_letter;
mod delay;
mod delivery;
mod error;
mod groups;
mod handler;
pub mod headers;
mod id;
mod inspect;
pub mod layer;
mod message;
pub mod metric_definitions;
mod random;
mod reply;
mod requests;
mod retry;
mod router;
mod settlement;
mod topic;
mod trace_context;
mod transport;

pub use batch::{BatchError, BatchHandler, Batched, Batching, IntoAnswers};
pub use bus::{Bus, Group, Transports};
pub use command::{Answer, Command, IntoAnswer, Never, RejectionOf, ReplyOf, command_topic};
pub use dead_letter::{DeadLetter, DeadLetterQueue, DeadLetterStore, DeadLetters, Death};
pub use delay::{DELAY_MAX, delays, delays_by};
pub use delivery::{Delivery, Settle, Settlement};
pub use error::{BoxError, Error, ErrorClass, HandlerError, Result};
pub use groups::{Groups, SubscribedGroups};
pub use handler::{Attempt, Context, FromContext, FromRef, Json, Provides, State};
pub use handler::{Extract, ExtractError, Handler, Input};
pub use headers::Headers;
pub use id::MessageId;
pub use inspect::{Inspect, Lag, LagOf, TopicInfo};
pub use message::{Event, Key, Message, limit};
pub use requests::{AskError, Requests};
pub use retry::Retry;
pub use router::{Incoming, Requeue, Route, RouteLayer, Router, Subscribed};
pub use settlement::{Emit, Emitter, IntoSettlement};
pub use topic::Topic;
#[cfg(any(feature = "amqp", feature = "kafka", feature = "nats"))]
pub use transport::Wire;
#[cfg(feature = "amqp")]
pub use transport::amqp;
#[cfg(feature = "kafka")]
pub use transport::kafka;
pub use transport::memory;
#[cfg(feature = "nats")]
pub use transport::nats;
pub use transport::{Capabilities, Deliveries, HOLD_MAX, Order, OrderScope, Receipt, Start, Subscribe, Transport};
pub use transport::{Roster, Trials, Wake};

/// What nearly every user of the bus imports.
pub mod prelude {
    pub use crate::Answer::{self, Done, Rejected};
    pub use crate::{Attempt, Bus, Command, Emit, Event, HandlerError, Headers, Json, Key, Message};
    pub use crate::{Retry, Router, Settlement, State};
}
