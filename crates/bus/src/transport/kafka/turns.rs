//! Partitions that come to this process and go to others, in the thread that polls: what is handled is drained, and the rest
//! given up uncounted.

use std::{
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaResult,
};
use tokio_util::sync::CancellationToken;

use super::{
    ledger::Place,
    link::ANSWER_WITHIN,
    listener::{Listener, Turns},
    mark::Mark,
    note::Consumed,
};
use crate::{error::chain, transport::lanes::Group};

/// How often handlers are looked after that are to finish.
const LOOK: Duration = Duration::from_millis(5);
/// Between two questions for committed offsets.
const AGAIN: Duration = Duration::from_millis(200);

pub(super) struct Partitions {
    pub(super) group: Arc<Group<Consumed>>,
    /// The subscription is over here.
    pub(super) over: CancellationToken,
}

impl Turns for Partitions {
    fn begin(&self, consumer: &BaseConsumer<Listener>, partitions: &TopicPartitionList) -> Option<TopicPartitionList> {
        let committed = loop {
            match committed(consumer, partitions) {
                Ok(committed) => break committed,
                Err(_) if self.over.is_cancelled() => return None,
                Err(error) => {
                    tracing::warn!(%error, "partitions wait: their committed offsets cannot be read");
                    sleep(AGAIN);
                }
            }
        };
        let mut from = TopicPartitionList::with_capacity(committed.count());
        let mut ledger = self.group.broker().ledger();
        for partition in committed.elements() {
            // None is committed where the partition is newer than the subscription.
            let offset = partition.offset().to_raw().filter(|offset| *offset >= 0).unwrap_or(0);
            let added = from.add_partition_offset(partition.topic(), partition.partition(), Offset::Offset(offset));
            if added.is_ok() {
                let left = Mark::read(partition.metadata(), offset);
                ledger.begin(partition.topic(), partition.partition(), offset, left);
            }
        }
        drop(ledger);
        self.group.broker().tell.notify_one();
        Some(from)
    }
    fn end(&self, consumer: &BaseConsumer<Listener>, partitions: &TopicPartitionList, lost: bool) {
        let consumed = self.group.broker();
        let mut turns = Vec::new();
        {
            let mut ledger = consumed.ledger();
            for partition in partitions.elements() {
                let turn = ledger.find(partition.topic(), partition.partition());
                turns.extend(turn.inspect(|turn| ledger.turn(*turn).into_iter().for_each(|turn| turn.stop())));
            }
        }
        self.give_up(&turns, lost);
        if !lost && let Err(error) = consumed.commit(consumer) {
            tracing::warn!(
                error = chain(&error),
                "partitions go without a last commit: messages come again"
            );
        }
        turns.iter().for_each(|turn| consumed.ledger().end(*turn));
    }
}

impl Partitions {
    /// Takes messages back from this process: where they are not lost already, handlers may finish first, for a time.
    pub(super) fn give_up(&self, turns: &[u64], lost: bool) {
        let of = |place: &Place| turns.contains(&place.turn);
        let until = Instant::now() + self.group.broker().link.options.drain_within;
        loop {
            let out_too = lost || Instant::now() >= until;
            let (notes, is_clear) = self.group.withdraw(of, out_too);
            for (place, note) in notes {
                self.group.broker().ledger().note(place, note);
            }
            if is_clear || out_too {
                break;
            }
            sleep(LOOK);
        }
        turns.iter().for_each(|turn| self.group.broker().forget_delayed(*turn));
    }
}

fn committed(consumer: &BaseConsumer<Listener>, partitions: &TopicPartitionList) -> KafkaResult<TopicPartitionList> {
    let committed = consumer.committed_offsets(partitions.clone(), ANSWER_WITHIN)?;
    committed
        .elements()
        .iter()
        .try_for_each(|partition| partition.error())?;
    Ok(committed)
}

/// Commits where a group begins, in all partitions where it has not begun, so that what is published from now on is seen
/// whatever happens before its first message. Where the group has members these have done so.
pub(super) fn begin_group(
    consumer: &BaseConsumer<Listener>,
    partitions: &TopicPartitionList,
    latest: bool,
) -> KafkaResult<()> {
    let mut begin = TopicPartitionList::new();
    for partition in committed(consumer, partitions)?.elements() {
        if partition.offset().to_raw().is_some_and(|offset| offset >= 0) {
            continue;
        }
        let (topic, number) = (partition.topic(), partition.partition());
        // Where the first messages are gone by now, reading goes on with those that are there.
        let offset = if latest {
            consumer.fetch_watermarks(topic, number, ANSWER_WITHIN)?.1
        } else {
            0
        };
        begin.add_partition_offset(topic, number, Offset::Offset(offset))?;
    }
    if begin.count() == 0 {
        return Ok(());
    }
    consumer.commit(&begin, rdkafka::consumer::CommitMode::Sync)
}
