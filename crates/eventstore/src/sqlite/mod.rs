//! A log in a SQLite file, beside the user's own tables.
//!
//! The file's write lock is the log's lock: one writer thread, `BEGIN IMMEDIATE`, positions that follow on the last one.
//! The store reads and writes on threads of its own over rusqlite; what joins a caller's transaction goes over the caller's
//! own sqlx connection. Both link the same SQLite.

mod backlog;
mod census;
mod crew;
mod desk;
mod failure;
mod file;
mod join;
mod log;
mod open;
mod presence;
mod read;
mod reader;
mod row;
mod schema;
mod write;

pub(crate) use open::{attach, connect};
pub(crate) use schema::MIGRATIONS;

pub(crate) use failure::{of_commit, of_sqlx};
