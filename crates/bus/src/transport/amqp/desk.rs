//! Where messages are handed to the broker: one task writes them, so that they leave in the order they came, and each
//! caller gets the broker's word on its own.
//!
//! Messages that somebody must get go by a channel of their own, in waves: the broker says of a message that came back which
//! one it was, but the client attaches that to any confirmation that came with it. So all confirmations of a wave are
//! awaited before any of it is answered.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{FuturesOrdered, FuturesUnordered},
};
use lapin::{
    BasicProperties, Channel, Confirmation, ErrorKind, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::line::{Line, disconnected};
use crate::{Error, Result};

/// Most messages that are written and not confirmed.
const UNCONFIRMED_MAX: usize = 1_024;
/// Most messages that wait to be written.
const QUEUED_MAX: usize = 256;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The broker has it.
    Stored,
    /// No queue is bound for it.
    Unroutable,
    /// A queue is full, or cannot take it now.
    Refused,
}

/// A message on its way.
pub(super) struct Parcel {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) properties: BasicProperties,
    pub(super) payload: Bytes,
}

type Answer = oneshot::Sender<Result<Fate>>;
type Job = (Parcel, Answer);

/// The way to the two tasks.
pub(super) struct Desk {
    plain: mpsc::Sender<Job>,
    mandatory: mpsc::Sender<Job>,
    line: Line,
}

impl Desk {
    pub(super) fn open(line: &Line, within: Duration) -> Self {
        let (plain, jobs) = mpsc::channel(QUEUED_MAX);
        tokio::spawn(Clerk::new(line, within, false).stream(jobs));
        let (mandatory, jobs) = mpsc::channel(QUEUED_MAX);
        tokio::spawn(Clerk::new(line, within, true).waves(jobs));
        Self {
            plain,
            mandatory,
            line: line.clone(),
        }
    }
    /// Hands a message over, and waits for the broker's word on it.
    pub(super) async fn send(&self, parcel: Parcel) -> Result<Fate> {
        self.hand_over(&self.plain, parcel).await
    }
    /// The same for a message that a queue must take.
    pub(super) async fn send_mandatory(&self, parcel: Parcel) -> Result<Fate> {
        self.hand_over(&self.mandatory, parcel).await
    }
    async fn hand_over(&self, desk: &mpsc::Sender<Job>, parcel: Parcel) -> Result<Fate> {
        self.line.live().await?;
        let (answer, answered) = oneshot::channel();
        desk.send((parcel, answer)).await.map_err(|_| Error::Closed)?;
        answered
            .await
            .unwrap_or_else(|_| Err(Error::Unconfirmed("the connection was closed meanwhile".into())))
    }
}

/// Writes to one channel, which is made again when it is lost.
struct Clerk {
    line: Line,
    within: Duration,
    mandatory: bool,
    channel: Option<Channel>,
}

impl Clerk {
    fn new(line: &Line, within: Duration, mandatory: bool) -> Self {
        Self {
            line: line.clone(),
            within,
            mandatory,
            channel: None,
        }
    }
    /// Many at once, each answered when it is confirmed.
    async fn stream(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut sent = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(in_time) = sent.next(), if !sent.is_empty() => self.look_at(in_time),
                job = jobs.recv(), if sent.len() < UNCONFIRMED_MAX => {
                    let Some((parcel, answer)) = job else { break };
                    if let Some(confirm) = self.write(&parcel, &answer).await {
                        let within = self.within;
                        match confirm {
                            Ok(confirm) => sent.push(async move {
                                let (fate, in_time) = confirmed(confirm, within, parcel.payload.len()).await;
                                let _ = answer.send(fate.map(|(fate, _)| fate));
                                in_time
                            }),
                            Err(error) => {
                                let _ = answer.send(Err(error));
                            }
                        }
                    }
                }
            }
        }
        while sent.next().await.is_some() {}
    }
    /// As many as have come, then all their answers.
    async fn waves(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut wave = Vec::new();
        while jobs.recv_many(&mut wave, QUEUED_MAX).await > 0 {
            let mut sent = FuturesOrdered::new();
            let mut answers = Vec::with_capacity(wave.len());
            for (parcel, answer) in wave.drain(..) {
                match self.write(&parcel, &answer).await {
                    Some(Ok(confirm)) => {
                        sent.push_back(confirmed(confirm, self.within, parcel.payload.len()));
                        answers.push((place(&parcel.routing_key, &parcel.properties), answer));
                    }
                    Some(Err(error)) => {
                        let _ = answer.send(Err(error));
                    }
                    None => {}
                }
            }
            let (mut fates, mut returned) = (Vec::with_capacity(answers.len()), HashSet::new());
            while let Some((fate, in_time)) = sent.next().await {
                self.look_at(in_time);
                if let Ok((_, Some(place))) = &fate {
                    returned.insert(place.clone());
                }
                fates.push(fate);
            }
            for ((place, answer), fate) in answers.into_iter().zip(fates) {
                let came_back = returned.contains(&place);
                let fate = fate.map(|(fate, _)| if came_back { Fate::Unroutable } else { fate });
                let _ = answer.send(fate);
            }
        }
    }
    /// Where the broker is silent the channel is given up, and with it all that is on its way: it may be there, or not.
    fn look_at(&mut self, in_time: bool) {
        if !in_time {
            self.channel = None;
        }
    }
    /// Writes a message. None: nobody waits for it any more.
    async fn write(&mut self, parcel: &Parcel, answer: &Answer) -> Option<Result<PublisherConfirm>> {
        if answer.is_closed() {
            return None;
        }
        let within = self.within;
        let written = async {
            let channel = self.channel().await?;
            let options = BasicPublishOptions {
                mandatory: self.mandatory,
                ..BasicPublishOptions::default()
            };
            let published = channel.basic_publish(
                parcel.exchange.as_str().into(),
                parcel.routing_key.as_str().into(),
                options,
                &parcel.payload,
                parcel.properties.clone(),
            );
            published.await.map_err(disconnected)
        };
        Some(match timeout(within, written).await {
            Ok(written) => written,
            Err(_) => {
                self.channel = None;
                Err(Error::Disconnected(self.silence().await.into()))
            }
        })
    }
    async fn silence(&self) -> &'static str {
        match self.line.live().await {
            Ok(live) if live.is_blocked() => {
                "the broker takes nothing at present: it is short of memory or disk, see its log"
            }
            _ => "the broker took nothing in time",
        }
    }
    async fn channel(&mut self) -> Result<Channel> {
        if let Some(channel) = self.channel.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let channel = self.line.live().await?.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(disconnected)?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }
}

/// What tells one message of a wave from another.
type Place = (String, String);

fn place(routing_key: &str, properties: &BasicProperties) -> Place {
    let id = properties
        .message_id()
        .as_ref()
        .map(|id| id.as_str())
        .unwrap_or_default();
    (routing_key.to_owned(), id.to_owned())
}

/// The broker's word on a message, with the one that came back with it, and whether it came in time.
async fn confirmed(confirm: PublisherConfirm, within: Duration, size: usize) -> (Result<(Fate, Option<Place>)>, bool) {
    let confirmation = match timeout(within, confirm).await {
        Ok(Ok(confirmation)) => confirmation,
        Ok(Err(error)) => return (Err(unconfirmed(error, size)), true),
        Err(_) => {
            let silence = format!("no word from the broker in {within:?}");
            return (Err(Error::Unconfirmed(silence.into())), false);
        }
    };
    let fate = match &confirmation {
        Confirmation::Ack(_) => Fate::Stored,
        Confirmation::Nack(_) => Fate::Refused,
        Confirmation::NotRequested => {
            return (
                Err(Error::Unconfirmed("the channel has no confirmations".into())),
                false,
            );
        }
    };
    let returned = confirmation
        .take_message()
        .map(|message| place(message.routing_key.as_str(), &message.properties));
    (Ok((fate, returned)), true)
}

/// The channel was closed. A message that is too large closes it, and takes others with it, which may be published again.
fn unconfirmed(error: lapin::Error, size: usize) -> Error {
    if let ErrorKind::ProtocolError(refusal) = error.kind()
        && let Some(max) = size_max(refusal.get_message().as_str())
        && size > max
    {
        let part = "message with its headers (see `max_message_size` of the broker)";
        return Error::TooLarge { part, size, max };
    }
    Error::Unconfirmed(Box::new(error))
}

/// The number in `message size 7 is larger than configured max size 5`.
fn size_max(refusal: &str) -> Option<usize> {
    let (_, rest) = refusal.split_once("larger than")?;
    rest.split_whitespace().find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::size_max;

    #[test]
    fn the_brokers_limit_is_read_from_its_refusal() {
        let refusal = "PRECONDITION_FAILED - message size 1572864 is larger than configured max size 1000000";
        assert_eq!(size_max(refusal), Some(1_000_000));
        assert_eq!(size_max("PRECONDITION_FAILED - unknown delivery tag 7"), None);
    }
}
