//! One URL picks the bus.
#![cfg(feature = "sqlite")]

use futures_util::StreamExt as _;
use sagamill::bus::{Error, Message, Subscribe};

#[tokio::test]
async fn a_bus_in_a_file_carries_messages_between_connections() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("bus.db").display());
    let publisher = sagamill::connect(&url).await.unwrap();
    publisher.publish_to("order", [Message::new("placed")]).await.unwrap();
    publisher.close().await.unwrap();
    let consumer = sagamill::connect(&url).await.unwrap();
    assert_eq!(consumer.transport(), "sqlite");
    let mut deliveries = consumer.subscribe(Subscribe::new("order", "inventory")).await.unwrap();
    let delivery = deliveries.next().await.unwrap().unwrap();
    assert_eq!(&delivery.message.payload[..], b"placed");
    delivery.ack().await.unwrap();
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn what_no_bus_answers_to_is_refused_by_type() {
    let refused = async |url: &str| match sagamill::connect(url).await {
        Err(sagamill::Error::Bus(error)) => error,
        other => panic!("{url}: {other:?}"),
    };
    assert!(matches!(refused("carrier:pigeon").await, Error::UnknownScheme { .. }));
    for nowhere in ["sqlite::memory:", "sqlite:no/such/directory/bus.db"] {
        let error = refused(nowhere).await;
        assert!(
            matches!(error, Error::Unusable(_)) && !error.is_retryable(),
            "{nowhere}: {error:?}"
        );
    }
}
