//! What these tests share.

#[path = "../broker/tools.rs"]
mod tools;

use std::time::Duration;

use sagamill_bus::{Bus, Topic, amqp::Amqp};
use sagamill_testkit::{Proxy, broker::Own};

pub(crate) use self::tools::*;

/// Nothing comes any more.
pub(crate) const QUIET: Duration = Duration::from_millis(500);

/// Longer than either side waits for a sign of life.
pub(crate) const STALL: Duration = Duration::from_millis(4_000);

/// A connection that does not wait long for anything.
pub(crate) async fn connect(url: &str) -> Bus {
    let options = Amqp::options(url).heartbeat(Duration::from_secs(1));
    options.connect().await.expect("the broker takes us")
}

/// A connection that gives up soon: as all do here.
pub(crate) use connect as hasty;

/// A broker of the test's own.
pub(crate) async fn own() -> Option<Own> {
    sagamill_testkit::rabbitmq::own().await
}

/// What can cut clients off from it.
pub(crate) async fn proxy(server: &Own) -> Proxy {
    Proxy::start(server.url()).await.expect("a proxy can be started")
}

/// The URL of the broker that tests share.
pub(crate) async fn shared() -> Option<String> {
    sagamill_testkit::rabbitmq::shared().await
}

/// A channel of somebody who knows nothing of us, with its connection.
pub(crate) async fn client(url: &str) -> (lapin::Connection, lapin::Channel) {
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await;
    let connection = connection.expect("the broker takes us");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

/// The name of a group's queue: plain words are in it as they are.
pub(crate) fn queue(group: &str, topic: &Topic) -> String {
    let hash = xxhash_rust::xxh3::xxh3_128(format!("{group}\0{topic}").as_bytes());
    let topic: String = topic.as_ref().chars().take(50).collect();
    format!("sagamill.group.{group}.{topic}.{hash:032x}")
}

/// How the public suite runs here.
pub(crate) mod suite {
    use std::time::Duration;

    use sagamill_bus::Bus;

    /// As the README names it.
    pub(crate) const SCHEME: &str = "`amqp:`";
    pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
    pub(crate) const QUIET: Duration = Duration::from_millis(400);

    /// With what the transport takes unless it is told.
    pub(crate) async fn connect(url: &str) -> Bus {
        Bus::connect(url).await.expect("the broker takes us")
    }
}
