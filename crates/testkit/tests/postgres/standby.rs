//! A standby that is behind, and takes over.

use std::time::Duration;

use sagamill_testkit::postgres::own;
use tokio::time::{sleep, timeout};

use crate::sql::{PATIENCE, note, notes, value};

/// How long is looked for what must not happen.
const A_WHILE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_standby_follows() {
    let Some(primary) = own().await else { return };
    note(primary.url(), "before").await;
    let standby = primary.standby().await.unwrap();
    note(primary.url(), "since").await;
    standby.caught_up().await.unwrap();
    assert_eq!(notes(standby.url()).await, ["before", "since"]);
}

#[tokio::test]
async fn what_was_committed_after_the_standby_was_cut_off_is_lost_by_a_failover() {
    let Some(primary) = own().await else { return };
    let standby = primary.standby().await.unwrap();
    note(primary.url(), "arrived").await;
    standby.caught_up().await.unwrap();
    standby.detach().await.unwrap();
    note(primary.url(), "lost").await;
    assert_eq!(notes(primary.url()).await, ["arrived", "lost"]);

    primary.kill().await.unwrap();
    let promoted = standby.promote().await.unwrap();
    assert_eq!(notes(promoted.url()).await, ["arrived"]);
    note(promoted.url(), "new").await;
    assert_eq!(notes(promoted.url()).await, ["arrived", "new"]);
}

#[tokio::test]
async fn a_standby_that_is_attached_again_gets_what_it_missed() {
    let Some(primary) = own().await else { return };
    note(primary.url(), "arrived").await;
    let standby = primary.standby().await.unwrap();
    standby.detach().await.unwrap();
    note(primary.url(), "late").await;
    let mut caught_up = std::pin::pin!(standby.caught_up());
    assert!(timeout(A_WHILE, &mut caught_up).await.is_err());
    assert_eq!(notes(standby.url()).await, ["arrived"]);
    standby.attach().await.unwrap();
    caught_up.await.unwrap();
    assert_eq!(notes(standby.url()).await, ["arrived", "late"]);
}

#[tokio::test]
async fn a_paused_replay_shows_the_past_and_loses_nothing() {
    let Some(primary) = own().await else { return };
    note(primary.url(), "old").await;
    let standby = primary.standby().await.unwrap();
    standby.pause_replay().await.unwrap();
    note(primary.url(), "new").await;
    received(
        standby.url(),
        &value(primary.url(), "SELECT pg_current_wal_lsn()::text").await,
    )
    .await;
    sleep(A_WHILE).await;
    assert_eq!(notes(standby.url()).await, ["old"]);
    standby.resume_replay().await.unwrap();
    standby.caught_up().await.unwrap();
    assert_eq!(notes(standby.url()).await, ["new", "old"]);
}

#[tokio::test]
async fn a_standby_can_crash_and_follow_again() {
    let Some(primary) = own().await else { return };
    let standby = primary.standby().await.unwrap();
    standby.server().kill().await.unwrap();
    note(primary.url(), "meanwhile").await;
    standby.server().restart().await.unwrap();
    standby.caught_up().await.unwrap();
    assert_eq!(notes(standby.url()).await, ["meanwhile"]);
}

/// Waits until a standby has received its primary's log up to here, whether it shows it or not.
async fn received(standby: &str, end: &str) {
    let query = format!("SELECT (pg_last_wal_receive_lsn() >= '{end}')::text");
    let received = async {
        while value(standby, &query).await != "true" {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, received).await.expect("the log arrives");
}
