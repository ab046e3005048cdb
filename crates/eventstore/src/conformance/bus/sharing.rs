//! Several processes of one group, that come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use sagamill_bus::{Deliveries, Delivery, Error, Message, MessageId, Subscribe, headers::name};
use tokio::task::JoinSet;

use super::process::{GROUP, Process, TOPIC, keyed, neighbours, next, number, request, take, within};
use crate::conformance::{Paced, Subject};

/// What was done with each message, over all processes.
#[derive(Default)]
struct Books {
    /// By key, the numbers in the order of their first delivery.
    firsts: BTreeMap<usize, Vec<usize>>,
    acked: BTreeSet<usize>,
    dead: BTreeSet<usize>,
}

impl Books {
    fn begin(&mut self, n: usize, keys: usize) {
        let firsts = self.firsts.entry(n % keys).or_default();
        if !firsts.contains(&n) {
            firsts.push(n);
        }
    }
    fn has_ended(&self, n: usize) -> bool {
        self.acked.contains(&n) || self.dead.contains(&n)
    }
    fn ended(&self) -> usize {
        self.acked.union(&self.dead).count()
    }
    fn assert_in_order(&self) {
        for (key, firsts) in &self.firsts {
            assert!(firsts.is_sorted(), "key {key}: {firsts:?}");
        }
    }
}

/// Handles what comes, failing at random, until the stream ends; then hears of what it has settled.
async fn handle(process: Arc<Process>, books: Arc<Mutex<Books>>, keys: usize, seed: u64) {
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut deliveries = process.subscribe(request()).await;
    let mut tasks = JoinSet::new();
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery.unwrap();
        let (books, luck) = (books.clone(), chance.random_range(0..100));
        tasks.spawn(settle(delivery, books, keys, luck));
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

async fn settle(delivery: Delivery, books: Arc<Mutex<Books>>, keys: usize, luck: u32) {
    let n = number(&delivery.message);
    books.lock().unwrap().begin(n, keys);
    tokio::task::yield_now().await;
    // A settlement that is not taken is of a message that comes again.
    match luck {
        0..10 => drop(delivery.retry(Some(Duration::from_millis(20))).await),
        10..20 => drop(delivery.retry(None).await),
        20..23 => drop(delivery),
        23..26 => {
            if delivery.dead("by chance").await.is_ok() {
                books.lock().unwrap().dead.insert(n);
            }
        }
        _ => {
            if delivery.ack().await.is_ok() {
                books.lock().unwrap().acked.insert(n);
            }
        }
    }
}

async fn all_ended(books: &Mutex<Books>, messages: usize) {
    while books.lock().unwrap().ended() < messages {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Ten thousand messages over two hundred keys, failing at random, handled by two processes, of which one dies and one is
/// replaced: each ends, acknowledged or given up, and the first deliveries of each key are in order.
pub async fn every_message_ends_whatever_fails(subject: Arc<dyn Subject>) {
    const MESSAGES: usize = 10_000;
    const KEYS: usize = 200;
    let subject = &Paced::of(subject);
    let books = Arc::new(Mutex::new(Books::default()));
    let publisher = Process::start(subject).await;
    let publish = async {
        for chunk in 0..100 {
            publisher.publish(keyed(chunk * 100..(chunk + 1) * 100, KEYS)).await;
        }
    };
    let handle_all = async {
        let mut processes = Vec::new();
        for seed in 0..2 {
            let process = Arc::new(Process::start(subject).await);
            let running = tokio::spawn(handle(process.clone(), books.clone(), KEYS, seed));
            processes.push((process, running));
        }
        all_ended(&books, MESSAGES / 4).await;
        // Dies: nothing that it asks from now on is done. What it has asked is, so that its handlers are let hear of it.
        let (dead, _) = processes.remove(0);
        dead.stop(true);
        all_ended(&books, MESSAGES / 2).await;
        let heir = Arc::new(Process::start(subject).await);
        let running = tokio::spawn(handle(heir.clone(), books.clone(), KEYS, 2));
        processes.push((heir, running));
        all_ended(&books, MESSAGES * 3 / 4).await;
        // Ends in good order.
        let (ended, _) = processes.remove(0);
        ended.bus.clone().close().await.unwrap();
        all_ended(&books, MESSAGES).await;
        let (heir, running) = processes.remove(0);
        heir.bus.clone().close().await.unwrap();
        running.await.unwrap();
    };
    tokio::join!(publish, handle_all);
    let letters = publisher
        .bus
        .dead_letters(TOPIC, GROUP)
        .unwrap()
        .list(None, MESSAGES)
        .await
        .unwrap();
    let dead: BTreeSet<usize> = letters.iter().map(|letter| number(&letter.message)).collect();
    let books = std::mem::take(&mut *books.lock().unwrap());
    books.assert_in_order();
    assert_eq!(dead.len(), letters.len(), "a message is a dead letter once");
    assert!(books.dead.is_subset(&dead));
    for n in 0..MESSAGES {
        assert!(books.has_ended(n), "{n} is lost");
    }
    publisher.end().await;
}

/// Processes come and go in good order while messages are handled: each message is delivered once, for none is in two hands.
pub async fn shards_change_hands_without_a_repeat(subject: Arc<dyn Subject>) {
    const MESSAGES: usize = 600;
    let subject = &Paced::of(subject);
    let seen: Arc<Mutex<BTreeMap<MessageId, usize>>> = Arc::default();
    let publisher = Process::start(subject).await;
    let work = |process: Arc<Process>| {
        let seen = seen.clone();
        async move {
            let mut deliveries = process.subscribe(request()).await;
            while let Some(delivery) = deliveries.next().await {
                let delivery = delivery.unwrap();
                *seen.lock().unwrap().entry(delivery.message.id).or_default() += 1;
                delivery.ack().await.unwrap();
            }
        }
    };
    let first = Arc::new(Process::start(subject).await);
    let mut running = JoinSet::new();
    running.spawn(work(first.clone()));
    let mut others = vec![first];
    for round in 0..6 {
        publisher
            .publish(keyed(round * MESSAGES / 6..(round + 1) * MESSAGES / 6, 100))
            .await;
        let newcomer = Arc::new(Process::start(subject).await);
        running.spawn(work(newcomer.clone()));
        others.push(newcomer);
        // Long enough for the newcomer to get its part.
        tokio::time::sleep(subject.ttl() / 2).await;
        let goes = others.remove(0);
        goes.bus.clone().close().await.unwrap();
    }
    while seen.lock().unwrap().len() < MESSAGES {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for process in others {
        process.bus.clone().close().await.unwrap();
    }
    while running.join_next().await.is_some() {}
    let repeats = seen.lock().unwrap().values().filter(|times| **times > 1).count();
    assert_eq!(repeats, 0);
    publisher.end().await;
}

/// Messages that one process has in its hands for long are not given to another that joins, and neither are those behind
/// them; their settlements are taken. All else is shared.
pub async fn what_is_in_one_hand_is_given_to_no_other(subject: Arc<dyn Subject>) {
    const KEYS: usize = 100;
    const HELD: usize = 20;
    let subject = &Paced::of(subject);
    let (first, second) = (Process::start(subject).await, Process::start(subject).await);
    let mut of_first = first.subscribe(request().max_in_flight(KEYS)).await;
    first.publish(keyed(0..KEYS, KEYS)).await;
    let mut held = take(&mut of_first, KEYS).await;
    for delivery in held.split_off(HELD) {
        delivery.ack().await.unwrap();
    }
    let keys: BTreeSet<_> = held.iter().map(|delivery| number(&delivery.message)).collect();
    let mut of_second = second.subscribe(request()).await;
    // By now the newcomer has its part, and a lease that was not prolonged would have ended twice.
    tokio::time::sleep(subject.ttl() * 2).await;
    first.publish(keyed(KEYS..2 * KEYS, KEYS)).await;
    let mut handled = [0, 0];
    while handled[0] + handled[1] < KEYS - HELD {
        let (process, delivery) = either(&mut of_first, &mut of_second).await;
        let key = number(&delivery.message) % KEYS;
        assert!(!keys.contains(&key), "its key is held");
        handled[process] += 1;
        delivery.ack().await.unwrap();
    }
    assert!(handled.iter().all(|handled| *handled > 0), "{handled:?}");
    for delivery in held {
        delivery.ack().await.unwrap();
    }
    let mut behind = BTreeSet::new();
    while behind.len() < HELD {
        let (_, delivery) = either(&mut of_first, &mut of_second).await;
        behind.insert(number(&delivery.message) - KEYS);
        delivery.ack().await.unwrap();
    }
    assert_eq!(behind, keys);
    first.end().await;
    second.end().await;
}

/// What comes first, and to which of the two.
async fn either(first: &mut Deliveries, second: &mut Deliveries) -> (usize, Delivery) {
    tokio::select! {
        delivery = next(first) => (0, delivery),
        delivery = next(second) => (1, delivery),
    }
}

/// A shard goes to another process with messages that wait, and others behind them acknowledged: those do not come again.
pub async fn nothing_acknowledged_comes_again_where_a_shard_is_given_away(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let keys = neighbours(2);
    let message = |n: usize, key: &str| Message::new(n.to_string()).key(key);
    let (first, second) = (Process::start(subject).await, Process::start(subject).await);
    let mut of_first = first.subscribe(request()).await;
    first.publish((0..6).map(|n| message(n, &keys[0])).collect()).await;
    first.publish((6..16).map(|n| message(n, &keys[1])).collect()).await;
    let held = next(&mut of_first).await;
    for _ in 6..16 {
        let delivery = next(&mut of_first).await;
        assert!(number(&delivery.message) >= 6);
        delivery.ack().await.unwrap();
    }
    let mut of_second = second.subscribe(request()).await;
    // The newcomer is looked for each third of a lease, and waited for as long.
    tokio::time::sleep(subject.ttl() / 2).await;
    held.ack().await.unwrap();
    for n in 1..6 {
        let (_, delivery) = either(&mut of_first, &mut of_second).await;
        assert_eq!(number(&delivery.message), n);
        delivery.ack().await.unwrap();
    }
    assert!(within(&mut of_second, subject.ttl()).await.is_none());
    assert!(within(&mut of_first, subject.ttl()).await.is_none());
    first.end().await;
    second.end().await;
}

/// Thousands of messages wait behind one that is being handled: another key of the same shard goes on meanwhile, and they are
/// handled in order when it is done.
pub async fn a_crowded_key_holds_up_no_other(subject: Arc<dyn Subject>) {
    const CROWD: usize = 3_000;
    let subject = &Paced::of(subject);
    let keys = neighbours(2);
    let process = Process::start(subject).await;
    let mut deliveries = process.subscribe(request()).await;
    let message = |n: usize, key: &str| {
        // Large ones are read again when their turn comes.
        let mark = if n.is_multiple_of(100) { 5_000 } else { 0 };
        Message::new(n.to_string()).key(key).header("x", "x".repeat(mark))
    };
    process
        .publish((0..CROWD).map(|n| message(n, &keys[0])).collect())
        .await;
    process.publish((0..10).map(|n| message(n, &keys[1])).collect()).await;
    let held = next(&mut deliveries).await;
    assert_eq!(held.message.key, Some(keys[0].as_str().into()));
    for n in 0..10 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.message.key, Some(keys[1].as_str().into()));
        assert_eq!(number(&delivery.message), n);
        delivery.ack().await.unwrap();
    }
    held.ack().await.unwrap();
    for n in 1..CROWD {
        let delivery = next(&mut deliveries).await;
        assert_eq!((number(&delivery.message), delivery.attempt), (n, 1));
        assert_eq!(
            delivery.message.headers.get("x").unwrap().len(),
            if n % 100 == 0 { 5_000 } else { 0 }
        );
        delivery.ack().await.unwrap();
    }
    process.end().await;
}

/// A process that ends in good order has nothing handled again that it acknowledged, whatever it leaves behind before that.
pub async fn nothing_acknowledged_comes_again_after_a_good_end(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let keys = neighbours(3);
    let message = |n: usize| Message::new(n.to_string()).key(&keys[n % 3]);
    let first = Process::start(subject).await;
    let mut deliveries = first.subscribe(request()).await;
    first.publish((0..60).map(message).collect()).await;
    let mut left = BTreeMap::new();
    let mut unsettled = Vec::new();
    for _ in 0..40 {
        let delivery = next(&mut deliveries).await;
        // Of the first key nothing is settled, so nothing else of it comes.
        if number(&delivery.message) == 0 {
            unsettled.push(delivery);
        } else {
            *left.entry(number(&delivery.message)).or_insert(0) += 1;
            delivery.ack().await.unwrap();
        }
    }
    first.end().await;
    drop((deliveries, unsettled));
    let second = Process::start(subject).await;
    let mut deliveries = second.subscribe(request()).await;
    for _ in 0..60 - left.len() {
        let delivery = next(&mut deliveries).await;
        assert!(
            !left.contains_key(&number(&delivery.message)),
            "{} comes again",
            number(&delivery.message)
        );
        assert_eq!(delivery.attempt, 1);
        delivery.ack().await.unwrap();
    }
    assert!(within(&mut deliveries, subject.ttl()).await.is_none());
    second.end().await;
}

/// A dead letter that somebody else requeues comes to its group in another process, and to no other group.
pub async fn a_dead_letter_is_requeued_from_elsewhere(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let (consumer, operator) = (Process::start(subject).await, Process::start(subject).await);
    let mut deliveries = consumer.subscribe(request()).await;
    let mut bystander = consumer.subscribe(Subscribe::new("*", "bystander")).await;
    consumer.publish(keyed(0..1, 1)).await;
    next(&mut bystander).await.ack().await.unwrap();
    let first = next(&mut deliveries).await;
    let id = first.message.id;
    first.dead("no\0such\0sku").await.unwrap();
    let letters = operator.bus.dead_letters(TOPIC, GROUP).unwrap();
    let letter = letters.get(id).await.unwrap();
    assert!(letter.last.reason.starts_with("no") && letter.last.reason.ends_with("sku"));
    for generation in 1..=3_u32 {
        letters.requeue(id).await.unwrap();
        assert!(matches!(letters.requeue(id).await, Err(Error::NoDeadLetter { .. })));
        let again = next(&mut deliveries).await;
        assert_eq!((again.message.id, again.attempt), (id, 1));
        let header = again.message.headers.get(name::GENERATION).unwrap().to_owned();
        assert_eq!(header, generation.to_string());
        again.dead(format!("again {generation}")).await.unwrap();
    }
    let letter = letters.get(id).await.unwrap();
    let told: Vec<_> = letter.history.iter().map(|death| death.reason.as_str()).collect();
    assert_eq!(told[1..], ["again 1", "again 2"]);
    assert_eq!(letter.last.reason, "again 3");
    letters.discard(id).await.unwrap();
    assert!(matches!(letters.discard(id).await, Err(Error::NoDeadLetter { .. })));
    assert!(within(&mut bystander, subject.ttl()).await.is_none());
    consumer.end().await;
    operator.end().await;
}
