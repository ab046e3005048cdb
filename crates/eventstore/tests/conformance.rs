//! Every log keeps the same rules.

mod server;

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

mod postgres {
    use std::sync::Arc;

    use futures_core::future::BoxFuture;
    use sagamill_eventstore::{
        EventStore, Position,
        conformance::{PostgresDatabase, Subject},
    };

    use super::server::Database;

    /// A database that is dropped with it.
    struct Own {
        // First: the last store on it is gone by then.
        subject: PostgresDatabase,
        _database: Database,
    }

    impl Subject for Own {
        fn open(&self) -> BoxFuture<'_, EventStore> {
            self.subject.open()
        }
        fn lose_tail(&self, after: Position) -> BoxFuture<'_, ()> {
            self.subject.lose_tail(after)
        }
    }

    fn subject() -> Option<Arc<dyn Subject>> {
        let database = Database::make()?;
        let subject = PostgresDatabase::at(database.url());
        Some(Arc::new(Own {
            subject,
            _database: database,
        }))
    }
    sagamill_eventstore::conformance!(subject());
}
