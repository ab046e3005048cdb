//! Layers and components, each over the in-memory transport and on virtual time.
#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

mod batch;
mod command;
mod deduplicate;
mod delay;
mod forward;
mod groups;
mod kit;
mod receiver;
mod testing;
