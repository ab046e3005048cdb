//! The RabbitMQ transport over a real broker.
#![cfg(feature = "amqp")]
#![expect(clippy::print_stdout, reason = "a long test says what it did")]
#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

mod conformance;
mod dead;
mod delivery;
mod fault;
mod fixture;
mod foreign;
#[path = "../broker/killed.rs"]
mod killed;
mod refused;
#[path = "../broker/scenarios.rs"]
mod scenarios;
