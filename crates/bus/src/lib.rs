//! Messages routed as axum routes requests, over any broker.

#![allow(dead_code, clippy::todo, missing_docs, reason = "being built")]
mod bus;
#[cfg(feature = "conformance")]
pub mod conformance;
mod dead_letter;
mod delivery;
pub mod headers;
pub mod codec;
mod error;
mod handler;
mod id;
mod message;
pub mod metric_definitions;
mod retry;
mod router;
mod settlement;
mod topic;
mod trace_context;
mod transport;

pub use bus::{Bus, Group, Transports};
pub use dead_letter::{DeadLetter, DeadLetterQueue, DeadLetterStore, DeadLetters, Death};
pub use delivery::{Delivery, Settle, Settlement};
pub use headers::Headers;
pub use error::{BoxError, Error, ErrorClass, HandlerError, Result};
pub use handler::{Attempt, Context, FromContext, FromRef, Json, Provides, State};
pub use handler::{Extract, ExtractError, Handler, Input};
pub use id::MessageId;
pub use message::{Event, Key, Message, limit};
pub use retry::Retry;
pub use router::{Incoming, Route, RouteLayer, Router, Subscribed};
pub use settlement::{Emit, Emitter, IntoSettlement};
pub use topic::Topic;
pub use transport::memory;
pub use transport::{Capabilities, Deliveries, HOLD_MAX, Order, OrderScope, Receipt, Start, Subscribe, Transport};

/// What nearly every user of the bus imports.
pub mod prelude {
    pub use crate::{Attempt, Bus, Emit, Event, HandlerError, Headers, Json, Key, Message};
    pub use crate::{Retry, Router, Settlement, State};
}
