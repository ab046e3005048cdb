//! A log in a PostgreSQL database, in a schema of its own (`es`) beside the user's tables.
//!
//! ```text
//!  append ─▶ appender ─▶ writer ── es.append: lock, drain, look, insert: one statement, one commit ──▶ es.event
//!  stage_in ── INSERT in the caller's transaction ──▶ es.staged ──┘  (rung after the commit)
//!  append_in_checked ── INSERT in the caller's transaction ──▶ es.joined ── trigger inside COMMIT ──▶ es.event
//!  read, desk ─▶ news, readers        lookout ◀── LISTEN, and a look now and then           ringer ── NOTIFY after a commit
//! ```
//!
//! - Positions are given under one lock per log, which is held by statements of the server alone: no client ever holds it
//!   while it thinks. It is released after the commit is on disk.
//! - What the writer remembers (the head, streams' versions) is a guess that `es.append` tests before it believes it. It is
//!   dropped with the connection, and after every error.
//! - A lost connection leaves a flush in doubt. It is sent again on a new one, which takes the lock first and so waits for
//!   the old one's end, and then looks for the ids.
//! - Every commit wakes every feed. What is new is read once, by the first, and handed to the others from memory; who has
//!   come to an event that is not there reads for himself, and so does who finds another history.
//! - Every session holds an advisory lock that names its store, so that others see when a store is gone, and do not wait for
//!   its leases. Not through a pooler in transaction mode, whose sessions are nobody's own.

mod answer;
mod backlog;
mod call;
mod census;
mod clock;
mod connector;
mod desk;
mod failure;
mod flush;
mod health;
mod join;
mod known;
mod log;
mod lookout;
mod news;
mod open;
mod presence;
mod read;
mod readers;
mod ringer;
mod row;
mod schema;
mod staging;
mod time;
mod writer;

pub(crate) use failure::{is_lost, of, of_commit};
pub(crate) use open::{attach, connect};
pub(crate) use schema::MIGRATIONS;
