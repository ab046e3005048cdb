//! What every log must do, as tests that run over any of them: the memory log, SQLite, PostgreSQL.
//!
//! ```
//! // tests/conformance.rs, with `tokio` among the dev-dependencies
//! mod memory {
//!     sagamill_eventstore::conformance!(sagamill_eventstore::conformance::in_memory());
//! }
//! # // The tests of an example are not run: one of them stands for all.
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! #     use sagamill_eventstore::conformance::{in_memory, in_time, log::appending};
//! #     in_time(appending::positions_and_versions_are_dense(in_memory())).await;
//! # }
//! ```

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::{future::Future, sync::Arc, time::Duration};

use futures_core::future::BoxFuture;

use crate::{Append, EventStore, Expected, Memory, NewEvent, Position, Recorded};

pub mod bus;
pub mod feed;
pub mod log;
mod stall;

/// A log under test: opened any number of times, as by several processes.
pub trait Subject: Send + Sync + 'static {
    /// A store on the log, with an appender of its own.
    fn open(&self) -> BoxFuture<'_, EventStore>;
    /// Forgets all events after this position, as a failover to a lagging replica does.
    fn lose_tail(&self, after: Position) -> BoxFuture<'_, ()>;
    /// Stops tokio's clock, where the log's clock is that one and no thread of its own is waited for.
    fn pause(&self) {}
}

/// A subject under tokio's clock where its own is that one: stopped, so that nothing waits for the end of a lease.
struct Paced(Arc<dyn Subject>);

impl Paced {
    fn of(subject: Arc<dyn Subject>) -> Self {
        subject.pause();
        Self(subject)
    }
    async fn open(&self) -> EventStore {
        self.0.open().await
    }
    async fn lose_tail(&self, after: Position) {
        self.0.lose_tail(after).await;
    }
    /// Long enough that a busy machine does not lose a lease.
    fn ttl(&self) -> Duration {
        Duration::from_secs(2)
    }
}

/// The memory log as a subject.
pub fn in_memory() -> Arc<dyn Subject> {
    Arc::new(Memory::new())
}

impl Subject for Memory {
    fn open(&self) -> BoxFuture<'_, EventStore> {
        Box::pin(std::future::ready(Self::open(self)))
    }
    fn lose_tail(&self, after: Position) -> BoxFuture<'_, ()> {
        Self::lose_tail(self, after);
        Box::pin(std::future::ready(()))
    }
    fn pause(&self) {
        tokio::time::pause();
    }
}

/// A SQLite file as a subject: in a directory of the caller's.
#[cfg(feature = "sqlite")]
#[derive(Debug)]
pub struct SqliteFile(std::path::PathBuf);

#[cfg(feature = "sqlite")]
impl SqliteFile {
    /// A file in this directory, which the caller keeps.
    pub fn within(directory: &std::path::Path) -> Self {
        Self(directory.join("log.db"))
    }
}

#[cfg(feature = "sqlite")]
impl Subject for SqliteFile {
    fn open(&self) -> BoxFuture<'_, EventStore> {
        Box::pin(async {
            EventStore::connect(&format!("sqlite:{}", self.0.display()))
                .await
                .unwrap()
        })
    }
    fn lose_tail(&self, after: Position) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let store = self.open().await.on::<sqlx::Sqlite>().unwrap();
            let mut tx = store.begin().await.unwrap();
            let forget = sqlx::query("DELETE FROM es_event WHERE pos > ?1").bind(after.0);
            forget.execute(&mut *tx).await.unwrap();
            tx.commit().await.unwrap();
        })
    }
}

/// A PostgreSQL database as a subject: an empty one of the caller's, for this subject alone.
#[cfg(feature = "postgres")]
#[derive(Debug)]
pub struct PostgresDatabase(String);

#[cfg(feature = "postgres")]
impl PostgresDatabase {
    /// The database that this URL names, which the caller keeps.
    pub fn at(url: impl Into<String>) -> Self {
        Self(url.into())
    }
}

#[cfg(feature = "postgres")]
impl Subject for PostgresDatabase {
    fn open(&self) -> BoxFuture<'_, EventStore> {
        Box::pin(async { EventStore::connect(&self.0).await.unwrap() })
    }
    fn lose_tail(&self, after: Position) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let store = self.open().await.on::<sqlx::Postgres>().unwrap();
            let forget = sqlx::query("DELETE FROM es.event WHERE pos > $1").bind(after.0);
            forget.execute(store.pool()).await.unwrap();
            store.close().await;
        })
    }
}

/// Makes a test of each rule, over the subject that the expression gives; the expression is evaluated for each. One that
/// gives none leaves the test out, and has said so.
#[macro_export]
macro_rules! conformance {
    ($subject:expr) => {
        $crate::conformance! { @each $subject;
            log::appending: a_stream_must_be_as_expected, positions_and_versions_are_dense,
                of_parallel_appends_those_that_succeed_are_stored, a_culprit_fails_alone,
                a_group_is_stored_whole_or_not_at_all, a_guarded_stream_must_not_have_gone_on,
                nobody_moves_a_checkpoint_without_its_lease, limits_are_checked_to_the_byte,
                appends_to_one_stream_keep_their_order, time_never_goes_backwards, a_closed_store_takes_nothing;
            log::repeating: a_repeat_gets_the_first_receipts, a_repeat_is_known_before_anything_is_judged,
                an_id_is_not_used_twice, a_lost_tail_that_grew_again_leaves_no_hole;
            log::reading: every_field_comes_back, a_stream_is_read_both_ways, the_log_is_read_both_ways,
                filters_let_through_what_they_name, a_reading_begins_at_a_time, what_has_no_topic_is_not_published,
                typed_events_are_decoded, an_aggregate_is_decided_on_what_is_stored,
                an_append_wakes_other_stores;
            log::joining: staged_events_come_and_go_with_their_transaction, a_staged_fact_is_stored_once,
                any_number_of_events_joins, a_checked_append_fails_without_a_trace, writers_queue_in_turn;
            log::together: readers_see_exactly_what_was_committed_in_order, batches_happen_in_some_order;
            feed::following: every_subscriber_sees_what_was_committed_from_catch_up_to_live,
                checkpoint_survives_a_restart_and_only_open_events_come_again,
                checkpoint_of_a_filtered_subscription_advances, new_feed_of_an_empty_log_has_caught_up,
                stuck_shard_holds_up_no_other, subscription_from_now_skips_what_was_there,
                handler_that_fails_holds_its_shard;
            feed::owning: paused_owner_is_fenced, processes_share_shards_and_take_over_at_a_close,
                shards_of_a_dead_process_are_taken_over, timers_are_fenced_and_survive_a_take_over,
                another_number_of_shards_is_refused, members_hear_what_each_says_of_itself;
            feed::diverging: lost_tail_is_told_and_rewound, another_history_can_be_accepted,
                tail_lost_under_an_open_feed_ends_it, tail_lost_and_grown_again_under_an_open_feed_ends_it;
            feed::relaying: relay_publishes_what_has_a_topic_and_nothing_else,
                refused_publishes_keep_the_order_of_first_deliveries, command_without_a_subscriber_holds_its_key_alone,
                killed_relay_repeats_what_was_not_settled_and_loses_nothing,
                paused_relay_publishes_nothing_under_a_lost_lease;
            feed::restarting: killed_process_loses_no_event_for_any_group;
            bus::surviving: messages_of_a_dead_process_go_to_others,
                a_late_settlement_of_a_stopped_process_is_stale, attempts_are_counted_over_processes,
                a_delayed_retry_holds_its_key_over_restarts_and_deaths,
                a_slow_message_makes_few_come_again_after_a_death, a_delayed_retry_without_order_holds_nothing;
            bus::trying: a_message_that_kills_its_process_ends_in_the_dead_letters,
                a_killer_with_one_attempt_takes_no_other_with_it,
                what_a_dead_process_left_is_tried_together_and_then_alone;
            bus::sharing: every_message_ends_whatever_fails, shards_change_hands_without_a_repeat,
                what_is_in_one_hand_is_given_to_no_other, a_crowded_key_holds_up_no_other,
                nothing_acknowledged_comes_again_where_a_shard_is_given_away,
                nothing_acknowledged_comes_again_after_a_good_end, a_dead_letter_is_requeued_from_elsewhere;
            bus::keeping: notes_are_fenced_and_outlive_their_owner, graves_are_numbered_and_taken_once,
                what_a_dead_owner_may_have_begun_is_in_doubt, a_topic_or_a_pattern_is_read_alone;
            bus::failing: settlements_survive_an_outage, a_settlement_that_fails_for_long_says_so, a_flood_of_failures_is_bounded,
                a_lost_tail_is_told_and_what_was_known_of_it_is_void, a_relay_into_its_own_log_adds_nothing,
                closing_the_store_ends_the_streams;
        }
    };
    (@each $subject:expr; $($part:ident::$module:ident: $($rule:ident),+;)+) => {
        $(mod $module {
            #[allow(unused_imports, reason = "the subject may be named by the module around")]
            use super::*;
            $(#[tokio::test]
            async fn $rule() {
                let subject = ::std::option::Option::from($subject);
                let Some(subject): ::std::option::Option<::std::sync::Arc<dyn $crate::conformance::Subject>> = subject else {
                    return;
                };
                $crate::conformance::in_time($crate::conformance::$part::$module::$rule(subject)).await;
            })+
        })+
    };
}

/// A test that hangs says so.
pub async fn in_time(test: impl Future<Output = ()>) {
    let patience = std::time::Duration::from_secs(120);
    tokio::time::timeout(patience, Box::pin(test))
        .await
        .expect("the test hangs");
}

/// An internal event.
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

async fn everything(store: &EventStore) -> Vec<Recorded> {
    collect(store.read_all()).await
}

async fn collect<E>(mut read: crate::Read<E>) -> Vec<Recorded<E>> {
    let mut events = Vec::new();
    while let Some(event) = read.next().await {
        events.push(event.unwrap());
    }
    events
}
