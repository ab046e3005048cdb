//! The task of a group in this process: events come in from the log, notes go out to the database, messages become due.

use std::{sync::Arc, time::Duration};

use futures_core::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use sagamill_bus::Wake;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    book::{Id, Taken},
    entry::{Content, Stage},
    envelope::letter,
    group::{Group, State},
    notes::{Request, Then, Together},
};
use crate::{
    Anchor, Error, Feed, Lease, Position, Recorded, Result, Signal,
    backend::{Backend, Query},
    backlog::{BEGUN_SPAN, Note},
    metric_definitions::BUS_BEGUN,
    relay::Origin,
    subscription::Pauses,
};

/// Most messages whose content is read again at a time.
const READS: usize = 32;
/// Most messages whose content was read again and that wait for a member.
const AHEAD: usize = 256;
/// Most that is taken from the log before others are looked after.
const SIGNALS: usize = 256;
/// How often a note is written that fails alone.
const TRIES: u32 = 6;
/// The longest pause while the database does not answer.
const PAUSE: Duration = Duration::from_secs(5);
/// How long the end waits for a database that does not answer.
const END: Duration = Duration::from_secs(5);

type Written = (Vec<Request>, Result<Vec<Lease>>);
type Read = (Id, Anchor, Result<Option<Recorded>>);

pub(super) struct Pump {
    group: Arc<Group>,
    backend: Arc<dyn Backend>,
    origin: Origin,
    feed: Feed,
    /// One write at a time: notes of one message keep their order.
    writing: FuturesUnordered<BoxFuture<'static, Written>>,
    reading: FuturesUnordered<BoxFuture<'static, Read>>,
    pauses: Pauses,
    /// Nothing is written or read before.
    resume: Option<Instant>,
    together: Together,
    /// How often the one note that is written alone has failed.
    failures: u32,
}

/// Ends the group also where its pump is cut off.
struct Closing(Arc<Group>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What the pump waits for.
struct Plan {
    due: Option<jiff::Timestamp>,
    trial: Option<Instant>,
    look: Option<Instant>,
}

impl Pump {
    pub(super) fn new(group: Arc<Group>, backend: Arc<dyn Backend>, origin: Origin, feed: Feed) -> Self {
        Self {
            group,
            backend,
            origin,
            feed,
            writing: FuturesUnordered::new(),
            reading: FuturesUnordered::new(),
            pauses: Pauses::default(),
            resume: None,
            together: Together::Many,
            failures: 0,
        }
    }

    /// Works until the group is to end here, or the log can no longer be read.
    pub(super) async fn run(mut self) {
        let _closing = Closing(self.group.clone());
        let stop = self.group.stop.clone();
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            ended = self.work() => ended,
        };
        self.end(ended.err()).await;
    }

    async fn work(&mut self) -> Result<()> {
        let group = self.group.clone();
        loop {
            self.dispatch();
            let plan = self.plan();
            let resume = self.resume;
            tokio::select! {
                biased;
                Some((requests, written)) = self.writing.next() => self.noted(requests, &written),
                Some((id, at, read)) = self.reading.next() => self.read(id, at, read),
                () = group.progress.changed() => self.wake(),
                () = self.backend.sleep_until(plan.due.unwrap_or_default()), if plan.due.is_some() => self.promote(),
                () = sleep_until(plan.trial.unwrap_or_else(Instant::now)), if plan.trial.is_some() => (),
                () = sleep_until(resume.unwrap_or_else(Instant::now)), if resume.is_some() => self.resume = None,
                () = sleep_until(plan.look.unwrap_or_else(Instant::now)), if plan.look.is_some() => self.wake(),
                signal = self.feed.next() => self.signals(signal?).await?,
                () = group.work.notified() => (),
            }
        }
    }

    /// Gives to the database what waits for it.
    fn dispatch(&mut self) {
        self.group.try_doubtful();
        self.group.pack();
        self.make_way();
        if self.resume.is_some() {
            return;
        }
        let mut state = self.group.lock();
        if self.writing.is_empty() && !state.notes.is_empty() {
            let requests = state.notes.take(self.together);
            self.writing.push(write(self.backend.clone(), requests));
        }
        if !state.book.has_unread() {
            return;
        }
        let room = AHEAD.saturating_sub(state.book.written_and_ready());
        while self.reading.len() < READS.min(room)
            && let Some((id, at)) = state.book.next_unread()
        {
            self.reading.push(read(self.backend.clone(), id, at));
        }
    }
    fn plan(&self) -> Plan {
        let state = self.group.lock();
        Plan {
            due: state.book.next_due(),
            trial: state.book.trials.over_by(),
            look: state.look,
        }
    }
    /// A message lies too far beyond its shard's saved checkpoint: saves it, after what holds it up was written down. And
    /// what crowds a shard is written down.
    fn make_way(&self) {
        let mut guard = self.group.lock();
        let state = &mut *guard;
        let crowded = state.book.crowded();
        self.group.pass(state, crowded);
        let Some(id) = state.blocked else { return };
        let standing = self.group.progress.view().standing(id.shard);
        let Some(standing) = standing else { return };
        if id.position.0 <= standing.low.0 + BEGUN_SPAN {
            return self.group.progress.save_now();
        }
        // Further than it must, so that this is not done for each message.
        let passed = Position(id.position.0 - BEGUN_SPAN / 2);
        let ids = state.book.unwritten_before(id.shard, passed);
        self.group.pass(state, ids);
    }
    fn wake(&self) {
        let mut wake = Wake::default();
        let mut state = self.group.lock();
        state.blocked = None;
        state.look = None;
        state.roster.wake_all(&mut wake);
    }
    fn promote(&self) {
        self.change(|state, now| state.book.promote(now));
    }
    fn change<T>(&self, change: impl FnOnce(&mut State, jiff::Timestamp) -> T) -> T {
        let mut wake = Wake::default();
        let mut state = self.group.lock();
        let changed = change(&mut state, self.backend.now());
        self.group.announce(&mut state, &mut wake);
        changed
    }

    /// A write that failed and may succeed later is tried again, note by note; one note that fails alone is given up in the
    /// end, with its message.
    fn noted(&mut self, requests: Vec<Request>, written: &Result<Vec<Lease>>) {
        match written {
            Ok(_) => {
                self.pauses.reset();
                (self.together, self.failures) = (Together::Many, 0);
            }
            Err(error) => {
                self.pause(error);
                self.failures += u32::from(self.together == Together::One);
                let tired = self.failures >= TRIES || !error.is_retryable();
                if !tired {
                    self.together = Together::One;
                    return self.group.lock().notes.put_back(requests);
                }
                self.failures = 0;
            }
        }
        self.group.noted(requests, written);
        self.measure();
    }
    fn read(&mut self, id: Id, at: Anchor, read: Result<Option<Recorded>>) {
        let event = match read {
            Ok(event) => event.filter(|event| Some(event.id) == at.event),
            Err(error) => {
                self.pause(&error);
                return self.change(|state, now| state.book.offer(id, now));
            }
        };
        let letter = event.and_then(|event| letter(event, &self.origin));
        self.change(|state, now| match letter {
            Some(letter) => {
                let entry = state.book.entry(id);
                let Some(entry) = entry.filter(|entry| entry.stage == Stage::Unread) else {
                    return;
                };
                let (message, topic) = (letter.message, letter.topic);
                entry.content = Some(Content { message, topic });
                state.book.offer(id, now);
            }
            None => {
                let subscription = &self.group.subscription;
                tracing::warn!(subscription, position = %at.position, "a message that was begun is not in the log any more");
                self.forget(state, id, Then::Finish);
            }
        });
    }
    fn pause(&mut self, error: &Error) {
        let pause = self.pauses.next(PAUSE);
        let subscription = &self.group.subscription;
        tracing::warn!(subscription, %error, ?pause, "what became of messages cannot be written or read; trying again");
        self.resume = Some(Instant::now() + pause);
    }
    fn forget(&self, state: &mut State, id: Id, then: Then) {
        let Some(lease) = state.book.lease(id.shard).cloned() else {
            return;
        };
        state.notes.push(Request {
            id,
            lease,
            note: Note::Forget(id.position),
            then,
            answer: None,
        });
    }

    /// Takes what else is there already, before others are looked after.
    async fn signals(&mut self, first: Signal) -> Result<()> {
        self.signal(first).await?;
        for _ in 1..SIGNALS {
            let Some(signal) = self.feed.next().now_or_never() else {
                break;
            };
            self.signal(signal?).await?;
        }
        Ok(())
    }
    async fn signal(&mut self, signal: Signal) -> Result<()> {
        match signal {
            Signal::Gained { lease } => self.gain(lease).await?,
            Signal::Lost { shard } => {
                let mut wake = Wake::default();
                let mut state = self.group.lock();
                if let Some(lease) = state.book.lease(shard).cloned() {
                    self.group.lose(&mut state, &lease, &mut wake);
                }
            }
            Signal::Event { shard, event } => self.take(shard, event),
            Signal::CaughtUp { .. } => (),
        }
        Ok(())
    }
    /// What earlier owners have written down comes before the first event.
    async fn gain(&mut self, lease: Lease) -> Result<()> {
        let mut pauses = Pauses::default();
        loop {
            let Some((began, doubt)) = self.group.progress.claim(&lease) else {
                return Ok(());
            };
            match self.backend.backlog(&lease.name, lease.shard, began.position).await {
                Ok(begun) => {
                    let shard = lease.shard;
                    self.change(|state, now| {
                        state.book.gain(lease, doubt);
                        state.book.recall(shard, begun, now);
                    });
                    return Ok(());
                }
                Err(error) if error.is_retryable() => {
                    let pause = pauses.next(PAUSE);
                    let subscription = &self.group.subscription;
                    tracing::warn!(subscription, %error, ?pause, "what was begun cannot be read; trying again");
                    sleep(pause).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
    fn take(&self, shard: u16, event: Recorded) {
        let position = event.position;
        let letter = letter(event, &self.origin);
        let mine = letter.filter(|letter| letter.group.as_ref().is_none_or(|group| *group == self.group.name));
        let Some(letter) = mine else {
            return self.group.progress.done(shard, position);
        };
        let taken = self.change(|state, now| {
            let (message, topic) = (letter.message, letter.topic);
            let taken = state.book.take(shard, letter.at, Content { message, topic }, now);
            if let Taken::Replaced(id) = taken {
                self.forget(state, id, Then::Nothing);
            }
            taken
        });
        if taken == Taken::Known {
            self.group.progress.done(shard, position);
        }
    }
    fn measure(&self) {
        let begun = self.group.lock().book.written();
        metrics::gauge!(BUS_BEGUN, "subscription" => self.group.subscription.clone()).set(begun as f64);
    }

    /// Writes what is left to be written, saves, and gives the shards back.
    async fn end(mut self, failure: Option<Error>) {
        let subscription = self.group.subscription.clone();
        if let Some(error) = &failure {
            tracing::error!(subscription, %error, "the subscription ended");
        }
        self.group
            .end(failure.filter(|error| !matches!(error, Error::ShutDown)));
        if tokio::time::timeout(END, self.flush()).await.is_err() {
            tracing::warn!(
                subscription,
                "the database does not answer; what was not written comes again"
            );
        }
        let closed = tokio::time::timeout(END, self.feed.close()).await;
        let closed = closed.unwrap_or_else(|late| Err(Error::database(late)));
        if let Err(error) = closed {
            tracing::warn!(subscription, %error, "the shards cannot be given back; they are free when their leases end");
        }
    }
    /// Writes all there is.
    async fn flush(&mut self) {
        loop {
            if self.writing.is_empty() {
                let requests = self.group.lock().notes.take(self.together);
                if requests.is_empty() {
                    return;
                }
                if let Some(resume) = self.resume.take() {
                    sleep_until(resume).await;
                }
                self.writing.push(write(self.backend.clone(), requests));
            }
            if let Some((requests, written)) = self.writing.next().await {
                self.noted(requests, &written);
            }
        }
    }
}

fn write(backend: Arc<dyn Backend>, requests: Vec<Request>) -> BoxFuture<'static, Written> {
    Box::pin(async move {
        let notes: Vec<(Lease, Note)> = requests
            .iter()
            .map(|request| (request.lease.clone(), request.note.clone()))
            .collect();
        fail::fail_point!("bus.note.before");
        let written = backend.note(&notes).await;
        fail::fail_point!("bus.note.after");
        (requests, written)
    })
}

/// The event at a place; none where the log has none there.
fn read(backend: Arc<dyn Backend>, id: Id, at: Anchor) -> BoxFuture<'static, Read> {
    Box::pin(async move {
        let position = at.position.0;
        let query = Query {
            after: Some(position - 1),
            until: Some(position),
            limit: 1,
            ..Query::default()
        };
        let page = backend.read(query).await;
        (id, at, page.map(|page| page.events.into_iter().next()))
    })
}
