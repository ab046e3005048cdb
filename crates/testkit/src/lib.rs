//! Real servers for tests, and the faults that they and the network have on a bad day.
//!
//! A test that needs a server asks for one, and is left out where this machine has none: it says so on standard error, with
//! the command that gets it. Where [`TESTS`] is [`ALL`], as in the gate, it fails instead.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use sagamill_testkit::{Proxy, postgres};
//!
//! // A server that many tests share, and a database of this test's own.
//! let Some(server) = postgres::shared().await else { return Ok(()) };
//! let database = server.database("orders").await?;
//! // A network between them, which can be cut, be slow, or lose the answer to a commit.
//! let network = Proxy::start(database.url()).await?;
//! assert!(network.url().starts_with("postgres://"));
//!
//! // A server of this test's own, which it may crash.
//! let Some(server) = postgres::own().await else { return Ok(()) };
//! server.kill().await?;
//! server.restart().await?;
//! // A standby that lacks what is committed from now on, and takes over.
//! let standby = server.standby().await?;
//! standby.detach().await?;
//! server.kill().await?;
//! let server = standby.promote().await?;
//! # let _ = server.url();
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! - Servers listen on the loopback address, on a port that nobody else has, and ask for a password that nobody else knows.
//! - They run as another user where the test is root's.
//! - They are as durable as in production, and text sorts as it does there: by a language, not by its bytes.
//! - They end with the process that started them, also where that is killed, and their files with them.
//! - No fault blocks the runtime: what runs on it meets the fault while it happens.
//!
//! Time must not stand still around a server: its answers come by the clock on the wall, and a paused clock would run ahead
//! of them into every time limit.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `postgres` (default) | what tests see of PostgreSQL: databases, roles, standbys; without it, its processes alone |
//! | `kafka` | what tests see of Kafka; without it, its process alone |
//! | `nats` | what tests see of NATS; without it, its process alone |
//! | `rabbitmq` | what tests see of RabbitMQ; without it, its processes alone |
//! | `proxy` (default) | [`Proxy`] |
//!
//! Linux and other Unix systems.

mod account;
#[cfg(any(feature = "kafka", feature = "nats", feature = "postgres", feature = "rabbitmq"))]
mod blocking;
pub mod broker;
mod cargo;
mod docker;
mod error;
pub mod kafka;
#[cfg(any(feature = "kafka", feature = "nats", feature = "postgres", feature = "rabbitmq"))]
mod left_out;
pub mod nats;
mod port;
pub mod postgres;
mod process;
#[cfg(feature = "proxy")]
mod proxy;
pub mod rabbitmq;
mod random;
mod server;
mod supervisor;
mod tools;
#[cfg(any(feature = "postgres", feature = "proxy"))]
mod url;

pub use cargo::cargo;
pub use error::{Error, Missing, Result};
#[cfg(feature = "proxy")]
pub use proxy::{Lost, Proxy};
pub use tools::has_docker;

/// The environment variable that says which tests are to run: [`ALL`], or unset for those that this machine can run.
pub const TESTS: &str = "SAGAMILL_TESTS";
/// Its value that makes a test fail which finds no server.
pub const ALL: &str = "all";
/// The environment variable with a directory of programs that are not installed.
pub const TOOLS: &str = "SAGAMILL_TOOLS";
