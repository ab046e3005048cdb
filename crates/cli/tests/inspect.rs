//! `bus bench`, `bus lag` and `bus topics` over servers: what each of them tells is told, and what it does not is null.

#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

mod program;

use program::{output, run};
use sagamill::bus::{Message, MessageId};
use serde_json::Value;

async fn json(arguments: &[&str]) -> Value {
    serde_json::from_slice(&output(&[arguments, &["-o", "json"]].concat()).await).unwrap()
}

/// Puts some messages through the bus, and looks at what is left of them, and at those that a group has not had.
async fn look(url: &str) -> (Value, String) {
    let topic = format!("inspect-{}", MessageId::random());
    let bench = ["bus", "bench", "--bus", url, "--messages", "300", "--topic", &topic];
    let report = json(&bench).await;
    assert_eq!((&report["lost"], &report["consumed"]), (&0.into(), &300.into()));
    let bus = sagamill::connect(url).await.unwrap();
    let batch = (0..4).map(|n| Message::new(n.to_string()));
    bus.publish_to(topic.clone(), batch).await.unwrap();
    bus.close().await.unwrap();
    let lags = json(&["bus", "lag", "--bus", url, &topic, "sagamill-bench"]).await;
    assert_eq!(lags.as_array().map(Vec::len), Some(1), "{lags}");
    let nobody = ["bus", "lag", "--bus", url, &topic, "nobody"];
    assert_eq!(run(&nobody).await, Some(4), "there is no such group");
    (lags[0].clone(), topic)
}
/// The topic as it is listed.
async fn listed(url: &str, topic: &str) -> Value {
    let topics = json(&["bus", "topics", "--bus", url]).await;
    let mut topics = topics.as_array().unwrap().iter();
    topics.find(|row| row["topic"] == topic).unwrap().clone()
}

#[tokio::test]
async fn postgres_counts_what_is_not_settled() {
    let Some(server) = sagamill_testkit::postgres::shared().await else {
        return;
    };
    let database = server.database("inspect").await.unwrap();
    let (lag, topic) = look(database.url()).await;
    assert_eq!((&lag["unsettled"], &lag["waiting"]), (&4.into(), &Value::Null), "{lag}");
    let info = listed(database.url(), &topic).await;
    assert_eq!(
        (&info["messages"], &info["partitions"]),
        (&304.into(), &Value::Null),
        "{info}"
    );
}

#[cfg(feature = "nats")]
#[tokio::test]
async fn nats_counts_all_but_members() {
    let Some(url) = sagamill_testkit::nats::shared().await else {
        return;
    };
    let (lag, topic) = look(&url).await;
    assert_eq!((&lag["unsettled"], &lag["waiting"]), (&4.into(), &4.into()), "{lag}");
    assert_eq!((&lag["delivered"], &lag["members"]), (&0.into(), &Value::Null), "{lag}");
    assert_eq!(listed(&url, &topic).await["messages"], 304);
}

#[cfg(feature = "kafka")]
#[tokio::test]
async fn kafka_counts_by_committed_offsets() {
    let Some(url) = sagamill_testkit::kafka::shared().await else {
        return;
    };
    let (lag, topic) = look(&url).await;
    assert_eq!((&lag["unsettled"], &lag["members"]), (&4.into(), &0.into()), "{lag}");
    assert_eq!(
        (&lag["waiting"], &lag["delivered"]),
        (&Value::Null, &Value::Null),
        "{lag}"
    );
    let info = listed(&url, &topic).await;
    assert_eq!(
        (&info["messages"], &info["partitions"]),
        (&304.into(), &8.into()),
        "{info}"
    );
}

#[cfg(feature = "amqp")]
#[tokio::test]
async fn rabbitmq_counts_what_is_ready_of_a_group_that_is_named() {
    let Some(url) = sagamill_testkit::rabbitmq::shared().await else {
        return;
    };
    let (lag, topic) = look(&url).await;
    assert_eq!((&lag["waiting"], &lag["members"]), (&4.into(), &0.into()), "{lag}");
    assert_eq!(lag["unsettled"], Value::Null, "{lag}");
    assert_eq!(
        run(&["bus", "topics", "--bus", &url]).await,
        Some(1),
        "there is no list"
    );
    assert_eq!(
        run(&["bus", "lag", "--bus", &url, &topic]).await,
        Some(1),
        "nor of groups"
    );
}
