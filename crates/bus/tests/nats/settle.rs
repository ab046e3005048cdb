//! Settlements while the server is away.

use std::time::Duration;

use sagamill_bus::{Message, Subscribe, nats::Nats};

use crate::fixture::{Took, next, number, own, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_is_repeated_until_the_server_has_it() {
    let Some(server) = own().await else { return };
    let _took = Took::new("an acknowledgement over a crash");
    // With the usual patience: the server is back long before it is spent.
    let bus = Nats::options(server.url()).connect().await.unwrap();
    let topic = topic("ack");
    let mut stream = bus.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    bus.publish_to(topic.clone(), [Message::new("0")]).await.unwrap();
    let delivery = next(&mut stream).await;
    server.kill().await.unwrap();
    let back = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.restart().await.unwrap();
    };
    let (acked, ()) = tokio::join!(delivery.ack(), back);
    acked.unwrap();
    bus.publish_to(topic, [Message::new("1")]).await.unwrap();
    let delivery = next(&mut stream).await;
    assert_eq!(number(&delivery.message), 1);
    delivery.ack().await.unwrap();
}
