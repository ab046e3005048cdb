//! Every log keeps the same rules.

mod memory {
    sagamill_eventstore::conformance!(sagamill_eventstore::conformance::in_memory());
}

mod sqlite {
    use std::sync::Arc;

    use sagamill_eventstore::conformance::{SqliteFile, Subject};

    /// A directory of its own, which stays for whoever looks into a failure.
    fn subject() -> Arc<dyn Subject> {
        Arc::new(SqliteFile::within(&tempfile::tempdir().expect("a directory").keep()))
    }
    sagamill_eventstore::conformance!(subject());
}
