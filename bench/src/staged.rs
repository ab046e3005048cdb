//! An effect with its event staged in the same transaction, against the effect alone.

use std::time::Instant;

use anyhow::ensure;
use sagamill::eventstore::EventStore;
use sqlx::Sqlite;

use crate::{
    case::Setting,
    effect::Effects,
    load::closed_loop,
    measure::{Pair, Sample, side_by_side},
    order::new_event,
};

/// So many callers, each in a transaction of its own; the time until the events have their positions is included.
pub(crate) async fn run(setting: &Setting, callers: usize) -> anyhow::Result<Pair> {
    side_by_side(
        setting,
        async || round(setting, callers, true).await,
        async || round(setting, callers, false).await,
    )
    .await
}

async fn round(setting: &Setting, callers: usize, staged: bool) -> anyhow::Result<Sample> {
    let folder = setting.fresh()?;
    let effects = Effects::open(folder.path()).await?;
    let store = effects.store().clone();
    let op = {
        let effects = effects.clone();
        move |caller, number| {
            let effects = effects.clone();
            async move { effect(&effects, staged.then_some((caller, number))).await }
        }
    };
    let sample = closed_loop(setting.round, callers, 1, op).await?;
    let ended = Instant::now();
    let done = effects.count().await?;
    if staged {
        sequenced(&store, done).await?;
    }
    let late = ended.elapsed().as_secs_f64();
    effects.close().await;
    Ok(sample.with("sequenced_late_ms", late * 1_000.0))
}

async fn effect(effects: &Effects, staged: Option<(usize, u64)>) -> anyhow::Result<()> {
    let mut tx = effects.store().begin().await?;
    effects.insert(&mut tx, uuid::Uuid::now_v7()).await?;
    if let Some((caller, number)) = staged {
        effects
            .store()
            .stage_in(&mut tx, format!("bench-{caller}"), [new_event(number)?])
            .await?;
    }
    Ok(tx.commit().await?)
}

/// Every committed effect has its event.
async fn sequenced(store: &EventStore<Sqlite>, effects: i64) -> anyhow::Result<()> {
    let head = store.head().await?.position.0;
    ensure!(head == effects, "{effects} effects, but {head} events");
    Ok(())
}
