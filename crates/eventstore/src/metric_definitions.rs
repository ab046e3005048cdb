//! The names of this crate's metrics.

/// Histogram: batches in one commit of the log.
pub(crate) const FLUSH_BATCHES: &str = "sagamill_log_flush_batches";
/// Histogram, seconds: one commit of the log, from its first statement to durable.
pub(crate) const FLUSH_SECONDS: &str = "sagamill_log_flush_seconds";
/// Counter: events stored through the appender of this process.
pub(crate) const APPENDED: &str = "sagamill_log_appended_total";
/// Counter: batches refused, by `reason` (`conflict`, `guarded`, `fenced`, `id_reused`, `closed`, `database`).
pub(crate) const REFUSED: &str = "sagamill_log_refused_total";
