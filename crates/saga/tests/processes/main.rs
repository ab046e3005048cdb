//! Coordinators as processes of their own, with one log and one bus in PostgreSQL: of different builds, told to stop, started
//! again.
#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(feature = "postgres")]

#[path = "../shop/mod.rs"]
mod shop;

mod handover;
mod program;
mod upgrade;
