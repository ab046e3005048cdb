//! What is refused, and with which words.

use sagamill_bus::{Bus, Error};

use crate::fixture::shared;

fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let cause = error.source().map(words).unwrap_or_default();
    format!("{error}: {cause} {error:?}")
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_the_password() {
    let error = Bus::connect("nats://user:secret-word@127.0.0.1:1").await.unwrap_err();
    assert!(matches!(error, Error::Disconnected(_)), "{error:?}");
    assert!(words(&error).contains("127.0.0.1:1"), "{}", words(&error));
    assert!(!words(&error).contains("secret-word"));
}

#[tokio::test]
async fn wrong_credentials_are_unusable_and_not_shown() {
    let Some(url) = shared().await else { return };
    let host = url.rsplit('@').next().unwrap();
    if host == url {
        return; // This server asks for none.
    }
    let error = Bus::connect(&format!("nats://user:secret-word@{host}"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unusable(_)), "{error:?}");
    assert!(!words(&error).contains("secret-word"));
}

#[tokio::test]
async fn a_url_that_is_none_is_not_shown() {
    let error = Bus::connect("nats://user:secret-word@host:port").await.unwrap_err();
    assert!(matches!(error, Error::Unusable(_)), "{error:?}");
    assert!(!words(&error).contains("secret-word"));
}
