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
#[cfg(feature = "postgres")]
pub use left_out::TESTS;
#[cfg(feature = "proxy")]
pub use proxy::{Lost, Proxy};
