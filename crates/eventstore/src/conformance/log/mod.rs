//! Appending and reading.

pub mod appending;
#[cfg(feature = "sqlite")]
pub mod joining;
pub mod reading;
pub mod repeating;
pub mod together;
