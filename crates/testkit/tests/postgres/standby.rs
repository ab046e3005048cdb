//! A standby that is behind, and takes over.

use sagamill_testkit::postgres::own;

use crate::sql::{note, notes};

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
    assert_eq!(notes(standby.url()).await, ["arrived"]);
    standby.attach().await.unwrap();
    standby.caught_up().await.unwrap();
    assert_eq!(notes(standby.url()).await, ["arrived", "late"]);
}

#[tokio::test]
async fn a_paused_replay_shows_the_past_and_loses_nothing() {
    let Some(primary) = own().await else { return };
    note(primary.url(), "old").await;
    let standby = primary.standby().await.unwrap();
    standby.pause_replay().await.unwrap();
    note(primary.url(), "new").await;
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
