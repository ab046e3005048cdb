//! RabbitMQ for tests: one broker that many tests share, or a broker of a test's own that it may crash.
//!
//! What runs is found in this order: the broker that [`URL`] names, programs (on the `PATH`, or where packages put them),
//! Docker with the official image. A broker of ours listens on the loopback address alone, and ends with the process that
//! started it, however that ends; so does the port mapper that Erlang wants.

mod installation;
mod place;

pub use installation::Installation;

use crate::broker::Server;
#[cfg(feature = "rabbitmq")]
use crate::broker::{Brokers, Own};

/// The environment variable with the URL of a broker that tests share.
pub const URL: &str = "SAGAMILL_TEST_AMQP";

#[cfg(feature = "rabbitmq")]
static BROKERS: Brokers<Installation> = Brokers::new(URL, Installation::find, Installation::start);

/// A broker of the test's own; none: this machine has none to run, and the test is left out.
///
/// # Panics
///
/// Where [`TESTS`](crate::TESTS) asks for all tests and there is no broker, or where there is one that does not work.
#[cfg(feature = "rabbitmq")]
pub async fn own() -> Option<Own> {
    BROKERS.own().await
}

/// The URL of the broker that tests share: the one that [`URL`] names, or else one of this process's own. None: this machine
/// has none, and the test is left out.
///
/// # Panics
///
/// As [`own`].
#[cfg(feature = "rabbitmq")]
pub async fn shared() -> Option<String> {
    BROKERS.shared().await
}
