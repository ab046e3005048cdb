//! PostgreSQL for tests: one server that many tests share, or a server of a test's own that it may crash.
//!
//! What runs is found in this order: the server that [`URL`] names, programs that are installed, Docker with the official
//! image. A server of ours listens on the loopback address alone, keeps `fsync` on, and ends with the process that started
//! it, however that ends.

mod container;
mod daemon;
mod installation;
mod native;
mod place;
mod server;
mod template;

#[cfg(feature = "postgres")]
mod database;
#[cfg(feature = "postgres")]
mod own;
#[cfg(feature = "postgres")]
mod shared;
#[cfg(feature = "postgres")]
mod sql;
#[cfg(feature = "postgres")]
mod standby;

pub use daemon::{Daemon, State};
#[cfg(feature = "postgres")]
pub use database::{Database, Role};
pub use installation::Installation;
#[cfg(feature = "postgres")]
pub use own::{Own, own};
pub use server::Server;
#[cfg(feature = "postgres")]
pub use shared::{Shared, shared};
#[cfg(feature = "postgres")]
pub use standby::Standby;

/// The environment variable with the URL of a server that tests share: a superuser's, of a database to connect to first.
pub const URL: &str = "SAGAMILL_TEST_POSTGRES";
