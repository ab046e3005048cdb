//! A log in a PostgreSQL database of its own.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use sagamill_eventstore::{
    EventStore, Position,
    conformance::{PostgresDatabase, Subject},
};

use crate::server::Database;

/// A log in a database that is dropped with it.
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

/// None where there is no server, which is said.
pub(crate) fn subject() -> Option<Arc<dyn Subject>> {
    let database = Database::make()?;
    let subject = PostgresDatabase::at(database.url());
    Some(Arc::new(Own {
        subject,
        _database: database,
    }))
}
