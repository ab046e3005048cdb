//! The public suite for transports.

use std::time::Duration;

use sagamill_bus::{Bus, conformance::Harness};
use sagamill_testkit::broker::Own;

use crate::fixture::{own, shared, suite};

/// The broker that all scenarios share.
struct Shared(Option<String>);

impl Harness for Shared {
    async fn connect(&self) -> Bus {
        suite::connect(self.0.as_ref().expect("a test without a broker is left out")).await
    }
    fn patience(&self) -> Duration {
        suite::PATIENCE
    }
    fn quiet(&self) -> Duration {
        suite::QUIET
    }
    fn is_left_out(&self) -> bool {
        self.0.is_none()
    }
}

sagamill_bus::conformance!(
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    Shared(shared().await)
);

/// A broker that a scenario may crash.
struct Crashable(Own);

impl Harness for Crashable {
    async fn connect(&self) -> Bus {
        suite::connect(self.0.url()).await
    }
    async fn restart(&self) -> bool {
        self.0.kill().await.expect("it is killed");
        self.0.restart().await.expect("it comes back");
        true
    }
    fn patience(&self) -> Duration {
        suite::PATIENCE
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_broker_loses_nothing() {
    if let Some(server) = own().await {
        sagamill_bus::conformance::a_restart_of_the_broker_loses_nothing(&Crashable(server)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme_says_what_is_declared() {
    let Some(url) = shared().await else { return };
    let row = sagamill_bus::conformance::declared(suite::SCHEME, &suite::connect(&url).await);
    assert!(
        include_str!("../../../../README.md").contains(&row),
        "README.md lacks {row}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme_says_what_is_told() {
    let server = Shared(shared().await);
    if server.is_left_out() {
        return;
    }
    let row = sagamill_bus::conformance::inspected(suite::SCHEME, &server).await;
    assert!(
        include_str!("../../../../README.md").contains(&row),
        "README.md lacks {row}"
    );
}
