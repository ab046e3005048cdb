//! `bus` and `dlq` on a bus that lies in a file.

#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

mod program;

use std::{path::Path, process::Stdio};

use program::{command, output, run};
use rustix::process::{Pid, Signal, kill_process};
use sagamill::bus::{Bus, Message, Subscribe};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

fn url(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("bus.db").display())
}
fn lines(output: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(output).lines().map(str::to_owned).collect()
}
fn json(output: &[u8]) -> Value {
    serde_json::from_slice(output).unwrap()
}

/// Gives up a message of the topic for the group, for a reason.
async fn give_up(url: &str, messages: usize, reason: &str) {
    let bus = sagamill::connect(url).await.unwrap();
    let mut deliveries = bus.subscribe(Subscribe::new("order", "billing")).await.unwrap();
    for _ in 0..messages {
        next(&mut deliveries).await.dead(reason).await.unwrap();
    }
    drop(deliveries);
    bus.close().await.unwrap();
}
async fn next(deliveries: &mut sagamill::bus::Deliveries) -> sagamill::bus::Delivery {
    use futures_util::StreamExt;
    deliveries.next().await.unwrap().unwrap()
}
async fn publish(url: &str, messages: impl IntoIterator<Item = Message>) {
    let bus: Bus = sagamill::connect(url).await.unwrap();
    bus.publish_to("order", messages).await.unwrap();
    bus.close().await.unwrap();
}

#[tokio::test]
async fn what_is_published_is_watched() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path());
    let publish = [
        "bus",
        "pub",
        "--bus",
        &url,
        "order",
        r#"{"sku":"tea"}"#,
        "--key",
        "7",
        "--type",
        "order.placed",
        "-H",
        "tenant=north",
    ];
    let id = lines(&output(&publish).await).remove(0);
    let watch = [
        "bus", "sub", "--bus", &url, "order", "--group", "eyes", "--from", "earliest",
    ];
    let seen = output(&[&watch[..], &["--count", "1"]].concat()).await;
    let seen = json(&seen);
    assert_eq!(
        (&seen["id"], &seen["key"], &seen["attempt"]),
        (&id.into(), &"7".into(), &1.into())
    );
    assert_eq!((&seen["data"]["sku"], &seen["topic"]), (&"tea".into(), &"order".into()));
    assert_eq!(seen["headers"]["ce-type"], "order.placed");
    assert_eq!(seen["headers"]["tenant"], "north");
    // It was acknowledged, so the group has nothing more.
    let rest = output(&[&watch[..], &["--idle", "1"]].concat()).await;
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn a_watcher_that_is_told_to_end_leaves_nothing_in_doubt() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path());
    let watch = [
        "bus", "sub", "--bus", &url, "order", "--group", "eyes", "--from", "earliest",
    ];
    publish(&url, [Message::new("1")]).await;
    let mut child = command(&watch).spawn().unwrap();
    let mut seen = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(seen.next_line().await.unwrap().is_some());
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(child.wait().await.unwrap().success());
    publish(&url, [Message::new("2")]).await;
    let next = output(&[&watch[..], &["--count", "1"]].concat()).await;
    assert_eq!(json(&next)["data"], 2);
}

#[tokio::test]
async fn each_line_of_stdin_is_a_message_in_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path());
    let arguments = [
        "bus", "pub", "--bus", &url, "order", "--lines", "--key", "1", "-o", "json",
    ];
    let mut child = command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    let numbers: String = (0..600).map(|n| format!("{n}\n")).collect();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(numbers.as_bytes()).await.unwrap();
    drop(stdin);
    let ended = child.wait_with_output().await.unwrap();
    assert!(ended.status.success());
    assert_eq!(lines(&ended.stdout).len(), 600);
    let watch = [
        "bus", "sub", "--bus", &url, "order", "--group", "eyes", "--from", "earliest", "--count", "600",
    ];
    let seen = lines(&output(&watch).await);
    let numbers: Vec<u64> = seen
        .iter()
        .map(|line| json(line.as_bytes())["data"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..600).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_dead_letter_is_listed_shown_requeued_and_discarded() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path());
    let message = Message::new(r#"{"n":1}"#).key("a");
    let id = message.id.to_string();
    publish(&url, [message]).await;
    give_up(&url, 1, "no such sku").await;
    let bus = ["--bus", &url];
    let queues = json(&output(&[&["dlq", "list", "-o", "json"], &bus[..]].concat()).await);
    assert_eq!(queues[0]["topic"], "order");
    assert_eq!(
        (&queues[0]["group"], &queues[0]["count"]),
        (&"billing".into(), &1.into())
    );
    let one = |verb: &'static str| [&["dlq", verb, "order", "billing", &id][..], &bus].concat();
    let shown = json(&output(&[&one("show")[..], &["-o", "json"]].concat()).await);
    assert_eq!(
        (&shown["reason"], &shown["message"]["data"]["n"]),
        (&"no such sku".into(), &1.into())
    );
    output(&one("requeue")).await;
    assert_eq!(run(&one("requeue")).await, Some(4), "it is there no more");
    give_up(&url, 1, "still none").await;
    let mended = directory.path().join("mended.json");
    std::fs::write(&mended, r#"{"n":2}"#).unwrap();
    let edit = [&one("requeue")[..], &["--payload", mended.to_str().unwrap()]].concat();
    let two = [&edit[..], &["00000000-0000-4000-8000-000000000000"]].concat();
    assert_eq!(run(&two).await, Some(2), "a payload is for one");
    output(&edit).await;
    give_up(&url, 1, "still none").await;
    let shown = json(&output(&[&one("show")[..], &["-o", "json"]].concat()).await);
    assert_eq!(
        (&shown["reason"], &shown["history"][0]["reason"]),
        (&"still none".into(), &"no such sku".into())
    );
    assert_eq!(shown["message"]["data"]["n"], 2);
    assert_eq!(run(&one("discard")).await, Some(2), "it asks to be sure");
    output(&[&one("discard")[..], &["--yes"]].concat()).await;
    assert_eq!(run(&one("show")).await, Some(4));
}

#[tokio::test]
async fn all_dead_letters_are_requeued_at_once_and_what_is_missing_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path());
    publish(&url, (0..5).map(|n| Message::new(n.to_string()))).await;
    give_up(&url, 5, "not today").await;
    let bus = ["--bus", &url];
    let ids = lines(&output(&[&["dlq", "list", "order", "billing", "-o", "ids"], &bus[..]].concat()).await);
    assert_eq!(ids.len(), 5);
    let missing = "00000000-0000-4000-8000-000000000000";
    let two = [&["dlq", "requeue", "order", "billing", &ids[0], missing][..], &bus].concat();
    assert_eq!(run(&two).await, Some(6), "one of the two");
    output(&[&["dlq", "requeue", "order", "billing", "--all"], &bus[..]].concat()).await;
    let left = output(&[&["dlq", "list", "order", "billing", "-o", "ids"], &bus[..]].concat()).await;
    assert!(left.is_empty());
    give_up(&url, 5, "again").await;
}

#[tokio::test]
async fn what_cannot_work_says_so() {
    assert_eq!(run(&["bus", "pub", "--bus", "memory:", "order", "x"]).await, Some(2));
    assert_eq!(
        run(&["bus", "pub", "--bus", "sqlite:bus.db", "or der", "x"]).await,
        Some(2)
    );
    assert_eq!(run(&["dlq", "list", "--bus", "carrier-pigeon://here"]).await, Some(7));
    assert_eq!(
        run(&["dlq", "requeue", "--bus", "sqlite:bus.db", "order", "billing", "no-id"]).await,
        Some(2)
    );
}

#[tokio::test]
async fn messages_are_moved_to_another_topic_and_to_another_bus() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, there) = (url(here.path()), url(there.path()));
    let messages = (0..300).map(|n| Message::new(n.to_string()).key(n % 3).header("tenant", "north"));
    publish(&here, messages).await;
    let to_topic = ["bus", "move", "--bus", &here, "order", "order.late"];
    output(&[&to_topic[..], &["--count", "100"]].concat()).await;
    output(&[&to_topic[..], &["--idle", "1"]].concat()).await;
    let to_bus = ["bus", "move", "--bus", &here, "order.late", "order", "--to-bus", &there];
    output(&[&to_bus[..], &["--count", "300"]].concat()).await;
    let watch = [
        "bus", "sub", "--bus", &there, "order", "--group", "eyes", "--from", "earliest",
    ];
    let seen = lines(&output(&[&watch[..], &["--idle", "1"]].concat()).await);
    let seen: Vec<Value> = seen.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for key in 0..3 {
        let name = key.to_string();
        let of_key = seen.iter().filter(|line| line["key"] == *name);
        let numbers: Vec<u64> = of_key.map(|line| line["data"].as_u64().unwrap()).collect();
        assert_eq!(
            numbers,
            (0..100).map(|n| n * 3 + key).collect::<Vec<_>>(),
            "all, once, in order"
        );
    }
    assert!(seen.iter().all(|line| line["headers"]["tenant"] == "north"));
}

#[tokio::test]
async fn messages_are_not_moved_to_where_they_come_from() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path());
    for from in ["order.placed", "order.*"] {
        let to_itself = ["bus", "move", "--bus", &url, from, "order.placed"];
        assert_eq!(run(&to_itself).await, Some(2), "{from}");
        let named = [&to_itself[..], &["--to-bus", &url]].concat();
        assert_eq!(run(&named).await, Some(2), "{from}, to the same bus by name");
    }
}

#[tokio::test]
async fn topics_are_listed_with_what_lies_there() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path());
    let list = |format: &'static str| ["bus", "topics", "--bus", &url, "-o", format].map(str::to_owned);
    let listed = async |format| {
        let arguments = list(format);
        output(&arguments.each_ref().map(String::as_str)).await
    };
    assert_eq!(
        json(&listed("json").await),
        Value::Array(Vec::new()),
        "nothing is there yet"
    );
    publish(&url, (0..3).map(|n| Message::new(n.to_string()))).await;
    let topics = json(&listed("json").await);
    assert_eq!(
        (&topics[0]["topic"], &topics[0]["messages"]),
        (&"order".into(), &3.into())
    );
    assert!(topics[0]["partitions"].is_null(), "a log has none: {topics}");
    assert_eq!(lines(&listed("ids").await), ["order"]);
    let table = lines(&listed("table").await);
    let words: Vec<&str> = table[1].split_whitespace().collect();
    assert_eq!(words[..3], ["order", "3", "-"], "what is not told is no number");
}

#[tokio::test]
async fn a_lag_says_what_a_group_has_yet_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path());
    let lag = ["bus", "lag", "--bus", &url];
    publish(&url, (0..5).map(|n| Message::new(n.to_string()))).await;
    let named = [&lag[..], &["order", "eyes"]].concat();
    assert_eq!(run(&named).await, Some(4), "nobody is called so");
    let watch = [
        "bus", "sub", "--bus", &url, "order", "--group", "eyes", "--from", "earliest", "--count", "2",
    ];
    output(&watch).await;
    for more in [&[][..], &["order"], &["order", "eyes"]] {
        let lags = json(&output(&[&lag[..], more, &["-o", "json"]].concat()).await);
        assert_eq!(lags.as_array().map(Vec::len), Some(1), "{lags}");
        assert_eq!(
            (&lags[0]["topic"], &lags[0]["group"]),
            (&"order".into(), &"eyes".into())
        );
        assert_eq!((&lags[0]["unsettled"], &lags[0]["members"]), (&3.into(), &0.into()));
        assert!(lags[0]["waiting"].is_null() && lags[0]["delivered"].is_null(), "{lags}");
    }
    let other = json(&output(&[&lag[..], &["payment.*", "-o", "json"]].concat()).await);
    assert_eq!(other, Value::Array(Vec::new()));
    let table = lines(&output(&named).await);
    let words: Vec<&str> = table[1].split_whitespace().collect();
    assert_eq!(words, ["order", "eyes", "3", "-", "-", "0"]);
    output(&[&watch[..9], &["--count", "3"]].concat()).await;
    let lags = json(&output(&[&named[..], &["-o", "json"]].concat()).await);
    assert_eq!(lags[0]["unsettled"], 0);
}

#[tokio::test]
async fn a_bench_counts_every_message() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path());
    let bench = [
        "bus",
        "bench",
        "--bus",
        &url,
        "--messages",
        "500",
        "--size",
        "64",
        "--publishers",
        "3",
        "--batch",
        "7",
    ];
    // A second run has nothing to do with the first.
    for _ in 0..2 {
        let report = json(&output(&[&bench[..], &["-o", "json"]].concat()).await);
        assert_eq!((&report["confirmed"], &report["consumed"]), (&500.into(), &500.into()));
        assert_eq!(
            (&report["lost"], &report["doubled"], &report["strangers"]),
            (&0.into(), &0.into(), &0.into())
        );
        let rate = |name: &str| report[name].as_f64().unwrap();
        assert!(rate("published_per_second") > 0.0 && rate("consumed_per_second") > 0.0);
        assert!(rate("latency_p50_ms") <= rate("latency_p99_ms"));
    }
    let text = String::from_utf8(output(&bench).await).unwrap();
    assert!(text.contains("lost 0, doubled 0") && text.contains("p99"), "{text}");
    let small = ["bus", "bench", "--bus", &url, "--size", "8"];
    assert_eq!(run(&small).await, Some(2), "no room for a number");
}
