//! The cases by name, on PostgreSQL.

use futures_util::future::FutureExt as _;
use sqlx::Postgres;

use super::{append, grown, recovery, replay};
use crate::{case::Case, saga, staged};

const CLIENT: &str = "pgbench, one client that inserts one row a commit";
const CLIENTS: &str = "pgbench, as many clients, 32 at most, each inserting one row a commit";
const ROWS: &str = "pgbench, one client that inserts 1,000 rows a commit by one statement";
const ONE_PROCESS: &str = "one process with all 256 callers";
const SMALLER: &str = "the same on a log of --small events";
const EFFECT: &str = "the effect alone, between BEGIN and COMMIT";
const COPY: &str = "COPY … TO, binary, in order, all of it thrown away";
const OWN_COMMIT: &str = "three bare effects per saga by the same function, each a statement";
const BARRED: &str = "three transactions per saga: BEGIN, a barrier row, the effect, COMMIT";
const UNHURT: &str = "a hundred sagas from the beginning, by a process that lives";

/// All cases, in the order in which they run.
pub(crate) const CASES: &[Case] = &[
    Case {
        name: "append-1",
        unit: "events/s",
        baseline: CLIENT,
        run: |s| append::single(s, 1).boxed_local(),
    },
    Case {
        name: "append-16",
        unit: "events/s",
        baseline: CLIENTS,
        run: |s| append::single(s, 16).boxed_local(),
    },
    Case {
        name: "append-64",
        unit: "events/s",
        baseline: CLIENTS,
        run: |s| append::single(s, 64).boxed_local(),
    },
    Case {
        name: "append-256",
        unit: "events/s",
        baseline: CLIENTS,
        run: |s| append::single(s, 256).boxed_local(),
    },
    Case {
        name: "append-1000",
        unit: "events/s",
        baseline: ROWS,
        run: |s| append::thousand(s).boxed_local(),
    },
    Case {
        name: "append-two",
        unit: "events/s",
        baseline: ONE_PROCESS,
        run: |s| append::two_processes(s).boxed_local(),
    },
    Case {
        name: "append-grown",
        unit: "events/s",
        baseline: SMALLER,
        run: |s| grown::run(s).boxed_local(),
    },
    Case {
        name: "staged-32",
        unit: "effects/s",
        baseline: EFFECT,
        run: |s| staged::run::<Postgres>(s, 32).boxed_local(),
    },
    Case {
        name: "replay-raw",
        unit: "events/s",
        baseline: COPY,
        run: |s| replay::raw(s).boxed_local(),
    },
    Case {
        name: "replay-decoded",
        unit: "events/s",
        baseline: COPY,
        run: |s| replay::decoded(s).boxed_local(),
    },
    Case {
        name: "saga-local-idempotent",
        unit: "sagas/s",
        baseline: OWN_COMMIT,
        run: |s| saga::local::idempotent::<Postgres>(s).boxed_local(),
    },
    Case {
        name: "saga-local-transactional",
        unit: "sagas/s",
        baseline: BARRED,
        run: |s| saga::local::transactional::<Postgres>(s).boxed_local(),
    },
    Case {
        name: "saga-recovery",
        unit: "sagas/s",
        baseline: UNHURT,
        run: |s| recovery::run(s).boxed_local(),
    },
];
