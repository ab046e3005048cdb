//! What these tests share.

#[path = "../broker/tools.rs"]
mod tools;

use std::time::Duration;

use sagamill_bus::{Bus, nats::Nats};
use sagamill_testkit::{Proxy, broker::Own};

pub(crate) use self::tools::*;

/// Nothing comes any more.
pub(crate) const QUIET: Duration = Duration::from_millis(500);
/// The shortest that the transport takes.
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(1);

/// Longer than the server waits for a sign of life.
pub(crate) const STALL: Duration = Duration::from_millis(1_500);

/// A connection that does not wait long for anything.
pub(crate) async fn connect(url: &str) -> Bus {
    let options = Nats::options(url)
        .ack_wait(ACK_WAIT)
        .confirm_within(Duration::from_secs(2));
    options.connect().await.expect("the server takes us")
}

/// A client that knows nothing of us.
pub(crate) async fn client(url: &str) -> async_nats::Client {
    let server: async_nats::ServerAddr = url.parse().expect("a URL");
    let options = match (server.username(), server.password()) {
        (Some(user), Some(password)) => {
            async_nats::ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
        }
        (Some(token), None) => async_nats::ConnectOptions::with_token(token.to_owned()),
        (None, _) => async_nats::ConnectOptions::new(),
    };
    options.connect(server).await.expect("the server takes us")
}

/// A connection that gives up soon: as all do here.
pub(crate) use connect as hasty;

/// A broker of the test's own.
pub(crate) async fn own() -> Option<Own> {
    sagamill_testkit::nats::own().await
}

/// What can cut clients off from it.
pub(crate) async fn proxy(server: &Own) -> Proxy {
    Proxy::start(server.url()).await.expect("a proxy can be started")
}

/// The URL of the broker that tests share.
pub(crate) async fn shared() -> Option<String> {
    sagamill_testkit::nats::shared().await
}

/// How the public suite runs here.
pub(crate) mod suite {
    use std::time::Duration;

    use sagamill_bus::Bus;

    /// As the README names it.
    pub(crate) const SCHEME: &str = "`nats:`";
    pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
    pub(crate) const QUIET: Duration = Duration::from_millis(400);

    /// With what the transport takes unless it is told.
    pub(crate) async fn connect(url: &str) -> Bus {
        Bus::connect(url).await.expect("the broker takes us")
    }
}
