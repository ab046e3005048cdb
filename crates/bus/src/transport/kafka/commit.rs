//! Commits: the ledger as the brokers know it.

use std::{sync::PoisonError, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaResult,
};

use super::{ledger::Commit, listener::Listener, note::Consumed};
use crate::Result;

/// How often what was settled is committed.
pub(super) const EVERY: Duration = Duration::from_millis(200);

impl Consumed {
    /// Tells the brokers what they do not know; blocks until they have it.
    pub(super) fn commit(&self, consumer: &BaseConsumer<Listener>) -> Result<()> {
        let telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let commits = self.ledger().commits();
        if commits.is_empty() {
            return Ok(());
        }
        let committed = list(&commits).and_then(|list| consumer.commit(&list, CommitMode::Sync));
        if committed.is_ok() {
            let mut ledger = self.ledger();
            commits.iter().for_each(|commit| ledger.committed(commit));
        }
        drop(telling);
        let why = committed.as_ref().err().map(ToString::to_string);
        self.told.send_modify(|(rounds, last)| {
            *rounds += 1;
            *last = why;
        });
        self.news.notify_one();
        committed.map_err(super::link::failure)
    }
}

fn list(commits: &[Commit]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(commits.len());
    for commit in commits {
        let mut partition = list.add_partition(&commit.topic, commit.partition);
        partition.set_offset(Offset::Offset(commit.offset))?;
        partition.set_metadata(&commit.mark);
    }
    Ok(list)
}
