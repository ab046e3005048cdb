//! A server of a test's own, and what may happen to it.

use std::time::Duration;

use sagamill_testkit::{
    Error,
    postgres::{Own, own},
};
use sqlx::Connection as _;
use tokio::time::{sleep, timeout};

use crate::sql::{PATIENCE, connect, note, notes, value};

#[tokio::test]
async fn what_is_committed_outlives_a_crash_and_what_is_not_does_not() {
    let Some(server) = own().await else { return };
    let database = server.database("orders").await.unwrap();
    note(database.url(), "committed").await;
    let mut connection = connect(database.url()).await;
    let mut transaction = connection.begin().await.unwrap();
    let insert = sqlx::query("INSERT INTO notes VALUES ('open')");
    insert.execute(&mut *transaction).await.unwrap();

    server.kill().await.unwrap();
    assert!(transaction.commit().await.is_err());
    assert!(sqlx::PgConnection::connect(database.url()).await.is_err());
    server.restart().await.unwrap();
    assert_eq!(notes(database.url()).await, ["committed"]);
    let log = server.log().await;
    assert!(log.contains("not properly shut down"), "it recovered: {log}");
}

#[tokio::test]
async fn a_crash_can_be_repeated_and_keeps_the_url() {
    let Some(server) = own().await else { return };
    let database = server.database("orders").await.unwrap();
    for round in 0..3 {
        note(database.url(), &round.to_string()).await;
        server.kill().await.unwrap();
        server.restart().await.unwrap();
    }
    assert_eq!(notes(database.url()).await, ["0", "1", "2"]);
}

#[tokio::test]
async fn a_stop_in_order_needs_no_recovery() {
    let Some(server) = own().await else { return };
    note(server.url(), "kept").await;
    server.stop().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(notes(server.url()).await, ["kept"]);
    assert!(!server.log().await.contains("not properly shut down"));
}

#[tokio::test]
async fn a_pause_holds_a_query_up_and_loses_nothing() {
    let Some(server) = own().await else { return };
    let mut connection = connect(server.url()).await;
    server.pause().await.unwrap();
    let mut query = std::pin::pin!(sqlx::query("SELECT 1").execute(&mut connection));
    assert!(timeout(Duration::from_millis(300), &mut query).await.is_err());
    server.resume().await.unwrap();
    timeout(PATIENCE, query).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_stands_still_can_be_crashed() {
    let Some(server) = own().await else { return };
    note(server.url(), "kept").await;
    server.pause().await.unwrap();
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(notes(server.url()).await, ["kept"]);
}

#[tokio::test]
async fn what_stands_still_goes_with_its_value() {
    let Some(server) = own().await else { return };
    let url = server.url().to_owned();
    server.pause().await.unwrap();
    drop(server);
    let connected = timeout(PATIENCE, sqlx::PgConnection::connect(&url));
    assert!(connected.await.unwrap().is_err());
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let Some(server) = own().await else { return };
    assert!(matches!(server.restart().await, Err(Error::State { .. })));
    assert!(matches!(server.resume().await, Err(Error::State { .. })));
    server.kill().await.unwrap();
    assert!(matches!(server.kill().await, Err(Error::State { .. })));
    assert!(matches!(server.pause().await, Err(Error::State { .. })));
    assert!(matches!(server.standby().await, Err(Error::State { .. })));
    assert!(matches!(server.database("Orders").await, Err(Error::Name(_))));
}

#[tokio::test]
async fn a_server_takes_settings_and_says_which_it_does_not_know() {
    let Some(_) = own().await else { return };
    let server = Own::start(&[("wal_level", "logical"), ("application_name", "two words")])
        .await
        .unwrap();
    assert_eq!(value(server.url(), "SHOW wal_level").await, "logical");
    let error = Own::start(&[("no_such_setting", "1")]).await.unwrap_err();
    assert!(
        matches!(&error, Error::Start { log, .. } if log.contains("no_such_setting")),
        "{error}"
    );
}

/// The runtime has one thread: a fault that blocked it would be over before anything met it.
#[tokio::test]
async fn a_fault_holds_up_no_other_task() {
    let Some(server) = own().await else { return };
    let crash = async {
        server.kill().await.unwrap();
        server.restart().await.unwrap();
    };
    let refused = async {
        let mut refused = 0;
        while refused < 3 {
            if sqlx::PgConnection::connect(server.url()).await.is_err() {
                refused += 1;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, async { tokio::join!(crash, refused) }).await.unwrap();
}
