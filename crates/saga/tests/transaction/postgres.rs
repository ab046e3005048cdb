//! A PostgreSQL database.

use sqlx::PgPool;

use super::server;

#[path = "rules.rs"]
mod rules;

type Database = sqlx::Postgres;
type Pool = PgPool;
type Place = server::Database;

async fn open() -> Option<(Pool, Place)> {
    let database = server::Database::make()?;
    let pool = PgPool::connect(&database.url()).await.unwrap();
    let table = "CREATE TABLE taken (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, effect text NOT NULL)";
    sqlx::query(table).execute(&pool).await.unwrap();
    Some((pool, database))
}
