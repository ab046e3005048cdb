//! A caller that stands still in the midst of its transaction: nobody waits for it.
//!
//! The caller is this test's own program, started again, and stopped by a signal.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use sagamill_eventstore::{EventStore, Expected, Position};
use sqlx::Postgres;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{append, check_dense, everything, log, noted};

/// How long the caller stands still, in seconds.
const STALL: &str = "SAGAMILL_STALL";
/// In the gate.
const STALL_SECONDS: u64 = 2;
/// How the caller is told where its log is.
const URL: &str = "SAGAMILL_STANDING_URL";
const STAGED: &str = "it is staged";
/// Appends in flight, and callers that stage beside them.
const APPENDS: usize = 256;
const CALLERS: usize = 31;

/// Stages an event, says so, and commits when it is told to.
#[test]
#[ignore = "the caller of the test below"]
fn stages_and_waits() {
    let Ok(url) = std::env::var(URL) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = EventStore::connect(&url).await.unwrap().on::<Postgres>().unwrap();
        let mut tx = store.begin().await.unwrap();
        store.stage_in(&mut tx, "standing", [noted("late")]).await.unwrap();
        println!("{STAGED}");
        std::io::stdin().lock().read_line(&mut String::new()).unwrap();
        tx.commit().await.unwrap();
    });
}

/// The caller as a process, which ends with the test.
struct Caller {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Caller {
    fn start(url: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "standing::stages_and_waits", "--ignored", "--nocapture"])
            .env(URL, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        Self { process, said }
    }
    /// Blocks until it has staged.
    fn has_staged(&mut self) {
        let mut line = String::new();
        while !line.contains(STAGED) {
            line.clear();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "the caller has ended");
        }
    }
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }
    fn commit(mut self) {
        self.process.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // One that has ended is no more.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What was acknowledged while the load ran: appends with their places, and staged events.
#[derive(Default)]
struct Book {
    appended: Vec<(Uuid, Position)>,
    staged: Vec<Uuid>,
}

/// Appends and joins that go on all the while.
struct Load {
    tasks: JoinSet<Book>,
    appends: Arc<AtomicU64>,
    joins: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Load {
    fn start(store: &EventStore<Postgres>) -> Self {
        let mut load = Self {
            tasks: JoinSet::new(),
            appends: Arc::default(),
            joins: Arc::default(),
            stop: CancellationToken::new(),
        };
        for n in 0..APPENDS {
            let (store, count, stop) = (store.clone(), load.appends.clone(), load.stop.clone());
            load.tasks.spawn(append_on_and_on(store, n, count, stop));
        }
        for n in 0..CALLERS {
            let (store, count, stop) = (store.clone(), load.joins.clone(), load.stop.clone());
            load.tasks.spawn(join_on_and_on(store, n, count, stop));
        }
        load
    }
    /// How many appends and joins end in so long.
    async fn over(&self, time: Duration) -> (u64, u64) {
        let count = || (self.appends.load(Ordering::Relaxed), self.joins.load(Ordering::Relaxed));
        let before = count();
        sleep(time).await;
        let after = count();
        (after.0 - before.0, after.1 - before.1)
    }
    async fn end(mut self) -> Book {
        self.stop.cancel();
        let mut all = Book::default();
        while let Some(book) = self.tasks.join_next().await {
            let Book { appended, staged } = book.unwrap();
            all.appended.extend(appended);
            all.staged.extend(staged);
        }
        all
    }
}

async fn append_on_and_on(
    store: EventStore<Postgres>,
    n: usize,
    count: Arc<AtomicU64>,
    stop: CancellationToken,
) -> Book {
    let mut book = Book::default();
    while !stop.is_cancelled() {
        let event = noted("x");
        let id = event.id;
        let receipts = store.commit(append(&format!("a-{n}"), Expected::Any, [event])).await;
        book.appended.push((id, receipts.unwrap()[0].first));
        count.fetch_add(1, Ordering::Relaxed);
    }
    book
}
async fn join_on_and_on(store: EventStore<Postgres>, n: usize, count: Arc<AtomicU64>, stop: CancellationToken) -> Book {
    let mut book = Book::default();
    while !stop.is_cancelled() {
        let event = noted("x");
        let id = event.id;
        let mut tx = store.begin().await.unwrap();
        store.stage_in(&mut tx, format!("j-{n}"), [event]).await.unwrap();
        tx.commit().await.unwrap();
        book.staged.push(id);
        count.fetch_add(1, Ordering::Relaxed);
    }
    book
}

/// Appends and joins go on beside it, and lose nothing; what it has staged comes with its commit, however late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_is_stopped_in_its_transaction_holds_up_nobody() {
    let Some((store, database)) = log().await else { return };
    let seconds = std::env::var(STALL).map_or(STALL_SECONDS, |seconds| seconds.parse().unwrap());
    let time = Duration::from_secs(seconds);
    let mut caller = Caller::start(&database.url());
    caller.has_staged();
    let load = Load::start(&store);
    load.over(Duration::from_millis(500)).await;
    let (appends, joins) = load.over(time).await;
    caller.signal(Signal::STOP);
    let (beside, joins_beside) = load.over(time).await;
    caller.signal(Signal::CONT);
    println!(
        "{STALL}={seconds}: {appends} appends and {joins} joins before, {beside} and {joins_beside} beside a caller that is \
         stopped: {:.2} and {:.2} of it",
        beside as f64 / appends as f64,
        joins_beside as f64 / joins as f64,
    );
    assert!(beside > 0 && joins_beside > 0, "they go on");
    let book = load.end().await;
    let before = everything(&store).await.len();
    assert_eq!(
        before,
        book.appended.len() + book.staged.len(),
        "it has committed nothing yet"
    );
    caller.commit();
    let arrived = async {
        while store.head().await.unwrap().position <= Position(before as i64) {
            store.wait_for(Position(before as i64)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), arrived).await.unwrap();
    let events = everything(&store).await;
    check_dense(&events);
    assert_eq!(events.len(), before + 1);
    assert_eq!(events[before].stream.as_str(), "standing");
    for (id, position) in &book.appended {
        assert_eq!(
            events[position.0 as usize - 1].id,
            *id,
            "what was acknowledged is where it was said to be"
        );
    }
    let stored: std::collections::HashSet<Uuid> = events.iter().map(|event| event.id).collect();
    assert!(
        book.staged.iter().all(|id| stored.contains(id)),
        "no staged event is lost"
    );
}
