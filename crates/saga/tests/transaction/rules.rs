//! Effects inside the transaction, with handlers and local steps that take `Tx`: the same on every database.

use std::time::Duration;

use sagamill_bus::{Bus, Message, headers::name};
use sagamill_eventstore::EventStore;
use sagamill_saga::prelude::*;
use sagamill_saga::{Error, Result, wire};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{Database, Place, Pool};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Take {
    how: String,
}
impl Command for Take {
    const NAME: &'static str = "stock.take";
    type Reply = i64;
    type Rejection = String;
}

async fn insert(tx: &mut Tx<Database>, effect: Uuid) -> Result<i64, sqlx::Error> {
    let sql = "INSERT INTO taken (effect) VALUES ($1) RETURNING id";
    sqlx::query_scalar(sql)
        .bind(effect.to_string())
        .fetch_one(&mut **tx)
        .await
}
async fn take(mut tx: Tx<Database>, saga: SagaContext, command: Take) -> Result<Answer<i64, String>, HandlerError> {
    let row = insert(&mut tx, saga.effect).await?;
    match command.how.as_str() {
        "rejects" => return Ok(Rejected("changed its mind".into())),
        "fails" => return Err(HandlerError::permanent("cannot be")),
        "keeps" => drop(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(tx);
        })),
        "slowly" => tokio::time::sleep(Duration::from_millis(1)).await,
        _ => {}
    }
    Ok(Done(row))
}
async fn put_back(mut tx: Tx<Database>, undo: Undo<Take>) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM taken WHERE id = $1")
        .bind(undo.reply)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

struct Shop {
    pool: Pool,
    store: EventStore<Database>,
    bus: Bus,
    _place: Place,
}

impl Shop {
    /// None where there is no database to be had.
    async fn open() -> Option<Self> {
        let (pool, place) = super::open().await?;
        let store = EventStore::open(pool.clone()).await.unwrap();
        Some(Self {
            pool,
            store,
            bus: Bus::memory(),
            _place: place,
        })
    }
    fn participant(&self) -> JoinHandle<Result<()>> {
        let (participant, bus) = (
            Participant::new(&self.store).on(take).undo(put_back).with_state(()),
            self.bus.clone(),
        );
        tokio::spawn(async move { participant.run(&bus, std::future::pending()).await })
    }
    fn message(how: &str, effect: Uuid, phase: &str) -> Message {
        Message::json(&Take { how: how.into() })
            .unwrap()
            .key(effect)
            .header(name::TYPE, Take::NAME)
            .header(wire::SAGA, Uuid::from_u128(1).to_string())
            .header(wire::DEFINITION, "order")
            .header(wire::KEY, "k")
            .header(wire::STEP, "take")
            .header(wire::PHASE, phase)
            .header(wire::ATTEMPT, "1")
            .header(wire::EFFECT, effect.to_string())
            .header(wire::REPLY_TO, "order.v1.replies")
    }
    async fn ask(&self, how: &str, effect: Uuid, phase: &str) {
        self.bus
            .publish_to("stock.commands", [Self::message(how, effect, phase)])
            .await
            .unwrap();
    }
    async fn outcomes(&self, effect: Uuid, count: usize) -> Vec<String> {
        loop {
            let mut read = self.store.read(format!("effect-{effect}"));
            let mut outcomes = Vec::new();
            while let Some(event) = read.next().await {
                outcomes.push(event.unwrap().headers.get(wire::OUTCOME).unwrap().to_owned());
            }
            if outcomes.len() >= count {
                return outcomes;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    async fn taken(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM taken")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn what_is_rejected_or_fails_is_rolled_back_and_answered() {
    let Some(shop) = Shop::open().await else { return };
    let running = shop.participant();
    for (how, outcome) in [("rejects", "rejected"), ("fails", "failed"), ("keeps", "failed")] {
        let effect = Uuid::now_v7();
        shop.ask(how, effect, wire::FORWARD).await;
        assert_eq!(shop.outcomes(effect, 1).await, [outcome], "{how}");
        assert_eq!(shop.taken().await, 0, "{how}");
    }
    running.abort();
}

#[tokio::test]
async fn an_undo_takes_back_what_was_done() {
    let Some(shop) = Shop::open().await else { return };
    let running = shop.participant();
    let effect = Uuid::now_v7();
    shop.ask("", effect, wire::FORWARD).await;
    assert_eq!(shop.outcomes(effect, 1).await, ["done"]);
    assert_eq!(shop.taken().await, 1);
    shop.ask("", effect, wire::COMPENSATE).await;
    assert_eq!(shop.outcomes(effect, 2).await, ["done", "done"]);
    assert_eq!(shop.taken().await, 0);
    running.abort();
}

#[tokio::test]
async fn an_effect_cut_short_anywhere_is_there_once() {
    let Some(shop) = Shop::open().await else { return };
    for cut in 0..40_u64 {
        let effect = Uuid::now_v7();
        let running = shop.participant();
        shop.ask("slowly", effect, wire::FORWARD).await;
        tokio::time::sleep(Duration::from_micros(cut * 250)).await;
        running.abort();
        let _ = running.await;
        let running = shop.participant();
        assert_eq!(shop.outcomes(effect, 1).await, ["done"]);
        assert_eq!(shop.taken().await, i64::try_from(cut).unwrap() + 1);
        running.abort();
        let _ = running.await;
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Order {
    price: u32,
    #[serde(default)]
    row: i64,
}

async fn take_here(mut tx: Tx<Database>, saga: SagaContext, _: Order) -> Result<Answer<i64, String>, sqlx::Error> {
    let row = insert(&mut tx, saga.effect).await?;
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(Done(row))
}
async fn put_back_here(mut tx: Tx<Database>, row: i64) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM taken WHERE id = $1")
        .bind(row)
        .execute(&mut *tx)
        .await?;
    Ok(())
}
async fn pay_here(order: Order) -> Answer<(), String> {
    if order.price > 1_000 {
        Rejected("declined".into())
    } else {
        Done(())
    }
}
fn orders() -> Definition<Order> {
    Saga::define("order")
        .step(
            "take",
            local(take_here)
                .on_reply(|order: &mut Order, row| order.row = row)
                .undo(put_back_here),
        )
        .pivot("pay", local(pay_here))
        .build()
}

#[tokio::test]
async fn local_steps_in_a_transaction_are_done_and_undone_with_it() {
    let Some(shop) = Shop::open().await else { return };
    let coordinator = Coordinator::new(&shop.store);
    let orders = coordinator.register(orders()).unwrap();
    let running = tokio::spawn(coordinator.run(std::future::pending()));
    let paid = orders.start("paid", Order { price: 10, row: 0 }).await.unwrap();
    assert!(matches!(paid.outcome().await.unwrap(), Outcome::Completed(_)));
    assert_eq!(shop.taken().await, 1);
    let declined = orders.start("declined", Order { price: 5_000, row: 0 }).await.unwrap();
    assert!(matches!(declined.outcome().await.unwrap(), Outcome::Compensated { .. }));
    assert_eq!(shop.taken().await, 1);
    running.abort();
}

#[tokio::test]
async fn sagas_cut_short_anywhere_go_on_and_their_effects_are_there_once() {
    let Some(shop) = Shop::open().await else { return };
    let start = || {
        // A short lease: what was cut short is taken over soon.
        let coordinator = Coordinator::new(&shop.store).lease(Duration::from_millis(200));
        let sagas = coordinator.register(orders()).unwrap();
        (sagas, tokio::spawn(coordinator.run(std::future::pending())))
    };
    let price = |n: u64| if n.is_multiple_of(2) { 10 } else { 5_000 };
    for round in 0..8_u64 {
        let (sagas, running) = start();
        for n in 0..10 {
            sagas
                .start(
                    round * 10 + n,
                    Order {
                        price: price(n),
                        row: 0,
                    },
                )
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_micros(round * 130)).await;
        }
        running.abort();
        let _ = running.await;
        let (sagas, running) = start();
        for n in 0..10 {
            let outcome = sagas.get(round * 10 + n).await.unwrap().outcome().await.unwrap();
            assert_eq!(matches!(outcome, Outcome::Completed(_)), price(n) == 10, "{outcome:?}");
        }
        assert_eq!(shop.taken().await, 5 * (i64::try_from(round).unwrap() + 1));
        running.abort();
        let _ = running.await;
    }
}

#[tokio::test]
async fn a_saga_started_in_a_transaction_exists_only_with_it() {
    let Some(shop) = Shop::open().await else { return };
    let coordinator = Coordinator::new(&shop.store);
    let orders = coordinator.register(orders()).unwrap();
    let order = Order { price: 10, row: 0 };

    let mut tx = shop.store.begin().await.unwrap();
    orders.start_in(&mut tx, "a", order.clone()).await.unwrap();
    tx.rollback().await.unwrap();
    assert!(matches!(orders.get("a").await, Err(Error::NotFound { .. })));

    let mut tx = shop.store.begin().await.unwrap();
    let saga = orders.start_in(&mut tx, "a", order.clone()).await.unwrap();
    tx.commit().await.unwrap();
    let running = tokio::spawn(coordinator.clone().run(std::future::pending()));
    assert!(matches!(saga.outcome().await.unwrap(), Outcome::Completed(_)));

    let mut tx = shop.store.begin().await.unwrap();
    let again = orders.start_in(&mut tx, "a", order).await.unwrap();
    assert_eq!(again.stream(), saga.stream());
    let other = orders.start_in(&mut tx, "a", Order { price: 11, row: 0 }).await;
    assert!(matches!(other, Err(Error::KeyReused { .. })), "{other:?}");
    tx.commit().await.unwrap();
    assert_eq!(shop.taken().await, 1);
    running.abort();
}
