//! Real servers do what the harness says they do.
#![cfg(all(feature = "postgres", feature = "proxy"))]

mod crash;
mod daemon;
mod left_behind;
mod network;
mod shared;
mod sql;
mod standby;
