//! A bus in a file between real processes, which are killed.
//!
//! The processes are this test's own program, started again with a role.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use sagamill_bus::{Attempt, Bus, HandlerError, Message, Retry, Router, State};
use sagamill_eventstore::LogTransport;

const TOPIC: &str = "order";
const GROUP: &str = "inventory";
const KEYS: usize = 50;
/// This one ends whichever process handles it.
const POISON: usize = 77;
const LEASE: Duration = Duration::from_secs(1);

/// The role's name, and the folder with the bus and the list of what was handled.
const ROLE: &str = "SAGAMILL_TEST_ROLE";
const FOLDER: &str = "SAGAMILL_TEST_FOLDER";

async fn bus(folder: &Path) -> Bus {
    let url = format!("sqlite:{}", folder.join("bus.db").display());
    Bus::new(LogTransport::connect(&url).await.unwrap().lease(LEASE))
}

fn start(folder: &Path, role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["process", "--exact", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[derive(Clone)]
struct Handled(Arc<File>);

/// One line for each message, in one write, so that the lines of all processes stand in the order of their writing.
async fn handle(
    State(handled): State<Handled>,
    Attempt(attempt): Attempt,
    message: Message,
) -> Result<(), HandlerError> {
    let n = number(&message);
    (&*handled.0).write_all(format!("{n} {attempt}\n").as_bytes())?;
    if n == POISON && std::env::var(ROLE).unwrap() == "poisoned" {
        std::process::abort();
    }
    if n.is_multiple_of(7) && attempt == 1 {
        return Err(std::io::Error::other("not yet").into());
    }
    Ok(())
}

#[test]
#[ignore = "a process of the other tests"]
fn process() {
    let Ok(folder) = std::env::var(FOLDER).map(PathBuf::from) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let list = OpenOptions::new()
            .append(true)
            .create(true)
            .open(folder.join("handled"))
            .unwrap();
        // Who is killed by chance in the hands of several processes must not be given up for it.
        let attempts = if std::env::var(ROLE).unwrap() == "poisoned" {
            3
        } else {
            20
        };
        let retry = Retry::exponential(Duration::from_millis(5)..Duration::from_millis(50)).attempts(attempts);
        let router = Router::new()
            .route(TOPIC, handle)
            .retry(retry)
            .with_state(Handled(Arc::new(list)));
        let group = bus(&folder).await.group(GROUP);
        router.run(group, std::future::pending()).await.unwrap();
    });
}

fn number(message: &Message) -> usize {
    std::str::from_utf8(&message.payload).unwrap().parse().unwrap()
}
fn numbered(numbers: std::ops::Range<usize>) -> Vec<Message> {
    numbers.map(|n| Message::new(n.to_string()).key(n % KEYS)).collect()
}
/// Number and attempt of what was handled so far, in order. A line may be cut off where its process was.
fn handled(folder: &Path) -> Vec<(usize, u32)> {
    let text = std::fs::read_to_string(folder.join("handled")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let line = |line: &str| {
        let (n, attempt) = line.split_once(' ')?;
        Some((n.parse().ok()?, attempt.parse().ok()?))
    };
    whole.lines().filter_map(line).collect()
}
fn firsts(handled: &[(usize, u32)]) -> BTreeMap<usize, Vec<usize>> {
    let mut firsts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (n, _) in handled {
        let of_key = firsts.entry(n % KEYS).or_default();
        if !of_key.contains(n) {
            of_key.push(*n);
        }
    }
    firsts
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(120), wait).await.is_ok(),
        "{what}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_are_killed_lose_nothing_and_keep_the_order_of_keys() {
    const ROUNDS: usize = 8;
    const EACH: usize = 250;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let bus = bus(folder).await;
    let mut processes = vec![start(folder, "healthy"), start(folder, "healthy")];
    for round in 0..ROUNDS {
        bus.publish_to(TOPIC, numbered(round * EACH..(round + 1) * EACH))
            .await
            .unwrap();
        let done = handled(folder).len();
        until("something is handled", async || handled(folder).len() > done + EACH / 4).await;
        let mut killed = processes.remove(0);
        killed.kill().unwrap();
        killed.wait().unwrap();
        processes.push(start(folder, "healthy"));
    }
    let all = || handled(folder).iter().map(|(n, _)| *n).collect::<BTreeSet<_>>();
    until("all are handled", async || all().len() == ROUNDS * EACH).await;
    // Those that failed once come again.
    let twice = |n: usize| n.is_multiple_of(7);
    until("all that failed are handled", async || {
        let done: BTreeSet<_> = handled(folder)
            .into_iter()
            .filter(|(_, attempt)| *attempt > 1)
            .map(|(n, _)| n)
            .collect();
        (0..ROUNDS * EACH).filter(|n| twice(*n)).all(|n| done.contains(&n))
    })
    .await;
    for mut process in processes {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    for (key, firsts) in firsts(&handled(folder)) {
        assert!(firsts.is_sorted(), "key {key}: {firsts:?}");
    }
    assert!(bus.dead_letter_queues().await.unwrap().is_empty());
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_ends_its_process_becomes_a_dead_letter() {
    const MESSAGES: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let publisher = bus(folder).await;
    publisher.publish_to(TOPIC, numbered(0..MESSAGES)).await.unwrap();
    // Nobody else is at the file while the processes are, so that they need not wait for the leases of the dead.
    publisher.close().await.unwrap();
    let mut process = start(folder, "poisoned");
    let mut deaths = 0;
    let letters = loop {
        if process.try_wait().unwrap().is_some() {
            deaths += 1;
            assert!(deaths <= 4, "it ends one process after the other");
            process = start(folder, "poisoned");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let bus = bus(folder).await;
        let letters = bus.dead_letters(TOPIC, GROUP).unwrap().list(None, 10).await.unwrap();
        let done: BTreeSet<_> = handled(folder).iter().map(|(n, _)| *n).collect();
        bus.close().await.unwrap();
        if !letters.is_empty() && done.len() == MESSAGES {
            break letters;
        }
    };
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(letters.len(), 1, "it takes no other with it");
    assert_eq!(number(&letters[0].message), POISON);
    let poisoned = handled(folder).iter().filter(|(n, _)| *n == POISON).count();
    assert_eq!((poisoned, deaths), (4, 4), "once more than it has attempts");
}
