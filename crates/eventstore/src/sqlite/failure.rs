//! What SQLite's errors mean to a caller.

use std::sync::Arc;

use crate::Error;

// Primary result codes: https://www.sqlite.org/rescode.html
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const NOMEM: i32 = 7;
const READONLY: i32 = 8;
const INTERRUPT: i32 = 9;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const PROTOCOL: i32 = 15;
const NOTADB: i32 = 26;
/// Extended: a unique index says no.
const CONSTRAINT_UNIQUE: i32 = 2067;

/// A statement before COMMIT failed: nothing of its transaction is stored.
pub(super) fn of(error: rusqlite::Error) -> Error {
    let code = code(&error);
    meaning(code, error)
}

/// COMMIT failed. Where the disk did, the commit may have reached it and be found there after a restart.
pub(super) fn of_committing(error: rusqlite::Error) -> Error {
    match code(&error) {
        Some(code) if code & 0xff == IOERR => Error::Unknown(Arc::new(error)),
        code => meaning(code, error),
    }
}

/// As [`of`], over sqlx.
pub(crate) fn of_sqlx(error: sqlx::Error) -> Error {
    let code = sqlx_code(&error);
    meaning(code, error)
}

/// As [`of_committing`], over sqlx: a connection that broke is one whose thread ended in mid-commit.
pub(crate) fn of_commit(error: sqlx::Error) -> Error {
    match sqlx_code(&error) {
        Some(code) if code & 0xff != IOERR => meaning(Some(code), error),
        _ => Error::Unknown(Arc::new(error)),
    }
}

/// Whether an event id, or a version of a stream, is there already.
pub(super) fn is_duplicate(error: &rusqlite::Error) -> bool {
    code(error) == Some(CONSTRAINT_UNIQUE)
}

/// Whether the file is locked by another process, or by a reader in a state that waiting does not help.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    code(error).is_some_and(|code| matches!(code & 0xff, BUSY | LOCKED))
}

fn code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}

fn sqlx_code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

fn meaning(code: Option<i32>, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    match code.map(|code| code & 0xff) {
        Some(BUSY | LOCKED | NOMEM | INTERRUPT | FULL | CANTOPEN | PROTOCOL) => Error::Unavailable {
            what: error.to_string(),
        },
        Some(READONLY | CORRUPT | NOTADB) => Error::Unusable {
            what: error.to_string(),
        },
        _ => Error::Database(Arc::new(error)),
    }
}
