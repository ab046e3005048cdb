#![expect(clippy::unwrap_used, reason = "helpers of tests fail them by panicking")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use sagamill_bus::BoxError;
use sagamill_eventstore::EventStore;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Answered, Ask, Effect, Gate, Given, KillPoints, Phase, Slot, Verdict, of};

#[path = "../../../eventstore/tests/server/mod.rs"]
mod server;

const POINTS: KillPoints = KillPoints {
    effect: ["", ""],
    undo: ["", ""],
    commit: ["", ""],
};

/// An effect outside the database, which waits until it is let go.
#[derive(Clone, Default)]
struct Outside {
    calls: Arc<AtomicU32>,
    go: Arc<Notify>,
}

impl Effect for Outside {
    fn is_transactional(&self) -> bool {
        false
    }
    fn run(&self, given: Given, _slot: Slot) -> BoxFuture<'static, Result<Answered, BoxError>> {
        let Self { calls, go } = self.clone();
        Box::pin(async move {
            given.called.set();
            calls.fetch_add(1, Ordering::Relaxed);
            go.notified().await;
            Ok(Answered::Done(Bytes::from_static(b"7")))
        })
    }
}

fn ask(effect: Uuid, phase: Phase) -> Ask {
    Ask {
        effect,
        phase,
        command_name: "stock.take".into(),
        command: Bytes::from_static(b"{}"),
        definition: "order".into(),
        saga: Uuid::nil(),
        saga_key: "k".into(),
        step: "take".into(),
        attempt: 1,
        not_after: None,
        reply_to: None,
    }
}

/// Two processes at the barrier of one log.
async fn two_gates(store: &EventStore) -> (Arc<Gate>, Arc<Gate>) {
    let gate = || Gate::new(of(store), store.clone(), &POINTS);
    let (one, two) = (gate(), gate());
    one.migrate().await.unwrap();
    two.migrate().await.unwrap();
    (one, two)
}

async fn sqlite() -> (EventStore, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("barrier.db").display());
    (EventStore::connect(&url).await.unwrap(), dir)
}

async fn nobody_else_is_let_to_a_running_effect(store: EventStore) {
    let (one, two) = two_gates(&store).await;
    let (effect, take) = (Uuid::now_v7(), Outside::default());
    let running = tokio::spawn({
        let (one, take) = (one.clone(), take.clone());
        async move { one.pass(&ask(effect, Phase::Forward), Some(&take), None).await.unwrap() }
    });
    while take.calls.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for gate in [&one, &two] {
        for phase in [Phase::Forward, Phase::Compensate] {
            let said = gate.pass(&ask(effect, phase), Some(&take), Some(&take)).await.unwrap();
            assert!(matches!(said, Verdict::Busy(_)), "{phase}: {said:?}");
        }
    }
    take.go.notify_one();
    assert_eq!(running.await.unwrap(), Verdict::Done(Bytes::from_static(b"7")));
    // The undo has left no tombstone behind: the effect is known to be there.
    take.go.notify_one();
    let undone = two
        .pass(&ask(effect, Phase::Compensate), Some(&take), Some(&take))
        .await
        .unwrap();
    assert!(matches!(undone, Verdict::Done(_)), "{undone:?}");
    assert_eq!(take.calls.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_else_is_let_to_a_running_effect_in_memory() {
    nobody_else_is_let_to_a_running_effect(EventStore::memory()).await;
}

/// Begins an effect, and gives it up while it runs.
async fn cut_short(gate: &Gate, ask: &Ask, take: &Outside) {
    let before = take.calls.load(Ordering::Relaxed);
    let begun = async {
        while take.calls.load(Ordering::Relaxed) == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        said = gate.pass(ask, Some(take), None) => panic!("nobody let it go, and it ended: {said:?}"),
        () = begun => {}
    }
}

async fn what_was_cut_short_in_this_process_need_not_wait_for_its_lease(store: EventStore) {
    let (one, _) = two_gates(&store).await;
    let (effect, take) = (Uuid::now_v7(), Outside::default());
    let ask = ask(effect, Phase::Forward);
    cut_short(&one, &ask, &take).await;
    take.go.notify_one();
    assert!(matches!(
        one.pass(&ask, Some(&take), None).await.unwrap(),
        Verdict::Done(_)
    ));
    assert_eq!(take.calls.load(Ordering::Relaxed), 2);
}

async fn a_sweep_leaves_what_is_young_and_what_is_in_doubt(store: EventStore) {
    let (one, two) = two_gates(&store).await;
    let (take, effects) = (Outside::default(), [Uuid::now_v7(), Uuid::now_v7()]);
    take.go.notify_one();
    one.pass(&ask(effects[0], Phase::Forward), Some(&take), None)
        .await
        .unwrap();
    let doubtful = ask(effects[1], Phase::Forward);
    cut_short(&one, &doubtful, &take).await;
    assert_eq!(two.sweep(Duration::from_secs(60)).await.unwrap(), 0);
    assert_eq!(two.sweep(Duration::ZERO).await.unwrap(), 1);
    assert!(matches!(
        two.pass(&doubtful, Some(&take), None).await.unwrap(),
        Verdict::Busy(_)
    ));
}

/// Of effects outside the database that are asked for at once, by several processes, one is begun.
async fn of_many_asks_at_once_one_is_begun(store: EventStore) {
    let take = Outside::default();
    for _ in 0..10 {
        let effect = Uuid::now_v7();
        let (one, two) = two_gates(&store).await;
        let calls = take.calls.load(Ordering::Relaxed);
        let asks = [&one, &two, &one, &two].map(|gate| {
            let (gate, take) = (gate.clone(), take.clone());
            tokio::spawn(async move {
                gate.pass(&ask(effect, Phase::Forward), Some(&take), None)
                    .await
                    .unwrap()
            })
        });
        while take.calls.load(Ordering::Relaxed) == calls {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        take.go.notify_one();
        let mut done = 0;
        for ask in asks {
            done += usize::from(matches!(ask.await.unwrap(), Verdict::Done(_)));
        }
        assert!(done >= 1);
        assert_eq!(take.calls.load(Ordering::Relaxed), calls + 1);
    }
}

macro_rules! on_databases {
    ($($rule:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $rule() {
                let (store, _dir) = super::sqlite().await;
                super::$rule(store).await;
            })*
        }
        #[cfg(feature = "postgres")]
        mod on_postgres {
            use super::{EventStore, server::Database};
            $(#[tokio::test]
            async fn $rule() {
                let Some(database) = Database::make() else { return };
                super::$rule(EventStore::connect(&database.url()).await.unwrap()).await;
            })*
        }
    };
}
on_databases!(
    nobody_else_is_let_to_a_running_effect,
    what_was_cut_short_in_this_process_need_not_wait_for_its_lease,
    a_sweep_leaves_what_is_young_and_what_is_in_doubt,
    of_many_asks_at_once_one_is_begun,
);
