//! A topic that was filled is read to its end, and everything settled.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    drain::drain,
    ours::Ours,
    place::Place,
    publish::{BATCH, batch},
    way::{Bare, Load, Way},
};
use crate::{
    case::Setting,
    measure::{Pair, Sample, own_time, side_by_side},
};

/// Batches under way while a topic is filled.
const FILLING: usize = 4;

pub(crate) async fn run<B: Bare>(setting: &Setting) -> anyhow::Result<Pair> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive count far below 2^52"
    )]
    let count = (setting.round.as_secs_f64() * B::READ_PER_SECOND) as u64;
    let count = count.max(1).next_multiple_of(u64::from(BATCH));
    side_by_side(
        setting,
        async || round::<Ours>(setting, count).await,
        async || round::<B>(setting, count).await,
    )
    .await
}

async fn round<W: Way>(setting: &Setting, count: u64) -> anyhow::Result<Sample> {
    let place = Place::find(setting).await?;
    let way = W::open(place.url(), Load::Batch).await?;
    fill(&way, count).await?;
    let before = own_time();
    let drained = drain(&way, count).await?;
    let sample = Sample::new(drained.rate, usize::try_from(count)?, Vec::new()).with_own_time_since(before);
    way.close().await?;
    place.leave().await?;
    Ok(sample.with("duplicates", drained.duplicates))
}

async fn fill<W: Way>(way: &W, count: u64) -> anyhow::Result<()> {
    let batches = (0..count).step_by(BATCH as usize);
    let calls = batches.map(|first| way.publish_all(batch(first..first + u64::from(BATCH))));
    stream::iter(calls).buffer_unordered(FILLING).try_collect().await
}
