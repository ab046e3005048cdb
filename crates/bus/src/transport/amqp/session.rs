//! One channel that a group's messages come by, while it lasts: what it delivered can be settled on it alone.
//!
//! Acknowledgements that are asked for at once leave together: one frame says that all up to a tag are done, which costs the
//! broker a fraction of one frame each.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lapin::{
    Channel,
    options::{BasicAckOptions, BasicNackOptions},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::line::disconnected;
use crate::{Error, Result};

/// So long what a lost channel had delivered is waited for on the next one; then somebody else has it.
const RENEWED_WITHIN: Duration = Duration::from_secs(3);
/// So long a settlement may take to be written. A connection that takes nothing for so long is given up by its signs of life.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
/// Most settlements that wait to be written.
const QUEUED_MAX: usize = 1_024;

/// How a delivery is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Ack,
    GiveBack,
}

type Job = (u64, Word, oneshot::Sender<Result<()>>);

pub(super) struct Session {
    pub(super) channel: Channel,
    jobs: mpsc::Sender<Job>,
    /// When the next one began.
    superseded: OnceLock<Instant>,
    /// Nothing could be written for too long.
    stuck: AtomicBool,
}

impl Session {
    pub(super) fn new(channel: Channel) -> Arc<Self> {
        let (jobs, queue) = mpsc::channel(QUEUED_MAX);
        tokio::spawn(write(channel.clone(), queue));
        Arc::new(Self {
            channel,
            jobs,
            superseded: OnceLock::new(),
            stuck: AtomicBool::new(false),
        })
    }
    /// Another channel has taken its place.
    pub(super) fn supersede(&self) {
        let _ = self.superseded.set(Instant::now());
    }
    /// The group is done with a delivery. RabbitMQ does not answer: this returns when it is written.
    pub(super) async fn ack(&self, tag: u64) -> Result<()> {
        self.say(tag, Word::Ack).await
    }
    /// The queue shall have a delivery again, at its old place.
    pub(super) async fn give_back(&self, tag: u64) -> Result<()> {
        self.say(tag, Word::GiveBack).await
    }
    async fn say(&self, tag: u64, word: Word) -> Result<()> {
        self.check()?;
        let lost = || Error::Disconnected("the channel was lost meanwhile".into());
        let (answer, answered) = oneshot::channel();
        let told = async {
            self.jobs.send((tag, word, answer)).await.map_err(|_| lost())?;
            answered.await.unwrap_or_else(|_| Err(lost()))
        };
        timeout(WRITTEN_WITHIN, told).await.unwrap_or_else(|_| {
            self.stuck.store(true, Ordering::Relaxed);
            Err(lost())
        })
    }
    /// Whether its deliveries can still be settled, or may yet come again to be.
    fn check(&self) -> Result<()> {
        if self.channel.status().connected() && !self.stuck.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.superseded.get() {
            Some(since) if since.elapsed() > RENEWED_WITHIN => Err(Error::Stale),
            _ => Err(Error::Disconnected(
                "the channel is lost: the delivery may come again".into(),
            )),
        }
    }
}

async fn write(channel: Channel, mut queue: mpsc::Receiver<Job>) {
    let (mut settled, mut batch) = (Settled::default(), Vec::new());
    while queue.recv_many(&mut batch, QUEUED_MAX).await > 0 {
        let mut acks = Vec::with_capacity(batch.len());
        for (tag, word, answer) in batch.drain(..) {
            settled.tags.insert(tag);
            match word {
                Word::Ack => acks.push((tag, answer)),
                Word::GiveBack => {
                    let options = BasicNackOptions {
                        requeue: true,
                        ..BasicNackOptions::default()
                    };
                    let _ = answer.send(channel.basic_nack(tag, options).await.map_err(disconnected));
                }
            }
        }
        let all = settled.together(acks.iter().map(|(tag, _)| *tag));
        let told_all = match all {
            Some(up_to) => ack(&channel, up_to, true).await,
            None => Ok(()),
        };
        for (tag, answer) in acks {
            let told = if all.is_some_and(|up_to| tag <= up_to) {
                told_all.clone()
            } else {
                ack(&channel, tag, false).await
            };
            let _ = answer.send(told.map_err(disconnected));
        }
    }
}
async fn ack(channel: &Channel, tag: u64, multiple: bool) -> lapin::Result<()> {
    channel.basic_ack(tag, BasicAckOptions { multiple }).await
}

/// Which deliveries of a channel are settled. Their tags count from 1, without gaps.
#[derive(Debug, Default)]
struct Settled {
    /// All of these and before.
    up_to: u64,
    /// Those after it.
    tags: BTreeSet<u64>,
}

impl Settled {
    /// Of acknowledgements that have just been added: the one that says all of them up to it, where that saves any.
    ///
    /// It has not been said yet: to one that it does not know any more, the broker answers by closing the channel.
    fn together(&mut self, acks: impl Iterator<Item = u64>) -> Option<u64> {
        let up_to = self.advance();
        let covered = acks.filter(|tag| *tag <= up_to);
        let (count, last) = covered.fold((0, 0), |(count, last), tag| (count + 1, tag.max(last)));
        (count > 1).then_some(last)
    }
    fn advance(&mut self) -> u64 {
        while self.tags.first() == Some(&(self.up_to + 1)) {
            self.tags.pop_first();
            self.up_to += 1;
        }
        self.up_to
    }
}

#[cfg(test)]
mod tests {
    use super::Settled;

    #[test]
    fn only_what_has_no_gap_before_it_is_settled_together() {
        let mut settled = Settled::default();
        settled.tags.extend([2, 3]);
        assert_eq!(settled.advance(), 0);
        settled.tags.insert(1);
        assert_eq!(settled.advance(), 3);
        settled.tags.extend([5]);
        assert_eq!(settled.advance(), 3);
    }

    #[test]
    fn what_was_settled_before_does_not_speak_for_others() {
        let mut settled = Settled::default();
        settled.tags.insert(4);
        assert_eq!(settled.together([4].into_iter()), None);
        settled.tags.extend([1, 3]);
        assert_eq!(settled.together([1, 3].into_iter()), None);
        settled.tags.insert(2);
        assert_eq!(settled.together([2].into_iter()), None);
        settled.tags.extend([7, 8]);
        assert_eq!(settled.together([7, 8].into_iter()), None);
        settled.tags.extend([5, 6]);
        assert_eq!(settled.together([6, 5].into_iter()), Some(6));
    }
}
