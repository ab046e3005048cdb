//! The book by itself, and a group over a broker that writes down what it is told.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Arrival, Broker, Group, Letter, Note,
    book::{Book, Chore, HELD_MAX},
    entry::Stage,
};
use crate::{Deliveries, Delivery, Error, Message, Order, Result, Subscribe, Topic};

fn arrival(id: u64, key: Option<&'static str>, delivered: u64) -> Arrival<u64, u64> {
    let message = Message::new(id.to_string());
    Arrival {
        id,
        token: delivered,
        delivered,
        topic: Topic::from("topic"),
        message: match key {
            Some(key) => message.key(key),
            None => message,
        },
        history: Vec::new(),
    }
}

fn ready(book: &mut Book<u64, u64>) -> Vec<u64> {
    std::iter::from_fn(|| book.next_ready()).collect()
}

#[test]
fn one_message_of_a_key_is_out_of_its_lane_and_strangers_pass() {
    let (mut book, now) = (Book::new(Order::Key, None), Instant::now());
    for (id, key) in [(1, Some("a")), (2, Some("a")), (3, Some("b")), (4, None)] {
        book.take(arrival(id, key, 1), now);
    }
    assert_eq!(ready(&mut book), [1, 3, 4]);
    book.finish(1, now);
    assert_eq!(ready(&mut book), [2]);
    // An earlier one that comes again goes before those that wait.
    book.take(arrival(7, Some("a"), 1), now);
    book.take(arrival(5, Some("a"), 1), now);
    book.finish(2, now);
    assert_eq!(ready(&mut book), [5]);
}

#[test]
fn an_earlier_message_goes_before_a_later_one_that_nobody_has_begun() {
    let (mut book, now) = (Book::new(Order::Key, None), Instant::now());
    for id in [2, 3, 1] {
        book.take(arrival(id, Some("a"), 2), now);
    }
    assert_eq!(book.next_chore(), Some((1, Chore::Recall)));
    book.entry(1).unwrap().recall(None);
    book.offer(1, now);
    assert!(matches!(book.next_trial(), Some((1, Chore::Count(_)))));
    // That one is being counted: it stays.
    book.take(arrival(0, Some("a"), 2), now);
    assert_eq!(book.next_chore(), None);
    for (done, next) in [(1, 0), (0, 2), (2, 3)] {
        book.finish(done, now);
        assert_eq!(book.next_chore(), Some((next, Chore::Recall)));
    }
}

#[test]
fn without_order_nothing_waits_for_another() {
    let (mut book, now) = (Book::new(Order::None, None), Instant::now());
    for id in 1..=3 {
        book.take(arrival(id, Some("a"), 1), now);
    }
    assert_eq!(ready(&mut book), [1, 2, 3]);
}

#[test]
fn a_message_that_comes_again_while_it_is_held_is_renewed() {
    let (mut book, now) = (Book::new(Order::Key, None), Instant::now());
    book.take(arrival(1, None, 1), now);
    book.take(arrival(1, None, 2), now);
    assert_eq!(ready(&mut book), [1]);
    let entry = book.entry(1).unwrap();
    assert_eq!((entry.token, entry.delivered, entry.unread), (2, 2, false));
}

#[test]
fn a_crowd_behind_a_key_is_bounded_and_does_not_keep_others_away() {
    let (mut book, now) = (Book::new(Order::Key, None), Instant::now());
    for id in 0..100 {
        book.take(arrival(id, Some("a"), 1), now);
    }
    assert_eq!(book.room(8), 7, "those behind are not busy");
    for id in 100..HELD_MAX as u64 {
        book.take(arrival(id, Some("a"), 1), now);
    }
    assert_eq!(book.room(8), 0);
}

#[test]
fn messages_in_doubt_are_counted_before_they_are_tried_and_first_deliveries_cost_nothing() {
    let (mut book, now) = (Book::new(Order::Key, None), Instant::now());
    book.take(arrival(1, None, 1), now);
    book.take(arrival(2, None, 2), now);
    book.take(arrival(3, None, 2), now);
    assert_eq!(ready(&mut book), [1]);
    for id in [2, 3] {
        assert_eq!(book.next_chore(), Some((id, Chore::Recall)));
        book.entry(id).unwrap().recall(None);
        book.offer(id, now);
    }
    assert_eq!(book.next_chore(), None);
    let counted = Note { attempts: 1, closed: 1 };
    assert_eq!(book.next_trial(), Some((2, Chore::Count(counted))));
    assert_eq!(book.next_trial(), Some((3, Chore::Count(counted))), "at first together");
    assert!(ready(&mut book).is_empty() && !book.trials.has_waiting());
}

#[test]
fn a_delivery_that_was_noted_to_have_ended_leaves_no_doubt() {
    let (mut book, now) = (Book::new(Order::None, None), Instant::now());
    book.take(arrival(1, None, 3), now);
    book.next_chore();
    book.entry(1).unwrap().recall(Some(Note { attempts: 2, closed: 2 }));
    book.offer(1, now);
    assert_eq!(ready(&mut book), [1]);
    assert_eq!(book.entry(1).unwrap().attempt(), 3);
}

#[test]
fn a_delayed_retry_holds_its_key_until_it_is_due() {
    let (mut book, now) = (Book::new(Order::Key, None), Instant::now());
    book.take(arrival(1, Some("a"), 1), now);
    book.take(arrival(2, Some("a"), 1), now);
    assert_eq!(ready(&mut book), [1]);
    book.entry(1).unwrap().fail(Some(Duration::from_secs(1)), now);
    book.offer(1, now);
    assert!(ready(&mut book).is_empty());
    assert_eq!(book.next_due(), Some(now + Duration::from_secs(1)));
    book.promote(now + Duration::from_secs(1));
    assert_eq!(ready(&mut book), [1]);
    assert_eq!(book.entry(1).unwrap().attempt(), 2);
}

/// A broker that takes everything, and writes it down.
#[derive(Default)]
struct Diary {
    said: Mutex<Vec<String>>,
    deaf: Mutex<bool>,
}

impl Diary {
    fn say(&self, what: String) -> Result<()> {
        if *self.deaf.lock().unwrap() {
            return Err(Error::Disconnected("deaf".into()));
        }
        self.said.lock().unwrap().push(what);
        Ok(())
    }
    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap())
    }
}

impl Broker for Arc<Diary> {
    type Id = u64;
    type Token = u64;

    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
    async fn recall(&self, id: u64) -> Result<Option<Note>> {
        self.say(format!("recall {id}")).map(|()| None)
    }
    async fn note(&self, id: u64, Note { attempts, closed }: Note) -> Result<()> {
        self.say(format!("note {id}: {attempts} closed {closed}"))
    }
    async fn forget(&self, id: u64) {
        let _ = self.say(format!("forget {id}"));
    }
    async fn ack(&self, token: &u64) -> Result<()> {
        self.say(format!("ack by {token}"))
    }
    async fn give_back(&self, token: &u64, after: Option<Duration>) -> Result<()> {
        self.say(format!("back by {token} after {after:?}"))
    }
    async fn bury(&self, letter: &Letter) -> Result<()> {
        self.say(format!("bury after {}: {}", letter.last.attempts, letter.last.reason))
    }
}

type Fake = Arc<Group<Arc<Diary>>>;

fn group(order: Order) -> (Fake, Arc<Diary>, Deliveries) {
    let diary = Arc::new(Diary::default());
    let group = Arc::new(Group::new(
        Arc::clone(&diary),
        "fake",
        &Subscribe::new("topic", "group").order(order),
        CancellationToken::new(),
    ));
    let stream = group
        .join(&Subscribe::new("topic", "group").order(order))
        .unwrap()
        .unwrap();
    (group, diary, stream)
}

/// Lets the clerk work until there is a delivery.
async fn next(group: &Fake, stream: &mut Deliveries) -> Delivery {
    tokio::select! {
        next = stream.next() => next.unwrap().unwrap(),
        () = group.clerk() => unreachable!("the clerk does not end"),
    }
}

#[cfg(feature = "amqp")]
#[tokio::test(start_paused = true)]
async fn what_is_held_beyond_the_bound_asks_for_no_more() {
    let (group, _, _stream) = group(Order::Key);
    for id in 0..2 * HELD_MAX as u64 {
        group.arrive(arrival(id, Some("a"), 1));
    }
    assert_eq!(group.appetite(), HELD_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_first_delivery_that_is_acknowledged_is_not_noted() {
    let (group, diary, mut stream) = group(Order::Key);
    assert!(group.arrive(arrival(1, Some("a"), 1)));
    next(&group, &mut stream).await.ack().await.unwrap();
    assert_eq!(diary.said(), ["ack by 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_noted_before_it_is_taken_and_the_note_goes_in_the_end() {
    let (group, diary, mut stream) = group(Order::Key);
    group.arrive(arrival(1, Some("a"), 1));
    next(&group, &mut stream).await.retry(None).await.unwrap();
    let again = next(&group, &mut stream).await;
    assert_eq!(again.attempt, 2);
    again.dead("enough").await.unwrap();
    assert_eq!(
        diary.said(),
        ["note 1: 1 closed 0", "bury after 2: enough", "ack by 1", "forget 1"]
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_key_to_hold_the_broker_delays() {
    let (group, diary, mut stream) = group(Order::None);
    group.arrive(arrival(1, Some("a"), 1));
    let second = Duration::from_secs(1);
    next(&group, &mut stream).await.retry(Some(second)).await.unwrap();
    assert_eq!(diary.said(), ["note 1: 1 closed 1", "back by 1 after Some(1s)"]);
    assert!(group.tokens().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drop_is_noted_before_the_next_attempt() {
    let (group, diary, mut stream) = group(Order::Key);
    group.arrive(arrival(1, None, 1));
    drop(next(&group, &mut stream).await);
    assert!(stream.next().now_or_never().is_none(), "it is not noted yet");
    assert_eq!(next(&group, &mut stream).await.attempt, 2);
    assert_eq!(diary.said()[0], "note 1: 1 closed 0");
}

#[tokio::test(start_paused = true)]
async fn a_message_in_doubt_is_counted_before_it_is_tried_and_uncounted_when_it_is_given_back() {
    let (group, diary, mut stream) = group(Order::Key);
    group.arrive(arrival(1, None, 2));
    let tried = next(&group, &mut stream).await;
    assert_eq!(tried.attempt, 1);
    drop(stream);
    assert!(group.stop.is_cancelled(), "the last member is gone");
    group.end().await;
    assert_eq!(
        diary.said(),
        [
            "recall 1",
            "note 1: 1 closed 1",
            "note 1: 0 closed 2",
            "back by 2 after None"
        ]
    );
    assert!(matches!(tried.ack().await, Err(Error::Stale)));
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_is_told_until_the_broker_hears_and_by_the_newest_token() {
    let (group, diary, mut stream) = group(Order::Key);
    group.arrive(arrival(1, None, 1));
    let delivery = next(&group, &mut stream).await;
    *diary.deaf.lock().unwrap() = true;
    let heard = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        group.arrive(arrival(1, None, 2));
        *diary.deaf.lock().unwrap() = false;
    };
    let (told, ()) = tokio::join!(delivery.ack(), heard);
    told.unwrap();
    assert_eq!(diary.said(), ["ack by 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_settlement_that_is_given_up_halfway_leaves_its_message_to_be_delivered_again() {
    let (group, diary, mut stream) = group(Order::Key);
    group.arrive(arrival(1, Some("a"), 1));
    let delivery = next(&group, &mut stream).await;
    *diary.deaf.lock().unwrap() = true;
    let gave_up = tokio::time::timeout(Duration::from_secs(1), delivery.ack()).await;
    assert!(gave_up.is_err());
    assert!(
        group
            .lock()
            .book
            .entry(1)
            .is_some_and(|entry| entry.stage == Stage::Ready)
    );
    assert_eq!(next(&group, &mut stream).await.attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_member_leaves_goes_to_another_in_order() {
    let (group, diary, mut first) = group(Order::Key);
    for id in 1..=3 {
        group.arrive(arrival(id, None, 1));
    }
    let held = [next(&group, &mut first).await, next(&group, &mut first).await];
    let mut second = group.join(&Subscribe::new("topic", "group")).unwrap().unwrap();
    drop(first);
    for id in 1..=3 {
        let delivery = next(&group, &mut second).await;
        assert_eq!(
            (&delivery.message.payload[..], delivery.attempt),
            (id.to_string().as_bytes(), 1)
        );
    }
    drop(held);
    assert!(
        diary.said().iter().all(|said| said.starts_with("note")),
        "only what was dropped is noted"
    );
}

#[cfg(feature = "amqp")]
#[tokio::test(start_paused = true)]
async fn what_a_lost_channel_delivered_is_forgotten_but_for_what_is_with_a_member() {
    let (group, diary, mut stream) = group(Order::Key);
    for id in 1..=3 {
        group.arrive(arrival(id, Some("a"), 1));
    }
    let first = next(&group, &mut stream).await;
    assert_eq!(group.lose(), [1]);
    assert!(stream.next().now_or_never().is_none(), "the others come again");
    // It is still the first of its key, and goes on under its new token.
    for id in 1..=3 {
        group.arrive(arrival(id, Some("a"), 2));
    }
    assert!(stream.next().now_or_never().is_none(), "it holds its key");
    first.ack().await.unwrap();
    assert_eq!(diary.said().last().map(String::as_str), Some("ack by 2"));
    let delivery = next(&group, &mut stream).await;
    assert_eq!(&delivery.message.payload[..], b"2");
    // Lost again, and not renewed: a retry is nobody's here.
    assert_eq!(group.lose(), [2]);
    delivery.retry(None).await.unwrap();
    assert!(stream.next().now_or_never().is_none());
    assert_eq!(group.appetite(), 128);
}
