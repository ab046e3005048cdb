//! What PostgreSQL's errors mean to a caller.

use std::sync::Arc;

use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSeverity};
use uuid::Uuid;

use crate::{Error, Expected, StreamId, Version};

// SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html
const STALE_PLAN: &str = "0A000";
const READ_ONLY: &str = "25006";
const STOOD_STILL: &str = "25P03";
const NO_STATEMENT: &str = "26000";
const NO_DATABASE: &str = "3D000";
const NO_SCHEMA: &str = "3F000";
const SERIALIZATION: &str = "40001";
const DEADLOCK: &str = "40P01";
const NO_PRIVILEGE: &str = "42501";
const NO_FUNCTION: &str = "42883";
const NO_TABLE: &str = "42P01";
const DUPLICATE_STATEMENT: &str = "42P05";
const LOCK_TIMEOUT: &str = "55P03";
const CANCELED: &str = "57014";
/// Classes: the user is refused; the connection; resources; the operator; the system.
const REFUSED: &str = "28";
const CONNECTION: &str = "08";
const RESOURCES: &str = "53";
const OPERATOR: &str = "57";
const SYSTEM: &str = "58";
// The log's own.
const CONFLICT: &str = "ES001";
const REPEATED: &str = "ES002";
const ISOLATION: &str = "ES003";

/// A statement failed: nothing of its transaction is stored.
pub(crate) fn of(error: sqlx::Error) -> Error {
    match server(&error) {
        Some(refusal) => refused(refusal).unwrap_or_else(|| Error::Database(Arc::new(error))),
        None => unanswered(error),
    }
}

/// COMMIT failed. Where the server did not say so, it may have committed before it went.
pub(crate) fn of_commit(error: sqlx::Error) -> Error {
    if is_lost(&error) {
        return Error::Unknown(Arc::new(error));
    }
    of(error)
}

/// Whether the connection is gone, with what was asked of it in doubt.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => true,
        // What begins a transaction found that it has not begun.
        sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(_) => server(error).is_some_and(|refusal| {
            let fatal = matches!(refusal.severity(), PgSeverity::Fatal | PgSeverity::Panic);
            fatal || refusal.code().starts_with(CONNECTION)
        }),
        _ => false,
    }
}

/// Whether another connection may have it done: this one's statements are not what they were, or its server has become a
/// standby. Nothing was.
pub(super) fn is_stale(error: &sqlx::Error) -> bool {
    let stale = [STALE_PLAN, READ_ONLY, NO_STATEMENT, DUPLICATE_STATEMENT];
    server(error).is_some_and(|refusal| stale.contains(&refusal.code()))
}

/// Whether an id, or a version of a stream, is there already.
pub(super) fn is_duplicate(error: &sqlx::Error) -> bool {
    server(error).is_some_and(|refusal| refusal.code() == "23505")
}

/// Whether somebody else held a lock for too long.
pub(super) fn is_locked(error: &sqlx::Error) -> bool {
    server(error).is_some_and(|refusal| refusal.code() == LOCK_TIMEOUT)
}

/// Whether it says nothing about what was asked for: the same would have been said of anything else.
pub(super) fn is_of_no_batch(error: &sqlx::Error) -> bool {
    let Some(refusal) = server(error) else { return true };
    let code = refusal.code();
    let class = |class: &&str| code.starts_with(*class);
    let exact = [
        STALE_PLAN,
        READ_ONLY,
        NO_STATEMENT,
        NO_DATABASE,
        NO_SCHEMA,
        SERIALIZATION,
        DEADLOCK,
        NO_PRIVILEGE,
        NO_FUNCTION,
        NO_TABLE,
        DUPLICATE_STATEMENT,
        LOCK_TIMEOUT,
        ISOLATION,
    ];
    exact.contains(&code) || [REFUSED, CONNECTION, RESOURCES, OPERATOR, SYSTEM].iter().any(class)
}

/// The id that a unique index found to be taken.
pub(super) fn taken(error: &sqlx::Error) -> Option<Uuid> {
    let refusal = server(error).filter(|refusal| refusal.constraint() == Some("event_id_uq"))?;
    let (_, id) = refusal.detail()?.split_once("=(")?;
    id.split(')').next()?.parse().ok()
}

/// No connection could be made: who and where is said, the password never.
pub(super) fn of_connect(error: sqlx::Error, options: &PgConnectOptions) -> Error {
    let shown = shown(options);
    let unusable = |what: String| Error::Unusable { what };
    if let sqlx::Error::Tls(why) = &error {
        return unusable(format!(
            "`{shown}`: {why}; a build with the feature `postgres-tls` speaks TLS"
        ));
    }
    let Some(refusal) = server(&error) else {
        return Error::Unavailable {
            what: format!("`{shown}`: {error}; is the server running, and is this its address?"),
        };
    };
    let (code, said) = (refusal.code(), said(refusal));
    match code {
        NO_DATABASE => unusable(format!("`{shown}`: {said}; create it first, by `createdb` say")),
        NO_PRIVILEGE => unusable(format!("`{shown}`: {said}; GRANT CONNECT ON DATABASE lets the user in")),
        _ if code.starts_with(REFUSED) => unusable(format!(
            "`{shown}`: {said}; look at the user, its password and the server's pg_hba.conf"
        )),
        _ => match of(error) {
            Error::Unavailable { what } => Error::Unavailable {
                what: format!("`{shown}`: {what}"),
            },
            Error::Database(_) => unusable(format!("`{shown}`: {said}")),
            other => other,
        },
    }
}

/// Whom the options name, and where; without a password.
pub(super) fn shown(options: &PgConnectOptions) -> String {
    let (user, database) = (options.get_username(), options.get_database().unwrap_or_default());
    match options.get_socket() {
        Some(socket) => format!("{user}@{}/{database}", socket.display()),
        None => format!("{user}@{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

/// A URL without what may be a password, also where it is so malformed that nobody can say which part that is.
pub(super) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        let scheme = url.split(':').next().unwrap_or_default();
        return format!("{scheme}:…");
    };
    let (user, host) = rest.rsplit_once('@').map_or(("", rest), |(user, host)| (user, host));
    let host = host.split('?').next().unwrap_or_default();
    match user.split(':').next().unwrap_or_default() {
        "" => format!("{scheme}://{host}"),
        user => format!("{scheme}://{user}@{host}"),
    }
}

fn server(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

fn said(refusal: &PgDatabaseError) -> String {
    format!("{} ({})", refusal.message(), refusal.code())
}

/// What the server's own words come to; none: it is one of the many that nobody expects.
fn refused(refusal: &PgDatabaseError) -> Option<Error> {
    let (code, said) = (refusal.code(), said(refusal));
    let unavailable = |what: String| Some(Error::Unavailable { what });
    let unusable = |what: String| Some(Error::Unusable { what });
    match code {
        CONFLICT => conflict(refusal.detail()?),
        REPEATED => Some(Error::Repeated(detail::<Known>(refusal.detail()?)?.event)),
        ISOLATION => Some(Error::Invalid {
            what: format!(
                "{said}: begin the transaction so, by `store.begin()` say, or ALTER ROLE … SET default_transaction_isolation = 'read committed'"
            ),
        }),
        LOCK_TIMEOUT => unavailable(format!(
            "{said}: somebody holds the log's lock, or a row of it, for longer than 5 s"
        )),
        STOOD_STILL => unavailable(format!(
            "{said}: the server has ended a transaction in which nothing was asked for 30 s; a handler does what takes long \
             before or after its transaction"
        )),
        READ_ONLY => unavailable(format!(
            "{said}: is the server a standby? A log is written on the primary"
        )),
        NO_PRIVILEGE => unusable(format!(
            "{said}; what a role needs stands at the head of the tables' SQL, which `migrations(Dialect::Postgres)` shows"
        )),
        NO_STATEMENT | DUPLICATE_STATEMENT => unusable(format!(
            "{said}: a pooler hands out server connections by transaction and knows no prepared statements; set \
             max_prepared_statements (PgBouncer 1.21 or later), or pool_mode = session, or connect past it"
        )),
        NO_SCHEMA | NO_TABLE | NO_FUNCTION => unusable(format!("{said}: the log's schema `es` is gone or damaged")),
        SERIALIZATION | DEADLOCK | CANCELED => unavailable(said),
        _ if [CONNECTION, RESOURCES, OPERATOR, SYSTEM]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            unavailable(said)
        }
        _ => None,
    }
}

/// No word came from the server.
fn unanswered(error: sqlx::Error) -> Error {
    match error {
        sqlx::Error::PoolTimedOut => Error::Unavailable {
            what: "no connection could be had in time: the server is down, or all of the pool's are in use".to_owned(),
        },
        sqlx::Error::PoolClosed => Error::ShutDown,
        lost if is_lost(&lost) => Error::Unavailable {
            what: format!("the connection is lost: {lost}"),
        },
        other => Error::Database(Arc::new(other)),
    }
}

/// What `es.join_checked` says of an append that is refused at COMMIT.
#[derive(Deserialize)]
struct Refused {
    stream: String,
    expected: i64,
    status: i16,
    version: i64,
}

/// What it says of one that is there already.
#[derive(Deserialize)]
struct Known {
    event: Uuid,
}

fn detail<T: for<'de> Deserialize<'de>>(json: &str) -> Option<T> {
    serde_json::from_str(json).ok()
}

fn conflict(json: &str) -> Option<Error> {
    let Refused {
        stream,
        expected,
        status,
        version,
    } = detail(json)?;
    let stream = StreamId::from(stream);
    if status == super::answer::CLOSED {
        return Some(Error::Closed(stream));
    }
    let expected = match expected {
        super::call::ANY => Expected::Any,
        super::call::EXISTS => Expected::Exists,
        0 => Expected::NoStream,
        version => Expected::Exact(Version(version)),
    };
    Some(Error::Conflict {
        stream,
        expected,
        actual: Version(version),
    })
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            ("postgres://ada:secret@host:5432/shop", "postgres://ada@host:5432/shop"),
            ("postgres://ada:se/c@r:et?@host/shop", "postgres://ada@host/shop"),
            ("postgres://host/shop?user=ada&password=secret", "postgres://host/shop"),
            ("postgres://:secret@host", "postgres://host"),
            ("postgres:ada:secret@host", "postgres:…"),
            ("postgres://host:port/shop", "postgres://host:port/shop"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }
}
