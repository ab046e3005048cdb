//! What the stores of one process that are on one file share: the queue of its writers, and the bell of its readers.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::OwnedMutexGuard;

use super::open;
use crate::{
    Position, Recorded,
    backend::{Page, Query},
    bell::{Bell, Listener},
    tail::Tail,
};

/// How often the file is looked at for commits of other processes, while anybody waits for one.
const LOOK: Duration = Duration::from_millis(20);

/// How long a writer waits for its turn before it says so.
const LONG: Duration = Duration::from_secs(10);

static FILES: LazyLock<Mutex<HashMap<PathBuf, Weak<File>>>> = LazyLock::new(Mutex::default);

/// One file. SQLite's own queue of writers is no queue (who waits longest may wait for ever), so that all writers of this
/// process take turns here, first come, first served; only other processes are met at the file's lock.
pub(super) struct File {
    path: PathBuf,
    turn: Arc<tokio::sync::Mutex<()>>,
    news: Arc<News>,
    lookout: Mutex<Option<Lookout>>,
}

/// What those hear who follow the log, and what they are given.
struct News {
    bell: Bell,
    tail: Mutex<Tail>,
    /// How often events have joined a transaction, committed or not.
    joined: AtomicU64,
}

impl News {
    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().expect("invariant: nothing panics under the lock")
    }
    /// Somebody else has committed, up to here.
    fn grown(&self, head: Position) {
        self.tail().has_come_to(head);
        self.bell.ring_at(head);
    }
}

impl File {
    /// The one that all others of this process on the same file have. The path must be canonical.
    pub(super) fn at(path: &Path, head: Position) -> Arc<Self> {
        let mut files = FILES.lock().expect("invariant: nothing panics under the lock");
        if let Some(file) = files.get(path).and_then(Weak::upgrade) {
            return file;
        }
        files.retain(|_, file| file.strong_count() > 0);
        let news = News {
            bell: Bell::new(head),
            tail: Mutex::default(),
            joined: AtomicU64::new(0),
        };
        let file = Arc::new(Self {
            path: path.to_owned(),
            turn: Arc::default(),
            news: Arc::new(news),
            lookout: Mutex::default(),
        });
        files.insert(path.to_owned(), Arc::downgrade(&file));
        file
    }
    /// Waits for as long as it takes, and says so: a caller that appends while it holds a transaction of its own waits for
    /// itself.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        if let Ok(turn) = self.turn.clone().try_lock_owned() {
            return turn;
        }
        let mut turn = pin!(self.turn.clone().lock_owned());
        loop {
            if let Ok(turn) = tokio::time::timeout(LONG, &mut turn).await {
                return turn;
            }
            let path = self.path.display();
            tracing::warn!(%path, "a transaction of this process keeps its other writers waiting; is it ever committed?");
        }
    }
    /// These events have just been committed, by whoever has the turn. They are handed to those who follow once the bell
    /// is rung.
    pub(super) fn committed(&self, events: impl Iterator<Item = Recorded>) {
        let mut tail = self.news.tail();
        if self.news.bell.has_listeners() {
            tail.push(events);
        } else {
            tail.fall_behind();
        }
    }
    /// Rings, with the position that the log has come to if it is known.
    pub(super) fn ring(&self, head: Option<Position>) {
        match head {
            Some(head) => self.news.bell.ring_at(head),
            None => {
                self.news.tail().fall_behind();
                self.news.bell.ring();
            }
        }
    }
    /// A page of the newest events, where they are at hand.
    pub(super) fn page(&self, query: &Query) -> Option<Page> {
        self.news.tail().page(query)
    }
    /// Counts events that join a transaction.
    pub(super) fn joins(&self) {
        self.news.joined.fetch_add(1, Ordering::Relaxed);
    }
    /// How often events have joined a transaction.
    pub(super) fn joined(&self) -> u64 {
        self.news.joined.load(Ordering::Relaxed)
    }
    /// Listens to the bell, which from now on also rings for other processes.
    pub(super) fn listen(&self) -> Listener {
        let listener = self.news.bell.listen();
        let mut lookout = self.lookout.lock().expect("invariant: nothing panics under the lock");
        match &*lookout {
            Some(lookout) => lookout.thread.thread().unpark(),
            None => *lookout = Lookout::start(&self.path, &self.news),
        }
        listener
    }
}

/// A thread that looks for commits of other processes: twenty microseconds every [`LOOK`], and none while nobody listens.
struct Lookout {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Lookout {
    fn start(path: &Path, news: &Arc<News>) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let look = {
            let (path, news, stop) = (path.to_owned(), news.clone(), stop.clone());
            move || look_out(&path, &news, &stop)
        };
        let spawned = std::thread::Builder::new()
            .name("sagamill-lookout".to_owned())
            .spawn(look);
        spawned
            .inspect_err(|error| tracing::error!(%error, "appends of other processes cannot be watched"))
            .ok()
            .map(|thread| Self { stop, thread })
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }
}

fn look_out(path: &Path, news: &News, stop: &AtomicBool) {
    let mut connection = None;
    let mut seen = None;
    while !stop.load(Ordering::Acquire) {
        if !news.bell.has_listeners() {
            std::thread::park();
            continue;
        }
        if connection.is_none() {
            connection = open::reader(path)
                .inspect_err(|error| tracing::warn!(%error, path = %path.display(), "the log cannot be watched"))
                .ok();
        }
        // An error is looked at again next time: a hint may be late, and data is read elsewhere.
        let look = connection.as_ref().map(|connection| look(connection, seen));
        if let Some(Ok((version, head))) = look {
            seen = Some(version);
            if let Some(head) = head.filter(|head| *head != news.bell.last()) {
                news.grown(head);
            }
        }
        std::thread::park_timeout(LOOK);
    }
}

/// The file's version as this connection sees it, and the log's head where it has changed.
fn look(connection: &rusqlite::Connection, seen: Option<i64>) -> rusqlite::Result<(i64, Option<Position>)> {
    let version = connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))?;
    if seen == Some(version) {
        return Ok((version, None));
    }
    let head = connection
        .prepare_cached("SELECT max(pos) FROM es_event")?
        .query_row([], |row| row.get(0))?;
    Ok((version, Some(Position(Option::<i64>::unwrap_or_default(head)))))
}
