//! Sagas in one dependency: the bus, the event log and the saga coordinator, under one name and one prelude.
//!
//! A saga is a business transaction that spans several services, each with its own database: it completes, or what it did
//! is undone step by step, whatever crashes on the way.
//!
//! ```
//! use sagamill::prelude::*;
//!
//! #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
//! struct Trip {
//!     city: String,
//!     room: Option<u32>,
//! }
//!
//! async fn book_room(_: Trip) -> Answer<u32> {
//!     Done(7)
//! }
//! async fn free_room(_room: u32) {}
//! async fn book_flight(trip: Trip) -> Answer<(), String> {
//!     Rejected(format!("no flight to {}", trip.city))
//! }
//!
//! fn book_trip() -> Definition<Trip> {
//!     Saga::define("book-trip")
//!         .step("room", local(book_room).on_reply(|trip: &mut Trip, room| trip.room = Some(room)).undo(free_room))
//!         .pivot("flight", local(book_flight))
//!         .build()
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), sagamill::Error> {
//! let coordinator = Coordinator::connect("memory:").await?; // or sqlite:trips.db, postgres://localhost/trips
//! let trips = coordinator.register(book_trip())?;
//! tokio::spawn(coordinator.run(std::future::pending()));
//!
//! let trip = trips.start("trip-1", Trip { city: "Atlantis".into(), room: None }).await?;
//! assert!(matches!(trip.outcome().await?, Outcome::Compensated { .. })); // the room is free again
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! - Each effect happens once, and each undo once, whatever is delivered twice.
//! - What a saga did is known after a crash: recovery is reading the log on.
//! - What is published was committed before; what was rolled back is never published.
//! - A saga that cannot go on is parked, with its reason; it neither loops unseen nor ends silently.
//!
//! # Where things are
//!
//! | module | holds |
//! |---|---|
//! | [`prelude`] | what nearly every user imports |
//! | [`bus`] | messages, routers, retry, dead letters, transports |
//! | [`eventstore`] | the log: append, stage in one's own transaction, read, subscribe, relay |
//! | [`saga`] | definitions, the coordinator, participants |
//! | [`test`](mod@test) | given-when-then, faults at every step, explored schedules |
//!
//! # Features
//!
//! | feature | brings | default |
//! |---|---|---|
//! | `sqlite` | logs in SQLite files, handlers that take part in their transactions, and a bus between processes | yes |
//! | `postgres` | the same in PostgreSQL 15 or later | yes |
//! | `postgres-tls` | TLS to PostgreSQL, by rustls; needs a C compiler | no |
//! | `nats` | the bus over NATS JetStream 2.10 or later: `nats://` | no |
//! | `kafka`, `kafka-tls` | the bus over Apache Kafka 2.4 or later: `kafka://`; over TLS `kafkas://`, which needs OpenSSL | no |
//! | `amqp`, `amqp-tls` | the bus over RabbitMQ 3.10 or later: `amqp://`; over TLS `amqps://` | no |
//! | `failpoints` | named points at which a test may kill the process; never for production | no |

pub use sagamill_bus as bus;
pub use sagamill_eventstore as eventstore;
pub use sagamill_saga as saga;
pub use sagamill_saga::{Error, Result, test};

/// What nearly every user imports.
pub mod prelude {
    pub use sagamill_bus::prelude::*;
    pub use sagamill_eventstore::{Expected, Recorded};
    pub use sagamill_saga::prelude::*;
}

/// Connects to a bus by URL, of all the schemes that this build knows: `memory:` within this process, `sqlite:bus.db`
/// between processes of this machine, `postgres://user@host/bus` between any. Close it before the process ends, or its place is waited for by others.
///
/// # Errors
/// A scheme that no transport answers to, or what its transport says.
pub async fn connect(url: &str) -> Result<bus::Bus> {
    Ok(transports().connect(url).await?)
}

/// All transports of this build, to which one may add one's own.
#[must_use]
pub fn transports() -> bus::Transports {
    eventstore::register(bus::Transports::default())
}
