//! What is told of topics and groups is true; what a broker does not tell is not told as 0.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    Harness,
    fixture::{Fixture, numbered},
};
use crate::{Error, Lag, LagOf, Result, TopicInfo};

const GROUP: &str = "group";
/// Between two looks: brokers learn late, and tell later.
const LOOK: Duration = Duration::from_millis(50);

/// None where the transport says that it does not tell: it is excused.
fn told<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(told) => Some(told),
        Err(Error::Unsupported { .. }) => None,
        Err(error) => panic!("it tells, or says that it does not: {error}"),
    }
}

impl<H: Harness> Fixture<'_, H> {
    /// The lag of the scenario's group on its topic.
    async fn lag(&self) -> Option<Vec<Lag>> {
        let of = LagOf::all().topic(self.topic.clone()).group(GROUP);
        told(self.bus.lag(of).await)
    }
    async fn one_lag(&self) -> Lag {
        let mut all = self.lag().await.expect("it was told before");
        assert!(all.len() <= 1, "one for each topic and group: {all:?}");
        let lag = all.pop().expect("a group that has subscribed is told of");
        assert_eq!((&lag.topic, lag.group.as_str()), (&self.topic, GROUP));
        if let Lag {
            unsettled: Some(unsettled),
            waiting: Some(waiting),
            delivered: Some(delivered),
            ..
        } = lag
        {
            assert_eq!(unsettled, waiting + delivered, "{lag:?}");
        }
        lag
    }
    /// Waits until the lag is as it must be.
    async fn lag_becomes(&self, what: &str, is_right: impl Fn(&Lag) -> bool) -> Lag {
        let until = Instant::now() + self.harness.patience();
        loop {
            let lag = self.one_lag().await;
            if is_right(&lag) {
                return lag;
            }
            assert!(Instant::now() < until, "{what}: {lag:?}");
            sleep(LOOK).await;
        }
    }
    async fn topic_info(&self) -> Option<Option<TopicInfo>> {
        let topics = told(self.bus.topics().await)?;
        assert!(
            topics.is_sorted_by(|a, b| a.topic < b.topic),
            "each once, by name: {topics:?}"
        );
        Some(topics.into_iter().find(|info| info.topic == self.topic))
    }
}

/// Of five messages a group acknowledges two: three are left, while it has them, when it has given them back, and none in the
/// end. A transport that does not tell of groups is excused; one that tells less must not tell more than there is.
pub async fn a_groups_lag_is_what_it_has_not_settled<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let Some(nobody) = fixture.lag().await else { return };
    assert!(nobody.is_empty(), "the group has never subscribed: {nobody:?}");
    let mut inbox = fixture.subscribe(GROUP).await;
    fixture
        .lag_becomes("nothing is published", |lag| lag.at_least() == Some(0))
        .await;
    fixture.publish(numbered(0..5)).await;
    let mut held = inbox.take(5).await;
    for delivery in held.drain(..2) {
        delivery.ack().await.expect("the ack is taken");
    }
    let lag = fixture
        .lag_becomes("three are held", |lag| match lag.unsettled {
            Some(unsettled) => unsettled == 3,
            None => lag.waiting.is_none_or(|waiting| waiting <= 3),
        })
        .await;
    assert_ne!(lag.members, Some(0), "a member is there: {lag:?}");
    drop((inbox, held));
    fixture
        .lag_becomes("three are given back", |lag| lag.at_least() == Some(3))
        .await;
    let mut inbox = fixture.subscribe(GROUP).await;
    inbox.ack(3).await;
    fixture
        .lag_becomes("all are acknowledged", |lag| lag.at_least() == Some(0))
        .await;
}

/// A retry that waits for its time is not settled.
pub async fn a_lag_counts_retries_that_wait<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    if fixture.lag().await.is_none() {
        return;
    }
    let mut inbox = fixture.subscribe(GROUP).await;
    fixture.publish(numbered(0..1)).await;
    let hour = Some(Duration::from_secs(3_600));
    inbox.next().await.retry(hour).await.expect("the retry is taken");
    fixture
        .lag_becomes("one waits for its time", |lag| match lag.unsettled {
            Some(unsettled) => unsettled == 1,
            None => lag.waiting.is_none_or(|waiting| waiting <= 1),
        })
        .await;
}

/// What was given up is settled, and what is requeued is to be done again, by its group alone.
pub async fn a_lag_counts_dead_letters_when_they_are_requeued<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    if fixture.lag().await.is_none() || !fixture.promised.groups {
        return;
    }
    let mut inbox = fixture.subscribe(GROUP).await;
    let mut other = fixture.subscribe("other").await;
    fixture.publish(numbered(0..1)).await;
    other.ack_numbers(0..1).await;
    drop(other);
    let delivery = inbox.next().await;
    let id = delivery.message.id;
    delivery.dead("once").await.expect("it is given up");
    fixture
        .lag_becomes("it was given up", |lag| lag.at_least() == Some(0))
        .await;
    drop(inbox);
    let dead = fixture.bus.dead_letters(fixture.topic.clone(), GROUP);
    let requeued = dead.expect("there are dead letters").requeue(id).await;
    requeued.expect("it is requeued");
    fixture
        .lag_becomes("it is to be done again", |lag| lag.at_least() == Some(1))
        .await;
    let others = fixture.bus.group("other").lag(fixture.topic.clone()).await;
    let others = others.expect("it was told before").expect("it has subscribed");
    assert_eq!(others.at_least(), Some(0), "it is not the other group's: {others:?}");
}

/// The lag of one group, and that of one topic, are told by their names, and others' not with them.
pub async fn a_lag_is_told_of_those_that_are_asked_for<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    if fixture.lag().await.is_none() || !fixture.promised.groups {
        return;
    }
    let _one = fixture.subscribe(GROUP).await;
    let _two = fixture.subscribe("other").await;
    fixture.one_lag().await;
    let lag = fixture.bus.group("other").lag(fixture.topic.clone()).await;
    assert!(matches!(&lag, Ok(Some(lag)) if lag.group == "other"), "{lag:?}");
    let lag = fixture.bus.group("nobody").lag(fixture.topic.clone()).await;
    assert!(matches!(lag, Ok(None)), "{lag:?}");
    let Some(all) = told(fixture.bus.lag(LagOf::all().topic(fixture.topic.clone())).await) else {
        return;
    };
    let groups: Vec<&str> = all.iter().map(|lag| lag.group.as_str()).collect();
    assert_eq!(groups, [GROUP, "other"]);
}

/// A topic with three messages is in the list, with three where the broker counts them. A transport without a list is excused.
pub async fn a_topic_is_told_with_what_lies_there<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    if told(fixture.bus.topics().await).is_none() {
        return;
    }
    let _inbox = fixture.subscribe(GROUP).await;
    fixture.publish(numbered(0..3)).await;
    let until = Instant::now() + harness.patience();
    let is_right = |info: &TopicInfo| info.messages.is_none_or(|messages| messages == 3);
    loop {
        let info = fixture.topic_info().await.expect("it was told before");
        if info.as_ref().is_some_and(is_right) {
            return;
        }
        assert!(Instant::now() < until, "{info:?}");
        sleep(LOOK).await;
    }
}

/// What a transport tells of topics and groups, as a row of a table in Markdown: a document that has it says what holds.
///
/// Its columns are the transport, then what of [`TopicInfo`] and of [`Lag`] is told, in their order.
pub async fn inspected<H: Harness>(transport: &str, harness: &H) -> String {
    let fixture = Fixture::new(harness).await;
    let _inbox = fixture.subscribe(GROUP).await;
    fixture.publish(numbered(0..1)).await;
    let info = fixture.topic_info().await.flatten();
    let lag = fixture.lag().await.into_iter().flatten().next();
    let of_topic = info.map_or([false; 4], |info| {
        let TopicInfo {
            messages,
            partitions,
            first,
            ..
        } = info;
        [true, messages.is_some(), partitions.is_some(), first.is_some()]
    });
    let of_lag = lag.map_or([false; 4], |lag| {
        [lag.unsettled, lag.waiting, lag.delivered, lag.members].map(|told| told.is_some())
    });
    let told = of_topic.into_iter().chain(of_lag);
    let cells: Vec<&str> = told.map(|is_told| if is_told { " yes " } else { " " }).collect();
    format!("| {transport} |{}|", cells.join("|"))
}
