//! What is delivered, and to whom.

use sagamill_bus::{Message, Subscribe};

use crate::fixture::{ACK_WAIT, Took, connect, is_silent, next, shared, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_is_slower_than_the_servers_patience_is_not_overtaken() {
    let Some(url) = shared().await else { return };
    let _took = Took::new("a slow handler");
    let (slow, other, topic) = (connect(&url).await, connect(&url).await, topic("slow"));
    let mut stream = slow.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    slow.publish_to(topic.clone(), [Message::new("0")]).await.unwrap();
    let delivery = next(&mut stream).await;
    let mut elsewhere = other.subscribe(Subscribe::new(topic, "group")).await.unwrap();
    tokio::time::sleep(ACK_WAIT * 3).await;
    assert!(is_silent(&mut elsewhere).await, "it was given to another");
    delivery.ack().await.unwrap();
    assert!(is_silent(&mut stream).await && is_silent(&mut elsewhere).await);
}
