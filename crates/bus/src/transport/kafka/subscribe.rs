//! A subscription in this process: what a consumer reads goes to the group's members, until nobody wants more.

use std::{cell::Cell, sync::Arc, time::Duration};

use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    commit,
    link::{ANSWER_WITHIN, Link, Purpose, blocking, create, failure},
    listener::Listener,
    naming::Names,
    note::Consumed,
    reader::Reader,
    turns::{Partitions, begin_group},
};
use crate::{Deliveries, Error, Result, Start, Subscribe, Topic, error::chain, transport::lanes::Group};

/// So long a new subscription waits for one of its group that is ending, so that what that one gives back comes in order.
const PREDECESSOR: Duration = Duration::from_secs(10);
/// So long settlements that are on their way are waited for in the end.
const SETTLING: Duration = Duration::from_secs(5);
/// So long the last commit, and leaving the group, are waited for.
const LEAVING: Duration = Duration::from_secs(10);
/// While the brokers take no commit.
const AGAIN: Duration = Duration::from_millis(200);
/// So long a new subscription tries to commit where its group begins.
const BEGINNING: Duration = Duration::from_secs(5);

type Shared = Arc<Group<Consumed>>;

/// Subscribes; returns when messages published from now on will be seen.
pub(super) async fn subscribe(link: &Arc<Link>, request: Subscribe) -> Result<Deliveries> {
    link.names.check(&request.topic)?;
    loop {
        if link.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        if let Some(stream) = link.subscriptions.join(&request, PREDECESSOR).await? {
            return Ok(stream);
        }
        let pump = Pump::new(link, request.clone()).await?;
        let Some(stream) = link.subscriptions.begin(&request, &pump.group, &link.closed)? else {
            continue;
        };
        pump.start()?;
        return Ok(stream);
    }
}

struct Pump {
    link: Arc<Link>,
    group: Shared,
    consumer: Arc<BaseConsumer<Listener>>,
    partitions: Arc<Partitions>,
    request: Subscribe,
    gone: CancellationToken,
}

impl Pump {
    async fn new(link: &Arc<Link>, request: Subscribe) -> Result<Self> {
        let again = link.names.again(&request.group);
        link.declare(&again, Purpose::Again).await?;
        if !request.topic.is_pattern() {
            link.declare(request.topic.as_ref(), Purpose::Messages).await?;
        }
        let consumed = Consumed::new(Arc::clone(link), request.group.clone());
        let stop = link.closed.child_token();
        let group = Arc::new(Group::new(consumed, super::NAME, &request, stop));
        let partitions = Arc::new(Partitions {
            group: Arc::clone(&group),
            over: CancellationToken::new(),
        });
        let consumer = Arc::new(consumer(link, &request, Arc::clone(&partitions))?);
        begin(link, &consumer, &request).await?;
        Ok(Self {
            link: Arc::clone(link),
            group,
            consumer,
            partitions,
            request,
            gone: CancellationToken::new(),
        })
    }
    /// Joins the group on the brokers.
    fn start(self) -> Result<()> {
        let again = self.link.names.again(&self.request.group);
        let wanted = Names::subscription(&self.request.topic);
        let joined = self.consumer.subscribe(&[&wanted, &again]);
        let reader = Reader {
            consumer: Arc::clone(&self.consumer),
            partitions: Arc::clone(&self.partitions),
            topic: self.request.topic.clone(),
            again,
            gone: self.gone.clone(),
            told_down: Cell::new(None),
        };
        let thread = std::thread::Builder::new().name("sagamill-kafka".to_owned());
        let started = thread.spawn(move || reader.run());
        let link = Arc::clone(&self.link);
        if joined.is_err() || started.is_err() {
            self.group.stop.cancel();
        }
        link.busy.spawn(self.run());
        joined.map_err(failure)?;
        started.map(drop).map_err(|error| Error::Disconnected(Box::new(error)))
    }
    async fn run(self) {
        // Also where this is dropped with its runtime: nobody would read for a thread that goes on.
        let _over = self.partitions.over.clone().drop_guard();
        let group = Arc::clone(&self.group);
        tokio::select! {
            () = group.stop.cancelled() => {}
            () = self.hand_out() => {}
            () = self.tell() => {}
            () = group.clerk() => {}
        }
        self.end().await;
    }
    /// Takes messages to the group as it wants them.
    async fn hand_out(&self) {
        let consumed = self.group.broker();
        let span = i64::try_from(self.link.options.span).unwrap_or(i64::MAX);
        loop {
            let (due, next) = consumed.take_due(Instant::now());
            for message in due {
                self.group.arrive(message.arrival());
            }
            let room = self.group.room();
            let (wanted, must_tell) = consumed.ledger().hand_out(room, span);
            if must_tell {
                consumed.tell.notify_one();
            }
            for message in wanted {
                self.group.arrive(message.arrival());
            }
            let timer = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = consumed.news.notified() => {}
                () = self.group.work.notified() => {}
                () = timer => {}
            }
        }
    }
    /// Tells the brokers what was settled, now and then, and what they must know at once.
    async fn tell(&self) {
        loop {
            tokio::select! {
                () = self.group.broker().tell.notified() => {}
                () = sleep(commit::EVERY) => {}
            }
            if !self.group.broker().ledger().is_due() {
                continue;
            }
            let (group, consumer) = (Arc::clone(&self.group), Arc::clone(&self.consumer));
            let told = blocking(move || group.broker().commit(&consumer)).await;
            if let Err(error) = told.flatten() {
                tracing::debug!(error = chain(&error), "offsets are not committed yet");
                sleep(AGAIN).await;
            }
        }
    }
    /// Gives back what is held, waits for what is being settled, and leaves the group.
    async fn end(self) {
        let until = Instant::now() + SETTLING;
        {
            // What is noted in the end must be told, too.
            let ending = async {
                self.group.end().await;
                while self.group.is_settling() && Instant::now() < until {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                () = ending => {}
                () = self.tell() => {}
            }
        }
        self.partitions.over.cancel();
        drop(self.consumer);
        if timeout(LEAVING, self.gone.cancelled()).await.is_err() {
            tracing::warn!("the brokers do not hear that this process leaves its group");
        }
        self.link.subscriptions.remove(&self.request, &self.group);
        self.group.ended.cancel();
    }
}

fn consumer(link: &Arc<Link>, request: &Subscribe, partitions: Arc<Partitions>) -> Result<BaseConsumer<Listener>> {
    let millis = |time: Duration| time.as_millis().to_string();
    let session = link.options.session;
    let heartbeat = (session / 20).min(Duration::from_secs(3));
    let mut config = link.config.clone();
    config
        .set("group.id", link.names.group_id(&request.group, &request.topic))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", millis(session))
        .set("heartbeat.interval.ms", millis(heartbeat))
        .set("topic.blacklist", link.names.hidden())
        .set(
            "topic.metadata.refresh.interval.ms",
            millis(link.options.find_topics_every),
        )
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "16384");
    create(config.create_with_context(Listener::new(partitions)))
}

/// Commits where the group begins.
async fn begin(link: &Arc<Link>, consumer: &Arc<BaseConsumer<Listener>>, request: &Subscribe) -> Result<()> {
    let until = Instant::now() + BEGINNING;
    let latest = request.start == Start::Latest;
    loop {
        let (consumer, link, topic) = (Arc::clone(consumer), Arc::clone(link), request.topic.clone());
        let again = link.names.again(&request.group);
        let begun = blocking(move || {
            begin_group(&consumer, &partitions(&consumer, Some(&again), |_| true)?, false)?;
            let one = (!topic.is_pattern()).then_some(topic.as_ref());
            let covered = |name: Topic| topic.covers(&name) && link.names.check(&name).is_ok();
            begin_group(&consumer, &partitions(&consumer, one, covered)?, latest)
        });
        match begun.await? {
            Ok(()) => return Ok(()),
            // The group has members: these commit it.
            Err(error) if is_of_members(&error) && Instant::now() >= until => return Ok(()),
            Err(error) if Instant::now() >= until => return Err(failure(error)),
            Err(error) => {
                tracing::debug!(%error, "where the group begins is not committed yet");
                sleep(AGAIN).await;
            }
        }
    }
}

fn is_of_members(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{IllegalGeneration, RebalanceInProgress, UnknownMemberId};
    matches!(
        error.rdkafka_error_code(),
        Some(IllegalGeneration | RebalanceInProgress | UnknownMemberId)
    )
}

/// The partitions of one topic, or of those that are wanted.
fn partitions(
    consumer: &BaseConsumer<Listener>,
    one: Option<&str>,
    wanted: impl Fn(Topic) -> bool,
) -> Result<TopicPartitionList, KafkaError> {
    let known = consumer.fetch_metadata(one, ANSWER_WITHIN)?;
    let mut list = TopicPartitionList::new();
    for topic in known.topics() {
        if wanted(Topic::from(topic.name().to_owned())) {
            topic.partitions().iter().for_each(|partition| {
                list.add_partition(topic.name(), partition.id());
            });
        }
    }
    if one.is_some() && list.count() == 0 {
        // It was made just now, and not every broker knows it yet.
        return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition));
    }
    Ok(list)
}
