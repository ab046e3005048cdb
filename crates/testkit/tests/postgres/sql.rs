//! What tests ask databases.

#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::timeout;

/// Longer than anything here may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn connect(url: &str) -> PgConnection {
    timeout(PATIENCE, PgConnection::connect(url)).await.unwrap().unwrap()
}

/// Runs a statement on a connection of its own.
pub(crate) async fn execute(url: &str, statement: &str) {
    let mut connection = connect(url).await;
    let query = sqlx::query(AssertSqlSafe(statement.to_owned()));
    timeout(PATIENCE, query.execute(&mut connection))
        .await
        .unwrap()
        .unwrap();
    connection.close().await.unwrap();
}

/// A table of notes with this one in it.
pub(crate) async fn note(url: &str, note: &str) {
    execute(url, "CREATE TABLE IF NOT EXISTS notes (note text)").await;
    execute(url, &format!("INSERT INTO notes VALUES ('{note}')")).await;
}

/// The notes, in their order.
pub(crate) async fn notes(url: &str) -> Vec<String> {
    let mut connection = connect(url).await;
    let query = sqlx::query_scalar("SELECT note FROM notes ORDER BY note");
    let notes = timeout(PATIENCE, query.fetch_all(&mut connection))
        .await
        .unwrap()
        .unwrap();
    connection.close().await.unwrap();
    notes
}

/// The one value of a query.
pub(crate) async fn value(url: &str, query: &str) -> String {
    let mut connection = connect(url).await;
    let query = sqlx::query_scalar(AssertSqlSafe(query.to_owned()));
    let value = timeout(PATIENCE, query.fetch_one(&mut connection))
        .await
        .unwrap()
        .unwrap();
    connection.close().await.unwrap();
    value
}
