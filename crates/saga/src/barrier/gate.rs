//! How an ask passes the barrier: the same decisions over every database.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use sagamill_bus::{BoxError, HandlerError};
use sagamill_eventstore::EventStore;
use uuid::Uuid;

use super::ask::error;
use super::effect::Running;
use super::{Answered, Ask, Barrier, Called, Effect, Given, Passage, Phase, Row, Slot, State, Verdict};
use crate::{Error, Result};

/// How long an effect outside the database is left alone by others, unless its owner says again that it is at it.
const LEASE: Duration = Duration::from_secs(30);
/// How far apart two processes may read the log's clock.
const SKEW: Duration = Duration::from_secs(5);
/// How long an ask waits that finds another one at work.
const BUSY: Duration = Duration::from_secs(1);
/// How often an ask looks again when another one of the same effect came between, before it lets the broker bring it again.
const COLLISIONS_MAX: u32 = 16;

/// How often the end of an effect outside the database is written before its handler must be asked again, and the pause
/// after the first time, doubled with each one.
const CONCLUDE_MAX: u32 = 6;
const CONCLUDE_PAUSE: Duration = Duration::from_millis(50);

/// The names at which a test may kill the process: around a handler, and around the commit after it.
pub(crate) struct KillPoints {
    pub(crate) effect: [&'static str; 2],
    pub(crate) undo: [&'static str; 2],
    pub(crate) commit: [&'static str; 2],
}

impl KillPoints {
    /// Around the handler that is given this: an undo is given what its action replied.
    fn around(&self, given: &Given) -> [&'static str; 2] {
        if given.reply.is_some() { self.undo } else { self.effect }
    }
}

/// A test may kill the process here.
fn pass_by(point: &'static str) {
    // Without the feature the macro is nothing, and does not even look at the name.
    let _ = point;
    fail::fail_point!(point);
}

/// The one way to an effect.
pub(crate) struct Gate {
    barrier: Box<dyn Barrier>,
    /// The clock.
    store: EventStore,
    owner: Uuid,
    running: Running,
    points: &'static KillPoints,
}

/// Why an ask has no verdict yet.
enum Stop {
    /// The handler's own error: judged by the retry policy.
    Handler(BoxError),
    /// Another ask of this effect came between.
    Collision,
    Store(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        use sagamill_eventstore::Error as Log;
        match error {
            Error::Store(Log::Conflict { .. } | Log::IdReused(_)) => Self::Collision,
            error => Self::Store(error),
        }
    }
}

impl Gate {
    pub(crate) fn new(barrier: Box<dyn Barrier>, store: EventStore, points: &'static KillPoints) -> Arc<Self> {
        Arc::new(Self {
            barrier,
            owner: store.new_owner(),
            store,
            running: Running::default(),
            points,
        })
    }
    pub(crate) async fn migrate(&self) -> Result<()> {
        self.barrier.migrate().await
    }
    /// Deletes rows first asked for longer ago than `retention`; see [`BARRIER_RETENTION`](crate::BARRIER_RETENTION).
    pub(crate) async fn sweep(&self, retention: Duration) -> Result<u64> {
        const PAGE: u32 = 1_000;
        let before = self.after(Duration::ZERO) - SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
        let mut all = 0;
        loop {
            let gone = self.barrier.sweep(before, PAGE).await?;
            all += gone;
            if gone < u64::from(PAGE) {
                return Ok(all);
            }
        }
    }

    /// Asks for an effect, or for its undo. `action` is the handler of the command, `undo` that of its undo; an undo needs
    /// the action where it must learn how that ended.
    ///
    /// Dropped at any point, it leaves a state from which the next ask goes on.
    pub(crate) async fn pass(
        &self,
        ask: &Ask,
        action: Option<&dyn Effect>,
        undo: Option<&dyn Effect>,
    ) -> Result<Verdict, BoxError> {
        for _ in 0..COLLISIONS_MAX {
            let passed = match ask.phase {
                Phase::Forward => match action {
                    Some(action) => self.forward(ask, action).await,
                    None => Err(no_handler(ask, "")),
                },
                Phase::Compensate => self.compensate(ask, action, undo).await,
            };
            match passed {
                Ok(verdict) => return Ok(verdict),
                Err(Stop::Collision) => {}
                Err(Stop::Handler(error)) => return Err(error),
                Err(Stop::Store(error)) => return Err(error.into()),
            }
        }
        Ok(Verdict::Busy(BUSY))
    }

    /// Answers that the ask cannot succeed, and leaves the barrier as it is.
    pub(crate) async fn fail(&self, ask: &Ask, why: String) -> Result<Verdict> {
        let verdict = Verdict::Failed(why);
        let passage = self.barrier.begin().await?;
        match self.close(passage, ask, verdict.clone()).await {
            // The same message has been answered by another passage meanwhile.
            Err(Stop::Collision) | Ok(_) => Ok(verdict),
            Err(Stop::Store(error)) => Err(error),
            Err(Stop::Handler(_)) => unreachable!("invariant: no handler runs here"),
        }
    }

    async fn forward(&self, ask: &Ask, action: &dyn Effect) -> Result<Verdict, Stop> {
        let mut passage = self.barrier.begin().await?;
        let now = self.store.now();
        if ask.is_expired(now) {
            return self.late(passage, ask).await;
        }
        let mut row = self.begun(ask, Some(action), now);
        let Some(entered) = self.running.enter(ask.effect, Phase::Forward) else {
            return Ok(Verdict::Busy(BUSY));
        };
        let is_first = passage.insert(&row).await?;
        if !is_first {
            row = passage.find(ask.effect, Phase::Forward).await?.ok_or(Stop::Collision)?;
            if let Some(verdict) = settled(&row) {
                return self.close(passage, ask, verdict).await;
            }
            // Its writer may have been waited for: what was the time before that is long past.
            let now = self.store.now();
            if let Some(wait) = self.is_held(&row, now).await {
                return Ok(Verdict::Busy(wait));
            }
            self.take_over(&mut row, now);
            passage.update(&row).await?;
        }
        let given = Given {
            ask: ask.clone(),
            command: row.command.clone(),
            reply: None,
            called: Called::default(),
        };
        if action.is_transactional() {
            let (mut passage, answered) = self.inside(passage, action, given).await?;
            if matches!(answered, Answered::Rejected(_)) {
                passage.rollback().await?;
                return self.refuse(ask, row, is_first, answered).await;
            }
            let verdict = self.write_down(passage.as_mut(), &mut row, answered).await?;
            return self.close(passage, ask, verdict).await;
        }
        passage.commit().await?;
        let answered = self.outside(&row, is_first, action, given).await?;
        let concluded = self.conclude(ask, None, answered).await;
        // Until here: whoever enters takes a row of this process that is only started for one that was left behind.
        drop(entered);
        concluded
    }

    /// Writes down that an effect was refused, in a transaction of its own: all that the handler changed was taken back with
    /// its own. What is asked meanwhile finds that nothing was done, which is so.
    async fn refuse(&self, ask: &Ask, mut row: Row, is_first: bool, answered: Answered) -> Result<Verdict, Stop> {
        if !is_first {
            return self.conclude(ask, None, answered).await;
        }
        let mut passage = self.barrier.begin().await?;
        let verdict = self.settle(&mut row, answered);
        if !passage.insert(&row).await? {
            return Err(Stop::Collision);
        }
        self.close(passage, ask, verdict).await
    }

    /// Writes down what an effect outside has come to. It is known now, and costs more than a commit to learn again: so it
    /// is written again where the database does not take it at once.
    async fn conclude(&self, ask: &Ask, undone: Option<&Row>, answered: Answered) -> Result<Verdict, Stop> {
        let mut pause = CONCLUDE_PAUSE;
        for _ in 1..CONCLUDE_MAX {
            match self.conclude_once(ask, undone, answered.clone()).await {
                Err(Stop::Collision) => {}
                Err(Stop::Store(error)) if error.is_retryable() => {
                    tracing::warn!(effect = %ask.effect, %error, "the end of an effect could not be written; again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                concluded => return concluded,
            }
        }
        self.conclude_once(ask, undone, answered).await
    }
    async fn conclude_once(&self, ask: &Ask, undone: Option<&Row>, answered: Answered) -> Result<Verdict, Stop> {
        let mut passage = self.barrier.begin().await?;
        let mut row = passage.find(ask.effect, ask.phase).await?.ok_or(Stop::Collision)?;
        // Whoever took over meanwhile asked for the same effect, and what was answered first counts.
        let verdict = match settled(&row) {
            Some(verdict) => verdict,
            None => {
                if let Some(undone) = undone {
                    passage.update(undone).await?;
                }
                self.write_down(passage.as_mut(), &mut row, answered).await?
            }
        };
        self.close(passage, ask, verdict).await
    }

    async fn compensate(
        &self,
        ask: &Ask,
        action: Option<&dyn Effect>,
        undo: Option<&dyn Effect>,
    ) -> Result<Verdict, Stop> {
        let mut passage = self.barrier.begin().await?;
        let now = self.store.now();
        if ask.is_expired(now) {
            return self.late(passage, ask).await;
        }
        let Some(entered) = self.running.enter(ask.effect, Phase::Compensate) else {
            return Ok(Verdict::Busy(BUSY));
        };
        let mut row = self.begun(ask, undo, now);
        let is_first = passage.insert(&row).await?;
        if !is_first {
            row = passage
                .find(ask.effect, Phase::Compensate)
                .await?
                .ok_or(Stop::Collision)?;
            if let Some(verdict) = settled(&row) {
                return self.close(passage, ask, verdict).await;
            }
            let now = self.store.now();
            if let Some(wait) = self.is_held(&row, now).await {
                return Ok(Verdict::Busy(wait));
            }
            self.take_over(&mut row, now);
            passage.update(&row).await?;
        }
        let tombstone = ask.row(Phase::Forward, State::Tombstone, now);
        let mut done = if passage.insert(&tombstone).await? {
            tombstone
        } else {
            passage.find(ask.effect, Phase::Forward).await?.ok_or(Stop::Collision)?
        };
        match done.state {
            State::Tombstone | State::Rejected | State::Undone => {
                let verdict = self.write_down(passage.as_mut(), &mut row, undone()).await?;
                return self.close(passage, ask, verdict).await;
            }
            State::Started => {
                drop((passage, entered));
                return self.in_doubt(ask, &done, action).await;
            }
            State::Done => {}
        }
        let undo = undo.ok_or_else(|| no_handler(ask, "the undo of "))?;
        let (command, reply) = (done.command.clone(), Some(reply(&done)));
        let given = Given {
            ask: ask.clone(),
            command,
            reply,
            called: Called::default(),
        };
        done.state = State::Undone;
        if !undo.is_transactional() {
            passage.commit().await?;
            self.outside(&row, is_first, undo, given).await?;
            done.updated_at = self.store.now();
            let concluded = self.conclude(ask, Some(&done), undone()).await;
            drop(entered);
            return concluded;
        }
        let (mut passage, answered) = self.inside(passage, undo, given).await?;
        if matches!(answered, Answered::Rejected(_)) {
            return Err(Stop::Handler(
                HandlerError::permanent("an undo cannot be refused").into(),
            ));
        }
        done.updated_at = self.store.now();
        passage.update(&done).await?;
        let verdict = self.write_down(passage.as_mut(), &mut row, answered).await?;
        self.close(passage, ask, verdict).await
    }

    /// The action was begun and nobody knows how it ended: it is asked again, under its own effect id, and then undone.
    async fn in_doubt(&self, ask: &Ask, begun: &Row, action: Option<&dyn Effect>) -> Result<Verdict, Stop> {
        let action = action.ok_or_else(|| no_handler(ask, ""))?;
        match self.forward(&ask.again(begun), action).await? {
            Verdict::Done(_) | Verdict::Rejected(_) => Err(Stop::Collision),
            other => Ok(other),
        }
    }

    /// The handler's changes are part of the passage, and share its end.
    async fn inside(
        &self,
        mut passage: Box<dyn Passage>,
        handler: &dyn Effect,
        given: Given,
    ) -> Result<(Box<dyn Passage>, Answered), Stop> {
        let slot = Slot::default();
        let lent = passage.lend().map(|transaction| slot.put(transaction)).is_some();
        let [before, after] = self.points.around(&given);
        pass_by(before);
        let answered = handler.run(given, slot.clone()).await.map_err(Stop::Handler)?;
        pass_by(after);
        if lent {
            let kept = "the handler has kept its transaction: `Tx` must be dropped when it returns";
            passage.take_back(
                slot.take()
                    .ok_or_else(|| Stop::Handler(HandlerError::permanent(kept).into()))?,
            )?;
        }
        Ok((passage, answered))
    }

    /// The handler runs between two transactions, and its row says so for as long as it runs.
    async fn outside(&self, row: &Row, is_first: bool, handler: &dyn Effect, given: Given) -> Result<Answered, Stop> {
        let called = given.called.clone();
        let [before, after] = self.points.around(&given);
        pass_by(before);
        let mut run = handler.run(given, Slot::default());
        let answered = loop {
            // By this process's own clock: where the log's is set back, the lease has to be written anew soon, not late.
            tokio::select! {
                biased;
                answered = &mut run => break answered,
                () = tokio::time::sleep(LEASE / 3) => self.renew(row, Some(LEASE)).await,
            }
        };
        pass_by(after);
        match answered {
            Ok(answered) => Ok(answered),
            Err(error) => {
                if is_first && !called.get() {
                    // Say, a command that cannot be read: it has begun nothing that an undo would have to learn about.
                    self.renew(row, None).await;
                } else {
                    // Nobody is at it any more, so the next ask need not wait for the lease.
                    self.renew(row, Some(Duration::ZERO)).await;
                }
                Err(Stop::Handler(error))
            }
        }
    }

    /// Says how long this process is still at an effect, or that it has never been. Where that cannot be said now, the old
    /// lease stands.
    async fn renew(&self, row: &Row, lease: Option<Duration>) {
        let held = async {
            let mut passage = self.barrier.begin().await?;
            let found = passage.find(row.effect, row.phase).await?;
            let Some(mut row) = found.filter(|row| row.state == State::Started && row.owner == Some(self.owner)) else {
                return Ok(());
            };
            match lease {
                Some(lease) => {
                    row.lease_until = Some(self.after(lease));
                    passage.update(&row).await?;
                }
                None => passage.remove(row.effect, row.phase).await?,
            }
            passage.commit().await
        };
        if let Err(error) = held.await {
            tracing::warn!(effect = %row.effect, %error, "the lease of a running effect could not be written");
        }
    }

    /// The row of a first ask. Where the effect shares its commit nobody sees it before its end, and it says at once how
    /// most effects end: then it need not be written twice.
    fn begun(&self, ask: &Ask, handler: Option<&dyn Effect>, now: Timestamp) -> Row {
        if handler.is_some_and(Effect::is_transactional) {
            return ask.row(ask.phase, State::Done, now);
        }
        let mut row = ask.row(ask.phase, State::Started, now);
        self.take_over(&mut row, now);
        row
    }
    fn take_over(&self, row: &mut Row, now: Timestamp) {
        row.owner = Some(self.owner);
        row.lease_until = Some(self.after(LEASE));
        row.updated_at = now;
    }
    /// How long to wait for whoever is at this row; none: nobody is. A row of this process's own is held by nobody, since
    /// whoever reads it has entered its phase.
    async fn is_held(&self, row: &Row, now: Timestamp) -> Option<Duration> {
        let owner = row.owner.filter(|owner| *owner != self.owner)?;
        let left = Duration::try_from(row.lease_until?.duration_since(now)).ok()?;
        // A lease that seems to last longer was written before the clock was set back.
        let stands = !left.is_zero() && left <= LEASE + SKEW;
        // Where it cannot be asked, the lease tells.
        let is_held = stands && !self.store.is_gone(owner).await.unwrap_or(false);
        is_held.then_some(left.min(BUSY))
    }
    fn after(&self, wait: Duration) -> Timestamp {
        let now = self.store.now();
        SignedDuration::try_from(wait)
            .ok()
            .and_then(|wait| now.checked_add(wait).ok())
            .unwrap_or(Timestamp::MAX)
    }

    async fn write_down(&self, passage: &mut dyn Passage, row: &mut Row, answered: Answered) -> Result<Verdict, Stop> {
        let before = settled(row);
        let verdict = self.settle(row, answered);
        if before.as_ref() != Some(&verdict) {
            passage.update(row).await?;
        }
        Ok(verdict)
    }
    fn settle(&self, row: &mut Row, answered: Answered) -> Verdict {
        let (state, reply, verdict) = match answered {
            Answered::Done(reply) => (State::Done, reply.clone(), Verdict::Done(reply)),
            Answered::Rejected(reply) => (State::Rejected, reply.clone(), Verdict::Rejected(reply)),
        };
        (row.state, row.reply, row.owner, row.lease_until) = (state, Some(reply), None, None);
        row.updated_at = self.store.now();
        verdict
    }

    /// Refused, unless it is known how it ended.
    async fn late(&self, mut passage: Box<dyn Passage>, ask: &Ask) -> Result<Verdict, Stop> {
        let row = passage.find(ask.effect, ask.phase).await?;
        let verdict = row.as_ref().and_then(settled).unwrap_or(Verdict::Expired);
        self.close(passage, ask, verdict).await
    }

    /// Answers, in the same commit as all that was written.
    async fn close(&self, mut passage: Box<dyn Passage>, ask: &Ask, verdict: Verdict) -> Result<Verdict, Stop> {
        if let Some(reply) = ask.reply(&verdict) {
            passage.stage(ask.effect, reply).await?;
        }
        pass_by(self.points.commit[0]);
        passage.commit().await?;
        pass_by(self.points.commit[1]);
        Ok(verdict)
    }
}

/// What the row answers for ever; none while it is only started.
fn settled(row: &Row) -> Option<Verdict> {
    match row.state {
        State::Started => None,
        State::Done => Some(Verdict::Done(reply(row))),
        State::Rejected => Some(Verdict::Rejected(reply(row))),
        State::Tombstone | State::Undone => Some(Verdict::Rejected(error("undone before"))),
    }
}

/// What was answered; a row that holds nothing stands for an answer of nothing.
fn reply(row: &Row) -> Bytes {
    row.reply.clone().unwrap_or_else(|| Bytes::from_static(b"null"))
}

/// How an undo ends that had nothing to undo, and one that has undone it.
fn undone() -> Answered {
    Answered::Done(Bytes::from_static(b"null"))
}

fn no_handler(ask: &Ask, of: &str) -> Stop {
    let missing = format!("no handler for {of}`{}` here", ask.command_name);
    Stop::Handler(HandlerError::permanent(missing).into())
}
