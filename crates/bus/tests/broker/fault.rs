//! Brokers and networks on a bad day, under load: what was confirmed arrives, little comes twice, and each key in order.
//!
//! `SAGAMILL_FAULTS` says how often each fault strikes (default 1). How soon work goes on is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sagamill_bus::{Bus, Deliveries, Message, Subscribe, Topic};
use sagamill_testkit::{Proxy, broker::Own};

use crate::fixture::{PATIENCE, STALL, Took, acknowledge, connect, count, hasty, next, number, own, proxy, topic};

/// How many messages are published at once.
const BATCH: usize = 20;
/// The pause between two batches.
const PAUSE: Duration = Duration::from_millis(5);
/// Nothing is published while so many wait to be handled: else it would be told how long a crowd takes, and not a fault.
const AHEAD: usize = 100;
/// Most messages that may come twice for one fault: what a member may have unsettled, and as many fetched ahead.
const TWICE: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Restart,
    Crash,
    Cut,
    Stall,
    HalfOpen,
}

impl Fault {
    const ALL: [Self; 5] = [Self::Restart, Self::Crash, Self::Cut, Self::Stall, Self::HalfOpen];

    /// Strikes, and returns when the broker answers again to whoever asks it.
    async fn strike(self, server: &Own, proxy: &Proxy) {
        assert!(
            proxy.connections() > 0,
            "a fault that finds no connection proves nothing"
        );
        match self {
            Self::Restart => {
                server.stop().await.unwrap();
                server.restart().await.unwrap();
            }
            Self::Crash => {
                server.kill().await.unwrap();
                server.restart().await.unwrap();
            }
            Self::Cut => {
                proxy.cut();
                tokio::time::sleep(Duration::from_millis(300)).await;
                proxy.heal();
            }
            Self::Stall => {
                proxy.stall();
                tokio::time::sleep(STALL).await;
                proxy.heal();
            }
            Self::HalfOpen => proxy.half_open(),
        }
    }
}

/// What is published and handled meanwhile.
#[derive(Default)]
struct Load {
    published: AtomicUsize,
    confirmed: Mutex<BTreeSet<usize>>,
    got: Mutex<BTreeSet<usize>>,
    /// One more than the last of those that were handled.
    handled: AtomicUsize,
    twice: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    async fn publish(&self, bus: &Bus, topic: &Topic) {
        while !self.is_over.load(Relaxed) {
            let first = self.published.fetch_add(BATCH, Relaxed);
            let numbers = first..first + BATCH;
            let batch = numbers
                .clone()
                .map(|n| Message::new(n.to_string()).key(n % 7))
                .collect();
            let results = bus.publish_each(topic, batch).await;
            let confirmed = numbers.zip(results).filter(|(_, result)| result.is_ok());
            self.confirmed.lock().unwrap().extend(confirmed.map(|(n, _)| n));
            tokio::time::sleep(PAUSE).await;
            while self.behind() > AHEAD && !self.is_over.load(Relaxed) {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    fn missing(&self) -> Vec<usize> {
        let confirmed = self.confirmed.lock().unwrap();
        confirmed.difference(&self.got.lock().unwrap()).copied().collect()
    }
    /// How many were confirmed and are not handled.
    fn behind(&self) -> usize {
        let confirmed = self.confirmed.lock().unwrap().len();
        confirmed.saturating_sub(self.got.lock().unwrap().len())
    }
    /// Handles what comes, for ever.
    async fn handle(&self, stream: &mut Deliveries) {
        let mut acked = BTreeSet::new();
        loop {
            let delivery = next(stream).await;
            let number = number(&delivery.message);
            self.got.lock().unwrap().insert(number);
            // Where it is not known whether the broker has it, it may come again, and need not.
            if delivery.ack().await.is_ok() {
                self.handled.fetch_max(number + 1, Relaxed);
                self.twice.fetch_add(usize::from(!acked.insert(number)), Relaxed);
            }
        }
    }
    /// Waits until all that was confirmed has been handled.
    async fn all_is_handled(&self) {
        while !self.missing().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    /// How long it takes until something is handled that is published from now on.
    async fn resumes(&self, after: Option<Fault>) -> Duration {
        let (begun, from) = (Instant::now(), self.published.load(Relaxed));
        while self.handled.load(Relaxed) <= from {
            assert!(begun.elapsed() < PATIENCE, "after {after:?} it does not go on");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        begun.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_crashes_cuts_and_stalls_lose_nothing_that_was_confirmed() {
    let Some(server) = own().await else { return };
    let _took = Took::new("a bad day");
    let rounds = count("SAGAMILL_FAULTS", 1);
    let proxy = proxy(&server).await;
    let (publisher, reader) = (hasty(&proxy.url()).await, hasty(&proxy.url()).await);
    let topic = topic("trouble");
    let mut stream = reader.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    let load = Load::default();
    let trouble = async {
        let mut resumed: BTreeMap<Fault, Vec<Duration>> = BTreeMap::new();
        for fault in (0..rounds).flat_map(|_| Fault::ALL) {
            load.resumes(None).await;
            fault.strike(&server, &proxy).await;
            let took = load.resumes(Some(fault)).await;
            println!("after {fault:?} it goes on after {took:?}");
            resumed.entry(fault).or_default().push(took);
        }
        load.is_over.store(true, Relaxed);
        resumed
    };
    let all = async {
        let (resumed, ()) = tokio::join!(trouble, load.publish(&publisher, &topic));
        let rest = tokio::time::timeout(PATIENCE, load.all_is_handled()).await;
        assert!(rest.is_ok(), "confirmed, and not handled: {:?}", load.missing());
        resumed
    };
    let mut resumed = tokio::select! {
        resumed = all => resumed,
        () = load.handle(&mut stream) => unreachable!("it handles for ever"),
    };
    for (fault, took) in &mut resumed {
        took.sort();
        let (half, most) = (took[took.len() / 2], took.last().unwrap());
        println!(
            "{fault:?}, {} times: goes on after p50 {half:?}, max {most:?}",
            took.len()
        );
    }
    let (confirmed, got) = (
        load.confirmed.into_inner().unwrap().len(),
        load.got.into_inner().unwrap().len(),
    );
    let (published, twice) = (load.published.into_inner(), load.twice.into_inner());
    println!("{published} were published, {confirmed} confirmed, {got} handled, {twice} of them again");
    assert!(confirmed > 0);
    assert!(twice <= TWICE * resumed.len() * rounds, "{twice} came again");
}

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
    let Some(server) = own().await else { return };
    let _took = Took::new("publishes that are cut off");
    let proxy = proxy(&server).await;
    let (reader, publisher, topic) = (connect(server.url()).await, hasty(&proxy.url()).await, topic("order"));
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
