//! How a log is, for operators.

use jiff::Timestamp;

use crate::{Anchor, Checkpoint};

/// How a log and its database are.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Health {
    /// `memory`, `sqlite`, `postgres`.
    pub database: &'static str,
    /// The database's own version.
    pub version: String,
    /// The revision of the log's tables.
    pub revision: i64,
    /// The last event.
    pub head: Anchor,
    /// What was staged in transactions that were committed, and has no position.
    pub staged: Staged,
    /// Who appends right now, where that is told.
    pub lock: Option<LockHolder>,
    /// How far each subscription is behind the head.
    pub subscriptions: Vec<Lag>,
    /// The database's settings that matter to a log.
    pub settings: Vec<Setting>,
}

/// What was staged and has no position. Where positions come with the commit there is never any.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Staged {
    /// Events that wait for their positions: a moment, while any process is at the log.
    pub waiting: u64,
    /// When the first of them was staged, by the log's clock.
    pub oldest: Option<Timestamp>,
    /// Events that were set aside because they can have no position; somebody has to look at them.
    pub failed: u64,
}

/// Who holds the log's lock. It is held for one append at a time; who is found here again and again holds up the others.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LockHolder {
    /// The server's process.
    pub pid: i32,
    /// What its client calls itself.
    pub application: String,
    /// What it is at, in the database's words: `active`, `idle in transaction`.
    pub state: String,
    /// When its transaction began.
    pub since: Option<Timestamp>,
    /// How many others wait for it.
    pub waiting: u64,
}

/// How far a subscription is behind the head.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// The subscription.
    pub name: String,
    /// Positions from where its last shard is to the head; what it is not interested in is among them.
    pub positions: i64,
    /// How many shards it has.
    pub shards: usize,
    /// Of those, the ones that nobody holds.
    pub unowned: usize,
}

/// A setting of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// Its name there.
    pub name: String,
    /// Its value there.
    pub value: String,
    /// What is wrong with that; none: it is well.
    pub problem: Option<&'static str>,
}

impl Health {
    /// What a backend knows by itself.
    pub(crate) fn of(database: &'static str, version: String, revision: i64) -> Self {
        Self {
            database,
            version,
            revision,
            head: Anchor::default(),
            staged: Staged::default(),
            lock: None,
            subscriptions: Vec::new(),
            settings: Vec::new(),
        }
    }
}

/// By name; the checkpoints come so.
pub(crate) fn lags(checkpoints: &[Checkpoint], head: Anchor, now: Timestamp) -> Vec<Lag> {
    let mut lags: Vec<Lag> = Vec::new();
    for checkpoint in checkpoints {
        let behind = (head.position.0 - checkpoint.at.position.0).max(0);
        let unowned = usize::from(checkpoint.owner.is_none_or(|(_, until)| until <= now));
        match lags.last_mut().filter(|lag| lag.name == checkpoint.name) {
            Some(lag) => {
                lag.positions = lag.positions.max(behind);
                lag.shards += 1;
                lag.unowned += unowned;
            }
            None => lags.push(Lag {
                name: checkpoint.name.clone(),
                positions: behind,
                shards: 1,
                unowned,
            }),
        }
    }
    lags
}
