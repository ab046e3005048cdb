//! The few kinds of statements that the shop needs, on either database: `$1` places, whole numbers, texts.
//!
//! A service of one's own has one database and says `sqlx::query`. The shop shows both, with the same statements.

use std::borrow::Cow;

use sqlx::{
    Arguments, Encode, FromRow, PgConnection, Postgres, Sqlite, SqliteConnection, Type, postgres::PgRow,
    sqlite::SqliteRow,
};

/// One open connection, in a transaction or not.
#[derive(Debug)]
pub enum Sql<'c> {
    /// To a SQLite file.
    Sqlite(&'c mut SqliteConnection),
    /// To a PostgreSQL server.
    Postgres(&'c mut PgConnection),
}

/// What stands at a place of a statement.
#[derive(Debug, Clone)]
pub enum Value<'v> {
    /// A whole number.
    Int(i64),
    /// A text; none: null.
    Text(Option<Cow<'v, str>>),
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}
impl<'v> From<&'v str> for Value<'v> {
    fn from(value: &'v str) -> Self {
        Self::Text(Some(value.into()))
    }
}
impl<'v> From<&'v String> for Value<'v> {
    fn from(value: &'v String) -> Self {
        value.as_str().into()
    }
}
impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Self::Text(Some(value.into()))
    }
}
impl<'v> From<Option<&'v str>> for Value<'v> {
    fn from(value: Option<&'v str>) -> Self {
        Self::Text(value.map(Cow::from))
    }
}

/// The values of a statement, each by its `Into<Value>`: `values![order.as_str(), 3u32]`.
#[macro_export]
macro_rules! values {
    ($($value:expr),* $(,)?) => { [$($crate::Value::from($value)),*] };
}

/// A row that either database can fill: a tuple of numbers, texts and booleans.
pub trait Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}
impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl Sql<'_> {
    /// Executes a statement; answers how many rows it touched.
    ///
    /// # Errors
    /// What the database says.
    pub async fn execute(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(connection) => {
                let query = sqlx::query_with(sql, arguments::<Sqlite>(values)?);
                query.execute(&mut **connection).await?.rows_affected()
            }
            Self::Postgres(connection) => {
                let query = sqlx::query_with(sql, arguments::<Postgres>(values)?);
                query.execute(&mut **connection).await?.rows_affected()
            }
        })
    }
    /// All rows of an answer.
    ///
    /// # Errors
    /// What the database says, and a row that is not as asked for.
    pub async fn rows<T: Row>(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<T>, sqlx::Error> {
        match self {
            Self::Sqlite(connection) => {
                let query = sqlx::query_as_with(sql, arguments::<Sqlite>(values)?);
                query.fetch_all(&mut **connection).await
            }
            Self::Postgres(connection) => {
                let query = sqlx::query_as_with(sql, arguments::<Postgres>(values)?);
                query.fetch_all(&mut **connection).await
            }
        }
    }
    /// The first row, where there is one.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub async fn row<T: Row>(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<Option<T>, sqlx::Error> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }
    /// The first value of the one row that there must be.
    ///
    /// # Errors
    /// [`sqlx::Error::RowNotFound`], and as [`rows`](Self::rows).
    pub async fn value<T>(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<T, sqlx::Error>
    where
        (T,): Row,
    {
        let row: Option<(T,)> = self.row(sql, values).await?;
        row.map(|(value,)| value).ok_or(sqlx::Error::RowNotFound)
    }
    /// Executes several statements without values, parted by semicolons.
    ///
    /// # Errors
    /// What the database says.
    pub async fn script(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(connection) => sqlx::raw_sql(sql).execute(&mut **connection).await.map(drop),
            Self::Postgres(connection) => sqlx::raw_sql(sql).execute(&mut **connection).await.map(drop),
        }
    }
}

fn arguments<D: sqlx::Database>(values: &[Value<'_>]) -> Result<D::Arguments, sqlx::Error>
where
    i64: for<'q> Encode<'q, D> + Type<D>,
    Option<String>: for<'q> Encode<'q, D> + Type<D>,
{
    let mut arguments = D::Arguments::default();
    for value in values {
        match value {
            Value::Int(number) => arguments.add(*number),
            Value::Text(text) => arguments.add(text.as_ref().map(|text| text.clone().into_owned())),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}
