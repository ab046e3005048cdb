//! A subscription in this process: what the broker delivers goes to the group's members, until nobody wants more.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{
    Consumer,
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions},
    types::FieldTable,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    envelope::from_wire,
    line::jittered,
    link::{Link, quorum},
    note::{Consumed, Id, Token},
    session::Session,
};
use crate::{
    Deliveries, Error, Result, Subscribe,
    error::chain,
    transport::lanes::{Arrival, Group},
};

/// So long a new subscription waits for one of its group that is ending, so that what that one gives back comes in order.
const PREDECESSOR: Duration = Duration::from_secs(10);
/// So long settlements that are on their way are waited for in the end.
const SETTLING: Duration = Duration::from_secs(5);
/// So long the last messages on their way are waited for.
const LAST: Duration = Duration::from_secs(2);
/// Between two tries to consume.
const AGAIN: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_secs(2);

type Shared = Arc<Group<Consumed>>;

/// Subscribes; returns when messages published from now on will be seen.
pub(super) async fn subscribe(link: &Arc<Link>, request: Subscribe) -> Result<Deliveries> {
    if link.closed.is_cancelled() {
        return Err(Error::Closed);
    }
    let queue = link.group_queue(&request).await?;
    loop {
        if let Some(stream) = link.subscriptions.join(&request, PREDECESSOR).await? {
            return Ok(stream);
        }
        let consumed = Consumed {
            link: Arc::clone(link),
            queue: queue.clone(),
            group: request.group.clone(),
            order: request.order,
        };
        let stop = link.closed.child_token();
        let group = Arc::new(Group::new(consumed, super::NAME, &request, stop));
        let Some(stream) = link.subscriptions.begin(&request, &group, &link.closed)? else {
            continue;
        };
        let pump = Pump {
            link: Arc::clone(link),
            group,
            request,
            queue,
            open: None,
            held: HashMap::new(),
            arrived: 0,
        };
        link.busy.spawn(pump.run());
        return Ok(stream);
    }
}

impl Link {
    /// The queue of a group for a topic or pattern; made and bound where it is not.
    async fn group_queue(&self, request: &Subscribe) -> Result<String> {
        let name = self.names.queue(&request.group, &request.topic);
        self.make_lasting(&name, quorum()).await?;
        let channel = self.office().await?;
        let bound = channel.queue_bind(
            name.as_str().into(),
            self.names.exchange().as_str().into(),
            request.topic.as_ref().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        self.answer(&format!("the queue `{name}`"), bound).await?;
        Ok(name)
    }
}

/// A channel that messages come by.
struct Open {
    session: Arc<Session>,
    consumer: Consumer,
    /// Most messages that the broker leaves unsettled with this consumer.
    granted: usize,
}

struct Pump {
    link: Arc<Link>,
    group: Shared,
    request: Subscribe,
    queue: String,
    open: Option<Open>,
    /// What is held from channels that were lost, and may come again.
    held: HashMap<u128, Vec<Id>>,
    arrived: u64,
}

impl Pump {
    async fn run(mut self) {
        let group = Arc::clone(&self.group);
        tokio::select! {
            () = self.fetch() => {}
            () = group.clerk() => {}
        }
        self.end().await;
        self.link.subscriptions.remove(&self.request, &self.group);
        self.group.ended.cancel();
    }
    /// Until nothing more is wanted, or the connection is gone for good. What is asked of the broker is asked to its end: an
    /// answer to a question that was given up would be no answer to anything.
    async fn fetch(&mut self) {
        let stop = self.group.stop.clone();
        let mut pause = AGAIN.start;
        while self.may_go_on(&stop).await {
            match self.consume().await {
                Ok(()) => {
                    pause = AGAIN.start;
                    self.read(&stop).await;
                    if stop.is_cancelled() {
                        return;
                    }
                    self.lose();
                }
                Err(error) => {
                    tracing::warn!(
                        group = self.request.group,
                        topic = %self.request.topic,
                        error = chain(&error),
                        "nothing can be consumed now"
                    );
                    if matches!(error, Error::Unusable(_)) {
                        self.group.report(error);
                    }
                }
            }
            stop.run_until_cancelled(sleep(jittered(pause))).await;
            pause = (pause * 2).min(AGAIN.end);
        }
    }
    /// Waits for a connection. False: nothing more is wanted, or none will come.
    async fn may_go_on(&self, stop: &CancellationToken) -> bool {
        let live = stop.run_until_cancelled(self.link.line.await_live()).await;
        live.is_some_and(|live| live.is_ok())
    }
    /// Opens a channel, and consumes on it.
    async fn consume(&mut self) -> Result<()> {
        let live = self.link.line.live().await?;
        // It may be another broker by now, or an empty one.
        self.link.group_queue(&self.request).await?;
        let channel = self.link.answer("a channel", live.channel()).await?;
        let session = Session::new(channel);
        let granted = self.group.appetite();
        let consumer = self.consumer(&session, granted).await?;
        if let Some(lost) = self.open.replace(Open {
            session,
            consumer,
            granted,
        }) {
            lost.session.supersede();
        }
        Ok(())
    }
    async fn consumer(&self, session: &Session, granted: usize) -> Result<Consumer> {
        let channel = &session.channel;
        let prefetch = u16::try_from(granted).unwrap_or(u16::MAX);
        let limited = channel.basic_qos(prefetch, BasicQosOptions::default());
        self.link.answer("a limit", limited).await?;
        let consumed = channel.basic_consume(
            self.queue.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        self.link.answer(&format!("the queue `{}`", self.queue), consumed).await
    }
    /// Until the channel is lost, or nothing more is wanted.
    async fn read(&mut self, stop: &CancellationToken) {
        loop {
            let Some(open) = &mut self.open else { return };
            tokio::select! {
                () = stop.cancelled() => return,
                next = open.consumer.next() => match next {
                    Some(Ok(delivery)) => self.take(delivery).await,
                    Some(Err(error)) => {
                        tracing::warn!(queue = self.queue, error = chain(&error), "the channel is lost");
                        return;
                    }
                    None => {
                        tracing::warn!(queue = self.queue, "the broker has ended the consumer");
                        return;
                    }
                },
                () = self.group.work.notified() => {}
            }
            if let Err(error) = self.retune().await {
                tracing::warn!(queue = self.queue, error = chain(&error), "the channel is given up");
                return;
            }
        }
    }
    /// Lets the broker deliver more ahead where a crowd behind one key has used up what it may, and less when that is over.
    ///
    /// The limit of a consumer is for its life, so another one takes its place; what the first has delivered stays here.
    async fn retune(&mut self) -> Result<()> {
        let wanted = self.group.appetite();
        let Some(open) = &mut self.open else { return Ok(()) };
        if wanted <= open.granted && wanted > open.granted / 4 {
            return Ok(());
        }
        let (session, granted) = (Arc::clone(&open.session), wanted.next_power_of_two());
        let rest = self.cancel().await?;
        for delivery in rest {
            self.take(delivery).await;
        }
        let consumer = self.consumer(&session, granted).await?;
        if let Some(open) = &mut self.open {
            (open.consumer, open.granted) = (consumer, granted);
        }
        Ok(())
    }
    /// Ends the consumer; gives what it had been sent.
    async fn cancel(&mut self) -> Result<Vec<Delivery>> {
        let Some(open) = &mut self.open else {
            return Ok(Vec::new());
        };
        let cancelled = open
            .session
            .channel
            .basic_cancel(open.consumer.tag(), BasicCancelOptions::default());
        self.link.answer("a consumer", cancelled).await?;
        let mut rest = Vec::new();
        let read = async {
            while let Some(Ok(delivery)) = open.consumer.next().await {
                rest.push(delivery);
            }
        };
        let late = |_| Error::Disconnected("the end of a consumer was not seen in time".into());
        timeout(LAST, read).await.map_err(late)?;
        Ok(rest)
    }
    async fn take(&mut self, delivery: Delivery) {
        let Some(session) = self.open.as_ref().map(|open| Arc::clone(&open.session)) else {
            return;
        };
        let tag = delivery.delivery_tag;
        let arrival = self.read_delivery(delivery, Arc::clone(&session));
        if !self.group.arrive(arrival)
            && let Err(error) = session.give_back(tag).await
        {
            tracing::debug!(error = chain(&error), "not given back: it comes again in its time");
        }
    }
    fn read_delivery(&mut self, delivery: Delivery, session: Arc<Session>) -> Arrival<Id, Token> {
        let payload = bytes::Bytes::from(delivery.data);
        let routing_key = delivery.routing_key.as_str();
        let arrived = from_wire(&delivery.properties, payload.clone(), routing_key, delivery.redelivered);
        let held = if delivery.redelivered {
            self.find_held(arrived.identity)
        } else {
            None
        };
        let id = held.unwrap_or_else(|| {
            self.arrived += 1;
            Id {
                order: self.arrived,
                identity: arrived.identity,
            }
        });
        let token = Token {
            session,
            tag: delivery.delivery_tag,
            delivered: arrived.delivered,
            keyed: arrived.message.key.is_some(),
            topic: arrived.topic.clone(),
            properties: Arc::new(delivery.properties),
            payload,
        };
        Arrival {
            id,
            token,
            delivered: arrived.delivered,
            topic: arrived.topic,
            message: arrived.message,
            history: arrived.marks.story,
        }
    }
    /// A message that is with a handler here since before its channel was lost.
    fn find_held(&mut self, identity: u128) -> Option<Id> {
        let held = self.held.get_mut(&identity)?;
        let id = held.pop();
        if held.is_empty() {
            self.held.remove(&identity);
        }
        id
    }
    /// The channel is lost: the broker delivers again what it delivered by it, here or elsewhere.
    fn lose(&mut self) {
        self.held.clear();
        for id in self.group.lose() {
            self.held.entry(id.identity).or_default().push(id);
        }
    }

    /// Gives back what is held, oldest first, then what came last, and waits for what is being settled.
    async fn end(&mut self) {
        let rest = self.cancel().await.unwrap_or_default();
        self.group.end().await;
        let Some(Open { session, .. }) = self.open.take() else {
            return;
        };
        for delivery in rest {
            // Closing the channel does it, too.
            let _ = session.give_back(delivery.delivery_tag).await;
        }
        let until = Instant::now() + SETTLING;
        while self.group.is_settling() && Instant::now() < until {
            sleep(Duration::from_millis(20)).await;
        }
        if session.channel.status().connected() {
            let _ = timeout(LAST, session.channel.close(200, "done".into())).await;
        }
        session.supersede();
    }
}
