//! Apache Kafka for tests: one broker that many tests share, or a broker of a test's own that it may crash.
//!
//! What runs is found in this order: the broker that [`URL`] names, the archives of Kafka (in the directory that
//! [`TOOLS`](crate::TOOLS) names, or in `~/.cache/sagamill-tools`) with a Java on the `PATH`, Docker with the official image. A
//! broker of ours is one node in KRaft mode that listens on the loopback address alone, lets groups form at once, and ends with
//! the process that started it, however that ends.
//!
//! A client is told by the broker where it is, and so comes through no [`Proxy`](crate::Proxy) but that of `proxy`.

mod installation;
mod place;

pub use installation::Installation;

use crate::broker::Server;
#[cfg(feature = "kafka")]
use crate::broker::{Brokers, Own};
#[cfg(all(feature = "kafka", feature = "proxy"))]
use crate::{Proxy, Result, url};

/// The environment variable with the URL of a broker that tests share.
pub const URL: &str = "SAGAMILL_TEST_KAFKA";

#[cfg(feature = "kafka")]
static BROKERS: Brokers<Installation> = Brokers::new(URL, Installation::find, Installation::start);

#[cfg(feature = "kafka")]
static SECURED: Brokers<Installation> = Brokers::new(URL, Installation::find, Installation::start_secured);

/// A broker of the test's own; none: this machine has none to run, and the test is left out.
///
/// # Panics
///
/// Where [`TESTS`](crate::TESTS) asks for all tests and there is no broker, or where there is one that does not work.
#[cfg(feature = "kafka")]
pub async fn own() -> Option<Own> {
    BROKERS.own().await
}

/// A broker of the test's own whose URL is over TLS, `kafkas://USER:PASSWORD@HOST?mechanism=SCRAM-SHA-512&ca=FILE`: it also
/// knows the mechanisms `SCRAM-SHA-256` and `PLAIN`. None: as [`own`].
///
/// # Panics
///
/// As [`own`].
#[cfg(feature = "kafka")]
pub async fn secured() -> Option<Own> {
    SECURED.own().await
}

/// The way to a broker of the test's own through a proxy, which the broker sends those to who come by it. One at a time.
///
/// # Errors
///
/// [`Error::Proxy`](crate::Error::Proxy) where its port is not free.
#[cfg(all(feature = "kafka", feature = "proxy"))]
pub async fn proxy(server: &Own) -> Result<Proxy> {
    let port = url::port(server.url());
    let target = url::with_host(server.url(), &format!("127.0.0.1:{}", port - place::PROXIED));
    Proxy::start_on(port - place::PROXY, &target).await
}

/// The URL of the broker that tests share: the one that [`URL`] names, or else one of this process's own. None: this machine
/// has none, and the test is left out.
///
/// # Panics
///
/// As [`own`].
#[cfg(feature = "kafka")]
pub async fn shared() -> Option<String> {
    BROKERS.shared().await
}
