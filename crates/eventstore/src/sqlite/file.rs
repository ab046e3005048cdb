//! What the stores of one process that are on one file share: the queue of its writers, and the bell of its readers.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc, LazyLock, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::OwnedMutexGuard;

use super::open;
use crate::{
    Position,
    bell::{Bell, Listener},
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
    bell: Arc<Bell>,
    lookout: Mutex<Option<Lookout>>,
}

impl File {
    /// The one that all others of this process on the same file have. The path must be canonical.
    pub(super) fn at(path: &Path, head: Position) -> Arc<Self> {
        let mut files = FILES.lock().expect("invariant: nothing panics under the lock");
        if let Some(file) = files.get(path).and_then(Weak::upgrade) {
            return file;
        }
        files.retain(|_, file| file.strong_count() > 0);
        let (turn, bell, lookout) = (Arc::default(), Arc::new(Bell::new(head)), Mutex::default());
        let file = Arc::new(Self {
            path: path.to_owned(),
            turn,
            bell,
            lookout,
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
    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }
    /// Listens to the bell, which from now on also rings for other processes.
    pub(super) fn listen(&self) -> Listener {
        let listener = self.bell.listen();
        let mut lookout = self.lookout.lock().expect("invariant: nothing panics under the lock");
        match &*lookout {
            Some(lookout) => lookout.thread.thread().unpark(),
            None => *lookout = Lookout::start(&self.path, &self.bell),
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
    fn start(path: &Path, bell: &Arc<Bell>) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let look = {
            let (path, bell, stop) = (path.to_owned(), bell.clone(), stop.clone());
            move || look_out(&path, &bell, &stop)
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

fn look_out(path: &Path, bell: &Bell, stop: &AtomicBool) {
    let mut connection = None;
    let mut seen = None;
    while !stop.load(Ordering::Acquire) {
        if !bell.has_listeners() {
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
            if let Some(head) = head.filter(|head| *head != bell.last()) {
                bell.ring_at(head);
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
