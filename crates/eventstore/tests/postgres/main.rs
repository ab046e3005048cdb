//! What only a log in PostgreSQL can be asked: to be opened by roles, to lose its connections, to wait for others.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../server/mod.rs"]
mod server;

mod appending;
mod crowd;
mod failover;
mod joining;
mod losing;
mod news;
mod opening;
mod pooler;
mod presence;
mod saving;
mod staging;
mod standing;
mod telling;

use sagamill_eventstore::{Append, EventStore, Expected, NewEvent, Recorded, StreamId};
use server::Database;
use sqlx::Postgres;

/// A store on an empty database of the test's own; none where there is no server.
async fn log() -> Option<(EventStore<Postgres>, Database)> {
    let database = Database::make()?;
    let store = EventStore::connect(&database.url()).await.unwrap();
    Some((store.on().unwrap(), database))
}

fn noted(text: &str) -> NewEvent {
    NewEvent::new("noted", text.to_owned())
}

fn append(stream: &str, expected: Expected, events: impl IntoIterator<Item = NewEvent>) -> Append {
    Append {
        stream: stream.into(),
        expected,
        events: events.into_iter().collect(),
    }
}

async fn everything<D>(store: &EventStore<D>) -> Vec<Recorded> {
    let mut read = store.read_all();
    let mut events = Vec::new();
    while let Some(event) = read.next().await {
        events.push(event.unwrap());
    }
    events
}

/// Positions and versions are dense, and time never goes back.
fn check_dense(events: &[Recorded]) {
    let mut versions = std::collections::HashMap::<&StreamId, i64>::new();
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event.position.0, n as i64 + 1, "positions are dense");
        let version = versions.entry(&event.stream).or_default();
        *version += 1;
        assert_eq!(event.version.0, *version, "versions of {} are dense", event.stream);
    }
    assert!(events.is_sorted_by_key(|event| event.at));
}

/// A statement of an operator's.
async fn execute(store: &EventStore<Postgres>, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(store.pool())
        .await
        .unwrap();
}
async fn number(store: &EventStore<Postgres>, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(store.pool()).await.unwrap()
}
