//! Publishes what the feed hands out: keys side by side, the messages of a key one after the other.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use futures_core::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use sagamill_bus::{Bus, Capabilities, Message, Receipt, Topic};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    envelope::{Origin, message},
    lane::{LaneId, Lanes},
};
use crate::{
    Feed, Progress, Result, Signal,
    metric_definitions::{RELAY_FAILURES, RELAY_LAG, RELAY_LAG_SECONDS, RELAY_OLDEST, RELAY_PUBLISHED},
};

/// Most messages that are with the transport and not confirmed.
const IN_FLIGHT: usize = 1_024;
/// Most messages in one call to a durable transport. Over another each is a call of its own, for it ends when its message is
/// settled.
const BATCH: usize = 256;
/// The longest pause before a message is published again.
const PAUSE: Duration = Duration::from_secs(30);
/// The longest pause before it is looked again whether somebody subscribed.
const ABSENT_PAUSE: Duration = Duration::from_secs(5);
/// How long a lane waits whose lease is in doubt.
const DOUBT_PAUSE: Duration = Duration::from_millis(100);
/// How often the gauges are set.
const MEASURE: Duration = Duration::from_secs(1);

/// One call to the transport.
#[derive(Default)]
struct Call {
    messages: Vec<Message>,
    /// Whose messages they are, in order, and how many of each.
    lanes: Vec<(LaneId, usize)>,
}

/// A call that the transport has answered.
type Answer = (Vec<(LaneId, usize)>, Vec<sagamill_bus::Result<Receipt>>);

pub(super) struct Publisher {
    bus: Bus,
    promises: Capabilities,
    origin: Origin,
    progress: Progress,
    lanes: Lanes,
    calls: FuturesUnordered<BoxFuture<'static, Answer>>,
    in_flight: usize,
    measured: Option<Instant>,
}

impl Publisher {
    pub(super) fn new(bus: Bus, origin: Origin, progress: Progress) -> Self {
        let (promises, lanes, calls) = (bus.capabilities(), Lanes::default(), FuturesUnordered::new());
        Self {
            bus,
            promises,
            origin,
            progress,
            lanes,
            calls,
            in_flight: 0,
            measured: None,
        }
    }

    /// Publishes until the shutdown, or until the feed ends.
    pub(super) async fn run(
        &mut self,
        feed: &mut Feed,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<()> {
        loop {
            self.dispatch();
            self.measure(feed);
            let due = self.lanes.due();
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                Some((lanes, results)) = self.calls.next() => self.settle(lanes, results),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.lanes.wake(Instant::now()),
                signal = feed.next() => self.take_all(feed, signal?)?,
            }
        }
    }

    /// Waits for what is with the transport; starts nothing.
    pub(super) async fn drain(&mut self, time: Duration) {
        let all = async {
            while let Some((lanes, results)) = self.calls.next().await {
                self.settle(lanes, results);
            }
        };
        if timeout(time, all).await.is_err() {
            tracing::info!(
                unconfirmed = self.in_flight,
                "the relay stops; what is not confirmed is published again"
            );
        }
    }

    /// Takes what else is ready, so that calls are filled.
    fn take_all(&mut self, feed: &mut Feed, first: Signal) -> Result<()> {
        self.take(first);
        for _ in 1..BATCH {
            let Some(signal) = feed.next().now_or_never() else {
                break;
            };
            self.take(signal?);
        }
        Ok(())
    }
    fn take(&mut self, signal: Signal) {
        match signal {
            Signal::Gained { lease } => self.lanes.gain(&lease),
            Signal::Lost { shard } => self.lanes.lose(shard),
            Signal::Event { shard, event } if event.topic.is_none() => self.progress.done(shard, event.position),
            Signal::Event { shard, event } => self.lanes.push(shard, event),
            Signal::CaughtUp { .. } => (),
        }
    }

    /// Gives to the transport what may go out.
    fn dispatch(&mut self) {
        let mut calls: BTreeMap<Topic, Call> = BTreeMap::new();
        while self.in_flight < IN_FLIGHT {
            let Some(id) = self.lanes.next() else { break };
            if !self.progress.holds(id.shard) {
                // Prolonged soon, or lost: then the feed says so.
                self.lanes.wait(id, Instant::now() + DOUBT_PAUSE);
                continue;
            }
            let Some((topic, messages)) = self.pack(&id) else {
                continue;
            };
            self.in_flight += messages.len();
            let call = calls.entry(topic.clone()).or_default();
            call.lanes.push((id, messages.len()));
            call.messages.extend(messages);
            if !self.promises.durable || call.messages.len() >= BATCH {
                let call = std::mem::take(call);
                self.publish(topic, call);
            }
        }
        for (topic, call) in calls.into_iter().filter(|(_, call)| !call.messages.is_empty()) {
            self.publish(topic, call);
        }
    }
    /// The messages of a lane that may go out together: one, or several where the transport keeps their order through its
    /// own retries.
    fn pack(&mut self, id: &LaneId) -> Option<(Topic, Vec<Message>)> {
        let most = if self.promises.ordered_retry && self.promises.durable {
            BATCH
        } else {
            1
        };
        let (origin, lane) = (&self.origin, self.lanes.lane(id)?);
        let topic = lane.events.front()?.topic.clone()?;
        let same = lane
            .events
            .iter()
            .take_while(|event| event.topic.as_ref() == Some(&topic));
        let messages = same.take(most).map(|event| message(event, origin)).collect();
        Some((topic, messages))
    }
    fn publish(&mut self, topic: Topic, call: Call) {
        let bus = self.bus.clone();
        self.calls.push(Box::pin(async move {
            fail::fail_point!("relay.publish.before");
            let results = bus.publish_settled(&topic, call.messages).await;
            fail::fail_point!("relay.publish.after");
            (call.lanes, results)
        }));
    }

    /// Goes on in the lanes of a call, each as its messages fared.
    fn settle(&mut self, lanes: Vec<(LaneId, usize)>, results: Vec<sagamill_bus::Result<Receipt>>) {
        let mut results = results.into_iter();
        for (id, count) in lanes {
            self.in_flight -= count;
            let unanswered = || sagamill_bus::Error::Unconfirmed("the transport gave no answer for it".into());
            let own: Vec<_> = (0..count)
                .map(|_| results.next().unwrap_or_else(|| Err(unanswered())))
                .collect();
            match self.confirm(&id, own) {
                None => self.lanes.resume(id),
                Some(error) => self.fail(id, &error),
            }
        }
    }
    /// Marks what was published, up to the first failure: what follows it is published again, behind it.
    fn confirm(&mut self, id: &LaneId, results: Vec<sagamill_bus::Result<Receipt>>) -> Option<sagamill_bus::Error> {
        let mut published = 0;
        let mut failed = None;
        for result in results {
            match result {
                Ok(_) => {
                    let Some(position) = self.lanes.pop(id) else { continue };
                    self.progress.done(id.shard, position);
                    published += 1;
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if published > 0 {
            metrics::counter!(RELAY_PUBLISHED, "transport" => self.bus.transport()).increment(published);
            self.lanes.lane(id)?.pauses.reset();
        }
        failed
    }
    fn fail(&mut self, id: LaneId, error: &sagamill_bus::Error) {
        let absent = matches!(error, sagamill_bus::Error::NoSubscriber { .. });
        let reason = if absent { "no_subscriber" } else { "failed" };
        metrics::counter!(RELAY_FAILURES, "transport" => self.bus.transport(), "reason" => reason).increment(1);
        let Some(lane) = self.lanes.lane(&id) else { return };
        let pause = lane.pauses.next(if absent { ABSENT_PAUSE } else { PAUSE });
        let (position, topic) = lane
            .events
            .front()
            .map(|event| (event.position, event.topic.clone()))
            .unzip();
        let topic = topic.flatten().map(|topic| topic.to_string());
        if absent {
            tracing::debug!(?position, topic, ?pause, "nobody is subscribed; the relay tries again");
        } else {
            tracing::warn!(?position, topic, %error, ?pause, "a publish failed and holds its key; the relay tries again");
        }
        self.lanes.wait(id, Instant::now() + pause);
    }

    fn measure(&mut self, feed: &Feed) {
        let now = Instant::now();
        if self.measured.is_some_and(|measured| now < measured + MEASURE) {
            return;
        }
        self.measured = Some(now);
        let oldest = self.lanes.oldest();
        let age = oldest.map_or(0.0, |at| feed.now().duration_since(at).as_secs_f64());
        metrics::gauge!(RELAY_LAG).set(feed.lag() as f64);
        metrics::gauge!(RELAY_LAG_SECONDS).set(age);
        metrics::gauge!(RELAY_OLDEST).set(oldest.map_or(0.0, |at| at.as_millisecond() as f64 / 1_000.0));
    }
}
