//! What these tests share.

#[path = "../broker/tools.rs"]
mod tools;

use std::time::Duration;

use sagamill_bus::{
    Bus,
    kafka::{Kafka, Options},
};
use sagamill_testkit::{Proxy, broker::Own};

pub(crate) use self::tools::*;

/// Nothing comes any more: longer than partitions take to go from one member to another.
pub(crate) const QUIET: Duration = Duration::from_secs(2);

/// Longer than a group waits for its member.
pub(crate) const STALL: Duration = Duration::from_secs(4);

/// How to connect so that nothing takes long.
pub(crate) fn options(url: &str) -> Options {
    Kafka::options(url)
        .partitions(3)
        .confirm_within(Duration::from_secs(30))
        .session_timeout(Duration::from_secs(6))
        .find_topics_every(Duration::from_secs(1))
}

pub(crate) async fn connect(url: &str) -> Bus {
    options(url).connect().await.expect("the broker takes us")
}

/// A connection that gives up soon.
pub(crate) async fn hasty(url: &str) -> Bus {
    let options = options(url).confirm_within(Duration::from_secs(1));
    options.connect().await.expect("the broker takes us")
}

/// A broker of the test's own.
pub(crate) async fn own() -> Option<Own> {
    sagamill_testkit::kafka::own().await
}

/// What can cut clients off from it.
pub(crate) async fn proxy(server: &Own) -> Proxy {
    sagamill_testkit::kafka::proxy(server)
        .await
        .expect("a proxy can be started")
}

/// The URL of the broker that tests share.
pub(crate) async fn shared() -> Option<String> {
    sagamill_testkit::kafka::shared().await
}

/// How the public suite runs here.
pub(crate) mod suite {
    use std::time::Duration;

    pub(crate) use super::connect;

    /// As the README names it.
    pub(crate) const SCHEME: &str = "`kafka:`";
    pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
    /// Longer than partitions take to go from one member to another.
    pub(crate) const QUIET: Duration = Duration::from_secs(3);
}
