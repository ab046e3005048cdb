//! One server for many tests.

use sagamill_testkit::postgres::shared;
use sqlx::PgConnection;

use crate::sql::{connect, execute, note, notes, value};

#[tokio::test]
async fn each_database_is_a_tests_own_and_goes_with_it() {
    let Some(server) = shared().await else { return };
    let one = server.database("orders").await.unwrap();
    let other = server.database("orders").await.unwrap();
    note(one.url(), "one").await;
    note(other.url(), "other").await;
    assert_eq!(notes(one.url()).await, ["one"]);
    assert_eq!(notes(other.url()).await, ["other"]);

    // An open connection does not keep a database.
    let _open = connect(one.url()).await;
    let exists = format!(
        "SELECT count(*)::text FROM pg_database WHERE datname = '{}'",
        one.name()
    );
    assert_eq!(value(server.url(), &exists).await, "1");
    drop(one);
    assert_eq!(value(server.url(), &exists).await, "0");
    assert_eq!(notes(other.url()).await, ["other"]);
}

#[tokio::test]
async fn a_role_has_no_more_rights_than_it_is_granted_and_goes_with_its_database() {
    let Some(server) = shared().await else { return };
    let database = server.database("orders").await.unwrap();
    let role = database.role("clerk").await.unwrap();
    note(database.url(), "secret").await;

    let mut clerk = connect(role.url()).await;
    let refused = sqlx::query("SELECT note FROM notes").fetch_all(&mut clerk).await;
    let code = refused
        .unwrap_err()
        .into_database_error()
        .unwrap()
        .code()
        .unwrap()
        .into_owned();
    assert_eq!(code, "42501", "insufficient_privilege");
    execute(database.url(), &format!("GRANT SELECT ON notes TO {}", role.name())).await;
    assert_eq!(notes(role.url()).await, ["secret"]);

    let exists = format!("SELECT count(*)::text FROM pg_roles WHERE rolname = '{}'", role.name());
    assert_eq!(value(server.url(), &exists).await, "1");
    drop(database);
    assert_eq!(value(server.url(), &exists).await, "0");
}

#[tokio::test]
async fn terminated_are_the_connections_of_one_database() {
    let Some(server) = shared().await else { return };
    let database = server.database("orders").await.unwrap();
    let other = server.database("stock").await.unwrap();
    let mut connections = [connect(database.url()).await, connect(database.url()).await];
    let mut elsewhere = connect(other.url()).await;

    assert_eq!(database.terminate_backends().await.unwrap(), 2);
    for connection in &mut connections {
        assert!(!answers(connection).await);
    }
    assert!(answers(&mut elsewhere).await);
    assert_eq!(database.terminate_backends().await.unwrap(), 0);
}

#[tokio::test]
async fn the_server_is_as_in_production_where_commits_and_text_are_concerned() {
    let Some(server) = shared().await else { return };
    let database = server.database("orders").await.unwrap();
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        assert_eq!(
            value(database.url(), &format!("SHOW {setting}")).await,
            "on",
            "{setting}"
        );
    }
    assert_eq!(value(database.url(), "SHOW server_encoding").await, "UTF8");
}

async fn answers(connection: &mut PgConnection) -> bool {
    sqlx::query("SELECT 1").execute(connection).await.is_ok()
}
