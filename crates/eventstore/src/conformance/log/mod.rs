//! Appending and reading.

pub mod appending;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod joined;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod joining;
pub mod reading;
pub mod repeating;
pub mod together;
