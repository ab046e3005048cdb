//! A log that can be joined, with a table of the caller's own beside it, whichever database it is in.

use crate::{EventStore, Expected, NewEvent, Result, Transaction, conformance::Subject};

/// The store, and the table `effect`.
#[derive(Debug, Clone)]
pub(super) enum Joined {
    #[cfg(feature = "sqlite")]
    Sqlite(EventStore<sqlx::Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(EventStore<sqlx::Postgres>),
}

/// A transaction of the store's.
pub(super) enum Tx {
    #[cfg(feature = "sqlite")]
    Sqlite(Transaction<sqlx::Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(Transaction<sqlx::Postgres>),
}

/// The same for both.
macro_rules! each {
    ($of:ident, $value:expr, $name:ident => $body:expr) => {
        match $value {
            #[cfg(feature = "sqlite")]
            $of::Sqlite($name) => $body,
            #[cfg(feature = "postgres")]
            $of::Postgres($name) => $body,
        }
    };
}

const EFFECT: &str = "INSERT INTO effect (n) VALUES (1)";

impl Joined {
    /// None where the log is in memory.
    pub(super) async fn open(subject: &dyn Subject) -> Option<Self> {
        let store = subject.open().await;
        let this = Self::of(&store)?;
        each!(Self, &this, store => {
            sqlx::raw_sql("CREATE TABLE effect (n INTEGER NOT NULL)").execute(store.pool()).await.unwrap();
        });
        Some(this)
    }
    pub(super) fn of(store: &EventStore) -> Option<Self> {
        #[cfg(feature = "sqlite")]
        if let Some(store) = store.on() {
            return Some(Self::Sqlite(store));
        }
        #[cfg(feature = "postgres")]
        if let Some(store) = store.on() {
            return Some(Self::Postgres(store));
        }
        let _ = store;
        None
    }
    pub(super) fn any(&self) -> EventStore {
        each!(Self, self, store => store.any())
    }
    pub(super) async fn begin(&self) -> Tx {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => Tx::Sqlite(store.begin().await.unwrap()),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Tx::Postgres(store.begin().await.unwrap()),
        }
    }
    /// By the pool's own means: nobody is told of the commit.
    pub(super) async fn stage_unrung(&self, stream: &str, events: Vec<NewEvent>) {
        each!(Self, self, store => {
            let mut tx = store.pool().begin().await.unwrap();
            sqlx::raw_sql(EFFECT).execute(&mut *tx).await.unwrap();
            store.stage_in(&mut tx, stream, events).await.unwrap();
            tx.commit().await.unwrap();
        });
    }
    pub(super) async fn effects(&self) -> i64 {
        each!(Self, self, store => {
            sqlx::query_scalar("SELECT count(*) FROM effect").fetch_one(store.pool()).await.unwrap()
        })
    }
}

impl Tx {
    /// The caller's own work.
    pub(super) async fn effect(&mut self) {
        each!(Self, self, tx => drop(sqlx::raw_sql(EFFECT).execute(&mut **tx).await.unwrap()));
    }
    pub(super) async fn stage(&mut self, on: &Joined, stream: &str, events: Vec<NewEvent>) -> Result<()> {
        match (self, on) {
            #[cfg(feature = "sqlite")]
            (Self::Sqlite(tx), Joined::Sqlite(store)) => store.stage_in(tx, stream, events).await,
            #[cfg(feature = "postgres")]
            (Self::Postgres(tx), Joined::Postgres(store)) => store.stage_in(tx, stream, events).await,
            #[cfg(all(feature = "sqlite", feature = "postgres"))]
            _ => unreachable!("a transaction is joined with its own store"),
        }
    }
    pub(super) async fn append(
        &mut self,
        on: &Joined,
        stream: &str,
        expected: Expected,
        events: Vec<NewEvent>,
    ) -> Result<()> {
        match (self, on) {
            #[cfg(feature = "sqlite")]
            (Self::Sqlite(tx), Joined::Sqlite(store)) => store.append_in_checked(tx, stream, expected, events).await,
            #[cfg(feature = "postgres")]
            (Self::Postgres(tx), Joined::Postgres(store)) => {
                store.append_in_checked(tx, stream, expected, events).await
            }
            #[cfg(all(feature = "sqlite", feature = "postgres"))]
            _ => unreachable!("a transaction is joined with its own store"),
        }
    }
    pub(super) async fn commit(self) -> Result<()> {
        each!(Self, self, tx => tx.commit().await)
    }
    pub(super) async fn rollback(self) {
        each!(Self, self, tx => tx.rollback().await.unwrap());
    }
}
