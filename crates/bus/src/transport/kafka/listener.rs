//! What librdkafka says of itself, and when partitions come and go.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::{
    ClientContext, TopicPartitionList,
    bindings::rd_kafka_resp_err_t,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};

/// Has partitions begin and end, in the thread that polls.
pub(super) trait Turns: Send + Sync {
    /// Partitions become ours; gives them with the offsets to read from.
    fn begin(&self, consumer: &BaseConsumer<Listener>, partitions: &TopicPartitionList) -> Option<TopicPartitionList>;
    /// Partitions are to go to others; or are gone already.
    fn end(&self, consumer: &BaseConsumer<Listener>, partitions: &TopicPartitionList, lost: bool);
}

/// What an error of a connection is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Credentials,
    Tls,
    Network,
}

/// Hears of errors, and of partitions where there are turns.
#[derive(Clone, Default)]
pub(super) struct Listener {
    last: Arc<Mutex<Option<(KafkaError, String)>>>,
    turns: Option<Arc<dyn Turns>>,
}

impl Listener {
    pub(super) fn new(turns: Arc<dyn Turns>) -> Self {
        Self {
            turns: Some(turns),
            ..Self::default()
        }
    }
    /// The last error, in words, and what it is of.
    pub(super) fn last(&self) -> Option<(Cause, String)> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(error, reason)| {
            let cause = match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::Authentication) => Cause::Credentials,
                Some(RDKafkaErrorCode::SSL) => Cause::Tls,
                _ => Cause::Network,
            };
            (cause, reason.clone())
        })
    }
}

impl ClientContext for Listener {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "the connection to Kafka");
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // That none of them is left says less than why.
        if last.is_none() || error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *last = Some((error, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Listener {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let Some(turns) = &self.turns else { return };
        let done = if event == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let begun = turns.begin(consumer, list);
            consumer.incremental_assign(begun.as_ref().unwrap_or(list))
        } else {
            turns.end(consumer, list, consumer.assignment_lost());
            consumer.incremental_unassign(list)
        };
        if let Err(error) = done {
            tracing::warn!(%error, "partitions of Kafka could not be taken or given up");
        }
    }
}
