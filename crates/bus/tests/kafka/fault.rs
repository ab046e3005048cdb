//! Brokers on a bad day: what was confirmed arrives, and each key in order.

use std::{collections::BTreeSet, time::Duration};

use sagamill_bus::{Bus, Deliveries, Message, Subscribe, Topic};
use sagamill_testkit::{broker::Own, kafka};

use crate::fixture::{PATIENCE, Took, acknowledge, next, number, options, topic};

/// Publishes a batch until all of it is confirmed, as a relay does: what failed, in its order, before anything new.
async fn publish_until_confirmed(bus: &Bus, topic: &Topic, mut batch: Vec<Message>) -> usize {
    let mut refused = 0;
    while !batch.is_empty() {
        let results = bus.publish_each(topic, batch.clone()).await;
        let mut failed = results.iter().map(Result::is_err);
        batch.retain(|_| failed.next().unwrap_or(true));
        refused += batch.len();
    }
    refused
}

/// A connection that gives up soon.
async fn hasty(server: &Own) -> Bus {
    let options = options(server.url()).confirm_within(Duration::from_secs(1));
    options.connect().await.expect("the broker takes us")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_deliveries_of_a_key_are_in_order_while_the_broker_stands_still_and_crashes() {
    let Some(server) = kafka::own().await else { return };
    let _took = Took::new("publishes that are not confirmed");
    let (reader, publisher, topic) = (hasty(&server).await, hasty(&server).await, topic("order"));
    let mut stream = reader.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    let publish = async {
        let mut refused = 0;
        for batch in 0..21 {
            let numbers = batch * 35..(batch + 1) * 35;
            let messages = numbers.map(|n: usize| Message::new(n.to_string()).key(n % 5)).collect();
            let trouble = async {
                // In the middle of every seventh call, longer than that waits.
                match batch {
                    3 | 17 => {
                        server.pause().await.unwrap();
                        tokio::time::sleep(Duration::from_millis(1_500)).await;
                        server.resume().await.unwrap();
                    }
                    10 => {
                        server.kill().await.unwrap();
                        server.restart().await.unwrap();
                    }
                    _ => {}
                }
            };
            refused += tokio::join!(publish_until_confirmed(&publisher, &topic, messages), trouble).0;
        }
        refused
    };
    let (refused, order) = tokio::join!(publish, acknowledge(&mut stream, 21 * 35));
    println!("{refused} publishes were not confirmed");
    for key in 0..5 {
        let of_key: Vec<usize> = order.iter().copied().filter(|n| n % 5 == key).collect();
        assert!(of_key.is_sorted(), "key {key}: {of_key:?}");
    }
}

/// What goes wrong while messages are published and handled.
async fn trouble(server: &Own) {
    for round in 0..4 {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        if round % 2 == 0 {
            server.kill().await.unwrap();
            server.restart().await.unwrap();
        } else {
            server.pause().await.unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
            server.resume().await.unwrap();
        }
    }
}

/// Acknowledges what comes until it is enough.
async fn handle(stream: &mut Deliveries, got: &mut BTreeSet<usize>, enough: impl Fn(&BTreeSet<usize>) -> bool) {
    while !enough(got) {
        let delivery = next(stream).await;
        let number = number(&delivery.message);
        if delivery.ack().await.is_ok() {
            got.insert(number);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_and_stalls_lose_nothing_that_was_confirmed() {
    let Some(server) = kafka::own().await else { return };
    let _took = Took::new("crashes and stalls");
    let (publisher, reader) = (hasty(&server).await, hasty(&server).await);
    let topic = topic("trouble");
    let mut stream = reader.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    let (over, mut is_over) = tokio::sync::watch::channel(false);
    let publish = async {
        let mut confirmed = BTreeSet::new();
        let mut n = 0;
        while !*is_over.borrow_and_update() {
            let batch: Vec<Message> = (n..n + 20)
                .map(|n: usize| Message::new(n.to_string()).key(n % 7))
                .collect();
            let results = publisher.publish_each(&topic, batch).await;
            confirmed.extend(
                (n..n + 20)
                    .zip(results)
                    .filter(|(_, result)| result.is_ok())
                    .map(|(n, _)| n),
            );
            n += 20;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (n, confirmed)
    };
    let mut got = BTreeSet::new();
    let trouble = async {
        trouble(&server).await;
        over.send_replace(true);
    };
    let ((published, confirmed), ()) = tokio::select! {
        done = async { tokio::join!(publish, trouble) } => done,
        () = handle(&mut stream, &mut got, |_| false) => unreachable!("it reads for ever"),
    };
    let rest = handle(&mut stream, &mut got, |got| confirmed.is_subset(got));
    tokio::time::timeout(PATIENCE, rest)
        .await
        .expect("all that was confirmed arrives");
    println!(
        "{published} were published, {} confirmed, {} arrived",
        confirmed.len(),
        got.len()
    );
    assert!(!confirmed.is_empty());
}
