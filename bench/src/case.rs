//! The cases by name: scripts rely on these names.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use sqlx::Sqlite;

use crate::{
    append,
    measure::{Pair, Side},
    memory_bus,
    postgres::{self, server::Server},
    replay, saga, staged,
};

/// What the cases run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Store {
    Sqlite,
    Postgres,
}

impl Store {
    /// Its cases, in the order in which they run.
    pub(crate) fn cases(self) -> &'static [Case] {
        match self {
            Self::Sqlite => CASES,
            Self::Postgres => postgres::case::CASES,
        }
    }
}

/// What a case is run with.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// Where databases are made.
    pub(crate) folder: PathBuf,
    /// How long a round is measured.
    pub(crate) round: Duration,
    /// How often each side is run; the median round counts.
    pub(crate) rounds: usize,
    /// The only side that is run; none: both.
    pub(crate) side: Option<Side>,
    /// Events of a log that is replayed.
    pub(crate) events: usize,
    /// Events of the two logs whose appends are held against each other.
    pub(crate) small: usize,
    pub(crate) large: usize,
    /// None: the cases run on files.
    pub(crate) server: Option<Server>,
    /// None: the cases run on a store, or the bus is over the server above.
    #[cfg(feature = "brokers")]
    pub(crate) broker: Option<crate::broker::Broker>,
    /// Whether round trips to the server are counted on the way, which costs time.
    pub(crate) is_watched: bool,
    /// What had been taken of the processors when a round's preparations were done; zero where nobody says.
    pub(crate) begun: Arc<Mutex<Duration>>,
}

impl Setting {
    /// An empty folder for one round.
    pub(crate) fn fresh(&self) -> anyhow::Result<tempfile::TempDir> {
        Ok(tempfile::tempdir_in(&self.folder)?)
    }
    /// The server, where the cases run on one.
    pub(crate) fn server(&self) -> anyhow::Result<&Server> {
        self.server.as_ref().context("this case runs on a server")
    }
    /// The same for a round in which round trips are counted.
    pub(crate) fn watched(&self) -> Self {
        Self {
            is_watched: true,
            ..self.clone()
        }
    }
}

/// Ours against its baseline.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What is counted per second.
    pub(crate) unit: &'static str,
    /// What `ours` is held against.
    pub(crate) baseline: &'static str,
    pub(crate) run: fn(&Setting) -> LocalBoxFuture<'_, anyhow::Result<Pair>>,
}

impl Case {
    pub(crate) async fn run(&self, setting: &Setting) -> anyhow::Result<Pair> {
        (self.run)(setting).await
    }
}

const GROUP: &str = "as many callers over one prepared INSERT, what waits in one transaction";
const ROWS: &str = "1,000 prepared INSERTs a transaction";
const SCAN: &str = "a prepared scan that steps every column";
const DECODED: &str = "the same scan, payloads decoded by serde_json";
const EFFECT: &str = "the effect alone, in store.begin()";
const OWN_COMMIT: &str = "three bare effects per saga by the same function, each committed";
const BARRED: &str = "three transactions per saga of a barrier row and the effect";
const ANSWERED: &str = "the participants' transactions alone: barrier row, effect and reply row, in three databases";
const CHANNEL: &str = "a bare bounded tokio channel";

/// All cases, in the order in which they run.
const CASES: &[Case] = &[
    Case {
        name: "append-1",
        unit: "events/s",
        baseline: GROUP,
        run: |s| append::single(s, 1).boxed_local(),
    },
    Case {
        name: "append-16",
        unit: "events/s",
        baseline: GROUP,
        run: |s| append::single(s, 16).boxed_local(),
    },
    Case {
        name: "append-64",
        unit: "events/s",
        baseline: GROUP,
        run: |s| append::single(s, 64).boxed_local(),
    },
    Case {
        name: "append-256",
        unit: "events/s",
        baseline: GROUP,
        run: |s| append::single(s, 256).boxed_local(),
    },
    Case {
        name: "append-1000",
        unit: "events/s",
        baseline: ROWS,
        run: |s| append::thousand(s).boxed_local(),
    },
    Case {
        name: "staged-32",
        unit: "effects/s",
        baseline: EFFECT,
        run: |s| staged::run::<Sqlite>(s, 32).boxed_local(),
    },
    Case {
        name: "replay-raw",
        unit: "events/s",
        baseline: SCAN,
        run: |s| replay::raw(s).boxed_local(),
    },
    Case {
        name: "replay-decoded",
        unit: "events/s",
        baseline: DECODED,
        run: |s| replay::decoded(s).boxed_local(),
    },
    Case {
        name: "saga-local-idempotent",
        unit: "sagas/s",
        baseline: OWN_COMMIT,
        run: |s| saga::local::idempotent::<Sqlite>(s).boxed_local(),
    },
    Case {
        name: "saga-local-transactional",
        unit: "sagas/s",
        baseline: BARRED,
        run: |s| saga::local::transactional::<Sqlite>(s).boxed_local(),
    },
    Case {
        name: "saga-bus",
        unit: "sagas/s",
        baseline: ANSWERED,
        run: |s| saga::over_bus::run(s).boxed_local(),
    },
    Case {
        name: "bus-memory",
        unit: "messages/s",
        baseline: CHANNEL,
        run: |s| memory_bus::run(s).boxed_local(),
    },
];

/// The path of a database in a folder.
pub(crate) fn database(folder: &Path) -> PathBuf {
    folder.join("bench.db")
}
