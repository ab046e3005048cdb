//! Real servers do what the harness says they do.

mod crash;
mod left_behind;
mod network;
mod shared;
mod sql;
mod standby;
