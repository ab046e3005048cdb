//! Databases behind a line that fails.

use sagamill_testkit::{Proxy, postgres::shared};
use sqlx::Connection as _;
use tokio::time::timeout;

use crate::sql::{PATIENCE, connect, note, notes};

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_a_commit() {
    let Some(server) = shared().await else { return };
    let database = server.database("orders").await.unwrap();
    note(database.url(), "first").await;
    let proxy = Proxy::start(database.url()).await.unwrap();
    let mut connection = connect(&proxy.url()).await;
    let mut transaction = connection.begin().await.unwrap();
    let insert = sqlx::query("INSERT INTO notes VALUES ('second')");
    insert.execute(&mut *transaction).await.unwrap();

    let lost = proxy.lose_answer_to("COMMIT");
    assert!(timeout(PATIENCE, transaction.commit()).await.unwrap().is_err());
    assert!(timeout(PATIENCE, lost).await.unwrap());
    assert_eq!(notes(database.url()).await, ["first", "second"]);
}

#[tokio::test]
async fn a_statement_whose_answer_is_lost_was_executed() {
    const INSERT: &str = "INSERT INTO notes VALUES ($1)";
    let Some(server) = shared().await else { return };
    let database = server.database("orders").await.unwrap();
    note(database.url(), "0").await;
    let proxy = Proxy::start(database.url()).await.unwrap();
    let mut connection = connect(&proxy.url()).await;
    // The first time it is prepared, too, and the answer to that would be the lost one.
    sqlx::query(INSERT).bind("1").execute(&mut connection).await.unwrap();
    let lost = proxy.lose_next_answer();
    let insert = sqlx::query(INSERT).bind("2").execute(&mut connection);
    assert!(timeout(PATIENCE, insert).await.unwrap().is_err());
    assert!(timeout(PATIENCE, lost).await.unwrap());
    assert_eq!(notes(database.url()).await, ["0", "1", "2"]);
}

#[tokio::test]
async fn a_transaction_on_a_line_that_is_cut_never_was() {
    let Some(server) = shared().await else { return };
    let database = server.database("orders").await.unwrap();
    note(database.url(), "first").await;
    let proxy = Proxy::start(database.url()).await.unwrap();
    let mut connection = connect(&proxy.url()).await;
    let mut transaction = connection.begin().await.unwrap();
    let insert = sqlx::query("INSERT INTO notes VALUES ('second')");
    insert.execute(&mut *transaction).await.unwrap();
    proxy.cut();
    assert!(timeout(PATIENCE, transaction.commit()).await.unwrap().is_err());
    assert_eq!(notes(database.url()).await, ["first"]);
}
