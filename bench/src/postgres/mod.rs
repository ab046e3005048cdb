//! The cases on PostgreSQL: a server of its own, durable, and baselines that speak to it by its own tools.

pub(crate) mod append;
pub(crate) mod case;
pub(crate) mod database;
pub(crate) mod grown;
mod pgbench;
pub(crate) mod processor;
pub(crate) mod recovery;
mod relay;
pub(crate) mod replay;
pub(crate) mod server;
pub(crate) mod worker;
