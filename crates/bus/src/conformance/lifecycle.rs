//! Members, connections and publishers that come and go.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::{
    Harness,
    fixture::{Fixture, number, numbered},
};
use crate::{Error, Subscribe};

/// A group whose stream was dropped half-way gets the rest when it subscribes again.
pub async fn a_resubscribed_group_gets_what_is_left<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    fixture.publish(numbered(0..20)).await;
    let mut got: BTreeSet<usize> = inbox.ack(7).await.iter().map(number).collect();
    drop(inbox);
    let mut inbox = fixture.subscribe("group").await;
    while got.len() < 20 {
        let delivery = inbox.next().await;
        got.insert(number(&delivery.message));
        delivery.ack().await.expect("the ack is taken");
    }
}

/// A subscription is opened and closed again and again while 1,000 messages come: each is handled.
pub async fn subscriptions_that_come_and_go_lose_nothing<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    drop(fixture.subscribe("group").await);
    let publish = async {
        for batch in 0..20 {
            fixture.publish(numbered(batch * 50..(batch + 1) * 50)).await;
        }
    };
    let read = async {
        let mut got = BTreeSet::new();
        while got.len() < 1_000 {
            let mut inbox = fixture.subscribe("group").await;
            // Some are acked, some are left unsettled when the stream goes.
            for _ in 0..40 {
                let Some(delivery) = inbox.maybe_next().await else {
                    break;
                };
                let number = number(&delivery.message);
                if delivery.ack().await.is_ok() {
                    got.insert(number);
                }
            }
            let _unsettled = inbox.maybe_next().await;
        }
    };
    let both = async { tokio::join!(publish, read) };
    tokio::time::timeout(harness.patience() * 2, both)
        .await
        .expect("every message is handled");
}

/// Ten messages are taken, half of them acked, and the connection is closed: the others come to the next one.
pub async fn a_partly_acked_batch_survives_closing<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let closing = harness.connect().await;
    let request = Subscribe::new(fixture.topic.clone(), "group").max_in_flight(10);
    let mut inbox = fixture.subscribe_on(&closing, request.clone()).await;
    fixture.publish(numbered(0..100)).await;
    let mut acked = BTreeSet::new();
    let mut unsettled = Vec::new();
    for (index, delivery) in inbox.take(10).await.into_iter().enumerate() {
        if index % 2 == 0 {
            acked.insert(number(&delivery.message));
            delivery.ack().await.expect("the ack is taken");
        } else {
            unsettled.push(delivery);
        }
    }
    closing.close().await.expect("the connection closes");
    drop((inbox, unsettled));
    let mut inbox = fixture.subscribe_to(request).await;
    let (mut got, mut repeats) = (BTreeSet::new(), 0);
    while got.union(&acked).count() < 100 {
        let delivery = inbox.next().await;
        let number = number(&delivery.message);
        repeats += usize::from(acked.contains(&number));
        got.insert(number);
        delivery.ack().await.expect("the ack is taken");
    }
    assert!(repeats <= 5, "only acks above a watermark may be forgotten");
}

/// The task of a consumer is aborted with messages in flight: another member gets them.
pub async fn a_killed_consumers_messages_go_to_others<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let victim_bus = harness.connect().await;
    let request = Subscribe::new(fixture.topic.clone(), "group");
    let mut victim = fixture.subscribe_on(&victim_bus, request.clone()).await;
    fixture.publish(numbered(0..20)).await;
    let (taken, has_taken) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let held = victim.take(5).await;
        taken.send(held.len()).expect("the scenario waits");
        std::future::pending::<()>().await;
        drop((held, victim));
    });
    assert_eq!(has_taken.await, Ok(5));
    task.abort();
    let mut inbox = fixture.subscribe_to(request).await;
    inbox.ack_numbers(0..20).await;
}

/// Ten connections subscribe and close at once; then fifty messages all arrive.
pub async fn closing_many_connections_at_once_loses_nothing<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let open_and_close = || async {
        let bus = harness.connect().await;
        let inbox = fixture
            .subscribe_on(&bus, Subscribe::new(fixture.topic.clone(), "group"))
            .await;
        bus.close().await.expect("the connection closes");
        inbox
    };
    let closed = join_all((0..10).map(|_| open_and_close())).await;
    fixture.publish(numbered(0..50)).await;
    drop(closed);
    fixture.subscribe("group").await.ack_numbers(0..50).await;
}

/// Closing ends all streams, can be done twice, and refuses what comes after with `Closed`.
pub async fn closing_ends_streams_and_refuses_work<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inboxes = [fixture.subscribe("one").await, fixture.subscribe("one").await];
    fixture.bus.clone().close().await.expect("the connection closes");
    fixture.bus.clone().close().await.expect("closing again does nothing");
    for inbox in &mut inboxes {
        assert!(inbox.has_ended().await);
    }
    let published = fixture.bus.publish_to(fixture.topic.clone(), numbered(0..1)).await;
    assert!(matches!(published, Err(Error::Closed)), "{published:?}");
    let request = Subscribe::new(fixture.topic.clone(), "group").order_scope(fixture.promised.order_scope);
    assert!(matches!(
        fixture.bus.subscribe(request).await.err(),
        Some(Error::Closed)
    ));
}

/// Twenty publishers publish and close: everything that was confirmed arrives.
pub async fn closing_the_publisher_keeps_what_was_confirmed<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    let publish = |publisher: usize| {
        let topic = fixture.topic.clone();
        async move {
            let bus = harness.connect().await;
            let own = numbered(publisher * 100..(publisher + 1) * 100);
            bus.publish_to(topic, own).await.expect("the batch is published");
            bus.close().await.expect("the connection closes");
        }
    };
    let all = join_all((0..20).map(publish));
    tokio::join!(all, inbox.ack_numbers(0..2_000));
}

/// A connection is closed while it publishes: every call returns, and what was confirmed arrives.
pub async fn publishing_and_closing_at_once_loses_nothing_confirmed<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    let closing = harness.connect().await;
    let publish = |n: usize| {
        let (bus, topic) = (closing.clone(), fixture.topic.clone());
        tokio::spawn(async move { bus.publish_to(topic, numbered(n..n + 1)).await.is_ok().then_some(n) })
    };
    let publishing: Vec<_> = (0..200).map(publish).collect();
    tokio::task::yield_now().await;
    closing.close().await.expect("the connection closes");
    let ended = tokio::time::timeout(harness.patience(), join_all(publishing))
        .await
        .expect("every publish returns");
    let mut confirmed: BTreeSet<usize> = ended
        .into_iter()
        .filter_map(|n| n.expect("no publish panics"))
        .collect();
    while !confirmed.is_empty() {
        let delivery = inbox.next().await;
        confirmed.remove(&number(&delivery.message));
        delivery.ack().await.expect("the ack is taken");
    }
}
