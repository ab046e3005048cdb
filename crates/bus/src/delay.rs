//! Messages that are published later.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use crate::{
    BoxError, Bus, Error, ExtractError, Incoming, Message, Order, Receipt, Result, Retry, Router, Settlement, Topic,
    headers::name,
};

/// The longest that a message can be delayed: brokers that keep messages for a week must not forget it.
pub const DELAY_MAX: Duration = Duration::from_hours(24 * 5);

/// Where messages wait, and the shortest time that they wait there: long waits must not stand before short ones.
const LEVELS: [(&str, Duration); 4] = [
    ("sagamill.delayed.days", Duration::from_hours(24)),
    ("sagamill.delayed.hours", Duration::from_hours(1)),
    ("sagamill.delayed.minutes", Duration::from_mins(1)),
    ("sagamill.delayed.seconds", Duration::ZERO),
];
/// A wait is not cut into shorter pieces.
const PIECE: Duration = Duration::from_millis(100);

type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

impl Bus {
    /// Publishes messages to a topic after a time: see [`publish_at`](Self::publish_at).
    ///
    /// # Errors
    /// As [`publish_at`](Self::publish_at).
    pub async fn publish_after(
        &self,
        topic: impl Into<Topic>,
        after: Duration,
        batch: impl IntoIterator<Item = Message>,
    ) -> Result<Vec<Receipt>> {
        // What is too far for a clock is too far for a delay, and refused as such.
        let due = SystemTime::now() + after.min(DELAY_MAX * 2);
        self.publish_at(topic, due, batch).await
    }
    /// Publishes messages to a topic at a time, by the clock of whoever runs [`delays`]; at once where that has passed.
    ///
    /// When this returns, the messages wait on the broker, and are as safe there as any other: they outlive this process and
    /// that of the router where the transport is [durable](crate::Capabilities::durable).
    ///
    /// # Errors
    /// [`Error::DelayTooLong`] beyond [`DELAY_MAX`], [`Error::NoSubscriber`] where no router of [`delays`] has ever run, else
    /// what the transport says of the first message that failed.
    pub async fn publish_at(
        &self,
        topic: impl Into<Topic>,
        due: SystemTime,
        batch: impl IntoIterator<Item = Message>,
    ) -> Result<Vec<Receipt>> {
        let topic = topic.into();
        topic.check_name()?;
        let wait = due.duration_since(SystemTime::now()).unwrap_or_default();
        if wait.is_zero() {
            return self.publish_to(topic, batch).await;
        }
        let too_long = || Error::DelayTooLong { wait };
        if wait > DELAY_MAX {
            return Err(too_long());
        }
        let at = Timestamp::try_from(due).map_err(|_| too_long())?.to_string();
        let delayed = |message| delayed(message, &topic, &at);
        self.publish_to(LEVELS[level(wait)].0, batch.into_iter().map(delayed))
            .await
    }
}

/// The router that publishes what was delayed, when its time has come. It runs in a group of any name, in as many processes
/// as there are; without one, what is delayed waits.
///
/// ```
/// use std::time::Duration;
/// use sagamill_bus::{delays, prelude::*};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sagamill_bus::Result<()> {
/// # let (bus, shutdown) = (Bus::memory(), async {});
/// let delays = delays().subscribe(bus.group("delays")).await?;
/// bus.publish_after("reminder", Duration::from_secs(90), [Message::new("tea is ready")]).await?;
/// delays.run(shutdown).await
/// # }
/// ```
///
/// * *How*: a message waits by being settled as a retry after a time, which every transport has; what waits long moves from
///   topic to topic (`sagamill.delayed.days`, `….hours`, `….minutes`, `….seconds`), so that it does not stand before others.
/// * *When*: never early by this process's clock, and as a rule within 150 ms; later while no such router runs.
/// * *How many*: as many of one of these topics as the transport keeps unsettled in its group, which is a thousand to ten
///   thousand. What is beyond that waits for room, and may come late, by at most the time that messages wait there.
/// * *How often*: at least once, always under the same id: a process that dies between publishing and settling repeats.
/// * *In which order*: in none. Its key counts again where it is published in the end.
#[must_use]
pub fn delays() -> Router {
    delays_by(SystemTime::now)
}

/// [`delays`] by another clock: for tests on virtual time.
#[must_use]
pub fn delays_by(clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Router {
    let clock: Clock = Arc::new(clock);
    let router = LEVELS
        .iter()
        .enumerate()
        .fold(Router::new(), |router, (level, (topic, _))| {
            let clock = Arc::clone(&clock);
            router.serve(Topic::from(*topic), move |incoming| {
                hand_out(incoming, level, Arc::clone(&clock))
            })
        });
    // Never given up for its number of waits, nor for a broker that is away.
    let retry = Retry::exponential(PIECE..Duration::from_secs(30));
    router.order(Order::None).retry(retry)
}

/// Publishes a message that is due, moves on one that waits for less than others here, or lets it wait.
async fn hand_out(incoming: Incoming, here: usize, clock: Clock) -> Result<Settlement, BoxError> {
    let bus = incoming.bus().clone();
    let due = Due::read(&incoming.message)?;
    let left = due.at.duration_since(clock()).unwrap_or_default();
    if left.is_zero() {
        let (topic, message) = due.restore(incoming.message);
        bus.publish_to(topic, [message]).await?;
        return Ok(Settlement::Ack);
    }
    let next = level(left);
    // Never back: two clocks that differ would send it to and fro.
    if next > here {
        bus.publish_to(LEVELS[next].0, [incoming.message]).await?;
        return Ok(Settlement::Ack);
    }
    let after = Some(piece(left.saturating_sub(LEVELS[here].1)));
    Ok(Settlement::Retry { after })
}

/// Where a message waits that has so long to wait.
fn level(wait: Duration) -> usize {
    let level = LEVELS.iter().position(|(_, shortest)| wait > *shortest);
    level.unwrap_or(LEVELS.len() - 1)
}

/// How long to wait before looking again: a part, since some brokers take half as long again as they are asked to.
fn piece(left: Duration) -> Duration {
    if left > PIECE { (left * 2 / 3).max(PIECE) } else { left }
}

/// A message on its way into the waiting.
fn delayed(mut message: Message, topic: &Topic, at: &str) -> Message {
    // That it waits must be certain; whether it then must reach somebody is its own affair.
    if let Some(mandatory) = message.headers.remove(name::MANDATORY) {
        message.headers.set(name::DUE_MANDATORY, mandatory);
    }
    message
        .header(name::MANDATORY, "1")
        .header(name::DUE, at)
        .header(name::DUE_TOPIC, topic.to_string())
}

/// When a message is due, and where.
struct Due {
    at: SystemTime,
    topic: Topic,
}

impl Due {
    fn read(message: &Message) -> Result<Self, ExtractError> {
        let header = |name| {
            message
                .headers
                .get(name)
                .ok_or_else(|| ExtractError(format!("no header `{name}`").into()))
        };
        let at: Timestamp = header(name::DUE)?
            .parse()
            .map_err(|e: jiff::Error| ExtractError(e.into()))?;
        Ok(Self {
            at: at.into(),
            topic: header(name::DUE_TOPIC)?.to_owned().into(),
        })
    }
    /// The message as it was given to be delayed.
    fn restore(self, mut message: Message) -> (Topic, Message) {
        for own in [name::DUE, name::DUE_TOPIC, name::MANDATORY] {
            message.headers.remove(own);
        }
        if let Some(mandatory) = message.headers.remove(name::DUE_MANDATORY) {
            message.headers.set(name::MANDATORY, mandatory);
        }
        (self.topic, message)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LEVELS, PIECE, level, piece};

    #[test]
    fn a_wait_has_its_level_and_ends_on_the_finest() {
        let hour = Duration::from_hours(1);
        for (wait, expected) in [
            (hour * 25, "days"),
            (hour * 24, "hours"),
            (hour, "minutes"),
            (hour / 60, "seconds"),
            (Duration::ZERO, "seconds"),
        ] {
            assert!(LEVELS[level(wait)].0.ends_with(expected), "{wait:?}");
        }
    }

    #[test]
    fn pieces_of_a_wait_are_few_and_reach_its_end_even_where_each_takes_half_as_long_again() {
        for stretch in [2, 3] {
            let (mut left, mut pieces) = (Duration::from_hours(24 * 4), 0);
            while !left.is_zero() {
                left = left.saturating_sub(piece(left) * stretch / 2);
                pieces += 1;
            }
            assert!(pieces < 30, "{pieces}");
        }
        let late = piece(PIECE) * 3 / 2 - PIECE;
        assert!(late < Duration::from_millis(150));
        let (just, late) = (PIECE * 5 / 4, piece(PIECE * 5 / 4) * 3 / 2);
        assert!(late - just < Duration::from_millis(150));
    }
}
