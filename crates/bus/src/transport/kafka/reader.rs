//! The thread that polls a consumer, all the time: what comes waits in the ledger, and a partition of which too much waits is
//! paused. Handlers never keep it from polling, so that the group never takes this process for dead.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use tokio_util::sync::CancellationToken;

use super::{
    envelope::from_wire,
    ledger::Place,
    link::{failure, unusable},
    listener::Listener,
    note::{Carried, Consumed},
    turns::Partitions,
};
use crate::{Error, Topic, error::chain};

/// How long a poll waits: after so long a pause is over, and the end is seen.
const POLL: Duration = Duration::from_millis(50);
/// So often the subscription is told that no broker is there.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// Between two looks whether nobody commits any more.
const LOOK: Duration = Duration::from_millis(5);

pub(super) struct Reader {
    pub(super) consumer: Arc<BaseConsumer<Listener>>,
    pub(super) partitions: Arc<Partitions>,
    /// What is subscribed to.
    pub(super) topic: Topic,
    /// The topic of what was requeued.
    pub(super) again: String,
    /// Set when it has left the group.
    pub(super) gone: CancellationToken,
    /// When it was last told that no broker is there.
    pub(super) told_down: Cell<Option<Instant>>,
}

impl Reader {
    /// Until the subscription is over; then leaves the group.
    pub(super) fn run(mut self) {
        while !self.partitions.over.is_cancelled() {
            match self.consumer.poll(POLL) {
                Some(Ok(record)) => self.take(&record),
                Some(Err(error)) => self.report(error),
                None => {}
            }
            if let Err(error) = self.steer() {
                tracing::debug!(%error, "a partition was not paused or resumed");
            }
        }
        self.consumed().ledger().turns().for_each(|(_, turn)| turn.stop());
        if let Err(error) = self.consumed().commit(&self.consumer) {
            tracing::warn!(error = chain(&error), "left without a last commit: messages come again");
        }
        // Whoever is the last to let go of it waits until it has left the group: that is to be this thread.
        while let Err(consumer) = Arc::try_unwrap(self.consumer) {
            self.consumer = consumer;
            std::thread::sleep(LOOK);
        }
        self.gone.cancel();
    }
    fn consumed(&self) -> &Consumed {
        self.partitions.group.broker()
    }
    fn take(&self, record: &BorrowedMessage<'_>) {
        let (from, partition, offset) = (record.topic(), record.partition(), record.offset());
        let (message, origin) = from_wire(record);
        let again = from == self.again;
        let topic = origin.topic.filter(|_| again).unwrap_or_else(|| self.name(from));
        let Some(turn) = self.turn_for(from, partition, offset) else {
            return;
        };
        let mut ledger = self.consumed().ledger();
        let Some(open) = ledger.turn(turn) else { return };
        // What was requeued for other subscriptions of the group; and other groups' topics, where a pattern fits their names.
        let foreign = !again && self.consumed().link.names.check(&topic).is_err();
        if foreign || !self.topic.covers(&topic) {
            open.skip(offset);
            return;
        }
        open.take(Carried {
            place: Place { turn, offset },
            delivered: 1,
            topic,
            message,
            history: if again { origin.story } else { Vec::new() },
        });
        drop(ledger);
        self.consumed().news.notify_one();
    }
    fn name(&self, topic: &str) -> Topic {
        if topic == self.topic.as_ref() {
            self.topic.clone()
        } else {
            Topic::from(topic.to_owned())
        }
    }
    /// The turn of a partition; another one where the partition has begun anew, since it was deleted and made again.
    fn turn_for(&self, topic: &str, partition: i32, offset: i64) -> Option<u64> {
        let mut ledger = self.consumed().ledger();
        let turn = ledger.find(topic, partition)?;
        let open = ledger.turn(turn)?;
        if !open.goes_back(offset) {
            return Some(turn);
        }
        let paused = open.paused;
        tracing::warn!(
            topic,
            partition,
            offset,
            "a partition has begun anew: it is read from its beginning"
        );
        ledger.end(turn);
        ledger.begin(topic, partition, offset, None);
        let new = ledger.find(topic, partition);
        if let Some(open) = new.and_then(|new| ledger.turn(new)) {
            open.paused = paused;
        }
        drop(ledger);
        self.partitions.give_up(&[turn], true);
        new
    }
    /// Pauses partitions of which too much waits, and resumes them when little does.
    fn steer(&self) -> KafkaResult<()> {
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        for (_, turn) in self.consumed().ledger().turns() {
            let wanted = turn.wants_pause();
            if wanted != turn.paused {
                turn.paused = wanted;
                let list = if wanted { &mut pause } else { &mut resume };
                list.add_partition(&turn.topic, turn.partition);
            }
        }
        if pause.count() > 0 {
            self.consumer.pause(&pause)?;
        }
        if resume.count() > 0 {
            self.consumer.resume(&resume)?;
        }
        Ok(())
    }
    /// What concerns the subscription is told to it, which goes on.
    fn report(&self, error: KafkaError) {
        use RDKafkaErrorCode::{AllBrokersDown, Authentication, GroupAuthorizationFailed, TopicAuthorizationFailed};
        let said = match error.rdkafka_error_code() {
            // Said anew at each try to reach one.
            Some(AllBrokersDown) if self.told_down.get().is_some_and(|at| at.elapsed() < TELL_AGAIN) => return,
            Some(AllBrokersDown) => {
                self.told_down.set(Some(Instant::now()));
                Error::Disconnected(Box::new(error))
            }
            Some(Authentication | GroupAuthorizationFailed | TopicAuthorizationFailed) => failure(error),
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => unusable(error),
            _ => {
                tracing::debug!(%error, "from the consumer");
                return;
            }
        };
        tracing::warn!(error = chain(&said), "the subscription goes on when this is over");
        self.partitions.group.report(said);
    }
}
