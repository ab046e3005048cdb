//! Three participants over the memory bus, a database each.

use std::{array, path::Path};

use anyhow::Context as _;
use sagamill::{prelude::*, saga::Never};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

use super::{Effected, Work, check, closed, engine, per_saga};
use crate::{
    case::Setting,
    effect::{Effects, Engine as _, sqlite},
    measure::{Pair, Sample, side_by_side},
};

/// Connections of each participant's pool.
const CONNECTIONS: u32 = 10;

/// Sagas over the bus, against the participants' own transactions.
pub(crate) async fn run(setting: &Setting) -> anyhow::Result<Pair> {
    side_by_side(setting, async || sagas(setting).await, async || bare(setting).await).await
}

macro_rules! command {
    ($name:ident, $named:literal) => {
        #[derive(Debug, Serialize, Deserialize)]
        struct $name {
            number: u64,
        }
        impl Command for $name {
            const NAME: &'static str = $named;
            type Reply = ();
            type Rejection = Never;
        }
        impl From<&Work> for $name {
            fn from(work: &Work) -> Self {
                Self { number: work.number }
            }
        }
    };
}
command!(Reserve, "bench-stock.reserve");
command!(Charge, "bench-card.charge");
command!(Ship, "bench-carrier.ship");

fn definition() -> Definition<Work> {
    Saga::define("bench-bus")
        .step("reserve", call(|work: &Work| Reserve::from(work)).no_undo())
        .pivot("charge", call(|work: &Work| Charge::from(work)))
        .step("ship", call(|work: &Work| Ship::from(work)))
        .build()
}

async fn handle<C>(State(_): State<Effects<Sqlite>>, mut tx: Tx<Sqlite>, saga: SagaContext, _: C) -> Effected {
    Sqlite::insert(&mut tx, saga.effect).await?;
    Ok(Done(()))
}

/// The participants' databases.
async fn databases(folder: &Path) -> anyhow::Result<[Effects<Sqlite>; 3]> {
    let mut all = Vec::new();
    for name in ["stock", "card", "carrier"] {
        let folder = folder.join(name);
        std::fs::create_dir(&folder)?;
        all.push(sqlite::open(&folder, CONNECTIONS).await?);
    }
    let [stock, card, carrier] = all.try_into().ok().context("three databases")?;
    Ok([stock, card, carrier])
}

async fn sagas(setting: &Setting) -> anyhow::Result<Sample> {
    let folder = setting.fresh()?;
    let databases = databases(folder.path()).await?;
    let log = EventStore::connect(&format!("sqlite:{}", folder.path().join("order.db").display())).await?;
    let bus = Bus::memory();
    let (stop, stopped) = watch::channel(());
    let shutdowns: [_; 4] = array::from_fn(|_| {
        let mut stopped = stopped.clone();
        async move {
            // An error says that the sender is gone, which is the signal.
            let _ = stopped.changed().await;
        }
    });
    let [first, second, third, fourth] = shutdowns;
    let [stock, card, carrier] = databases.clone();
    let participant = |effects: &Effects<Sqlite>| Participant::new(effects.store());
    let stock_part = participant(&stock).on(handle::<Reserve>).with_state(stock);
    let card_part = participant(&card).on(handle::<Charge>).with_state(card);
    let carrier_part = participant(&carrier).on(handle::<Ship>).with_state(carrier);
    let mut running = JoinSet::new();
    for (part, shutdown) in [(stock_part, first), (card_part, second), (carrier_part, third)] {
        let bus = bus.clone();
        running.spawn(async move { part.run(&bus, shutdown).await });
    }
    let coordinator = Coordinator::new(&log).bus(bus);
    let sagas = coordinator.register(definition())?;
    running.spawn(coordinator.run(fourth));
    let (sample, ended) = engine(setting, sagas).await?;
    drop(stop);
    while let Some(task) = running.join_next().await {
        task??;
    }
    let mut events = log.head().await?.position.0;
    for effects in databases {
        check(Sqlite::count(&effects).await?, ended, 1)?;
        events += effects.store().head().await?.position.0;
        effects.close().await;
    }
    log.close().await;
    Ok(sample.with("events_per_saga", per_saga(events, ended)))
}

async fn bare(setting: &Setting) -> anyhow::Result<Sample> {
    let folder = setting.fresh()?;
    let databases = databases(folder.path()).await?;
    let writers = databases.clone();
    let (sample, ended) = closed(setting, move |_, _| {
        let writers = writers.clone();
        async move {
            for effects in writers {
                sqlite::answered(effects, Uuid::now_v7()).await?;
            }
            Ok(())
        }
    })
    .await?;
    for effects in databases {
        check(Sqlite::count(&effects).await?, ended, 1)?;
        effects.close().await;
    }
    Ok(sample)
}
