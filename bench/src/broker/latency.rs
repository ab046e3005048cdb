//! From publish to handler, at a steady rate, in one process.

use std::{
    ops::{ControlFlow, Range},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    drain::{LOST_AFTER, Tally},
    message::{self, Numbered},
    ours::Ours,
    place::Place,
    way::{Bare, Load, Way},
};
use crate::{
    case::Setting,
    measure::{Pair, Sample, own_time, side_by_side},
};

/// One message each.
const EVERY: Duration = Duration::from_millis(1);
/// So many times a round's length: the slowest hundredth must be some.
const LONGER: u32 = 4;
/// A fifth of the messages are sent before it counts.
const WARM_UP_PART: u64 = 5;

pub(crate) async fn run<B: Bare>(setting: &Setting) -> anyhow::Result<Pair> {
    side_by_side(
        setting,
        async || round::<Ours>(setting).await,
        async || round::<B>(setting).await,
    )
    .await
}

async fn round<W: Way>(setting: &Setting) -> anyhow::Result<Sample> {
    let place = Place::find(setting).await?;
    let way = W::open(place.url(), Load::Steady).await?;
    let clock = Instant::now();
    let count = u64::try_from((setting.round * LONGER).as_millis() / EVERY.as_millis())?;
    let arrivals = Arc::new(Mutex::new(Arrivals::new(count)?));
    let heard = Arc::new(Notify::new());
    let reader = {
        let (way, arrivals, heard) = (way.clone(), arrivals.clone(), heard.clone());
        tokio::spawn(async move {
            let receive = move |payload: &[u8]| {
                let now = clock.elapsed();
                heard.notify_one();
                let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
                arrivals.note(payload, now)
            };
            way.consume(receive).await
        })
    };
    // A group takes its time to come together.
    way.publish(Numbered::new(0, Duration::ZERO)).await?;
    timeout(LOST_AFTER, heard.notified())
        .await
        .context("the first message has not come")?;
    let before = own_time();
    publish_steadily(&way, 1..count, clock).await?;
    timeout(LOST_AFTER, reader)
        .await
        .context("not all messages have come")???;
    let arrivals = std::mem::take(&mut arrivals.lock().unwrap_or_else(PoisonError::into_inner).times);
    let mut sample = Sample::new(0.0, usize::try_from(count)?, arrivals).with_own_time_since(before);
    way.close().await?;
    place.leave().await?;
    let slowest = sample.percentile(0.99).context("nothing was measured")?;
    sample.rate = slowest.as_secs_f64() * 1_000.0;
    Ok(sample)
}

/// Nobody waits for a message before the next: one that is late must not make others late.
async fn publish_steadily<W: Way>(way: &W, numbers: Range<u64>, clock: Instant) -> anyhow::Result<()> {
    let mut calls = JoinSet::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in numbers {
        ticks.tick().await;
        let (way, message) = (way.clone(), Numbered::new(number, clock.elapsed()));
        calls.spawn(async move { way.publish(message).await });
        while let Some(call) = calls.try_join_next() {
            call??;
        }
    }
    while let Some(call) = calls.join_next().await {
        call??;
    }
    Ok(())
}

/// What has come.
#[derive(Debug)]
struct Arrivals {
    tally: Tally,
    times: Vec<Duration>,
    /// The first number that counts.
    from: u64,
}

impl Arrivals {
    fn new(count: u64) -> anyhow::Result<Self> {
        Ok(Self {
            tally: Tally::new(count)?,
            times: Vec::with_capacity(usize::try_from(count)?),
            from: (count / WARM_UP_PART).max(1),
        })
    }
    fn note(&mut self, payload: &[u8], now: Duration) -> anyhow::Result<ControlFlow<()>> {
        let (number, sent) = message::read(payload)?;
        if number >= self.from {
            self.times.push(now.saturating_sub(sent));
        }
        self.tally.note(number)
    }
}
