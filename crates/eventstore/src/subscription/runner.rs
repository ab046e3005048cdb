//! Runs a handler for each event of a feed: one at a time in a shard, shards side by side.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    time::Duration,
};

use futures_core::future::BoxFuture;
use futures_util::{StreamExt, stream::FuturesUnordered};
use sagamill_bus::BoxError;

use super::{Feed, Pauses, Progress, Signal};
use crate::{Position, Recorded, Result};

/// The longest pause before a handler is tried again.
const PAUSE: Duration = Duration::from_secs(30);
/// How long handlers may go on after the shutdown.
const DRAIN: Duration = Duration::from_secs(10);

/// The events of one shard; the first is being handled.
#[derive(Default)]
struct Lane {
    /// Tells a lane from that of an earlier ownership of the shard.
    fence: i64,
    events: VecDeque<Recorded>,
    pauses: Pauses,
}

/// What became of a lane's first event.
enum Outcome {
    Handled(Position),
    Failed(Position, BoxError),
    /// It waited long enough.
    Again,
}

type Step = BoxFuture<'static, (u16, i64, Outcome)>;

struct Runner<H> {
    handler: H,
    progress: Progress,
    lanes: BTreeMap<u16, Lane>,
    /// Handlers at work. A lane has at most one future, here or among those that wait.
    running: FuturesUnordered<Step>,
    /// Lanes that pause before they are tried again.
    waiting: FuturesUnordered<Step>,
    stopping: bool,
}

pub(super) async fn run<H>(mut feed: Feed, handler: H, shutdown: impl Future<Output = ()> + Send) -> Result<()>
where
    H: FnMut(Recorded) -> BoxFuture<'static, Result<(), BoxError>> + Send,
{
    let (running, waiting) = (FuturesUnordered::new(), FuturesUnordered::new());
    let progress = feed.progress();
    let mut runner = Runner {
        handler,
        progress,
        lanes: BTreeMap::new(),
        running,
        waiting,
        stopping: false,
    };
    let mut shutdown = pin!(shutdown);
    let ended = loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break Ok(()),
            Some((shard, fence, outcome)) = runner.running.next() => runner.turn(shard, fence, outcome),
            Some((shard, fence, outcome)) = runner.waiting.next() => runner.turn(shard, fence, outcome),
            signal = feed.next() => match signal {
                Ok(signal) => runner.take(signal),
                Err(error) => break Err(error),
            },
        }
    };
    runner.drain().await;
    ended.and(feed.close().await)
}

impl<H> Runner<H>
where
    H: FnMut(Recorded) -> BoxFuture<'static, Result<(), BoxError>> + Send,
{
    fn take(&mut self, signal: Signal) {
        match signal {
            Signal::Gained { lease } => {
                self.lanes.insert(
                    lease.shard,
                    Lane {
                        fence: lease.fence,
                        ..Lane::default()
                    },
                );
            }
            Signal::Lost { shard } => {
                self.lanes.remove(&shard);
            }
            Signal::Event { shard, event } => {
                let Some(lane) = self.lanes.get_mut(&shard) else { return };
                lane.events.push_back(event);
                if lane.events.len() == 1 {
                    self.start(shard);
                }
            }
            Signal::CaughtUp { .. } => (),
        }
    }

    /// Goes on in a lane, unless it is that of an earlier ownership.
    fn turn(&mut self, shard: u16, fence: i64, outcome: Outcome) {
        let Some(lane) = self.lanes.get_mut(&shard).filter(|lane| lane.fence == fence) else {
            return;
        };
        match outcome {
            Outcome::Handled(position) => {
                lane.events.pop_front();
                lane.pauses.reset();
                self.progress.done(shard, position);
                self.start(shard);
            }
            Outcome::Failed(position, error) => {
                let pause = lane.pauses.next(PAUSE);
                tracing::warn!(subscription = %self.progress.name, shard, %position, error, ?pause, "the handler failed; its shard waits");
                self.wait(shard, fence, pause);
            }
            Outcome::Again => self.start(shard),
        }
    }

    /// Handles a lane's first event.
    fn start(&mut self, shard: u16) {
        let Some(lane) = self.lanes.get(&shard) else { return };
        let Some(event) = lane.events.front().filter(|_| !self.stopping) else {
            return;
        };
        let (fence, position) = (lane.fence, event.position);
        if !self.progress.holds(shard) {
            // Prolonged soon, or lost: the feed says so.
            return self.wait(shard, fence, Duration::from_millis(100));
        }
        let handled = (self.handler)(event.clone());
        self.running.push(Box::pin(async move {
            let outcome = handled.await;
            (
                shard,
                fence,
                outcome.map_or_else(|e| Outcome::Failed(position, e), |()| Outcome::Handled(position)),
            )
        }));
    }

    fn wait(&mut self, shard: u16, fence: i64, pause: Duration) {
        if !self.stopping {
            self.waiting.push(Box::pin(async move {
                tokio::time::sleep(pause).await;
                (shard, fence, Outcome::Again)
            }));
        }
    }

    /// Lets handlers end that are at work; starts none.
    async fn drain(&mut self) {
        self.stopping = true;
        let all = async {
            while let Some((shard, fence, outcome)) = self.running.next().await {
                self.turn(shard, fence, outcome);
            }
        };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            tracing::warn!(subscription = %self.progress.name, "handlers were cut off at the shutdown; their events are handled again");
        }
    }
}
