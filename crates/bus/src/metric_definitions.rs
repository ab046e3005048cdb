//! Names of what this crate measures, through the [`metrics`] facade. No label holds an id.

/// Counter: messages that a transport confirmed or refused. Labels `system`, `destination`, `outcome` (`ok`, `error`).
pub const PUBLISHED: &str = "sagamill_bus_published_total";
/// Histogram, seconds: how long a call to publish took, whole batches. Labels `system`, `destination`.
pub const PUBLISH_DURATION: &str = "sagamill_bus_publish_duration_seconds";
/// Counter: deliveries that a router settled. Labels `destination`, `group`, `outcome` (`ack`, `retry`, `dead`, `stale`,
/// `error`, `unhandled`).
pub const PROCESSED: &str = "sagamill_bus_processed_total";
/// Histogram, seconds: from a delivery to its settlement. Labels `destination`, `group`.
pub const PROCESS_DURATION: &str = "sagamill_bus_process_duration_seconds";
/// Gauge: deliveries that a router works on. Label `group`.
pub const IN_FLIGHT: &str = "sagamill_bus_in_flight";
/// Counter: handlers that panicked; each is a failed attempt. Labels `destination`, `group`.
pub const PANICS: &str = "sagamill_bus_handler_panics_total";
/// Counter: messages of the in-memory transport that no group was there for, dropped at its bound. Label `destination`.
pub const UNREAD_DROPPED: &str = "sagamill_bus_unread_dropped_total";
/// Counter: messages that [`Deduplicate`](crate::layer::Deduplicate) passed over, since they were handled before. Label
/// `destination`.
pub const DEDUPLICATED: &str = "sagamill_bus_deduplicated_total";
/// Counter: replies to commands that nobody waits for any more, or never did. Label `destination`.
pub const REPLIES_UNAWAITED: &str = "sagamill_bus_replies_unawaited_total";
