//! Statements of the harness itself, each on a connection of its own: a test's pool is never shared between runtimes.

use std::{future::Future, sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Postgres};
use tokio::time::timeout;

use crate::{Error, Result};

/// How long the server may take for one of them: it may be at a checkpoint of a whole test run.
const STATEMENT_MAX: Duration = Duration::from_secs(60);

/// Runs statements that give nothing, one after the other. Names and values in them are quoted by whoever makes them.
pub(crate) async fn execute(url: &str, verb: &str, statements: &[String]) -> Result<()> {
    in_time(verb, async {
        let mut connection = PgConnection::connect(url).await?;
        for statement in statements {
            let query = sqlx::query(AssertSqlSafe(statement.clone()));
            query.execute(&mut connection).await?;
        }
        connection.close().await
    })
    .await
}

/// The one value of a query, which has these parameters.
pub(crate) async fn value<T>(url: &str, verb: &str, query: &'static str, parameters: &[&str]) -> Result<T>
where
    T: for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres> + Send + Unpin,
{
    in_time(verb, async {
        let mut connection = PgConnection::connect(url).await?;
        let query = sqlx::query_scalar(query);
        let bound = parameters.iter().fold(query, |query, &parameter| query.bind(parameter));
        let value = bound.fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(value)
    })
    .await
}

async fn in_time<T>(verb: &str, work: impl Future<Output = sqlx::Result<T>> + Send) -> Result<T> {
    let done = timeout(STATEMENT_MAX, work).await.map_err(|_| Error::Late {
        what: verb.to_owned(),
        within: STATEMENT_MAX,
    })?;
    done.map_err(|error| Error::Sql {
        verb: verb.to_owned(),
        source: Arc::new(error),
    })
}
