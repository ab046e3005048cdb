//! Whoever waits for sagas asks the database for what others have appended, and stops waiting at any moment: a question that
//! is given up in its midst takes its connection with it, and a new one costs the server a process and a sign-in.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "tests")]

use futures_util::future::join_all;
use sagamill_bus::HandlerError;
use sagamill_eventstore::EventStore;
use sagamill_saga::{Never, prelude::*};
use sagamill_testkit::postgres::shared;
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Work;

async fn work(_: SagaContext, _: Work) -> Result<Answer<(), Never>, HandlerError> {
    Ok(Done(()))
}

fn definition() -> Definition<Work> {
    Saga::define("waited-for").pivot("work", local(work)).build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_sagas_loses_no_connections() {
    let Some(server) = shared().await else { return };
    let database = server.database("waiting").await.unwrap();
    let store = EventStore::connect(database.url()).await.unwrap();
    let coordinator = Coordinator::new(&store);
    let sagas = coordinator.register(definition()).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(coordinator.run(async move {
        let _ = stopped.await;
    }));
    for round in 0..10 {
        let outcomes = (0..32).map(|n| {
            let sagas = sagas.clone();
            async move {
                sagas
                    .start(round * 32 + n, Work)
                    .await
                    .unwrap()
                    .outcome()
                    .await
                    .unwrap()
            }
        });
        let outcomes = join_all(outcomes).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Completed(_))));
    }
    let mut looker = PgConnection::connect(database.url()).await.unwrap();
    let lost: i64 =
        sqlx::query_scalar("SELECT sessions_abandoned FROM pg_stat_database WHERE datname = current_database()")
            .fetch_one(&mut looker)
            .await
            .unwrap();
    assert_eq!(lost, 0, "connections were dropped with an answer on its way");
    drop(stop);
    running.await.unwrap().unwrap();
}
