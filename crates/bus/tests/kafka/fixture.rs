//! What these tests share.

#[path = "../broker/tools.rs"]
mod tools;

use std::time::Duration;

use sagamill_bus::{
    Bus,
    kafka::{Kafka, Options},
};

pub(crate) use self::tools::*;

/// Nothing comes any more: longer than partitions take to go from one member to another.
pub(crate) const QUIET: Duration = Duration::from_secs(2);

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

/// The URL of the broker that tests share.
pub(crate) async fn shared() -> Option<String> {
    sagamill_testkit::kafka::shared().await
}
