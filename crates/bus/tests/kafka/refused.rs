//! What is refused, and with which words.

use sagamill_bus::{Bus, Error, Message, Subscribe};

use crate::fixture::{connect, shared, topic};

fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let cause = error.source().map(words).unwrap_or_default();
    format!("{error}: {cause} {error:?}")
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named_without_the_password() {
    let error = Bus::connect("kafka://user:secret-word@127.0.0.1:1").await.unwrap_err();
    assert!(matches!(error, Error::Disconnected(_)), "{error:?}");
    assert!(words(&error).contains("127.0.0.1:1"), "{}", words(&error));
    assert!(!words(&error).contains("secret-word"));
}

#[tokio::test]
async fn a_url_that_is_none_is_not_shown() {
    let error = Bus::connect("kafka://user:secret-word@host/port").await.unwrap_err();
    assert!(matches!(error, Error::Unusable(_)), "{error:?}");
    assert!(!words(&error).contains("secret-word"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_kafka_confuses_or_keeps_are_refused() {
    let Some(url) = shared().await else { return };
    let bus = connect(&url).await;
    let name = topic("confused");
    bus.publish_to(format!("{name}.x"), [Message::new("0")]).await.unwrap();
    for refused in [&format!("{name}_x"), "__consumer_offsets", "sagamill-dead"] {
        let published = bus.publish_to(refused.to_owned(), [Message::new("0")]).await;
        assert!(matches!(published, Err(Error::InvalidTopic { .. })), "{published:?}");
        let subscribed = bus
            .subscribe(Subscribe::new(refused.to_owned(), "group"))
            .await
            .map(drop);
        assert!(matches!(subscribed, Err(Error::InvalidTopic { .. })), "{subscribed:?}");
    }
}
