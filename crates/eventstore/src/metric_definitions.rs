//! The names of this crate's metrics.

/// Histogram: batches in one commit of the log.
pub(crate) const FLUSH_BATCHES: &str = "sagamill_log_flush_batches";
/// Histogram, seconds: one commit of the log, from its first statement to durable.
pub(crate) const FLUSH_SECONDS: &str = "sagamill_log_flush_seconds";
/// Counter: events stored through the appender of this process.
pub(crate) const APPENDED: &str = "sagamill_log_appended_total";
/// Counter: batches refused, by `reason` (`conflict`, `guarded`, `fenced`, `id_reused`, `closed`, `database`).
pub(crate) const REFUSED: &str = "sagamill_log_refused_total";
/// Counter: staged events that got their positions through this process, repeats among them.
#[cfg(feature = "postgres")]
pub(crate) const SEQUENCED: &str = "sagamill_log_sequenced_total";
/// Counter: staged events that were set aside, because they can have no position.
#[cfg(feature = "postgres")]
pub(crate) const SET_ASIDE: &str = "sagamill_log_set_aside_total";
/// Counter: flushes that were sent again, because the server was not reached or its answer did not come.
#[cfg(feature = "postgres")]
pub(crate) const RECONNECTS: &str = "sagamill_log_reconnects_total";
/// Gauge: positions that the log goes beyond what is done, in the shards of this process, by `subscription`.
pub(crate) const SUBSCRIPTION_LAG: &str = "sagamill_subscription_lag_positions";
/// Counter: checkpoints saved, by `subscription`.
pub(crate) const CHECKPOINTS_SAVED: &str = "sagamill_subscription_checkpoints_saved_total";
/// Counter: shards that another process took over, found out by a refused write, by `subscription`.
pub(crate) const LEASES_LOST: &str = "sagamill_subscription_leases_lost_total";
/// Counter: messages that the transport has confirmed, by `transport`.
pub(crate) const RELAY_PUBLISHED: &str = "sagamill_relay_published_total";
/// Counter: publishes that failed and are tried again, by `transport` and `reason` (`no_subscriber`, `failed`).
pub(crate) const RELAY_FAILURES: &str = "sagamill_relay_failures_total";
/// Gauge: positions that the log goes beyond what is published, in the shards of this process.
pub(crate) const RELAY_LAG: &str = "sagamill_relay_lag_positions";
/// Gauge, seconds: the age of the oldest event that waits to be published; 0 where none does.
pub(crate) const RELAY_LAG_SECONDS: &str = "sagamill_relay_lag_seconds";
/// Gauge, Unix seconds: when the oldest event that waits to be published was recorded; 0 where none does.
pub(crate) const RELAY_OLDEST: &str = "sagamill_relay_oldest_pending_timestamp_seconds";
/// Counter: messages that were published again under a delivery id that the log has, and dropped.
pub(crate) const BUS_REPEATS: &str = "sagamill_log_bus_repeats_total";
/// Counter: messages that were written down to be tried again, by `group`.
pub(crate) const BUS_RETRIES: &str = "sagamill_log_bus_retries_total";
/// Counter: attempts that were counted before they were made, since their messages may have killed a process, by `group`.
pub(crate) const BUS_TRIALS: &str = "sagamill_log_bus_trials_total";
/// Counter: messages that were given up, by `group`.
pub(crate) const BUS_DEAD: &str = "sagamill_log_bus_dead_total";
/// Gauge: messages that are written down as begun and not ended, in the shards of this process, by `subscription`.
pub(crate) const BUS_BEGUN: &str = "sagamill_log_bus_begun";
