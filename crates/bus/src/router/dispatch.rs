//! One delivery through its handlers to its settlement.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tracing::Instrument;

use super::{
    Incoming, Route,
    progress::{Memory, Progress},
};
use crate::{
    BoxError, Bus, Delivery, Error, ErrorClass, Message, Order, Retry, Settlement, Topic,
    bus::Until,
    error::{chain, panic_message},
    headers::name,
    metric_definitions as metric, reply,
};

/// Everything that handling a delivery needs; shared by all that are in flight.
pub(super) struct Dispatch {
    pub(super) bus: Bus,
    pub(super) group: Arc<str>,
    pub(super) order: Order,
    pub(super) routes: Vec<Target>,
    pub(super) memory: Mutex<Memory>,
}

/// One route, ready to be called.
pub(super) struct Target {
    pub(super) topic: Topic,
    pub(super) accepts: Option<fn(&str) -> bool>,
    pub(super) is_command: bool,
    pub(super) handler: &'static str,
    /// Names the handler in the ids of what it emits.
    pub(super) origin: Arc<str>,
    pub(super) route: Route<()>,
    pub(super) retry: Retry,
    pub(super) dead_letters: Option<Topic>,
}

/// What one handler's attempt comes to.
#[derive(Debug)]
enum Verdict {
    Done,
    Again(Option<Duration>),
    Dead(String),
}

impl Target {
    fn takes(&self, topic: &Topic, event_type: &str) -> bool {
        self.topic.covers(topic) && self.accepts.is_none_or(|accepts| accepts(event_type))
    }
}

impl Dispatch {
    pub(super) async fn handle(self: Arc<Self>, delivery: Delivery) {
        let message = &delivery.message;
        let span = tracing::debug_span!(
            "process",
            otel.name = format_args!("process {}", delivery.topic),
            otel.kind = "consumer",
            messaging.system = self.bus.transport(),
            messaging.operation.name = "process",
            messaging.operation.r#type = "process",
            messaging.destination.name = %delivery.topic,
            messaging.consumer.group.name = %self.group,
            messaging.message.id = %message.id,
            messaging.message.delivery_attempt = delivery.attempt,
            traceparent = message.headers.get(name::TRACEPARENT),
        );
        let (topic, start) = (delivery.topic.label(), Instant::now());
        let gauge = metrics::gauge!(metric::IN_FLIGHT, "group" => Arc::clone(&self.group));
        gauge.increment(1);
        let outcome = self.process(delivery).instrument(span).await;
        gauge.decrement(1);
        let group = metrics::SharedString::from_shared(Arc::clone(&self.group));
        let labels = [
            ("destination", topic.clone()),
            ("group", group.clone()),
            ("outcome", outcome.into()),
        ];
        metrics::counter!(metric::PROCESSED, &labels).increment(1);
        metrics::histogram!(metric::PROCESS_DURATION, &[("destination", topic), ("group", group)])
            .record(start.elapsed());
    }

    async fn process(&self, delivery: Delivery) -> &'static str {
        let event_type = delivery.message.headers.get(name::TYPE).unwrap_or_default();
        let takes = |(_, target): &(usize, &Target)| target.takes(&delivery.topic, event_type);
        let targets: Vec<(usize, &Target)> = self.routes.iter().enumerate().filter(takes).collect();
        let outcome = if targets.is_empty() { "unhandled" } else { "" };
        fail::fail_point!("bus.process.before");
        let (settlement, failure) = if targets.is_empty() {
            (self.pass_over(&delivery), None)
        } else {
            self.run(&targets, &delivery).await
        };
        fail::fail_point!("bus.process.after");
        let settled = match &settlement {
            Settlement::Ack if outcome.is_empty() => "ack",
            Settlement::Ack => outcome,
            Settlement::Retry { .. } => "retry",
            Settlement::Dead { .. } => "dead",
        };
        match delivery.settle(settlement).await {
            Ok(()) => {
                // Not before: of a death that is not settled, the message comes again and may live.
                if let Some((topic, message)) = failure {
                    self.tell(topic, message).await;
                }
                settled
            }
            Err(Error::Stale) => {
                tracing::debug!("settled too late: somebody else has the message now");
                "stale"
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "not settled; the message comes again");
                "error"
            }
        }
    }

    /// What becomes of a message that no handler takes.
    fn pass_over(&self, delivery: &Delivery) -> Settlement {
        let event_type = delivery.message.headers.get(name::TYPE).unwrap_or_default();
        let asked = |target: &Target| target.is_command && target.topic.covers(&delivery.topic);
        if self.routes.iter().any(asked) {
            return Settlement::Dead {
                reason: format!("no handler for the command `{event_type}` here"),
            };
        }
        tracing::debug!(event_type, "no handler takes this type: acknowledged");
        Settlement::Ack
    }

    /// Runs the handlers that are not done with the message yet, and sums up; with what to tell whoever has asked, once that
    /// is settled.
    async fn run(&self, targets: &[(usize, &Target)], delivery: &Delivery) -> (Settlement, Option<(Topic, Message)>) {
        let mut progress = self.remembered(delivery).unwrap_or_default();
        let mut again: Option<Duration> = None;
        let last = last_attempt(targets, &progress).filter(|last| delivery.attempt > *last);
        for &(index, target) in targets {
            if progress.done.contains(&index) {
                continue;
            }
            let verdict = match last {
                // The last one never came to an end: the process died of it, or with it.
                Some(last) => Verdict::Dead(progress.gave_up.clone().unwrap_or_else(|| unended(last))),
                None => self.attempt(target, delivery, &progress).await,
            };
            match self.bury(target, delivery, verdict, &mut progress).await {
                Verdict::Again(after) => {
                    let after = after.unwrap_or_default();
                    again = Some(again.map_or(after, |sooner| sooner.min(after)));
                }
                Verdict::Done => progress.done.push(index),
                Verdict::Dead(reason) => {
                    progress.done.push(index);
                    progress.deaths.push(reason);
                }
            }
        }
        if let Some(after) = again {
            progress.since.get_or_insert_with(Instant::now);
            self.memory().put(delivery.message.id, &delivery.topic, progress);
            let after = (!after.is_zero()).then_some(after);
            return (Settlement::Retry { after }, None);
        }
        let failure = progress.deaths.first().or_else(|| progress.buried.first());
        let asked = targets.iter().find(|(_, target)| target.is_command);
        let told = failure.zip(asked);
        let told = told.and_then(|(why, (_, target))| reply::failure(&delivery.message, &target.origin, why));
        if progress.deaths.is_empty() {
            (Settlement::Ack, told)
        } else {
            let reason = progress.deaths.join("; ");
            (Settlement::Dead { reason }, told)
        }
    }

    async fn tell(&self, topic: Topic, message: Message) {
        if let Err(error) = self.bus.publish_to(topic, [message]).await {
            tracing::warn!(
                error = chain(&error),
                "who asked is not told that the command was given up"
            );
        }
    }

    async fn attempt(&self, target: &Target, delivery: &Delivery, progress: &Progress) -> Verdict {
        let result = self.call(target, delivery).await;
        let held = self.held(target, delivery, progress);
        let allows = |wait| target.retry.allows(delivery.attempt, wait, held);
        let gave_up = |why: &str| Verdict::Dead(format!("gave up after attempt {}: {why}", delivery.attempt));
        match result {
            Ok(Settlement::Ack) => Verdict::Done,
            Ok(Settlement::Dead { reason }) => Verdict::Dead(reason),
            Ok(Settlement::Retry { after }) if allows(after.unwrap_or_default()) => Verdict::Again(after),
            Ok(Settlement::Retry { .. }) => gave_up("the handler asked for another attempt"),
            Err(error) => {
                let (class, why) = (ErrorClass::of(error.as_ref()), chain(error.as_ref()));
                let wait = target.retry.backoff(delivery.message.id, delivery.attempt);
                tracing::warn!(
                    handler = target.handler,
                    attempt = delivery.attempt,
                    ?class,
                    error = why,
                    "handler failed"
                );
                match class {
                    ErrorClass::Permanent => Verdict::Dead(why),
                    ErrorClass::Undecodable => Verdict::Dead(format!("cannot be read: {why}")),
                    ErrorClass::Transient if allows(wait) => Verdict::Again(Some(wait)),
                    ErrorClass::Transient => gave_up(&why),
                }
            }
        }
    }

    /// Publishes what is given up where the target has a topic for that; the reason is kept for when that fails.
    async fn bury(&self, target: &Target, delivery: &Delivery, verdict: Verdict, progress: &mut Progress) -> Verdict {
        match (verdict, &target.dead_letters) {
            (Verdict::Dead(reason), Some(topic)) => {
                progress.gave_up = Some(reason.clone());
                let end = self.publish_dead(topic, target, delivery, reason.clone()).await;
                if matches!(end, Verdict::Done) {
                    progress.buried.push(reason);
                }
                end
            }
            (verdict, _) => verdict,
        }
    }

    async fn call(&self, target: &Target, delivery: &Delivery) -> Result<Settlement, BoxError> {
        let incoming = Incoming {
            message: delivery.message.clone(),
            topic: delivery.topic.clone(),
            attempt: delivery.attempt,
            state: (),
            bus: self.bus.clone(),
            origin: Arc::clone(&target.origin),
        };
        let mut route = target.route.clone();
        let call = async move { route.ready().await?.call(incoming).await };
        // Nothing of ours is shared with the handler but by locks that survive a panic.
        match AssertUnwindSafe(call).catch_unwind().await {
            Ok(result) => result,
            Err(panic) => {
                let group = metrics::SharedString::from_shared(Arc::clone(&self.group));
                let labels = [("destination", delivery.topic.label()), ("group", group)];
                metrics::counter!(metric::PANICS, &labels).increment(1);
                Err(format!("the handler panicked: {}", panic_message(panic.as_ref())).into())
            }
        }
    }

    /// How long the message has held its key; none where it holds none.
    fn held(&self, target: &Target, delivery: &Delivery, progress: &Progress) -> Option<Duration> {
        delivery.message.key.as_ref().filter(|_| self.order == Order::Key)?;
        let planned = || target.retry.waited(delivery.message.id, delivery.attempt);
        Some(progress.since.map_or_else(planned, |since| since.elapsed()))
    }

    async fn publish_dead(&self, topic: &Topic, target: &Target, delivery: &Delivery, reason: String) -> Verdict {
        let mut message: Message = delivery.message.clone();
        message.headers.set(name::DEAD_REASON, reason);
        message.headers.set(name::DEAD_TOPIC, delivery.topic.to_string());
        message.headers.set(name::DEAD_GROUP, &*self.group);
        message.headers.set(name::DEAD_ATTEMPTS, delivery.attempt.to_string());
        // Past the check of limits: what came in must not fail to go out for the headers added here.
        let results = self.bus.transmit(topic, vec![message], Until::Confirmed).await;
        match results.into_iter().next() {
            Some(Ok(_)) => Verdict::Done,
            Some(Err(error)) => {
                tracing::error!(%topic, error = chain(&error), "the dead letter could not be published");
                Verdict::Again(Some(target.retry.backoff_max))
            }
            None => Verdict::Again(Some(target.retry.backoff_max)),
        }
    }

    fn remembered(&self, delivery: &Delivery) -> Option<Progress> {
        self.memory().take(delivery.message.id, &delivery.topic)
    }
    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last attempt that any handler of the message that is not done with it allows; none where one of them never gives up.
fn last_attempt(targets: &[(usize, &Target)], progress: &Progress) -> Option<u32> {
    let open = targets.iter().filter(|(index, _)| !progress.done.contains(index));
    let mut allowed: Vec<Option<u32>> = open.map(|(_, target)| target.retry.attempts_max).collect();
    allowed.sort_unstable();
    // None sorts first, and is the most that there is.
    allowed
        .first()?
        .and(allowed.last().copied().flatten())
        .map(|last| last.max(1))
}

fn unended(last: u32) -> String {
    format!("gave up after attempt {last}, which never came to an end")
}
