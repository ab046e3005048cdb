//! The Kafka transport over a real broker.
#![cfg(feature = "kafka")]
#![expect(clippy::print_stdout, reason = "a long test says what it did")]
#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

#[path = "../broker/conformance.rs"]
mod conformance;
mod delivery;
#[path = "../broker/fault.rs"]
mod fault;
mod fixture;
mod foreign;
#[path = "../broker/killed.rs"]
mod killed;
#[path = "../broker/poison.rs"]
mod poison;
mod refused;
#[path = "../broker/scenarios.rs"]
mod scenarios;
#[cfg(feature = "kafka-tls")]
mod tls;
mod watermill;
