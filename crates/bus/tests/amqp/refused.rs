//! What is refused, and with which words.

use lapin::{
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use sagamill_bus::{Bus, Error, LagOf, Subscribe};

use crate::fixture::{client, connect, queue, shared, topic};

fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let cause = error.source().map(words).unwrap_or_default();
    format!("{error}: {cause} {error:?}")
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_the_password() {
    let error = Bus::connect("amqp://user:secret-word@127.0.0.1:1").await.unwrap_err();
    assert!(matches!(error, Error::Disconnected(_)), "{error:?}");
    assert!(words(&error).contains("127.0.0.1:1"), "{}", words(&error));
    assert!(!words(&error).contains("secret-word"));
}

#[tokio::test]
async fn wrong_credentials_are_unusable_and_not_shown() {
    let Some(url) = shared().await else { return };
    let host = url.rsplit('@').next().unwrap();
    let error = Bus::connect(&format!("amqp://user:secret-word@{host}"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unusable(_)), "{error:?}");
    assert!(!words(&error).contains("secret-word"));
}

#[tokio::test]
async fn a_url_that_is_none_is_not_shown() {
    let error = Bus::connect("amqp://user:secret-word@host:port").await.unwrap_err();
    assert!(matches!(error, Error::Unusable(_)), "{error:?}");
    assert!(!words(&error).contains("secret-word"));
}

#[cfg(not(feature = "amqp-tls"))]
#[tokio::test]
async fn tls_needs_its_feature() {
    let error = Bus::connect("amqps://user:secret-word@127.0.0.1:1").await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::FeatureOff {
                feature: "amqp-tls",
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_there_with_other_settings_is_named() {
    let Some(url) = shared().await else { return };
    let (bus, topic) = (connect(&url).await, topic("other"));
    bus.subscribe(Subscribe::new(topic.clone(), "group"))
        .await
        .map(drop)
        .unwrap();
    let (_connection, channel) = client(&url).await;
    let name = queue("group", &topic);
    let deleted = channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
    deleted.await.unwrap();
    let classic = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(name.as_str().into(), classic, FieldTable::default());
    declared.await.unwrap();
    let error = bus
        .subscribe(Subscribe::new(topic, "group"))
        .await
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, Error::Unusable(_)), "{error:?}");
    assert!(words(&error).contains(&name), "{}", words(&error));
}

#[tokio::test]
async fn lists_that_amqp_has_none_of_are_refused_with_what_to_do() {
    let Some(url) = shared().await else { return };
    let (bus, topic) = (connect(&url).await, topic("inspected"));
    let topics = bus.topics().await.unwrap_err();
    assert!(matches!(topics, Error::Unsupported { .. }), "{topics:?}");
    assert!(words(&topics).contains("rabbitmqctl"), "{topics}");
    for of in [
        LagOf::all(),
        LagOf::all().topic(topic.clone()),
        LagOf::all().group("group"),
    ] {
        let lag = bus.lag(of).await.unwrap_err();
        assert!(matches!(lag, Error::Unsupported { .. }), "{lag:?}");
    }
    assert_eq!(bus.group("group").lag(topic).await.unwrap(), None, "it is not there");
}
