//! A PostgreSQL server for tests, where there is one: the only place that knows where from.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part")]

pub(crate) mod pooler;

use sagamill_testkit::postgres;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

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
        let server = block_on(async { postgres::shared().await.map(|server| server.url().to_owned()) })?;
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
    /// The same by another user, whose password is its name.
    pub(crate) fn url_as(&self, user: &str) -> String {
        let url = self.url();
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        format!("{scheme}://{user}:{user}@{host}")
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

fn execute(server: &str, sql: String) {
    let server = server.to_owned();
    block_on(async move {
        let mut connection = PgConnection::connect(&server).await.expect("the test server answers");
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    });
}

/// On a thread of its own: tests are asynchronous, and their ends are not. It has the test's name.
fn block_on<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let thread = std::thread::Builder::new().name(name).spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(future)
    });
    match thread.unwrap().join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
