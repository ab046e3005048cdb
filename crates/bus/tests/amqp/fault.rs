//! Networks and servers on a bad day: what was confirmed arrives, and each key in order.

use std::{collections::BTreeSet, time::Duration};

use sagamill_bus::{Bus, Deliveries, Error, Message, Subscribe, Topic};
use sagamill_testkit::{Proxy, broker::Own, rabbitmq};

use crate::fixture::{PATIENCE, Took, acknowledge, connect, is_silent, next, number, shared, topic};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_deliveries_of_a_key_are_in_order_while_publishes_are_cut_off() {
    let Some(url) = shared().await else { return };
    let _took = Took::new("publishes that are cut off");
    let proxy = Proxy::start(&url).await.unwrap();
    let (reader, publisher, topic) = (connect(&url).await, connect(&proxy.url()).await, topic("order"));
    let mut stream = reader.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    let publish = async {
        let mut refused = 0;
        for batch in 0..21 {
            let numbers = batch * 35..(batch + 1) * 35;
            let messages = numbers.map(|n: usize| Message::new(n.to_string()).key(n % 5)).collect();
            let cut = async {
                // In the middle of every seventh call.
                if batch % 7 == 3 {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                    proxy.cut();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    proxy.heal();
                }
            };
            refused += tokio::join!(publish_until_confirmed(&publisher, &topic, messages), cut).0;
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
async fn trouble(server: &Own, proxy: &Proxy) {
    for round in 0..6 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        match round % 3 {
            0 => {
                server.kill().await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
                server.restart().await.unwrap();
            }
            1 => {
                proxy.cut();
                tokio::time::sleep(Duration::from_millis(300)).await;
                proxy.heal();
            }
            _ => {
                // Longer than either side waits for a sign of life.
                proxy.stall();
                tokio::time::sleep(Duration::from_secs(4)).await;
                proxy.heal();
            }
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
async fn crashes_cuts_and_stalls_lose_nothing_that_was_confirmed() {
    let Some(server) = rabbitmq::own().await else { return };
    let _took = Took::new("crashes, cuts and stalls");
    let proxy = Proxy::start(server.url()).await.unwrap();
    let (publisher, reader) = (connect(&proxy.url()).await, connect(&proxy.url()).await);
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
        trouble(&server, &proxy).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_with_a_handler_when_the_connection_is_lost_is_not_handled_twice() {
    let Some(url) = shared().await else { return };
    let _took = Took::new("a slow handler over a cut");
    let proxy = Proxy::start(&url).await.unwrap();
    let (bus, topic) = (connect(&proxy.url()).await, topic("held"));
    let mut stream = bus.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    let keyed = (0..3).map(|n| Message::new(n.to_string()).key("one"));
    bus.publish_to(topic.clone(), keyed).await.unwrap();
    let held = next(&mut stream).await;
    proxy.cut();
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.heal();
    // It is back when this arrives, which was published after it.
    let stranger = Message::new("3").key("two");
    while bus.publish_to(topic.clone(), [stranger.clone()]).await.is_err() {}
    let delivery = next(&mut stream).await;
    assert_eq!(number(&delivery.message), 3);
    delivery.ack().await.unwrap();
    held.ack().await.unwrap();
    for expected in 1..3 {
        let delivery = next(&mut stream).await;
        assert_eq!(number(&delivery.message), expected);
        delivery.ack().await.unwrap();
    }
    assert!(is_silent(&mut stream).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_of_what_another_process_has_is_stale() {
    let Some(url) = shared().await else { return };
    let proxy = Proxy::start(&url).await.unwrap();
    let (bus, other, topic) = (connect(&proxy.url()).await, connect(&url).await, topic("stale"));
    let request = Subscribe::new(topic.clone(), "group");
    let mut stream = bus.subscribe(request.clone()).await.unwrap();
    bus.publish_to(topic, [Message::new("0")]).await.unwrap();
    let held = next(&mut stream).await;
    let mut elsewhere = other.subscribe(request).await.unwrap();
    proxy.cut();
    let delivery = next(&mut elsewhere).await;
    proxy.heal();
    let settled = held.ack().await;
    assert!(matches!(settled, Err(Error::Stale)), "{settled:?}");
    delivery.ack().await.unwrap();
}
