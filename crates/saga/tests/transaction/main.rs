//! Effects inside the transaction, on each database.
#![allow(
    clippy::unwrap_used,
    clippy::duplicate_mod,
    reason = "tests; the same rules for each database"
)]

#[path = "../../../eventstore/tests/server/mod.rs"]
mod server;

mod postgres;
mod sqlite;

#[tokio::test]
async fn a_step_in_a_transaction_needs_a_database() {
    use sagamill_saga::{Error, prelude::*};

    async fn here(_: Tx<sqlx::Sqlite>, _: u32) -> Answer<()> {
        Done(())
    }
    let coordinator = Coordinator::new(&EventStore::memory());
    let definition = Saga::define("order").step("here", local(here).no_undo()).build();
    let refused = coordinator.register(definition);
    assert!(matches!(refused, Err(Error::Definition { .. })), "{refused:?}");
}
