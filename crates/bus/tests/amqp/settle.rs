//! Settlements over a connection that was lost.

use std::time::Duration;

use sagamill_bus::{Error, Message, Subscribe};
use sagamill_testkit::Proxy;

use crate::fixture::{Took, connect, is_silent, next, number, shared, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_with_a_handler_when_the_connection_is_lost_is_not_handled_twice() {
    let Some(url) = shared().await else { return };
    let _took = Took::new("a slow handler over a cut");
    let proxy = Proxy::start(&url).await.unwrap();
    let (bus, topic) = (connect(&proxy.url()).await, topic("held"));
    let mut stream = bus.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    let keyed = (0..3).map(|n| Message::new(n.to_string()).key("one"));
    bus.publish_to(topic.clone(), keyed).await.unwrap();
    let held = next(&mut stream).await;
    proxy.cut();
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.heal();
    // It is back when this arrives, which was published after it.
    let stranger = Message::new("3").key("two");
    while bus.publish_to(topic.clone(), [stranger.clone()]).await.is_err() {}
    let delivery = next(&mut stream).await;
    assert_eq!(number(&delivery.message), 3);
    delivery.ack().await.unwrap();
    held.ack().await.unwrap();
    for expected in 1..3 {
        let delivery = next(&mut stream).await;
        assert_eq!(number(&delivery.message), expected);
        delivery.ack().await.unwrap();
    }
    assert!(is_silent(&mut stream).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_of_what_another_process_has_is_stale() {
    let Some(url) = shared().await else { return };
    let proxy = Proxy::start(&url).await.unwrap();
    let (bus, other, topic) = (connect(&proxy.url()).await, connect(&url).await, topic("stale"));
    let request = Subscribe::new(topic.clone(), "group");
    let mut stream = bus.subscribe(request.clone()).await.unwrap();
    bus.publish_to(topic, [Message::new("0")]).await.unwrap();
    let held = next(&mut stream).await;
    let mut elsewhere = other.subscribe(request).await.unwrap();
    proxy.cut();
    let delivery = next(&mut elsewhere).await;
    proxy.heal();
    let settled = held.ack().await;
    assert!(matches!(settled, Err(Error::Stale)), "{settled:?}");
    delivery.ack().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_out_of_their_order_all_count() {
    let Some(url) = shared().await else { return };
    let (bus, topic) = (connect(&url).await, topic("unordered"));
    let request = Subscribe::new(topic.clone(), "group");
    let mut stream = bus.subscribe(request.clone()).await.unwrap();
    for _ in 0..20 {
        let messages = (0..5).map(|n| Message::new(n.to_string()));
        bus.publish_to(topic.clone(), messages).await.unwrap();
        let mut deliveries = Vec::new();
        while deliveries.len() < 5 {
            deliveries.push(next(&mut stream).await);
        }
        deliveries.remove(3).ack().await.unwrap();
        for acked in futures_util::future::join_all(deliveries.into_iter().map(|delivery| delivery.ack())).await {
            acked.unwrap();
        }
    }
    drop(stream);
    assert!(is_silent(&mut bus.subscribe(request).await.unwrap()).await);
}
