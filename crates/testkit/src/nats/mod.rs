//! NATS with JetStream for tests: one server that many tests share, or a server of a test's own that it may crash.
//!
//! What runs is found in this order: the server that [`URL`] names, a program (on the `PATH`, in the directory that
//! [`TOOLS`](crate::TOOLS) names, or in `~/.cache/sagamill-tools`), Docker with the official image. A server of ours listens on
//! the loopback address alone, carries messages of 8 MiB, and ends with the process that started it, however that ends.

mod installation;
mod place;

pub use installation::Installation;

use crate::broker::Server;
#[cfg(feature = "nats")]
use crate::broker::{Brokers, Own};

/// The environment variable with the URL of a server that tests share.
pub const URL: &str = "SAGAMILL_TEST_NATS";

#[cfg(feature = "nats")]
static BROKERS: Brokers<Installation> = Brokers::new(URL, Installation::find, Installation::start);

/// A server of the test's own; none: this machine has none to run, and the test is left out.
///
/// # Panics
///
/// Where [`TESTS`](crate::TESTS) asks for all tests and there is no server, or where there is one that does not work.
#[cfg(feature = "nats")]
pub async fn own() -> Option<Own> {
    BROKERS.own().await
}

/// The URL of the server that tests share: the one that [`URL`] names, or else one of this process's own. None: this machine
/// has none, and the test is left out.
///
/// # Panics
///
/// As [`own`].
#[cfg(feature = "nats")]
pub async fn shared() -> Option<String> {
    BROKERS.shared().await
}
