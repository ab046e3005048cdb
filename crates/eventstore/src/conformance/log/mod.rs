//! Appending and reading.

pub mod appending;
pub mod joining;
pub mod reading;
pub mod repeating;
pub mod together;
