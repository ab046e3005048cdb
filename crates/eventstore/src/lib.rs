//! The log: append, read, subscribe, relay; in memory and on SQLite.

mod aggregate;
mod appender;
mod backend;
mod bell;
#[cfg(feature = "conformance")]
pub mod conformance;
mod entry;
mod error;
mod event;
mod lease;
mod memory;
mod metric_definitions;
mod read;
mod relay;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod subscription;
mod transaction;

pub use aggregate::{Aggregate, ExecuteError, Loaded};
pub use backend::{Checkpoint, Timer};
pub use error::{Error, Result};
pub use event::{
    Anchor, Append, Batch, Expected, Guard, NewEvent, Position, Receipt, Recorded, StreamId, Tracking, Version,
};
pub use lease::Lease;
pub use memory::{Fault, Memory};
pub use read::Read;
pub use relay::Relay;
pub use sagamill_bus::{Event, Key};
#[cfg(feature = "sqlite")]
pub use sqlite::{Dialect, Migration, migrations};
pub use store::{AnyDatabase, AnyPool, Database, EventStore, InTransaction};
pub use subscription::{Feed, From, Progress, ShardBy, Signal, Subscription};
pub use transaction::Transaction;
