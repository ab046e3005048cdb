//! What the brokers know of topics and groups: where partitions begin and end, and what each group has committed, with what is
//! written beside it.

use std::{collections::HashMap, sync::Arc};

use futures_core::future::BoxFuture;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaResult,
    metadata::Metadata,
};

use super::{
    link::{ANSWER_WITHIN, Link, blocking, failure},
    mark::Mark,
};
use crate::{Error, Inspect, Lag, LagOf, Result, Topic, TopicInfo};

/// Asks the brokers.
pub(super) struct Inspector(pub(super) Arc<Link>);

impl Inspector {
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Link) -> KafkaResult<Vec<T>> + Send + 'static,
    ) -> Result<Vec<T>> {
        let link = Arc::clone(&self.0);
        if link.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        blocking(move || ask(&link)).await?.map_err(failure)
    }
}

/// A place in a topic.
type Partition = (String, i32);
/// The first message of each partition, and what comes after its last one. Those that do not answer are left out.
type Edges = HashMap<Partition, (i64, i64)>;

impl Link {
    /// A consumer that asks for a group, and never joins it.
    fn asker(&self, group_id: &str) -> KafkaResult<BaseConsumer> {
        self.config
            .clone()
            .set("group.id", group_id)
            .set("enable.auto.commit", "false")
            .create()
    }
    /// The partitions of topics that are wanted, of those that messages are published to.
    fn partitions(&self, known: &Metadata, wanted: impl Fn(&Topic) -> bool) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for topic in known.topics() {
            let name = Topic::from(topic.name().to_owned());
            if self.names.check(&name).is_ok() && wanted(&name) {
                add(&mut list, topic.name(), topic.partitions().len());
            }
        }
        list
    }
    fn topics(&self) -> KafkaResult<Vec<TopicInfo>> {
        let known = self.admin.inner().fetch_metadata(None, ANSWER_WITHIN)?;
        let asker = self.asker(&format!("{}-reader", self.options.prefix))?;
        let edges = edges(&asker, &self.partitions(&known, |_| true))?;
        let name = |topic: &str| Topic::from(topic.to_owned());
        let ours = known
            .topics()
            .iter()
            .filter(|topic| self.names.check(&name(topic.name())).is_ok());
        let mut topics: Vec<TopicInfo> = ours
            .map(|topic| info(topic.name(), topic.partitions().len(), &edges))
            .collect();
        topics.sort_by(|a, b| a.topic.cmp(&b.topic));
        Ok(topics)
    }
    fn lag(&self, of: &LagOf) -> KafkaResult<Vec<Lag>> {
        let known = self.admin.inner().fetch_metadata(None, ANSWER_WITHIN)?;
        let groups = self.admin.inner().fetch_group_list(None, ANSWER_WITHIN)?;
        let mut all = Vec::new();
        for group in groups.groups() {
            let Some((topic, name)) = self.names.subscriber(group.name()) else {
                continue;
            };
            if of.takes(&topic, &name) {
                all.push(Lag {
                    unsettled: self.unsettled(&known, group.name(), &topic, &name)?,
                    members: Some(group.members().len() as u64),
                    ..Lag::new(topic, name)
                });
            }
        }
        all.sort_by(|a, b| (&a.topic, &a.group).cmp(&(&b.topic, &b.group)));
        Ok(all)
    }
    /// How much a group has before it, what was requeued for it included; none where a partition does not answer.
    fn unsettled(&self, known: &Metadata, group_id: &str, topic: &Topic, group: &str) -> KafkaResult<Option<u64>> {
        let asker = self.asker(group_id)?;
        let mut partitions = self.partitions(known, |name| topic.covers(name));
        let again = self.names.again(group);
        for topic in known.topics().iter().filter(|topic| topic.name() == again) {
            add(&mut partitions, topic.name(), topic.partitions().len());
        }
        if partitions.count() == 0 {
            return Ok(Some(0));
        }
        let edges = edges(&asker, &partitions)?;
        let committed = asker.committed_offsets(partitions, ANSWER_WITHIN)?;
        let elements = committed.elements();
        let behind = elements.iter().map(|partition| {
            partition.error().ok()?;
            let at = (partition.topic().to_owned(), partition.partition());
            // None is committed where the partition is newer than the subscription, which then reads all of it.
            let offset = partition.offset().to_raw().filter(|offset| *offset >= 0).unwrap_or(0);
            Some(unsettled(offset, partition.metadata(), *edges.get(&at)?))
        });
        Ok(behind.sum())
    }
}

fn add(list: &mut TopicPartitionList, topic: &str, partitions: usize) {
    for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
        list.add_partition(topic, partition);
    }
}

/// Two questions for all partitions, and not two for each.
fn edges(asker: &BaseConsumer, partitions: &TopicPartitionList) -> KafkaResult<Edges> {
    let ends = at(asker, partitions, Offset::End)?;
    let edge = |(at, begin): (Partition, i64)| {
        let end = *ends.get(&at)?;
        Some((at, (begin, end)))
    };
    Ok(at(asker, partitions, Offset::Beginning)?
        .into_iter()
        .filter_map(edge)
        .collect())
}

/// The offsets at one end. In place of times, which are asked for so, the protocol takes these two.
fn at(asker: &BaseConsumer, partitions: &TopicPartitionList, end: Offset) -> KafkaResult<HashMap<Partition, i64>> {
    if partitions.count() == 0 {
        return Ok(HashMap::new());
    }
    let mut asked = partitions.clone();
    asked.set_all_offsets(end)?;
    let answer = asker.offsets_for_times(asked, ANSWER_WITHIN)?;
    let offset = |partition: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        partition.error().ok()?;
        let offset = partition.offset().to_raw().filter(|offset| *offset >= 0)?;
        Some(((partition.topic().to_owned(), partition.partition()), offset))
    };
    Ok(answer.elements().iter().filter_map(offset).collect())
}

fn info(name: &str, partitions: usize, edges: &Edges) -> TopicInfo {
    let all: Option<Vec<(i64, i64)>> = (0..i32::try_from(partitions).unwrap_or(i32::MAX))
        .map(|partition| edges.get(&(name.to_owned(), partition)).copied())
        .collect();
    let count = |(begin, end): &(i64, i64)| u64::try_from(end - begin).unwrap_or(0);
    // Offsets are a partition's own: of several there is no first one.
    let only = all.as_deref().and_then(|all| match all {
        [(begin, end)] if begin < end => Some((*begin, *end)),
        _ => None,
    });
    TopicInfo {
        messages: all.as_ref().map(|all| all.iter().map(count).sum()),
        partitions: u32::try_from(partitions).ok(),
        first: only.and_then(|(begin, _)| u64::try_from(begin).ok()),
        last: only.and_then(|(_, end)| u64::try_from(end - 1).ok()),
        ..TopicInfo::new(Topic::from(name.to_owned()))
    }
}

/// What a group has not settled of a partition: what its mark says is open, and all that comes after what it had seen.
fn unsettled(offset: i64, mark: &str, (begin, end): (i64, i64)) -> u64 {
    let mark = Mark::read(mark, offset).unwrap_or_default();
    let open = mark.open.range(begin.max(offset)..).count() as u64;
    let seen = mark.end.max(offset).max(begin);
    open + u64::try_from(end - seen).unwrap_or(0)
}

impl Inspect for Inspector {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicInfo>>> {
        Box::pin(self.ask(Link::topics))
    }
    fn lag<'a>(&'a self, of: &'a LagOf) -> BoxFuture<'a, Result<Vec<Lag>>> {
        let of = of.clone();
        Box::pin(self.ask(move |link| link.lag(&of)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Mark, unsettled};

    #[test]
    fn what_is_settled_behind_an_offset_is_not_behind() {
        assert_eq!(unsettled(10, "", (0, 15)), 5);
        let mark = Mark {
            begun: Some(500),
            open: [(10, 0), (12, 3)].into(),
            end: 14,
        };
        let text = mark.write(10);
        assert_eq!(unsettled(10, &text, (0, 15)), 3, "two are open, one has not been seen");
        assert_eq!(unsettled(10, &text, (12, 15)), 2, "the first ones are gone");
        assert_eq!(unsettled(0, "", (7, 9)), 2, "it begins at what is there");
        assert_eq!(unsettled(20, "", (0, 9)), 0, "the topic was made anew");
    }
}
