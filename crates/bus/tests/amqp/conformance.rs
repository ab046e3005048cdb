//! The public suite for transports.

use std::time::Duration;

use sagamill_bus::{Bus, amqp::Amqp, conformance::Harness};
use sagamill_testkit::{broker::Own, rabbitmq};

use crate::fixture::shared;

/// The server that all scenarios share.
struct Shared(Option<String>);

impl Harness for Shared {
    async fn connect(&self) -> Bus {
        let url = self.0.as_ref().expect("a test without a server is left out");
        Amqp::options(url).connect().await.expect("the server takes us")
    }
    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }
    fn quiet(&self) -> Duration {
        Duration::from_millis(400)
    }
    fn is_left_out(&self) -> bool {
        self.0.is_none()
    }
}

sagamill_bus::conformance!(
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    Shared(shared().await)
);

/// A server that a scenario may crash.
struct Crashable(Own);

impl Harness for Crashable {
    async fn connect(&self) -> Bus {
        Amqp::options(self.0.url())
            .connect()
            .await
            .expect("the server takes us")
    }
    async fn restart(&self) -> bool {
        self.0.kill().await.expect("it is killed");
        self.0.restart().await.expect("it comes back");
        true
    }
    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_server_loses_nothing() {
    if let Some(server) = rabbitmq::own().await {
        sagamill_bus::conformance::a_restart_of_the_broker_loses_nothing(&Crashable(server)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme_says_what_is_declared() {
    let Some(url) = shared().await else { return };
    let row = sagamill_bus::conformance::declared("`amqp:`", &Shared(Some(url)).connect().await);
    assert!(
        include_str!("../../../../README.md").contains(&row),
        "README.md lacks {row}"
    );
}
