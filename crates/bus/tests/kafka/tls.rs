//! Over TLS, and signed in.

use sagamill_bus::{Bus, Error, Message, Subscribe};
use sagamill_testkit::kafka::secured;

use crate::fixture::{Took, next, text, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_signs_in_is_served_and_nobody_else() {
    let Some(server) = secured().await else { return };
    let _took = Took::new("Kafka over TLS");
    let url = server.url();
    for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] {
        pass_a_message(&url.replace("SCRAM-SHA-512", mechanism)).await;
    }
    let (user, rest) = url.split_once('@').unwrap();
    let (name, _) = user.rsplit_once(':').unwrap();
    let (bare, _) = rest.split_once('?').unwrap();
    let refused = [
        (format!("{name}:wrong-word@{rest}"), "refuses the credentials"),
        (format!("{user}@{bare}?mechanism=SCRAM-SHA-512"), "TLS with"),
        (
            format!("{user}@{bare}?mechanism=SCRAM-SHA-512&ca=/nowhere.pem"),
            "/nowhere.pem",
        ),
    ];
    for (url, why) in refused {
        let error = Bus::connect(&url).await.unwrap_err();
        let Error::Unusable(cause) = &error else {
            panic!("{why}: {error:?}")
        };
        let words = cause.to_string();
        assert!(words.contains(why), "{words}");
        assert!(!words.contains("wrong-word"), "{words}");
    }
}

async fn pass_a_message(url: &str) {
    let bus = Bus::connect(url).await.unwrap();
    let topic = topic("tls");
    bus.publish_to(topic.clone(), [Message::new("secret")]).await.unwrap();
    let mut stream = bus.subscribe(Subscribe::new(topic, "group")).await.unwrap();
    let delivery = next(&mut stream).await;
    assert_eq!(text(&delivery.message), "secret");
    delivery.ack().await.unwrap();
    drop(stream);
    bus.close().await.unwrap();
}
