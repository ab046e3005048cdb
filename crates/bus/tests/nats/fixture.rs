//! What these tests share.

#[path = "../broker/tools.rs"]
mod tools;

use std::time::Duration;

use sagamill_bus::{Bus, nats::Nats};

pub(crate) use self::tools::*;

/// Nothing comes any more.
pub(crate) const QUIET: Duration = Duration::from_millis(500);
/// The shortest that the transport takes.
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(1);

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

/// The URL of the broker that tests share.
pub(crate) async fn shared() -> Option<String> {
    sagamill_testkit::nats::shared().await
}
