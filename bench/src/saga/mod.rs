//! Sagas of three steps, each one effect; a closed loop of 64 of them.

pub(crate) mod local;
pub(crate) mod over_bus;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use anyhow::{bail, ensure};
use sagamill::{prelude::*, saga::Never};
use serde::{Deserialize, Serialize};

use crate::{case::Setting, load::closed_loop, measure::Sample};

/// Sagas that are under way at once.
const IN_FLIGHT: usize = 64;
const STEPS: i64 = 3;

/// What a saga works on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Work {
    number: u64,
}

/// Runs sagas in a closed loop, each to its end; says how many ended in all, warm-up included.
async fn engine<D: Send + Sync + 'static>(setting: &Setting, sagas: Sagas<Work, D>) -> anyhow::Result<(Sample, i64)> {
    closed(setting, move |caller, number| {
        let sagas = sagas.clone();
        async move {
            let saga = sagas.start(format!("{caller}-{number}"), Work { number }).await?;
            match saga.outcome().await? {
                Outcome::Completed(_) => Ok(()),
                other => bail!("a saga did not complete: {other:?}"),
            }
        }
    })
    .await
}

/// A closed loop that also counts what ran outside of the measured time.
async fn closed<F, Fut>(setting: &Setting, op: F) -> anyhow::Result<(Sample, i64)>
where
    F: Fn(usize, u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let ended = Arc::new(AtomicI64::new(0));
    let counted = {
        let ended = ended.clone();
        move |caller, number| {
            let (call, ended) = (op(caller, number), ended.clone());
            async move {
                call.await?;
                ended.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    };
    let sample = closed_loop(setting.round, IN_FLIGHT, 1, counted).await?;
    Ok((sample, ended.load(Ordering::Relaxed)))
}

/// Each saga has had each of its effects once.
fn check(effects: i64, sagas: i64, effects_per_saga: i64) -> anyhow::Result<()> {
    let demanded = sagas * effects_per_saga;
    ensure!(
        effects == demanded,
        "{effects} effects of {sagas} sagas, which demand {demanded}"
    );
    Ok(())
}

/// Events of the log per saga.
fn per_saga(events: i64, sagas: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let events = events as f64 / sagas as f64;
    events
}

/// The effect cannot be refused.
type Effected = anyhow::Result<Answer<(), Never>>;
