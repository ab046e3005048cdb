//! Who is at a file: told by a lock that ends with its process, however that ends.
//!
//! A lease says that its owner lived a while ago, so that after a crash everybody waits for its end. At one file on one
//! machine there is better to be had: every store holds a shared lock on a file beside the log, and whoever gets it alone
//! knows that nobody who is named in the log lives any more.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
};

use jiff::Timestamp;
use rusqlite::Connection;

use super::desk::in_doubt;
use crate::backend::micros;

/// Every lease that was held when nobody was there is free; its owner did not end well.
fn free() -> String {
    let doubt = in_doubt();
    format!(
        "BEGIN IMMEDIATE;
        UPDATE es_checkpoint SET owner = NULL, lease_until = NULL, doubt = {doubt} WHERE owner IS NOT NULL;
        DELETE FROM es_member;
        COMMIT;"
    )
}

/// One store's place at a file; given up when it is dropped.
#[derive(Debug)]
pub(super) struct Presence {
    _lock: File,
    /// When it came and found nobody there; none: somebody was.
    pub(super) alone_since: Option<Timestamp>,
}

/// Why a store could not take its place.
pub(super) enum Absent {
    Io(io::Error),
    Sqlite(rusqlite::Error),
}

impl Presence {
    /// Takes a place at the file of `writer`, and frees the leases of those who died where nobody else lives.
    pub(super) fn take(path: &Path, writer: &Connection) -> Result<Self, Absent> {
        let mut beside = path.as_os_str().to_owned();
        beside.push("-presence");
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(beside);
        let lock = open.map_err(Absent::Io)?;
        let alone_since = match lock.try_lock() {
            Ok(()) => {
                writer.execute_batch(&free()).map_err(Absent::Sqlite)?;
                Timestamp::from_microsecond(micros()).ok()
            }
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!(%error, "this file system has no locks: after a crash, leases are waited for");
                return Ok(Self {
                    _lock: lock,
                    alone_since: None,
                });
            }
            Err(TryLockError::Error(error)) => return Err(Absent::Io(error)),
        };
        lock.lock_shared().map_err(Absent::Io)?;
        Ok(Self {
            _lock: lock,
            alone_since,
        })
    }
}
