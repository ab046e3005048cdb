//! Local steps: idempotent ones, and transactional ones.

use sagamill::prelude::*;
use uuid::Uuid;

use super::{Effected, STEPS, Work, check, closed, engine, per_saga};
use crate::{
    case::Setting,
    effect::{Done as Effecting, Effects, Engine},
    measure::{Pair, Sample, side_by_side},
};

/// Connections for effects. On a few cores, more of them only wait for each other.
const CONNECTIONS: u32 = 10;
/// What is counted on the way to a server.
const ROUND_TRIPS: &str = "round_trips_per_saga";

/// The least that a step does.
type Least<D> = fn(Effects<D>, Uuid) -> Effecting<'static>;

/// Steps that commit their effect by themselves, against three such effects.
pub(crate) async fn idempotent<D: Engine>(setting: &Setting) -> anyhow::Result<Pair> {
    pair::<D>(setting, with_own_commit::<D>, D::alone).await
}

/// Steps that take the library's transaction, against three of barrier and effect.
pub(crate) async fn transactional<D: Engine>(setting: &Setting) -> anyhow::Result<Pair> {
    pair::<D>(setting, in_transaction::<D>, D::barred).await
}

async fn pair<D: Engine>(
    setting: &Setting,
    definition: fn() -> Definition<Work>,
    least: Least<D>,
) -> anyhow::Result<Pair> {
    let mut pair = side_by_side(
        setting,
        async || sagas::<D>(setting, definition()).await,
        async || bare::<D>(setting, least).await,
    )
    .await?;
    if D::IS_SERVER && setting.side.is_none() {
        // Not in the rounds that count: whoever looks at the way makes it longer.
        let watched = setting.watched();
        let rounds = [
            (&mut pair.ours, sagas::<D>(&watched, definition()).await?),
            (&mut pair.baseline, bare::<D>(&watched, least).await?),
        ];
        for (side, round) in rounds {
            side.more.extend(round.more.get_key_value(ROUND_TRIPS));
        }
    }
    Ok(pair)
}

async fn commit<D: Engine>(State(effects): State<Effects<D>>, saga: SagaContext, _: Work) -> Effected {
    D::alone(effects, saga.effect).await?;
    Ok(Done(()))
}

async fn join<D: Engine>(mut tx: Tx<D>, saga: SagaContext, _: Work) -> Effected {
    D::insert(&mut tx, saga.effect).await?;
    Ok(Done(()))
}

async fn undo(_: ()) {}

fn with_own_commit<D: Engine>() -> Definition<Work> {
    Saga::define("bench-idempotent")
        .step("reserve", local(commit::<D>).undo(undo))
        .pivot("charge", local(commit::<D>))
        .step("ship", local(commit::<D>))
        .build()
}

fn in_transaction<D: Engine>() -> Definition<Work> {
    Saga::define("bench-transactional")
        .step("reserve", local(join::<D>).undo(undo))
        .pivot("charge", local(join::<D>))
        .step("ship", local(join::<D>))
        .build()
}

async fn sagas<D: Engine>(setting: &Setting, definition: Definition<Work>) -> anyhow::Result<Sample> {
    let home = D::home(setting).await?;
    let effects = D::open(&home, CONNECTIONS).await?;
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
    check(D::count(&effects).await?, ended, STEPS)?;
    effects.close().await;
    let sample = D::costs(&home, sample, ended).await?;
    D::leave(home).await?;
    Ok(sample.with("events_per_saga", per_saga(events, ended)))
}

async fn bare<D: Engine>(setting: &Setting, least: Least<D>) -> anyhow::Result<Sample> {
    let home = D::home(setting).await?;
    let effects = D::open(&home, CONNECTIONS).await?;
    let writer = effects.clone();
    let (sample, ended) = closed(setting, move |_, _| {
        let effects = writer.clone();
        async move {
            for _ in 0..STEPS {
                least(effects.clone(), Uuid::now_v7()).await?;
            }
            Ok(())
        }
    })
    .await?;
    check(D::count(&effects).await?, ended, STEPS)?;
    effects.close().await;
    let sample = D::costs(&home, sample, ended).await?;
    D::leave(home).await?;
    Ok(sample)
}
