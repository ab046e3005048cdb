//! Real servers for tests.
mod account;
mod error;
#[cfg(feature = "postgres")]
mod left_out;
mod port;
pub mod postgres;
mod process;
#[cfg(feature = "proxy")]
mod proxy;
mod random;
mod supervisor;
#[cfg(any(feature = "postgres", feature = "proxy"))]
mod url;

pub use error::{Error, Missing, Result};
#[cfg(feature = "proxy")]
pub use proxy::{Lost, Proxy};

/// The environment variable that says which tests are to run: [`ALL`], or unset for those that this machine can run.
pub const TESTS: &str = "SAGAMILL_TESTS";
/// Its value that makes a test fail which finds no server.
pub const ALL: &str = "all";
