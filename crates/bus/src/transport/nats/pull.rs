//! Asks the server for messages, and never leaves it unclear for long whether it was heard.
//!
//! One question is open at a time, for as many messages as there is room for. The server answers with messages, with signs of
//! life, and with the end of the question. Where it is silent, or says that it has forgotten, it is asked again.

use std::time::Duration;

use async_nats::{
    StatusCode, Subject,
    jetstream::consumer::{PullConsumer, pull::BatchConfig},
};
use tokio::time::Instant;

use super::link::jittered;
use crate::{Error, Result};

/// How long the server keeps a question open.
const OPEN: Duration = Duration::from_secs(30);
/// How often it gives a sign of life meanwhile.
const LIFE: Duration = Duration::from_secs(5);
/// Silence after which it is asked again: two signs of life are missing.
const SILENCE: Duration = Duration::from_secs(11);
/// Most messages in one answer.
const BATCH_MAX: usize = 512;
/// Between two questions while something is wrong.
const AGAIN: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_secs(5);

/// What an answer without a message means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// Nothing to do.
    None,
    /// The question is to be put again.
    Ended,
    /// The server knows no such consumer, or none is there to answer.
    Gone,
}

/// The questions to one consumer.
pub(super) struct Pull {
    consumer: PullConsumer,
    inbox: String,
    number: u64,
    open: Option<Open>,
    /// Not to be asked before.
    not_before: Instant,
    pause: Duration,
}

struct Open {
    left: usize,
    deadline: Instant,
}

impl Pull {
    /// Answers come to subjects below the inbox.
    pub(super) fn new(consumer: PullConsumer, inbox: String) -> Self {
        Self {
            consumer,
            inbox,
            number: 0,
            open: None,
            not_before: Instant::now(),
            pause: AGAIN.start,
        }
    }
    pub(super) fn ack_wait(&self) -> Duration {
        self.consumer.cached_info().config.ack_wait
    }
    /// When the consumer was made.
    pub(super) fn created(&self) -> async_nats::datetime::DateTime {
        self.consumer.cached_info().created
    }
    /// Asks for so many messages, unless a question is open, or it is too soon.
    pub(super) async fn ask(&mut self, room: usize) -> Result<()> {
        if room == 0 || self.open.is_some() || self.not_before > Instant::now() {
            return Ok(());
        }
        let batch = BatchConfig {
            batch: room.min(BATCH_MAX),
            expires: Some(OPEN),
            idle_heartbeat: LIFE,
            ..BatchConfig::default()
        };
        self.number += 1;
        self.open = Some(Open {
            left: batch.batch,
            deadline: Instant::now() + SILENCE,
        });
        let inbox = Subject::from(format!("{}.{}", self.inbox, self.number));
        let asked = self.consumer.request_batch(batch, inbox).await;
        asked.map_err(|error| Error::Disconnected(Box::new(error)))
    }
    /// A message came.
    pub(super) fn delivered(&mut self) {
        self.pause = AGAIN.start;
        if let Some(open) = &mut self.open {
            open.left -= 1;
            open.deadline = Instant::now() + SILENCE;
        }
        self.open.take_if(|open| open.left == 0);
    }
    /// Something else came.
    pub(super) fn notice(&mut self, subject: &str, status: StatusCode, about: Option<&str>) -> Notice {
        let number = subject.rsplit('.').next().and_then(|number| number.parse().ok());
        if number != Some(self.number) {
            // It is about an earlier question.
            return Notice::None;
        }
        if status == StatusCode::IDLE_HEARTBEAT {
            if let Some(open) = &mut self.open {
                open.deadline = Instant::now() + SILENCE;
            }
            return Notice::None;
        }
        self.open = None;
        if status == StatusCode::TIMEOUT || status == StatusCode::NOT_FOUND {
            return Notice::Ended;
        }
        self.rest();
        let deleted = about.is_some_and(|about| about.to_ascii_lowercase().contains("consumer deleted"));
        if status == StatusCode::NO_RESPONDERS || deleted {
            Notice::Gone
        } else {
            Notice::Ended
        }
    }
    /// The question is not known to anybody any more.
    pub(super) fn forget(&mut self) {
        self.open = None;
    }
    /// The next question is put a little later.
    pub(super) fn rest(&mut self) {
        self.open = None;
        self.not_before = Instant::now() + jittered(self.pause);
        self.pause = (self.pause * 2).min(AGAIN.end);
    }
    /// The consumer was made anew.
    pub(super) fn renew(&mut self, consumer: PullConsumer) {
        self.consumer = consumer;
        self.open = None;
    }
    /// When to look again: the server has been silent for too long, or it may be asked again.
    pub(super) fn look_at(&self) -> Instant {
        match &self.open {
            Some(open) => open.deadline,
            None => self.not_before.max(Instant::now() + AGAIN.start),
        }
    }
    /// Whether the server has been silent for too long; the question is forgotten then.
    pub(super) fn is_silent(&mut self) -> bool {
        self.open.take_if(|open| open.deadline <= Instant::now()).is_some()
    }
}
