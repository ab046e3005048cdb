//! Publishers in a closed loop. All that they published is read afterwards, untimed, to see that it is there.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    drain::drain,
    message::Numbered,
    ours::Ours,
    place::Place,
    way::{Bare, Load, Way},
};
use crate::{
    case::Setting,
    load::closed_loop,
    measure::{Pair, Sample, own_time, side_by_side},
};

/// Messages of one call that publishes many.
pub(crate) const BATCH: u32 = 1_000;
const MANY: usize = 64;

pub(crate) async fn run<B: Bare>(setting: &Setting, load: Load) -> anyhow::Result<Pair> {
    side_by_side(
        setting,
        async || round::<Ours>(setting, load).await,
        async || round::<B>(setting, load).await,
    )
    .await
}

async fn round<W: Way>(setting: &Setting, load: Load) -> anyhow::Result<Sample> {
    let place = Place::find(setting).await?;
    let way = W::open(place.url(), load).await?;
    let publishers = if load == Load::Many { MANY } else { 1 };
    let each = if load == Load::Batch { BATCH } else { 1 };
    // What is made at the first message is there when time begins to count.
    way.publish(Numbered::new(0, Duration::ZERO)).await?;
    let next = Arc::new(AtomicU64::new(1));
    let op = {
        let (way, next) = (way.clone(), next.clone());
        move |_, _| {
            let way = way.clone();
            let first = next.fetch_add(u64::from(each), Ordering::Relaxed);
            async move {
                if each == 1 {
                    way.publish(Numbered::new(first, Duration::ZERO)).await
                } else {
                    way.publish_all(batch(first..first + u64::from(each))).await
                }
            }
        }
    };
    let before = own_time();
    let sample = closed_loop(setting.round, publishers, each, op).await?;
    let sample = sample.with_own_time_since(before);
    let drained = drain(&way, next.load(Ordering::Relaxed)).await?;
    way.close().await?;
    place.leave().await?;
    Ok(sample.with("duplicates", drained.duplicates))
}

pub(crate) fn batch(numbers: Range<u64>) -> Vec<Numbered> {
    numbers.map(|number| Numbered::new(number, Duration::ZERO)).collect()
}
