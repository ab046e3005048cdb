//! An effect with its event staged in the same transaction, against the effect alone.

use std::time::Instant;

use anyhow::ensure;

use crate::{
    case::Setting,
    effect::{Effects, Engine},
    load::closed_loop,
    measure::{Pair, Sample, side_by_side},
    order::new_event,
};

/// So many callers, each in a transaction of its own; the time until the events have their positions is included.
pub(crate) async fn run<D: Engine>(setting: &Setting, callers: u32) -> anyhow::Result<Pair> {
    side_by_side(
        setting,
        async || staged::<D>(setting, callers).await,
        async || bare::<D>(setting, callers).await,
    )
    .await
}

async fn staged<D: Engine>(setting: &Setting, callers: u32) -> anyhow::Result<Sample> {
    let home = D::home(setting).await?;
    let effects = D::open(&home, callers).await?;
    let op = {
        let effects = effects.clone();
        move |caller, number| {
            let effects = effects.clone();
            async move { effect(&effects, caller, number).await }
        }
    };
    let sample = closed_loop(setting.round, callers as usize, 1, op).await?;
    let ended = Instant::now();
    let done = D::count(&effects).await?;
    // Every committed effect has its event.
    let head = effects.store().head().await?.position.0;
    ensure!(head == done, "{done} effects, but {head} events");
    let late = ended.elapsed().as_secs_f64();
    effects.close().await;
    D::leave(home).await?;
    Ok(sample.with("sequenced_late_ms", late * 1_000.0))
}

async fn bare<D: Engine>(setting: &Setting, callers: u32) -> anyhow::Result<Sample> {
    let home = D::home(setting).await?;
    let effects = D::open(&home, callers).await?;
    let op = {
        let effects = effects.clone();
        move |_, _| D::bare(effects.clone(), uuid::Uuid::now_v7())
    };
    let sample = closed_loop(setting.round, callers as usize, 1, op).await?;
    effects.close().await;
    D::leave(home).await?;
    Ok(sample)
}

async fn effect<D: Engine>(effects: &Effects<D>, caller: usize, number: u64) -> anyhow::Result<()> {
    let mut tx = effects.store().begin().await?;
    D::insert(&mut tx, uuid::Uuid::now_v7()).await?;
    let event = new_event(number)?;
    effects
        .store()
        .stage_in(&mut tx, format!("bench-{caller}"), [event])
        .await?;
    Ok(tx.commit().await?)
}
