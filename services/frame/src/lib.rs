//! What the services of the sample shop stand on: a database of either kind, a process, and books that others can read.
//!
//! A service of one's own has one database and says `sqlx::query`. The shop shows that both work, with the same statements.

mod book;
mod database;
mod location;
mod service;
mod sql;

pub use book::page;
pub use database::{Db, Script, begin, open, snapshot};
pub use location::Location;
pub use service::{Options, Running, Service, parse, run};
pub use sql::{Row, Sql, Value};
#[doc(hidden)]
pub use sqlx;
