//! What is delayed waits on the bus, and not in a process.
#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use sagamill::bus::{Bus, Message, Result, Subscribe, delays};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

const SECOND: Duration = Duration::from_secs(1);

/// A process that hands out what was delayed, until it is told to stop.
async fn process(bus: &Bus) -> (oneshot::Sender<()>, JoinHandle<Result<()>>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let delays = delays().subscribe(bus.group("delays")).await.unwrap();
    let running = delays.run(async move { stopped.await.unwrap_or_default() });
    (stop, tokio::spawn(running))
}

#[tokio::test]
async fn what_is_delayed_outlives_the_process_that_waited_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("bus.db").display());
    let first = sagamill::connect(&url).await.unwrap();
    let (stop, running) = process(&first).await;
    let due = SystemTime::now() + 3 * SECOND;
    first.publish_at("tea", due, [Message::new("ready")]).await.unwrap();
    tokio::time::sleep(SECOND).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    first.close().await.unwrap();

    let second = sagamill::connect(&url).await.unwrap();
    let (stop, running) = process(&second).await;
    let mut inbox = second.subscribe(Subscribe::new("tea", "drinker")).await.unwrap();
    let delivery = timeout(30 * SECOND, inbox.next()).await.unwrap().unwrap().unwrap();
    assert!(SystemTime::now() >= due, "it came early");
    assert_eq!(&delivery.message.payload[..], b"ready");
    delivery.ack().await.unwrap();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    second.close().await.unwrap();
}
