//! Everything arrives, where it belongs.

use futures_util::future::join_all;

use super::{
    Harness,
    fixture::{Fixture, number, numbered, topic},
};
use crate::Subscribe;

/// Of 100 messages that were published before or after subscribing, by what the transport promises, all arrive.
pub async fn publish_then_subscribe_gets_everything<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let early = if fixture.promised.replay {
        None
    } else {
        Some(fixture.subscribe("group").await)
    };
    fixture.publish(numbered(0..100)).await;
    let mut inbox = match early {
        Some(inbox) => inbox,
        None => fixture.subscribe("group").await,
    };
    inbox.ack_numbers(0..100).await;
    fixture.bus.clone().close().await.expect("the connection closes");
    assert!(inbox.has_ended().await, "closing ends the stream");
}

/// Twenty publishers and ten members of a group: the members together get all 1,000 messages.
pub async fn all_members_together_get_every_message<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut members = Vec::new();
    for _ in 0..10 {
        members.push(fixture.subscribe("group").await);
    }
    let publish = |publisher: usize| {
        let fixture = &fixture;
        async move {
            for n in 0..50 {
                fixture
                    .publish(numbered(publisher * 50 + n..publisher * 50 + n + 1))
                    .await;
            }
        }
    };
    let read = async {
        let mut got = vec![false; 1_000];
        while got.contains(&false) {
            for member in &mut members {
                while let Some(delivery) = member.maybe_next().await {
                    got[number(&delivery.message)] = true;
                    delivery.ack().await.expect("the ack is taken");
                }
            }
        }
    };
    let both = async { tokio::join!(join_all((0..20).map(publish)), read) };
    tokio::time::timeout(harness.patience(), both)
        .await
        .expect("every message arrives");
}

/// Ten topics at once, fifty messages on each: none gets lost or astray.
pub async fn many_topics_at_once_get_their_own_messages<H: Harness>(harness: &H) {
    let one = |index: usize| async move {
        let fixture = Fixture::new(harness).await;
        let mut inbox = fixture.subscribe("group").await;
        let own = index * 50..(index + 1) * 50;
        fixture.publish(numbered(own.clone())).await;
        inbox.ack_numbers(own).await;
    };
    join_all((0..10).map(one)).await;
}

/// What is published on one topic is not delivered on another.
pub async fn topics_do_not_mix<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let other = topic();
    let mut inbox = fixture.subscribe("group").await;
    let mut other_inbox = fixture.subscribe_to(Subscribe::new(other.clone(), "group")).await;
    fixture.publish(numbered(0..5)).await;
    fixture
        .bus
        .publish_to(other.clone(), numbered(5..10))
        .await
        .expect("the batch is published");
    for (inbox, own, topic) in [(&mut inbox, 0..5, &fixture.topic), (&mut other_inbox, 5..10, &other)] {
        for _ in 0..5 {
            let delivery = inbox.next().await;
            assert_eq!(&delivery.topic, topic);
            assert!(own.contains(&number(&delivery.message)));
            delivery.ack().await.expect("the ack is taken");
        }
        assert!(inbox.is_silent().await);
    }
}

/// Fifty messages that fail three times each all arrive in the end.
pub async fn errors_do_not_stop_a_subscription<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    fixture.publish(numbered(0..50)).await;
    let mut left = 50;
    while left > 0 {
        let delivery = inbox.next().await;
        if delivery.attempt <= 3 {
            delivery.retry(None).await.expect("the retry is taken");
        } else {
            delivery.ack().await.expect("the ack is taken");
            left -= 1;
        }
    }
}

/// In calm weather at most one message in a hundred comes twice.
pub async fn duplicates_are_rare<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    for batch in 0..10 {
        fixture.publish(numbered(batch * 100..(batch + 1) * 100)).await;
    }
    inbox.ack_numbers(0..1_000).await;
    assert!(
        inbox.is_silent().await,
        "every message was acked and none should come again"
    );
    assert!(inbox.duplicates() <= 10, "{} duplicates of 1,000", inbox.duplicates());
}

/// A member has at most as many messages unsettled as it asked for, and gets the next when it settles one.
pub async fn no_more_than_max_in_flight_are_unsettled<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let request = Subscribe::new(fixture.topic.clone(), "group").max_in_flight(3);
    let mut inbox = fixture.subscribe_to(request).await;
    fixture.publish(numbered(0..10)).await;
    let mut held = inbox.take(3).await;
    assert!(inbox.is_silent().await, "a fourth came");
    held.remove(0).ack().await.expect("the ack is taken");
    held.push(inbox.next().await);
    assert!(inbox.is_silent().await, "a fourth came");
    // A stream that waits is woken by a settlement from elsewhere.
    let (first, quiet) = (held.remove(0), harness.quiet());
    let settling = tokio::spawn(async move {
        tokio::time::sleep(quiet).await;
        first.ack().await
    });
    held.push(inbox.next().await);
    settling.await.expect("no panic").expect("the ack is taken");
    for delivery in held {
        delivery.ack().await.expect("the ack is taken");
    }
    inbox.ack(5).await;
}
