//! The log: append, read, subscribe, relay; in memory, on SQLite and on PostgreSQL. It is also a bus between processes:
//! [`LogTransport`].

mod aggregate;
mod appender;
mod backend;
mod backlog;
mod bell;
mod census;
#[cfg(feature = "conformance")]
pub mod conformance;
mod database;
mod entry;
mod error;
mod event;
mod health;
mod lease;
mod memory;
mod metric_definitions;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod migration;
#[cfg(feature = "postgres")]
mod postgres;
mod read;
mod relay;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod subscription;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod tail;
mod transaction;
mod transport;

pub use aggregate::{Aggregate, ExecuteError, Loaded};
pub use backend::{Checkpoint, Member, Timer};
pub use database::{AnyDatabase, AnyPool, Database, InTransaction};
pub use error::{Error, Result};
pub use event::{
    Anchor, Append, Batch, Expected, Guard, NewEvent, Position, Receipt, Recorded, StreamId, Tracking, Version,
};
pub use health::{Health, Lag, LockHolder, Setting, Staged};
pub use lease::Lease;
pub use memory::{Fault, Memory};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use migration::{Dialect, Migration, migrations};
pub use read::Read;
pub use relay::Relay;
pub use sagamill_bus::{Event, Key};
pub use store::EventStore;
pub use subscription::{Feed, From, Progress, ShardBy, Signal, Subscription};
pub use transaction::Transaction;
pub use transport::{LogTransport, register};
