//! Local steps: idempotent ones, and transactional ones.

use sagamill::prelude::*;
use sqlx::Sqlite;
use uuid::Uuid;

use super::{Effected, STEPS, Work, check, closed, engine, part, per_saga};
use crate::{
    case::Setting,
    effect::Effects,
    measure::{Pair, Sample, side_by_side},
};

/// Steps that commit their effect by themselves, against three such effects.
pub(crate) async fn idempotent(setting: &Setting) -> anyhow::Result<Pair> {
    side_by_side(
        setting,
        async || sagas(setting, with_own_commit()).await,
        async || bare(setting, part::effect).await,
    )
    .await
}

/// Steps that take the library's transaction, against three of barrier and effect.
pub(crate) async fn transactional(setting: &Setting) -> anyhow::Result<Pair> {
    side_by_side(
        setting,
        async || sagas(setting, in_transaction()).await,
        async || bare(setting, part::barred).await,
    )
    .await
}

async fn commit(State(effects): State<Effects>, saga: SagaContext, _: Work) -> Effected {
    part::effect(effects, saga.effect).await?;
    Ok(Done(()))
}

async fn join(State(effects): State<Effects>, mut tx: Tx<Sqlite>, saga: SagaContext, _: Work) -> Effected {
    effects.insert(&mut tx, saga.effect).await?;
    Ok(Done(()))
}

async fn undo(_: ()) {}

fn with_own_commit() -> Definition<Work> {
    Saga::define("bench-idempotent")
        .step("reserve", local(commit).undo(undo))
        .pivot("charge", local(commit))
        .step("ship", local(commit))
        .build()
}

fn in_transaction() -> Definition<Work> {
    Saga::define("bench-transactional")
        .step("reserve", local(join).undo(undo))
        .pivot("charge", local(join))
        .step("ship", local(join))
        .build()
}

async fn sagas(setting: &Setting, definition: Definition<Work>) -> anyhow::Result<Sample> {
    let folder = setting.fresh()?;
    let effects = Effects::open(folder.path()).await?;
    let coordinator = Coordinator::new(effects.store()).with_state(effects.clone());
    let sagas = coordinator.register(definition)?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(coordinator.run(async move {
        let _ = stopped.await;
    }));
    let (sample, ended) = engine(setting, sagas).await?;
    let events = effects.store().head().await?.position.0;
    drop(stop);
    running.await??;
    check(effects.count().await?, ended, STEPS)?;
    effects.close().await;
    Ok(sample.with("events_per_saga", per_saga(events, ended)))
}

async fn bare<F, Fut>(setting: &Setting, one: F) -> anyhow::Result<Sample>
where
    F: Fn(Effects, Uuid) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let folder = setting.fresh()?;
    let effects = Effects::open(folder.path()).await?;
    let writer = effects.clone();
    let (sample, ended) = closed(setting, move |_, _| {
        let effects = writer.clone();
        async move {
            for _ in 0..STEPS {
                one(effects.clone(), Uuid::now_v7()).await?;
            }
            Ok(())
        }
    })
    .await?;
    check(effects.count().await?, ended, STEPS)?;
    effects.close().await;
    Ok(sample)
}
