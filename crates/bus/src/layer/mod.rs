//! Layers for [`Router::layer`](crate::Router::layer): what stands around a handler.

mod deduplicate;
mod duplicate;
mod fail_randomly;

pub use deduplicate::{Claim, DedupeError, DedupeKey, DedupeMemory, DedupeStore, Deduplicate};
pub use duplicate::Duplicate;
pub use fail_randomly::{FailRandomly, FailedRandomly};
