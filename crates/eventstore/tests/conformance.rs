//! Every log keeps the same rules.

mod memory {
    sagamill_eventstore::conformance!(sagamill_eventstore::conformance::in_memory());
}

mod sqlite {
    use std::sync::Arc;

    use sagamill_eventstore::conformance::{SqliteFile, Subject};

    /// The directory lives as long as the test: it is gone with the subject's last holder, or with the process.
    fn subject() -> Arc<dyn Subject> {
        Arc::new(SqliteFile::within(&tempfile::tempdir().unwrap().keep()))
    }
    sagamill_eventstore::conformance!(subject());
}
