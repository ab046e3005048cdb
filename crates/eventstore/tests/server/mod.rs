//! A PostgreSQL server for tests, where there is one: the only place that knows where from.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part")]

pub(crate) mod pooler;

use std::env;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// A superuser's URL of a maintenance database: `postgres://postgres@localhost/postgres`.
const VARIABLE: &str = "SAGAMILL_TEST_POSTGRES";

/// A database of the test's own, dropped with it; unless the test fails, so that one can look into it.
pub(crate) struct Database {
    server: String,
    name: String,
}

impl Database {
    /// None where there is no server, which is said.
    pub(crate) fn make() -> Option<Self> {
        Self::make_with("ENCODING 'UTF8'")
    }
    pub(crate) fn make_with(how: &str) -> Option<Self> {
        let Ok(server) = env::var(VARIABLE) else {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            eprintln!("left out: {test} needs a PostgreSQL server; set {VARIABLE} to a superuser's URL");
            return None;
        };
        let name = format!("sagamill_test_{}", uuid::Uuid::now_v7().simple());
        execute(&server, format!("CREATE DATABASE {name} {how} TEMPLATE template0"));
        Some(Self { server, name })
    }
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
    pub(crate) fn url(&self) -> String {
        let (path, query) = self.server.split_once('?').unwrap_or((&self.server, ""));
        let (server, _) = path.rsplit_once('/').expect("the URL names a database");
        let query = if query.is_empty() {
            String::new()
        } else {
            format!("?{query}")
        };
        format!("{server}/{}{query}", self.name)
    }
    /// The same by another user.
    pub(crate) fn url_as(&self, user: &str) -> String {
        let url = self.url();
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        format!("{scheme}://{user}@{host}")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the test's database is left: {}", self.name);
        } else {
            execute(
                &self.server,
                format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
            );
        }
    }
}

/// On a thread of its own: tests are asynchronous, and their ends are not.
fn execute(server: &str, sql: String) {
    let server = server.to_owned();
    let executed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&server).await.expect("the test server answers");
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut connection)
                .await
                .unwrap();
            connection.close().await.unwrap();
        });
    });
    executed.join().expect("the test server does what it is asked");
}
