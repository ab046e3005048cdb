//! The cases by name: scripts rely on these names.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::{FutureExt as _, LocalBoxFuture};

use crate::{
    append,
    measure::{Pair, Side},
    memory_bus, replay, saga, staged,
};

/// What a case is run with.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Where databases are made.
    pub(crate) folder: PathBuf,
    /// How long a round is measured.
    pub(crate) round: Duration,
    /// How often each side is run; the median round counts.
    pub(crate) rounds: usize,
    /// The only side that is run; none: both.
    pub(crate) side: Option<Side>,
}

impl Setting {
    /// An empty folder for one round.
    pub(crate) fn fresh(&self) -> anyhow::Result<tempfile::TempDir> {
        Ok(tempfile::tempdir_in(&self.folder)?)
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
    run: fn(&Setting) -> LocalBoxFuture<'_, anyhow::Result<Pair>>,
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
pub(crate) const CASES: &[Case] = &[
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
        run: |s| staged::run(s, 32).boxed_local(),
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
        run: |s| saga::local::idempotent(s).boxed_local(),
    },
    Case {
        name: "saga-local-transactional",
        unit: "sagas/s",
        baseline: BARRED,
        run: |s| saga::local::transactional(s).boxed_local(),
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
