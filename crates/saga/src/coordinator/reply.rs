//! Replies off the bus: acknowledged once what follows from them is durable.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sagamill_bus::{Bus, Delivery, Message, Settlement, headers::name};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::host::{Host, stream_of};
use super::queue::{Item, Settled};
use crate::core::{Ask, Identity, Input, InputKind, Plan, Reported};
use crate::{metric_definitions as metric, wire};

/// How long a reply waits for its saga to appear, or for a process that knows it: this many times so long.
const HAND_BACKS_MAX: u32 = 60;
const HAND_BACK: Duration = Duration::from_secs(5);
/// The shortest pause before another process is to have it, doubled from time to time.
const HAND_OVER: Duration = Duration::from_millis(25);
/// So often a reply is handed back before it is sent on: where processes share a group by keys, it comes back to this one
/// each time. Once more after each sending, up to a bound.
const HAND_BACKS: u32 = 2;
const HAND_BACKS_MORE_MAX: u32 = 6;

/// Takes one reply: decides it together with what else waits for its saga, and settles it.
pub(crate) async fn take(host: Arc<Host>, plan: Arc<Plan>, bus: Bus, delivery: Delivery) {
    let settlement = match read(&host, &plan, &delivery.message) {
        Ok((stream, input)) => {
            let (settled, said) = oneshot::channel();
            host.queue.post(&host, &stream, Item::Reply { input, settled });
            match said.await {
                Ok(Settled::NotHere {
                    why,
                    is_elsewhere: true,
                }) if has_come_back(&delivery) => send_on(&bus, &plan, &delivery, &why).await,
                Ok(settled) => settlement(settled, delivery.attempt),
                // The turn was cut short. Dropped here, the delivery comes again.
                Err(_) => return,
            }
        }
        Err(reason) => Settlement::Dead { reason },
    };
    let id = delivery.message.id;
    fail::fail_point!("saga.settle.before");
    if let Err(error) = delivery.settle(settlement).await {
        tracing::debug!(message = %id, %error, "a reply could not be settled; it will come again");
    }
    fail::fail_point!("saga.settle.after");
}

fn settlement(settled: Settled, attempt: u32) -> Settlement {
    let reason = match settled {
        Settled::Decided => return Settlement::Ack,
        Settled::NoSuchSaga => "the log has no such saga".to_owned(),
        // It is no attempt: whoever can take it is there, or has time left to come.
        Settled::NotHere { why, .. } => {
            tracing::debug!(why, "a reply is left to a process that knows its saga");
            metric::reply_left();
            return hand_back(attempt);
        }
        Settled::NotNow(why) => why,
    };
    if attempt < HAND_BACKS_MAX {
        return Settlement::Retry { after: Some(HAND_BACK) };
    }
    metric::reply_given_up();
    Settlement::Dead { reason }
}

fn hand_back(attempt: u32) -> Settlement {
    let after = (HAND_OVER * 2_u32.pow(attempt.min(10))).min(HAND_BACK);
    Settlement::Retry { after: Some(after) }
}

/// How often a reply was sent on.
fn generation(message: &Message) -> u32 {
    let generation = message.headers.get(name::GENERATION);
    generation.and_then(|text| text.parse().ok()).unwrap_or_default()
}
fn has_come_back(delivery: &Delivery) -> bool {
    delivery.attempt > HAND_BACKS + generation(&delivery.message).min(HAND_BACKS_MORE_MAX)
}
/// Sends a reply to its own topic again, under another key, by which it may come to another process. It is the same reply: an
/// answer that is there twice counts once.
async fn send_on(bus: &Bus, plan: &Plan, delivery: &Delivery, why: &str) -> Settlement {
    let mut message = delivery.message.clone();
    let next = generation(&message).saturating_add(1);
    message.headers.set(name::GENERATION, next.to_string());
    message = message.key(format!("{}/{next}", delivery.message.id.0));
    match bus.publish_to(plan.reply_topic(), [message]).await {
        Ok(_) => {
            tracing::debug!(why, next, "a reply is sent on to a process that knows its saga");
            metric::reply_left();
            Settlement::Ack
        }
        Err(error) => {
            tracing::warn!(%error, "a reply could not be sent on; it comes again");
            hand_back(delivery.attempt)
        }
    }
}

/// Reads the reply as an input; an error is the reason why nobody can.
fn read(host: &Host, plan: &Plan, message: &Message) -> Result<(Arc<str>, Input), String> {
    let headers = &message.headers;
    let identity = Identity::from_headers(wire::REPLY_TYPE, headers).map_err(|error| error.to_string())?;
    if *identity.definition != *plan.name || identity.version != plan.version {
        let (definition, version) = (&identity.definition, identity.version);
        return Err(format!(
            "a reply to `{definition}` version {version} on the topic of another definition"
        ));
    }
    let ask = Ask::from_headers(wire::REPLY_TYPE, headers).map_err(|error| error.to_string())?;
    let reported = reported(message)?;
    let input = Input {
        cause: message.id.0,
        now: host.store.now(),
        kind: InputKind::Answer { ask, reported },
    };
    Ok((stream_of(&identity.definition, &identity.key), input))
}

fn reported(message: &Message) -> Result<Reported, String> {
    #[derive(Deserialize)]
    struct Said {
        error: String,
    }
    let headers = &message.headers;
    let payload = Bytes::clone(&message.payload);
    match headers.get(wire::OUTCOME) {
        Some(wire::OUTCOME_DONE) => Ok(Reported::Done(payload)),
        Some(wire::OUTCOME_REJECTED) => Ok(Reported::Rejected(payload)),
        Some(wire::OUTCOME_EXPIRED) => Ok(Reported::Expired),
        Some(wire::OUTCOME_FAILED) => {
            let said = serde_json::from_slice::<Said>(&payload).map(|said| said.error);
            Ok(Reported::Failed(
                said.unwrap_or_else(|_| String::from_utf8_lossy(&payload).into_owned()),
            ))
        }
        other => Err(format!(
            "the outcome `{}` of a `{}` is not known",
            other.unwrap_or_default(),
            headers.get(name::TYPE).unwrap_or_default()
        )),
    }
}
