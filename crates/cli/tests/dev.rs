//! The real binary: the shop in one process, then its data looked into.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail them by panicking")]

mod program;
#[path = "program/dev.rs"]
mod shop;

use std::{path::Path, process::Stdio, time::Duration};

use program::{PATIENCE, output, run};
use serde_json::{Value, json};
use shop::Dev;
use tokio::time::timeout;

#[tokio::test]
async fn shop_completes_and_compensates_and_its_data_can_be_looked_into() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("made/for it");
    let mut dev = Dev::start(&data, &["--rate", "10"]).await;
    let (mut completed, mut compensated) = (None, None);
    while completed.is_none() || compensated.is_none() {
        let saga = dev.saga().await;
        assert_eq!(saga["definition"], "place-order");
        match saga["state"].as_str() {
            Some("completed") => completed = Some(saga),
            Some("compensated") => compensated = Some(saga),
            other => panic!("{other:?}: {saga}"),
        }
        let ledger = dev.get("/ledger").await;
        assert_eq!(ledger["balanced"], true, "{ledger}");
    }
    let completed = completed.unwrap();
    let names: Vec<_> = completed["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| &step["name"])
        .collect();
    assert_eq!(names, ["reserve", "authorize", "book", "capture", "confirm"]);
    for step in completed["steps"].as_array().unwrap() {
        assert_eq!(step["state"], "done", "{step}");
        assert!(step["attempts"].as_u64().unwrap() >= 1 && step["ms"].is_i64(), "{step}");
    }
    let order = dev
        .get(&format!("/orders/{}", completed["saga"].as_str().unwrap()))
        .await;
    assert_eq!(order["status"], "completed", "{order}");
    looks_the_same_beside_the_process(&data).await;

    let (code, last) = dev.interrupt().await;
    assert_eq!(code, Some(0));
    assert!(
        last.contains(&format!("the data is in {}", data.canonicalize().unwrap().display())),
        "{last}"
    );
    looks_the_same_beside_the_process(&data).await;
    lists_and_shows(&data, &compensated.unwrap()).await;
    let examined = output(&["doctor", "--data", &data.display().to_string(), "-o", "json"]).await;
    let examined: Value = serde_json::from_slice(&examined).unwrap();
    assert_eq!(examined["well"], true, "{examined}");
    replays(&data).await;
}

#[cfg(feature = "nats")]
#[tokio::test]
async fn shop_over_nats_goes_on_where_it_was_killed() {
    let Some(server) = sagamill_testkit::nats::own().await else {
        return;
    };
    goes_on_where_it_was_killed(server.url()).await;
}

#[cfg(feature = "amqp")]
#[tokio::test]
async fn shop_over_rabbitmq_goes_on_where_it_was_killed() {
    let Some(server) = sagamill_testkit::rabbitmq::own().await else {
        return;
    };
    goes_on_where_it_was_killed(server.url()).await;
}

#[cfg(feature = "kafka")]
#[tokio::test]
async fn shop_over_kafka_goes_on_where_it_was_killed() {
    let Some(server) = sagamill_testkit::kafka::own().await else {
        return;
    };
    goes_on_where_it_was_killed(server.url()).await;
}

/// The shop over a broker: killed in the middle and started again, all that was under way ends.
async fn goes_on_where_it_was_killed(bus: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut kills = 0;
    loop {
        let mut dev = Dev::start(directory.path(), &["--bus", bus, "--rate", "40"]).await;
        for _ in 0..10 {
            dev.saga().await;
        }
        dev.kill().await;
        kills += 1;
        // A saga takes so little that none may be under way at a kill.
        if !running(directory.path()).await.is_empty() {
            break;
        }
        assert!(kills < 10, "nothing was under way at any of {kills} kills");
    }
    let dev = Dev::start(directory.path(), &["--bus", bus, "--no-load"]).await;
    let all_ended = async {
        while !running(directory.path()).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, all_ended).await.expect("all that was under way ends");
    let ledger = dev.get("/ledger").await;
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert_eq!(ledger["orders"]["parked"], 0, "{ledger}");
    let (code, said) = dev.interrupt().await;
    assert_eq!(code, Some(0), "{said}");
}

/// The sagas that run, by their names.
async fn running(data: &Path) -> String {
    let data = data.display().to_string();
    let running = output(&["saga", "list", "--data", &data, "--state", "running", "-o", "ids"]).await;
    String::from_utf8(running).unwrap()
}

async fn looks_the_same_beside_the_process(data: &Path) {
    let listed = output(&["saga", "list", "--data", &data.display().to_string(), "-o", "json"]).await;
    let sagas: Vec<Value> = serde_json::from_slice(&listed).unwrap();
    assert!(sagas.len() >= 2);
    for saga in &sagas {
        for name in [
            "saga",
            "definition",
            "version",
            "state",
            "step",
            "reason",
            "started_at",
            "updated_at",
        ] {
            assert!(saga.get(name).is_some(), "{name}: {saga}");
        }
    }
}

async fn lists_and_shows(data: &Path, compensated: &Value) {
    let data = &data.display().to_string();
    let running = output(&["saga", "list", "--data", data, "--state", "running", "-o", "ids"]).await;
    assert_eq!(
        String::from_utf8(running).unwrap(),
        "",
        "all sagas end when the process drains"
    );
    let two = output(&["saga", "list", "--data", data, "--limit", "2", "-o", "ids"]).await;
    assert_eq!(String::from_utf8(two).unwrap().lines().count(), 2);
    let table = output(&["saga", "list", "--data", data]).await;
    assert!(String::from_utf8(table).unwrap().starts_with("SAGA"));

    let key = compensated["saga"].as_str().unwrap();
    let shown: Value =
        serde_json::from_slice(&output(&["saga", "show", key, "--data", data, "-o", "json"]).await).unwrap();
    assert_eq!((&shown["saga"], &shown["state"]), (&json!(key), &json!("compensated")));
    let instance = shown["instance"].as_str().unwrap();
    for id in [instance, &instance[..13]] {
        let again = output(&["saga", "show", id, "--data", data, "-o", "json"]).await;
        assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), shown);
    }
    let text = String::from_utf8(output(&["saga", "show", key, "--data", data]).await).unwrap();
    assert!(text.contains("compensated"), "{text}");
    assert_eq!(run(&["saga", "show", "nobody", "--data", data]).await, Some(4));
    assert_eq!(run(&["saga", "show", "order-", "--data", data]).await, Some(2));
}

async fn replays(data: &Path) {
    let data = &data.display().to_string();
    let replay = async |more: &[&str]| -> Vec<Value> {
        let arguments = [&["replay", "--data", data, "--to", "stdout", "-o", "json"], more].concat();
        let text = String::from_utf8(output(&arguments).await).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = replay(&["--all"]).await;
    let positions: Vec<_> = all.iter().map(|event| event["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, (1..=all.len() as u64).collect::<Vec<_>>());
    for name in ["stream", "version", "type", "id", "time", "data"] {
        assert!(all.iter().all(|event| event.get(name).is_some()), "{name}");
    }
    let some = replay(&["--all", "--from-position", "3", "--to-position", "7", "--limit", "4"]).await;
    assert_eq!(some, all[2..6]);
    let placed = replay(&["--all", "--type", "order.pl*"]).await;
    assert!(!placed.is_empty() && placed.iter().all(|event| event["type"] == "order.placed"));
    let stream = replay(&["--stream", "saga-place-order/order-1"]).await;
    assert_eq!(stream[0]["type"], "saga.started");
    let versions: Vec<_> = stream.iter().map(|event| event["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, (1..=stream.len() as u64).collect::<Vec<_>>());
    reader_that_goes_away_is_no_failure(data).await;
}

async fn reader_that_goes_away_is_no_failure(data: &str) {
    let mut replay = program::command(&["replay", "--data", data, "--all"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(replay.stdout.take());
    let ended = replay.wait_with_output().await.unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
}

#[tokio::test]
async fn what_was_in_flight_when_it_was_killed_ends_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(directory.path(), &["--rate", "40"]).await;
    for _ in 0..5 {
        dev.saga().await;
    }
    dev.kill().await;

    let dev = Dev::start(directory.path(), &["--no-load"]).await;
    let ledger = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let ledger = dev.get("/ledger").await;
            assert_eq!(ledger["balanced"], true, "{ledger}");
            if ledger["in_flight"] == 0 {
                return ledger;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let ledger = ledger.await.expect("all sagas end");
    assert_eq!(ledger["orders"]["parked"], 0, "{ledger}");
    assert_eq!(dev.interrupt().await.0, Some(0));
}

#[tokio::test]
async fn directory_and_port_belong_to_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let dev = Dev::start(directory.path(), &["--no-load"]).await;
    let data = directory.path().display().to_string();
    assert_eq!(run(&["dev", "--data", &data, "--listen", "127.0.0.1:0"]).await, Some(5));
    let other = tempfile::tempdir().unwrap();
    let other = other.path().display().to_string();
    assert_eq!(run(&["dev", "--data", &other, "--listen", &dev.address]).await, Some(7));
    assert_eq!(dev.interrupt().await.0, Some(0));
}

#[tokio::test]
async fn what_is_not_there_is_said_with_its_own_code() {
    let directory = tempfile::tempdir().unwrap();
    let data = &directory.path().display().to_string();
    for missing in [format!("{data}/nothing"), data.clone()] {
        assert_eq!(run(&["saga", "list", "--data", &missing]).await, Some(4));
        assert_eq!(run(&["replay", "--data", &missing, "--all"]).await, Some(4));
    }
    std::fs::write(directory.path().join("order.db"), "no database").unwrap();
    assert_eq!(run(&["saga", "list", "--data", data]).await, Some(1));
    for usage in [
        &["saga", "list", "--data", data, "--state", "lost"][..],
        &["replay", "--data", data],
        &["replay", "--data", data, "--all", "--from-position", "-1"],
        &["dev", "--rate", "-1"],
        &["dev", "--rate", "NaN"],
        &["nonsense"],
    ] {
        assert_eq!(run(usage).await, Some(2), "{usage:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            String::from_utf8(output(&["completions", shell]).await)
                .unwrap()
                .contains("sagamill")
        );
    }
}

#[tokio::test]
async fn lost_tail_stops_the_shop_until_an_operator_helps() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("shop");
    let mut dev = Dev::start(&data, &["--rate", "10"]).await;
    for _ in 0..3 {
        dev.saga().await;
    }
    let (code, _) = dev.interrupt().await;
    assert_eq!(code, Some(0));
    let shown = &data.display().to_string();
    let listed = async || -> Vec<Value> {
        let listed = output(&["subscription", "list", "--data", shown, "-o", "json"]).await;
        serde_json::from_slice(&listed).unwrap()
    };
    let before = listed().await;
    let names: Vec<_> = before.iter().map(|row| row["name"].as_str().unwrap()).collect();
    for one in ["console", "orders", "relay"] {
        assert!(names.contains(&one), "{names:?}");
    }
    assert!(before.iter().all(|row| row["owned"] == 0), "{before:?}");

    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(data.join("order.db"));
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let lose = "delete from es_event where pos > (select max(pos) - 3 from es_event)";
    sqlx::query(lose).execute(&pool).await.unwrap();
    pool.close().await;
    let address = ["dev", "--data", shown, "--listen", "127.0.0.1:0", "--no-load"];
    assert_eq!(
        run(&address).await,
        Some(1),
        "it does not go on as if nothing had happened"
    );

    assert_eq!(
        run(&["subscription", "rewind", "nobody", "--data", shown]).await,
        Some(4)
    );
    for name in names {
        output(&["subscription", "rewind", name, "--data", shown]).await;
    }
    let mut dev = Dev::start(&data, &["--rate", "10"]).await;
    dev.saga().await;
    assert_eq!(dev.interrupt().await.0, Some(0));
}
