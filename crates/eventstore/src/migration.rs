//! The tables of a log, as steps that are applied once each, in order.

/// A database's own SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// SQLite 3.37 or later.
    #[cfg(feature = "sqlite")]
    Sqlite,
    /// PostgreSQL 15 or later.
    #[cfg(feature = "postgres")]
    Postgres,
}

/// A step of a log's tables. Opening a store applies those that are missing, each in a transaction; they are public so
/// that they can be read before. On PostgreSQL a step also notes down that it was applied, so that whoever owns the
/// database may apply it by hand, and the store can be opened by a role that makes no tables.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Migration {
    /// Counts the steps, from 1.
    pub revision: i64,
    /// Its statements.
    pub sql: &'static str,
}

/// All steps, in order.
pub fn migrations(dialect: Dialect) -> &'static [Migration] {
    match dialect {
        #[cfg(feature = "sqlite")]
        Dialect::Sqlite => crate::sqlite::MIGRATIONS,
        #[cfg(feature = "postgres")]
        Dialect::Postgres => crate::postgres::MIGRATIONS,
    }
}

/// The steps that a log at this revision lacks.
///
/// # Errors
/// [`Error::Unusable`](crate::Error::Unusable) where it has steps that this build does not know.
pub(crate) fn missing(steps: &'static [Migration], revision: i64) -> crate::Result<&'static [Migration]> {
    let newest = steps.last().map_or(0, |step| step.revision);
    if revision > newest {
        let what = format!("its tables have revision {revision}, this build knows up to {newest}: use a newer build");
        return Err(crate::Error::Unusable { what });
    }
    let applied = steps.iter().filter(|step| step.revision <= revision).count();
    Ok(&steps[applied..])
}
