//! What every transport must do, as scenarios that any transport can be put through (feature `conformance`).
//!
//! What a transport declares in its [`Capabilities`](crate::Capabilities) is held against it both ways: what is declared
//! works, what is not is refused with [`Error::Unsupported`](crate::Error::Unsupported). A scenario fails by panicking.
//! Each uses topics of its own, so that they may share a broker and run side by side.
//!
//! ```
//! # use std::sync::LazyLock;
//! # use sagamill_bus::{Capabilities, Deliveries, Message, Receipt, Result, Subscribe, Topic, Transport, memory::Memory};
//! # /// Something that a third party could have written.
//! # struct CarrierTransport(Bus);
//! # impl CarrierTransport {
//! #     async fn connect(_: &str) -> Result<Self> {
//! #         static BROKER: LazyLock<Memory> = LazyLock::new(Memory::new);
//! #         Ok(Self(BROKER.connect()))
//! #     }
//! # }
//! # impl Transport for CarrierTransport {
//! #     fn name(&self) -> &'static str {
//! #         "carrier"
//! #     }
//! #     fn capabilities(&self) -> Capabilities {
//! #         self.0.capabilities()
//! #     }
//! #     async fn publish(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
//! #         self.0.publish_each(topic, batch).await
//! #     }
//! #     async fn subscribe(&self, request: Subscribe) -> Result<Deliveries> {
//! #         self.0.subscribe(request).await
//! #     }
//! #     async fn close(&self) -> Result<()> {
//! #         self.0.clone().close().await
//! #     }
//! # }
//! use sagamill_bus::{Bus, conformance::Harness};
//!
//! struct Carrier;
//!
//! impl Harness for Carrier {
//!     async fn connect(&self) -> Bus {
//!         Bus::new(CarrierTransport::connect("localhost:4711").await.unwrap())
//!     }
//! }
//!
//! sagamill_bus::conformance!(#[tokio::test] Carrier);
//! # // The tests of an example are not run: two of them stand for all.
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! #     sagamill_bus::conformance::content_arrives_as_it_was_sent(&Carrier).await;
//! #     sagamill_bus::conformance::topics_do_not_mix(&Carrier).await;
//! # }
//! ```

mod capability;
mod content;
mod delivery;
mod fixture;
mod handler;
mod inspect;
mod lifecycle;
mod order;
mod settlement;

use std::time::Duration;

pub use self::{
    capability::{
        a_group_order_that_is_not_declared_is_refused, a_mandatory_message_needs_a_group,
        a_new_group_sees_old_messages, a_repeated_delivery_id_is_dropped_where_it_is_declared,
        a_restart_of_the_broker_loses_nothing, a_settled_publish_waits_for_what_is_not_durable, declared,
        delays_without_order_are_refused_where_they_are_not_declared, each_group_gets_every_message,
        patterns_match_whole_words_or_are_refused,
    },
    content::{
        a_large_message_passes_and_a_larger_one_is_refused_alone, an_invalid_topic_is_refused,
        content_arrives_as_it_was_sent, odd_headers_arrive_as_they_were_sent,
    },
    delivery::{
        all_members_together_get_every_message, duplicates_are_rare, errors_do_not_stop_a_subscription,
        many_topics_at_once_get_their_own_messages, no_more_than_max_in_flight_are_unsettled,
        publish_then_subscribe_gets_everything, topics_do_not_mix,
    },
    handler::{
        a_panic_in_a_handler_is_a_failed_attempt, a_router_gives_up_after_its_attempts,
        a_stopped_router_settles_its_work, an_undecodable_message_does_not_stall,
    },
    inspect::{
        a_groups_lag_is_what_it_has_not_settled, a_lag_counts_dead_letters_when_they_are_requeued,
        a_lag_counts_retries_that_wait, a_lag_is_told_of_those_that_are_asked_for,
        a_topic_is_told_with_what_lies_there, inspected,
    },
    lifecycle::{
        a_killed_consumers_messages_go_to_others, a_partly_acked_batch_survives_closing,
        a_resubscribed_group_gets_what_is_left, closing_ends_streams_and_refuses_work,
        closing_many_connections_at_once_loses_nothing, closing_the_publisher_keeps_what_was_confirmed,
        publishing_and_closing_at_once_loses_nothing_confirmed, subscriptions_that_come_and_go_lose_nothing,
    },
    order::{
        a_delayed_retry_holds_its_key_only, an_immediate_retry_keeps_the_order_of_its_key,
        messages_of_a_key_are_handled_in_order, the_next_of_a_key_waits_for_the_settlement,
    },
    settlement::{
        a_dead_letter_keeps_its_story, a_delayed_retry_is_not_early, a_dropped_delivery_comes_again_and_counts,
        a_late_settlement_is_stale, a_requeued_dead_letter_comes_again_to_its_group_alone,
        a_retried_message_comes_again, an_acked_message_does_not_come_again,
        an_edited_dead_letter_comes_again_with_its_new_payload,
    },
};
use crate::Bus;

/// A broker that can be connected to, for the scenarios.
pub trait Harness: Send + Sync + 'static {
    /// A new connection, each time to the same broker.
    fn connect(&self) -> impl Future<Output = Bus> + Send;
    /// Restarts the broker, which keeps what it has stored; false where it cannot be restarted.
    fn restart(&self) -> impl Future<Output = bool> + Send {
        async { false }
    }
    /// How long a message may take to arrive.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
    /// Whether the broker cannot be had here, which has been said: each test is left out.
    fn is_left_out(&self) -> bool {
        false
    }
    /// How long nothing must have come before nothing is taken to come.
    fn quiet(&self) -> Duration {
        Duration::from_millis(200)
    }
}

/// Puts a transport through all scenarios, each a test of its own: the test attribute, then the
/// [`Harness`](crate::conformance::Harness), made anew for each.
///
/// `sagamill_bus::conformance!(#[tokio::test] MyHarness::new());`
#[macro_export]
macro_rules! conformance {
    (#[$test:meta] $harness:expr) => {
        $crate::conformance! { @each #[$test] $harness;
            a_dead_letter_keeps_its_story,
            a_delayed_retry_holds_its_key_only,
            a_delayed_retry_is_not_early,
            a_dropped_delivery_comes_again_and_counts,
            a_group_order_that_is_not_declared_is_refused,
            a_groups_lag_is_what_it_has_not_settled,
            a_killed_consumers_messages_go_to_others,
            a_lag_counts_dead_letters_when_they_are_requeued,
            a_lag_counts_retries_that_wait,
            a_lag_is_told_of_those_that_are_asked_for,
            a_large_message_passes_and_a_larger_one_is_refused_alone,
            a_late_settlement_is_stale,
            a_mandatory_message_needs_a_group,
            a_new_group_sees_old_messages,
            a_panic_in_a_handler_is_a_failed_attempt,
            a_partly_acked_batch_survives_closing,
            a_repeated_delivery_id_is_dropped_where_it_is_declared,
            a_requeued_dead_letter_comes_again_to_its_group_alone,
            a_restart_of_the_broker_loses_nothing,
            a_resubscribed_group_gets_what_is_left,
            a_retried_message_comes_again,
            a_router_gives_up_after_its_attempts,
            a_settled_publish_waits_for_what_is_not_durable,
            a_stopped_router_settles_its_work,
            a_topic_is_told_with_what_lies_there,
            all_members_together_get_every_message,
            an_acked_message_does_not_come_again,
            an_edited_dead_letter_comes_again_with_its_new_payload,
            an_immediate_retry_keeps_the_order_of_its_key,
            an_invalid_topic_is_refused,
            an_undecodable_message_does_not_stall,
            closing_ends_streams_and_refuses_work,
            closing_many_connections_at_once_loses_nothing,
            closing_the_publisher_keeps_what_was_confirmed,
            content_arrives_as_it_was_sent,
            delays_without_order_are_refused_where_they_are_not_declared,
            duplicates_are_rare,
            each_group_gets_every_message,
            errors_do_not_stop_a_subscription,
            many_topics_at_once_get_their_own_messages,
            messages_of_a_key_are_handled_in_order,
            no_more_than_max_in_flight_are_unsettled,
            odd_headers_arrive_as_they_were_sent,
            patterns_match_whole_words_or_are_refused,
            publish_then_subscribe_gets_everything,
            publishing_and_closing_at_once_loses_nothing_confirmed,
            subscriptions_that_come_and_go_lose_nothing,
            the_next_of_a_key_waits_for_the_settlement,
            topics_do_not_mix,
        }
    };
    (@each #[$test:meta] $harness:expr; $($scenario:ident,)*) => {$(
        #[$test]
        async fn $scenario() {
            let harness = $harness;
            if !$crate::conformance::Harness::is_left_out(&harness) {
                $crate::conformance::$scenario(&harness).await;
            }
        }
    )*};
}
