//! Replies off the bus: acknowledged once what follows from them is durable.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sagamill_bus::{Delivery, Message, Settlement, headers::name};
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

/// Takes one reply: decides it together with what else waits for its saga, and settles it.
pub(crate) async fn take(host: Arc<Host>, plan: Arc<Plan>, delivery: Delivery) {
    let settlement = match read(&host, &plan, &delivery.message) {
        Ok((stream, input)) => {
            let (settled, said) = oneshot::channel();
            host.queue.post(&host, &stream, Item::Reply { input, settled });
            match said.await {
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
        Settled::NotHere(why) => {
            let after = (HAND_OVER * 2_u32.pow(attempt.min(10))).min(HAND_BACK);
            tracing::debug!(why, ?after, "a reply is left to a process that knows its saga");
            metric::reply_left();
            return Settlement::Retry { after: Some(after) };
        }
        Settled::NotNow(why) => why,
    };
    if attempt < HAND_BACKS_MAX {
        return Settlement::Retry { after: Some(HAND_BACK) };
    }
    metric::reply_given_up();
    Settlement::Dead { reason }
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
