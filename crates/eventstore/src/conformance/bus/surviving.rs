//! Processes that die, or are stopped for a while, in the middle of their work.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use sagamill_bus::{Error, Order};

use super::process::{GROUP, Process, TOPIC, keyed, next, number, request, take, within};
use crate::{
    backlog::BEGUN_SPAN,
    conformance::{Paced, Subject},
};

/// A process dies with messages in its hands: another gets all that it had not acknowledged, and those in order of their keys.
pub async fn messages_of_a_dead_process_go_to_others(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let (dead, heir) = (Process::start(subject).await, Process::start(subject).await);
    let mut of_dead = dead.subscribe(request()).await;
    dead.publish(keyed(0..40, 8)).await;
    let held = take(&mut of_dead, 5).await;
    dead.stop(true);
    let mut of_heir = heir.subscribe(request()).await;
    let mut handled: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for _ in 0..40 {
        let delivery = next(&mut of_heir).await;
        assert_eq!(delivery.attempt, 1);
        let n = number(&delivery.message);
        handled.entry(n % 8).or_default().push(n);
        delivery.ack().await.unwrap();
    }
    for (key, handled) in handled {
        assert_eq!(handled, (0..5).map(|n| n * 8 + key).collect::<Vec<_>>());
    }
    drop((held, of_dead));
    heir.end().await;
}

/// A process that was stopped for longer than its lease settles nothing that another has taken over, in whatever way.
pub async fn a_late_settlement_of_a_stopped_process_is_stale(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let (stopped, heir) = (Process::start(subject).await, Process::start(subject).await);
    let mut of_stopped = stopped.subscribe(request()).await;
    stopped.publish(keyed(0..3, 3)).await;
    let mut held = take(&mut of_stopped, 3).await;
    stopped.stop(true);
    let mut of_heir = heir.subscribe(request()).await;
    for _ in 0..3 {
        next(&mut of_heir).await.ack().await.unwrap();
    }
    let (acked, retried, dead) = (held.remove(0), held.remove(0), held.remove(0));
    let late = tokio::spawn(async move {
        tokio::join!(
            acked.ack(),
            retried.retry(Some(Duration::from_secs(1))),
            dead.dead("too late")
        )
    });
    tokio::task::yield_now().await;
    stopped.stop(false);
    let (acked, retried, dead) = late.await.unwrap();
    for late in [acked, retried, dead] {
        assert!(matches!(late, Err(Error::Stale)), "{late:?}");
    }
    assert!(heir.bus.dead_letter_queues().await.unwrap().is_empty());
    drop(of_stopped);
    stopped.end().await;
    assert!(within(&mut of_heir, subject.ttl() * 2).await.is_none());
    heir.end().await;
}

/// Failed attempts are remembered beyond the process that made them, and beyond its end in good order.
pub async fn attempts_are_counted_over_processes(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let first = Process::start(subject).await;
    let mut deliveries = first.subscribe(request()).await;
    first.publish(keyed(0..1, 1)).await;
    next(&mut deliveries).await.retry(None).await.unwrap();
    drop(next(&mut deliveries).await);
    let third = next(&mut deliveries).await;
    assert_eq!(third.attempt, 3);
    first.end().await;
    drop((third, deliveries));
    let second = Process::start(subject).await;
    let mut deliveries = second.subscribe(request()).await;
    let third = next(&mut deliveries).await;
    assert_eq!(third.attempt, 3, "what was given back was no attempt");
    second.stop(true);
    let last = Process::start(subject).await;
    let mut of_last = last.subscribe(request()).await;
    let again = next(&mut of_last).await;
    assert_eq!(again.attempt, 3, "it is not known whether it killed the process");
    drop(of_last);
    drop(again);
    let mut of_last = last.subscribe(request()).await;
    let again = next(&mut of_last).await;
    assert_eq!(again.attempt, 3, "it was counted, and given back");
    again.dead("enough").await.unwrap();
    let letters = last
        .bus
        .dead_letters(TOPIC, GROUP)
        .unwrap()
        .list(None, 10)
        .await
        .unwrap();
    assert_eq!((letters.len(), letters[0].last.attempts), (1, 3));
    drop((third, deliveries));
    last.end().await;
}

/// A retry that waits is waited for by whoever comes next, and holds its key and no other meanwhile.
pub async fn a_delayed_retry_holds_its_key_over_restarts_and_deaths(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let wait = subject.ttl() * 3;
    let first = Process::start(subject).await;
    let mut deliveries = first.subscribe(request()).await;
    // 0, 2, 4, .. share a key.
    first.publish(keyed(0..6, 2)).await;
    let mut heads = take(&mut deliveries, 2).await;
    heads.sort_by_key(|delivery| number(&delivery.message));
    let (other, held) = (heads.remove(1), heads.remove(0));
    let due = first.store.now().checked_add(wait).unwrap();
    held.retry(Some(wait)).await.unwrap();
    other.ack().await.unwrap();
    drop(deliveries);
    first.end().await;
    // One that dies in between.
    let second = Process::start(subject).await;
    let mut deliveries = second.subscribe(request()).await;
    let next_other = next(&mut deliveries).await;
    assert_eq!(number(&next_other.message), 3, "strangers are not held");
    next_other.ack().await.unwrap();
    second.stop(true);
    let third = Process::start(subject).await;
    let mut deliveries = third.subscribe(request()).await;
    let mut handled = Vec::new();
    while handled.len() < 4 {
        let delivery = next(&mut deliveries).await;
        let n = number(&delivery.message);
        if n == 0 {
            assert_eq!(delivery.attempt, 2);
            assert!(third.store.now() >= due, "it came too early");
        }
        if n != 3 {
            handled.push(n);
        }
        delivery.ack().await.unwrap();
    }
    let of_key: Vec<_> = handled.iter().copied().filter(|n| n % 2 == 0).collect();
    assert_eq!(of_key, [0, 2, 4]);
    third.end().await;
}

/// One message takes for ever, thousands are acknowledged behind it, the process dies: few of those come again.
pub async fn a_slow_message_makes_few_come_again_after_a_death(subject: Arc<dyn Subject>) {
    const MESSAGES: usize = 6_000;
    let subject = &Paced::of(subject);
    let dead = Process::start(subject).await;
    let mut deliveries = dead.subscribe(request()).await;
    dead.publish(keyed(0..1, 1)).await;
    let slow = next(&mut deliveries).await;
    // Some of them share its shard, whichever that is.
    dead.publish(keyed(1..MESSAGES, 500)).await;
    let mut acked = BTreeSet::new();
    while acked.len() < MESSAGES - MESSAGES / 500 {
        let delivery = next(&mut deliveries).await;
        acked.insert(number(&delivery.message));
        delivery.ack().await.unwrap();
    }
    dead.stop(true);
    let heir = Process::start(subject).await;
    let mut deliveries = heir.subscribe(request()).await;
    let mut again = 0;
    loop {
        let delivery = next(&mut deliveries).await;
        again += usize::from(acked.contains(&number(&delivery.message)));
        acked.insert(number(&delivery.message));
        delivery.ack().await.unwrap();
        if acked.len() == MESSAGES && within(&mut deliveries, subject.ttl()).await.is_none() {
            break;
        }
    }
    assert!(again <= BEGUN_SPAN as usize, "{again} of {MESSAGES} came again");
    drop(slow);
    heir.end().await;
}

/// Without order a message that waits lets others pass, also over a restart.
pub async fn a_delayed_retry_without_order_holds_nothing(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let unordered = || request().order(Order::None);
    let first = Process::start(subject).await;
    let mut deliveries = first.subscribe(unordered()).await;
    first.publish(keyed(0..3, 1)).await;
    let wait = subject.ttl();
    let held = take(&mut deliveries, 3).await;
    let due = first.store.now().checked_add(wait).unwrap();
    for delivery in held {
        if number(&delivery.message) == 0 {
            delivery.retry(Some(wait)).await.unwrap();
        } else {
            drop(delivery);
        }
    }
    drop(deliveries);
    first.end().await;
    let second = Process::start(subject).await;
    let mut deliveries = second.subscribe(unordered()).await;
    let order: Vec<_> = take(&mut deliveries, 3)
        .await
        .iter()
        .map(|of| (number(&of.message), of.attempt))
        .collect();
    assert!(second.store.now() >= due);
    assert_eq!(order[2], (0, 2), "{order:?}");
    assert!(order[..2].iter().all(|(_, attempt)| *attempt == 2), "{order:?}");
    second.end().await;
}
