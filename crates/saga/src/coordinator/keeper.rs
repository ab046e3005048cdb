//! The owner of shards: takes their events, and looks at sagas when they are due.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use sagamill_eventstore::{Feed, ShardBy, Signal, Timer};
use tokio_util::sync::CancellationToken;

use super::host::Host;
use super::queue::Item;
use super::watch::{FAR, Row, later};
use super::work::{Shape, Worker};
use crate::{Result, wire};

/// How many parts the work of a shape's sagas has, for ever.
const SHARDS: u16 = 64;
/// How long a shard waits for its sagas' steps before another process has it. Sagas wait for their participants under way, and
/// are as well waited for elsewhere.
const HAND_OVER: Duration = Duration::from_millis(500);
/// Most events that are handed out and not done: about the number of sagas that run at the same time in one process.
const IN_FLIGHT_MAX: usize = 16_384;

/// The name of the subscription to what the sagas of a shape want done: that of its checkpoints and timers. Each shape has
/// its own, so that its sagas' shards are shared among those who know it, and nobody else has them.
fn subscription(of: &Shape) -> String {
    format!("saga-work/{}.v{}/{:016x}", of.definition, of.version, of.digest)
}

/// Opens the subscription to what the sagas of a shape want done.
pub(crate) async fn open(host: &Host, of: &Shape, lease: Duration) -> Result<Feed> {
    let subscription = host
        .store
        .subscribe(subscription(of))
        .category(wire::CATEGORY)
        .lease(lease)
        .hand_over_within(HAND_OVER);
    Ok(subscription
        .shards(SHARDS, ShardBy::Stream)
        .max_in_flight(IN_FLIGHT_MAX)
        .open()
        .await?)
}

/// Keeps the shards of this process until `stop`. The feed stays open: what is being done still counts.
pub(crate) async fn keep(
    host: &Arc<Host>,
    worker: &Arc<Worker>,
    feed: &mut Feed,
    stop: &CancellationToken,
) -> Result<()> {
    let mut read_at = Timestamp::MIN;
    loop {
        let now = host.store.now();
        if read_at <= now {
            for shard in (0..SHARDS).filter(|shard| worker.progress.holds(*shard)) {
                read_timers(host, worker, shard).await;
            }
            read_at = later(now, FAR / 2);
        }
        let next = worker.watches().next().map_or(read_at, |next| next.min(read_at));
        if next <= now {
            tick(host, worker, now).await;
            continue;
        }
        // In this order, so that a run can be repeated; what is due does not starve, since it is looked at above.
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            signal = feed.next() => take(host, worker, signal?).await,
            () = worker.sooner.notified() => {}
            () = host.store.sleep_until(next) => {}
        }
    }
}

async fn take(host: &Arc<Host>, worker: &Arc<Worker>, signal: Signal) {
    match signal {
        Signal::Event { shard, event } if !worker.takes(&event) => worker.progress.done(shard, event.position),
        Signal::Event { shard, event } => {
            let stream: Arc<str> = event.stream.as_str().into();
            worker.noted(host, &stream, shard, event.position, event.version.0);
        }
        Signal::Gained { lease } => {
            worker.watches().drop_shard(lease.shard);
            read_timers(host, worker, lease.shard).await;
        }
        Signal::Lost { shard } => worker.watches().drop_shard(shard),
        _ => {}
    }
}

/// Remembers the written timers that are near. Where they cannot be read now, they are the next time.
async fn read_timers(host: &Host, worker: &Worker, shard: u16) {
    match worker.progress.timers(shard, later(host.store.now(), FAR)).await {
        Ok(timers) => {
            let mut watches = worker.watches();
            for timer in timers {
                watches.read(&timer.id.into(), shard, timer.due);
            }
        }
        Err(error) => tracing::warn!(shard, %error, "the timers of a shard could not be read"),
    }
}

async fn tick(host: &Arc<Host>, worker: &Worker, now: Timestamp) {
    let due = worker.watches().take_due(now);
    for (stream, version) in due {
        host.queue.post(host, &stream, Item::Wake { at_least: version });
    }
    let mut by_shard: BTreeMap<u16, BTreeMap<Arc<str>, Row>> = BTreeMap::new();
    for (stream, row) in worker.watches().take_rows(&worker.progress, now) {
        by_shard.entry(row.shard).or_default().insert(stream, row);
    }
    for (shard, rows) in by_shard {
        match write(worker, shard, &rows).await {
            Ok(()) => {
                for held in rows.values().filter_map(|row| row.held) {
                    worker.progress.done(shard, held);
                }
            }
            // Another process has the shard: it goes on from the checkpoint.
            Err(sagamill_eventstore::Error::Fenced { .. }) => {}
            Err(error) => {
                tracing::warn!(shard, %error, "timers could not be written down; they stay in memory");
                worker.watches().keep(&worker.progress, rows);
                // What cannot be written now is not tried in a tight loop.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn write(worker: &Worker, shard: u16, rows: &BTreeMap<Arc<str>, Row>) -> sagamill_eventstore::Result<()> {
    let timer = |(stream, row): (&Arc<str>, &Row)| {
        row.due.map(|due| Timer {
            id: stream.to_string(),
            due,
            payload: Vec::new(),
        })
    };
    let timers: Vec<Timer> = rows.iter().filter_map(timer).collect();
    let gone: Vec<String> = rows
        .iter()
        .filter(|(_, row)| row.due.is_none())
        .map(|(stream, _)| stream.to_string())
        .collect();
    if !timers.is_empty() {
        worker.progress.schedule(shard, &timers).await?;
    }
    if !gone.is_empty() {
        worker.progress.unschedule(shard, &gone).await?;
    }
    Ok(())
}
