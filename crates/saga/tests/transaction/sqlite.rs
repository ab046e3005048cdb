//! A SQLite file.

use std::str::FromStr as _;

use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};

#[path = "rules.rs"]
mod rules;

type Database = sqlx::Sqlite;
type Pool = SqlitePool;
type Place = tempfile::TempDir;

async fn open() -> Option<(Pool, Place)> {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("shop.db").display());
    let options = SqliteConnectOptions::from_str(&url).unwrap().create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let table = "CREATE TABLE taken (id INTEGER PRIMARY KEY, effect TEXT NOT NULL)";
    sqlx::query(table).execute(&pool).await.unwrap();
    Some((pool, dir))
}
