//! Opening: by whom, and on what.

use std::collections::HashSet;

use futures_util::future::join_all;
use sagamill_eventstore::{Dialect, Error, EventStore, Expected, Position, Signal, Timer, Version, migrations};
use sqlx::{AssertSqlSafe, PgPool, Postgres};

use super::{append, everything, execute, log, noted, server::Database};

#[tokio::test]
async fn what_cannot_be_reached_is_said_without_a_password() {
    let refused = async |url: &str| {
        let error = EventStore::connect(url).await.expect_err("it cannot be reached");
        let (said, shown) = (error.to_string(), format!("{error:?}"));
        assert!(!said.contains("secret") && !shown.contains("secret"), "{said}");
        error
    };
    for url in [
        "postgres://ada:secret@localhost:port/shop",
        "postgres://ada:secret@localhost/shop?sslmode=no",
    ] {
        let error = refused(url).await;
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    }
    // Nobody listens at that port.
    let error = refused("postgresql://ada:secret@127.0.0.1:1/shop").await;
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("ada@127.0.0.1:1/shop"), "{error}");
    let Some(database) = Database::make() else { return };
    let nowhere = database.url().replace(database.name(), "sagamill_nowhere");
    let error = refused(&nowhere).await;
    assert!(matches!(error, Error::Unusable { .. }), "{error:?}");
    let error = refused(&database.url_as("nobody_of_this_name:secret")).await;
    assert!(matches!(error, Error::Unusable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let Some(database) = Database::make_with("ENCODING 'SQL_ASCII' LOCALE 'C' LOCALE_PROVIDER libc") else {
        return;
    };
    let refused = EventStore::connect(&database.url()).await;
    assert!(
        matches!(&refused, Err(Error::Unusable { what }) if what.contains("SQL_ASCII")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn tables_of_a_newer_build_are_left_alone() {
    let Some((store, database)) = log().await else { return };
    execute(&store, "UPDATE es.log_meta SET schema_rev = 99").await;
    store.close().await;
    let refused = EventStore::connect(&database.url()).await;
    assert!(
        matches!(&refused, Err(Error::Unusable { what }) if what.contains("99")),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_database_opened_by_many_at_once_is_one_log() {
    let Some(database) = Database::make() else { return };
    let opening = (0..8).map(|n| {
        let url = database.url();
        tokio::spawn(async move {
            let store = EventStore::connect(&url).await.unwrap();
            let stream = format!("s-{n}");
            store
                .commit(append(&stream, Expected::NoStream, [noted("x")]))
                .await
                .unwrap();
            store
        })
    });
    let stores: Vec<_> = join_all(opening).await.into_iter().map(Result::unwrap).collect();
    let ids: HashSet<_> = stores.iter().map(EventStore::log_id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(stores[0].head().await.unwrap().position, Position(8));
    let (again, head) = (
        EventStore::<Postgres>::open(PgPool::connect(&database.url()).await.unwrap()),
        Position(8),
    );
    let again = again.await.unwrap();
    assert_eq!(
        (again.log_id(), again.head().await.unwrap().position),
        (stores[0].log_id(), head)
    );
}

/// A role of the test's own.
struct Role {
    owner: PgPool,
    name: String,
}

impl Role {
    async fn make(database: &Database) -> Self {
        let owner = PgPool::connect(&database.url()).await.unwrap();
        let name = format!("role_{}", uuid::Uuid::now_v7().simple());
        let role = Self { owner, name };
        role.sql("CREATE ROLE {role} LOGIN PASSWORD '{role}'").await;
        role
    }
    async fn sql(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.replace("{role}", &self.name));
        sqlx::raw_sql(sql).execute(&self.owner).await.unwrap();
    }
    async fn gone(self) {
        self.sql("DROP OWNED BY {role}; DROP ROLE {role}").await;
    }
}

/// The steps as an owner applies them by hand, and the rights that stand at their head: nothing more is needed for all that a
/// process does, and nothing less will do.
#[tokio::test]
async fn a_role_with_the_rights_that_are_said_can_do_everything() {
    let Some(database) = Database::make() else { return };
    let role = Role::make(&database).await;
    let url = database.url_as(&role.name);
    let refused = EventStore::connect(&url).await;
    assert!(
        matches!(refused, Err(Error::Unusable { .. })),
        "it may make no tables: {refused:?}"
    );
    for step in migrations(Dialect::Postgres) {
        sqlx::raw_sql(step.sql).execute(&role.owner).await.unwrap();
    }
    let refused = EventStore::connect(&url).await;
    assert!(
        matches!(refused, Err(Error::Unusable { .. })),
        "it may not look at them: {refused:?}"
    );
    let first = migrations(Dialect::Postgres)[0].sql;
    let rights: String = first
        .lines()
        .take_while(|line| line.starts_with("--"))
        .filter_map(|line| line.strip_prefix("--   "))
        .map(|line| line.replace(';', " TO {role};"))
        .collect();
    assert!(rights.contains("GRANT USAGE"), "{rights}");
    role.sql(&rights).await;
    let store = EventStore::connect(&url).await.unwrap().on::<Postgres>().unwrap();
    do_everything(&store).await;
    let past = sqlx::query(
        "INSERT INTO es.event (pos, version, event_id, stream_id, type, payload) VALUES (99, 1, $1, 'a', 'x', '')",
    );
    let past = past.bind(uuid::Uuid::now_v7()).execute(store.pool()).await;
    assert!(past.is_err(), "nobody passes by the lock");
    store.close().await;
    role.gone().await;
}

async fn do_everything(store: &EventStore<Postgres>) {
    store
        .commit(append("a", Expected::NoStream, [noted("1")]))
        .await
        .unwrap();
    let mut tx = store.begin().await.unwrap();
    store.stage_in(&mut tx, "b", [noted("2")]).await.unwrap();
    store
        .append_in_checked(&mut tx, "a", Expected::Exact(Version(1)), [noted("3")])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(everything(store).await.len(), 3);
    let mut feed = store.subscribe("everything").open().await.unwrap();
    let progress = feed.progress();
    let mut seen = 0;
    while seen < 3 {
        if let Signal::Event { shard, event } = feed.next().await.unwrap() {
            progress.done(shard, event.position);
            seen += 1;
        }
    }
    let timer = Timer {
        id: "t".to_owned(),
        due: store.now(),
        payload: vec![1],
    };
    progress.schedule(0, &[timer]).await.unwrap();
    progress.unschedule(0, &["t".to_owned()]).await.unwrap();
    feed.close().await.unwrap();
    assert_eq!(store.checkpoints().await.unwrap()[0].at.position, Position(3));
    store.rewind("everything").await.unwrap();
    store.health().await.unwrap();
}
