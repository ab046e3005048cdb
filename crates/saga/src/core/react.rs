//! Decides: which events follow from inputs.

use std::borrow::Cow;

use bytes::Bytes;
use jiff::{Timestamp, ToSpan as _};
use sagamill_bus::MessageId;
use sagamill_eventstore::NewEvent;
use uuid::Uuid;

use super::{
    Ask, By, Doubt, Fact, InDoubt, Input, InputKind, LoadError, ParkReason, Parked, Phase, Plan, Reported, SagaEvent,
    State, Status, StepStatus, UndoPlan,
    apply::{NO_ANSWER, begin, memory_hash, transition},
};

/// What follows from inputs.
#[derive(Debug, Clone)]
pub struct Decision {
    /// What is to be appended, all at once, after [`State::version`] of the state it was decided from.
    pub events: Vec<Decided>,
    /// The state after that.
    pub next: State,
    /// What became of each input that decided nothing, by its place in the slice. Final only if the state was not stale.
    pub noops: Vec<(usize, NoOp)>,
}

/// An event that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The input's cause.
    pub cause: Uuid,
    /// Its place among the events of this cause.
    pub ordinal: u32,
    /// The event.
    pub event: SagaEvent,
}

/// Why nothing follows from an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoOp {
    /// There is no such saga yet.
    NotStarted,
    /// It has started before.
    AlreadyStarted,
    /// It has ended.
    Ended,
    /// The step has its answer, or another round, or was undone; the timer is not wanted any more.
    Stale,
    /// The definition has no such step.
    UnknownStep,
    /// It goes back already, or the cancel is on record already.
    AlreadyCancelled,
    /// It is parked already.
    AlreadyParked,
    /// Nothing waits.
    NothingToResume,
    /// The step is not one that can be skipped now.
    NotSkippable,
    /// Somebody or something was faster: the verb was meant for another version.
    Moved,
    /// The participant may have forgotten the effect: asking again could do it twice.
    PastRetention,
}

/// Why nothing could be decided.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReactError {
    /// The input of a start is not of the definition's state.
    #[error("the input does not fit the saga's state")]
    Input(#[source] serde_json::Error),
    /// The state cannot be hashed, or a rule of the table is broken.
    #[error(transparent)]
    Apply(#[from] LoadError),
}

impl Decision {
    /// The events as they are stored. `process` names this process and its incarnation.
    pub fn encode(&self, process: &str) -> Vec<NewEvent> {
        self.events
            .iter()
            .map(|decided| super::codec::encode(&self.next.identity, decided, process))
            .collect()
    }
}

/// Decides what follows from the inputs that wait for one saga: the same as deciding them one by one.
///
/// # Errors
/// See [`ReactError`]: the inputs cannot be decided at all.
pub fn react(plan: &Plan, state: &State, inputs: &[Input]) -> Result<Decision, ReactError> {
    let now = state.updated_at;
    let mut decider = Decider {
        plan,
        state: Cow::Borrowed(state),
        events: Vec::new(),
        cause: Uuid::nil(),
        ordinal: 0,
        now,
    };
    let mut noops = Vec::new();
    for (place, input) in inputs.iter().enumerate() {
        (decider.cause, decider.ordinal) = (input.cause, 0);
        // Time never runs back within a saga, whichever process decides.
        decider.now = millis(input.now).max(decider.state.updated_at);
        match decider.decide(&input.kind) {
            Ok(()) => decider.advance()?,
            Err(Stop::NoOp(noop)) => noops.push((place, noop)),
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    Ok(Decision {
        events: decider.events,
        next: decider.state.into_owned(),
        noops,
    })
}

fn millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// A time so much later. The end of time where there is none.
pub(super) fn after(time: Timestamp, span: std::time::Duration) -> Timestamp {
    let ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    time.checked_add(ms.min(i64::MAX / 2).milliseconds())
        .unwrap_or(Timestamp::MAX)
}

/// Why an input stops here.
pub(super) enum Stop {
    NoOp(NoOp),
    Error(ReactError),
}
impl From<ReactError> for Stop {
    fn from(error: ReactError) -> Self {
        Self::Error(error)
    }
}
impl From<NoOp> for Stop {
    fn from(noop: NoOp) -> Self {
        Self::NoOp(noop)
    }
}

/// Decides one input after the other, each on the state that those before it have made.
pub(super) struct Decider<'a> {
    pub(super) plan: &'a Plan,
    pub(super) state: Cow<'a, State>,
    pub(super) events: Vec<Decided>,
    pub(super) cause: Uuid,
    pub(super) ordinal: u32,
    pub(super) now: Timestamp,
}

impl Decider<'_> {
    /// An input that is a no-op has decided nothing: each function below checks before it emits.
    fn decide(&mut self, input: &InputKind) -> Result<(), Stop> {
        match (&self.state.status, input) {
            (Status::New, InputKind::Start { input }) => return self.start(input),
            (Status::New, _) => return Err(NoOp::NotStarted.into()),
            (_, InputKind::Start { .. }) => return Err(NoOp::AlreadyStarted.into()),
            (Status::Completed | Status::Compensated { .. }, _) => return Err(NoOp::Ended.into()),
            (Status::Running | Status::Parked(_), _) => {}
        }
        match input {
            InputKind::Start { .. } => Ok(()),
            InputKind::Answer { ask, reported } => self.answer(ask, reported),
            InputKind::TimerFired {
                step,
                phase,
                attempt,
                due,
            } => self.timer(step, *phase, *attempt, *due),
            InputKind::DeadlineFired => self.deadline(),
            InputKind::Cancel { by, seen } => self.cancel(by, *seen),
            InputKind::Resume { by, seen } => self.resume(by, *seen),
            InputKind::Skip {
                step,
                phase,
                reply,
                by,
                seen,
            } => self.skip(step, *phase, reply, by, *seen),
            InputKind::Park { reason, text } => match self.state.status {
                Status::Parked(_) => Err(NoOp::AlreadyParked.into()),
                _ => Ok(self.emit(Fact::Parked(Parked {
                    ask: None,
                    reason: *reason,
                    text: text.clone(),
                }))?),
            },
        }
    }

    fn start(&mut self, input: &Bytes) -> Result<(), Stop> {
        (self.plan.decode)(input).map_err(ReactError::Input)?;
        let stream = self.state.identity.stream();
        // The saga's id is one more id made from its first event, which has the ordinal 0.
        let event = MessageId::derived(self.cause, &stream, 0);
        let instance = MessageId::derived(event.0, &stream, u32::MAX).0;
        let deadline = self.plan.deadline.map(|deadline| after(self.now, deadline));
        Ok(self.emit(Fact::Started {
            instance,
            input: input.clone(),
            digest: self.plan.digest,
            deadline,
        })?)
    }

    fn answer(&mut self, ask: &Ask, reported: &Reported) -> Result<(), Stop> {
        let index = self.plan.index(&ask.step).ok_or(NoOp::UnknownStep)?;
        let step = &self.state.steps[index];
        let is_undo =
            step.undo_effect == Some(ask.effect) && (ask.phase == Phase::Compensate || step.undo_effect != step.effect);
        match (is_undo, step.effect == Some(ask.effect) && ask.phase == Phase::Forward) {
            (true, _) => self.undo_answer(index, ask.attempt, reported)?,
            (false, true) => self.forward_answer(index, ask.attempt, reported)?,
            (false, false) => return Err(NoOp::Stale.into()),
        }
        self.resume_if_answered()?;
        Ok(())
    }

    fn forward_answer(&mut self, index: usize, attempt: u32, reported: &Reported) -> Result<(), Stop> {
        let (step, plan) = (&self.state.steps[index], &self.plan.steps[index]);
        let open = matches!(
            step.status,
            StepStatus::Asked { .. } | StepStatus::Unknown { .. } | StepStatus::Doubtful
        );
        if !open || !self.state.is_live(plan) {
            return Err(NoOp::Stale.into());
        }
        // A local step is run again without an event that says so.
        let rerun = plan.is_local() && matches!(step.status, StepStatus::Unknown { .. });
        let current = attempt == step.attempt + u32::from(rerun) && step.status != StepStatus::Doubtful;
        let waiting = matches!(step.status, StepStatus::Asked { .. }) || rerun;
        let ask = Ask {
            attempt,
            ..self.state.ask(plan, index, Phase::Forward)
        };
        match reported {
            Reported::Done(reply) => self.done(ask, reply),
            Reported::Rejected(rejection) => self.rejected(index, ask, rejection),
            Reported::Failed(error) if current => {
                self.emit(Fact::StepTimedOut {
                    ask,
                    error: Some(error.clone()),
                    then: Doubt::Park,
                })?;
                Ok(self.park(
                    index,
                    Phase::Forward,
                    ParkReason::Failed,
                    format!("`{}` cannot succeed: {error}", plan.name),
                )?)
            }
            Reported::Expired if current && waiting => self.unanswered(index, ask, Some("it came too late".to_owned())),
            Reported::Unknown(error) if current && waiting => self.unanswered(index, ask, Some(error.clone())),
            Reported::Failed(_) | Reported::Expired | Reported::Unknown(_) => Err(NoOp::Stale.into()),
        }
    }

    fn done(&mut self, ask: Ask, reply: &Bytes) -> Result<(), Stop> {
        self.or_park(
            ask.clone(),
            Fact::StepDone {
                ask,
                reply: reply.clone(),
            },
        )
    }

    fn rejected(&mut self, index: usize, ask: Ask, rejection: &Bytes) -> Result<(), Stop> {
        let name = ask.step.to_string();
        self.or_park(
            ask.clone(),
            Fact::StepRejected {
                ask,
                rejection: rejection.clone(),
            },
        )?;
        if self.plan.after_pivot(index) && self.state.steps[index].status == StepStatus::Rejected {
            let text = format!("`{name}` was rejected after the pivot, where there is no way back");
            self.park(index, Phase::Forward, ParkReason::Rejected, text)?;
        }
        Ok(())
    }

    /// Emits an answer; where it does not fit its type, parks the saga.
    fn or_park(&mut self, ask: Ask, fact: Fact) -> Result<(), Stop> {
        match self.emit(fact) {
            Err(ReactError::Apply(LoadError::Unreadable { step, source, .. })) => {
                if matches!(self.state.status, Status::Parked(_)) {
                    return Err(NoOp::AlreadyParked.into());
                }
                let text = format!("what `{step}` answered does not fit its type: {source}");
                Ok(self.emit(Fact::Parked(Parked {
                    ask: Some(ask),
                    reason: ParkReason::Unreadable,
                    text,
                }))?)
            }
            result => Ok(result?),
        }
    }

    /// No answer, or an error in place of one: nobody knows whether there is an effect.
    fn unanswered(&mut self, index: usize, ask: Ask, error: Option<String>) -> Result<(), Stop> {
        let plan = &self.plan.steps[index];
        let exhausted = plan.retry.attempts_max.is_some_and(|max| ask.attempt >= max);
        let then = match plan.in_doubt {
            InDoubt::Park if exhausted => Doubt::Park,
            InDoubt::Undo if exhausted && !self.state.is_unwinding() => Doubt::Undo,
            InDoubt::Ask | InDoubt::Undo | InDoubt::Park => Doubt::Ask(self.next_try(index, &ask)),
        };
        let text = format!(
            "`{}` has not answered {} times: it is not known whether it took effect",
            plan.name, ask.attempt
        );
        self.emit(Fact::StepTimedOut { ask, error, then })?;
        if then == Doubt::Park {
            self.park(index, Phase::Forward, ParkReason::InDoubt, text)?;
        }
        Ok(())
    }

    fn next_try(&self, index: usize, ask: &Ask) -> Timestamp {
        after(
            self.now,
            self.plan.steps[index].retry.backoff(MessageId(ask.effect), ask.attempt),
        )
    }

    fn undo_answer(&mut self, index: usize, attempt: u32, reported: &Reported) -> Result<(), Stop> {
        let (step, plan) = (&self.state.steps[index], &self.plan.steps[index]);
        let rerun = matches!(plan.undo, UndoPlan::Local(_)) && matches!(step.status, StepStatus::UndoUnknown { .. });
        let waiting = matches!(step.status, StepStatus::Undoing { .. }) || rerun;
        if !waiting && !matches!(step.status, StepStatus::UndoUnknown { .. } | StepStatus::UndoStuck) {
            return Err(NoOp::Stale.into());
        }
        let current = attempt == step.undo_attempt + u32::from(rerun) && step.status != StepStatus::UndoStuck;
        let ask = Ask {
            attempt,
            ..self.state.ask(plan, index, Phase::Compensate)
        };
        let permanent = match reported {
            Reported::Done(_) => return Ok(self.emit(Fact::UndoDone { ask })?),
            Reported::Rejected(rejection) => {
                format!("it was rejected: {}", String::from_utf8_lossy(rejection))
            }
            Reported::Failed(error) => error.clone(),
            Reported::Expired if current && waiting => {
                return self.undo_unanswered(index, ask, "it came too late".to_owned());
            }
            Reported::Unknown(error) if current && waiting => return self.undo_unanswered(index, ask, error.clone()),
            Reported::Expired | Reported::Unknown(_) => return Err(NoOp::Stale.into()),
        };
        if !current {
            return Err(NoOp::Stale.into());
        }
        let text = format!("the undo of `{}` cannot succeed: {permanent}", plan.name);
        self.emit(Fact::UndoFailed {
            ask,
            error: permanent,
            next: None,
        })?;
        Ok(self.park(index, Phase::Compensate, ParkReason::Failed, text)?)
    }

    /// An undo is asked for ever: it can only become late.
    fn undo_unanswered(&mut self, index: usize, ask: Ask, error: String) -> Result<(), Stop> {
        let next = Some(self.next_try(index, &ask));
        Ok(self.emit(Fact::UndoFailed { ask, error, next })?)
    }

    /// A saga that was parked for want of an answer goes on once it is there.
    fn resume_if_answered(&mut self) -> Result<(), ReactError> {
        match &self.state.status {
            Status::Parked(parked) if parked.reason.ends_with_an_answer() => {}
            _ => return Ok(()),
        }
        if (0..self.state.steps.len()).any(|index| self.is_stuck(index)) {
            return Ok(());
        }
        let by = By {
            actor: "sagamill".to_owned(),
            reason: "what it waited for has been answered".to_owned(),
        };
        self.emit(Fact::Resumed { by })
    }

    /// Whether the step does not go on by itself.
    fn is_stuck(&self, index: usize) -> bool {
        match self.state.steps[index].status {
            StepStatus::Doubtful => self.state.is_live(&self.plan.steps[index]),
            StepStatus::UndoStuck => true,
            StepStatus::Rejected => self.plan.after_pivot(index),
            _ => false,
        }
    }

    fn timer(&mut self, step: &str, phase: Phase, attempt: u32, fired: Timestamp) -> Result<(), Stop> {
        if !self.state.is_running() {
            return Err(NoOp::Stale.into());
        }
        let index = self.plan.index(step).ok_or(NoOp::UnknownStep)?;
        let (step, plan) = (&self.state.steps[index], &self.plan.steps[index]);
        let ask = self.state.ask(plan, index, phase);
        let live = self.state.is_live(plan);
        match (phase, step.status) {
            _ if attempt != ask.attempt => Err(NoOp::Stale.into()),
            (Phase::Forward, StepStatus::Asked { due }) if live && due == Some(fired) => {
                self.unanswered(index, ask, None)
            }
            (Phase::Forward, StepStatus::Unknown { next }) if live && next == fired && !plan.is_local() => {
                Ok(self.ask_again(index)?)
            }
            (Phase::Compensate, StepStatus::Undoing { due }) if due == Some(fired) => {
                self.undo_unanswered(index, ask, NO_ANSWER.to_owned())
            }
            (Phase::Compensate, StepStatus::UndoUnknown { next })
                if next == fired && !matches!(plan.undo, UndoPlan::Local(_)) =>
            {
                Ok(self.undo_again(index)?)
            }
            _ => Err(NoOp::Stale.into()),
        }
    }

    fn deadline(&mut self) -> Result<(), Stop> {
        if self.state.deadline.is_none() || self.state.deadline_passed || self.state.is_unwinding() {
            return Err(NoOp::Stale.into());
        }
        let pending = self.state.is_past_return(self.plan);
        Ok(self.emit(Fact::DeadlinePassed { pending })?)
    }

    fn seen(&self, seen: Option<i64>) -> Result<(), Stop> {
        match seen {
            Some(version) if version != self.state.version => Err(NoOp::Moved.into()),
            _ => Ok(()),
        }
    }

    fn cancel(&mut self, by: &By, seen: Option<i64>) -> Result<(), Stop> {
        // It asks for an end, not for a step: whatever has happened since, the same is wanted.
        let pending = self.state.is_past_return(self.plan);
        if self.state.is_unwinding() || pending && self.state.cancel_pending.is_some() {
            return Err(NoOp::AlreadyCancelled.into());
        }
        self.seen(seen)?;
        Ok(self.emit(Fact::CancelRequested {
            by: by.clone(),
            pending,
        })?)
    }

    fn resume(&mut self, by: &By, seen: Option<i64>) -> Result<(), Stop> {
        self.seen(seen)?;
        let parked = matches!(self.state.status, Status::Parked(_));
        let waits = |index: &usize| {
            let step = &self.state.steps[*index];
            match step.status {
                StepStatus::Unknown { .. } => self.state.is_live(&self.plan.steps[*index]),
                StepStatus::UndoUnknown { .. } => true,
                _ => parked && self.is_stuck(*index),
            }
        };
        let waiting: Vec<_> = (0..self.state.steps.len()).filter(waits).collect();
        if waiting.is_empty() && !parked {
            return Err(NoOp::NothingToResume.into());
        }
        if waiting.iter().any(|index| self.is_past_retention(*index)) {
            return Err(NoOp::PastRetention.into());
        }
        self.emit(Fact::Resumed { by: by.clone() })?;
        for index in waiting {
            match self.state.steps[index].status {
                _ if !self.state.is_running() => break,
                StepStatus::Rejected => self.new_round(index)?,
                StepStatus::UndoUnknown { .. } | StepStatus::UndoStuck => self.undo_again(index)?,
                _ => self.ask_again(index)?,
            }
        }
        Ok(())
    }

    fn skip(&mut self, step: &str, phase: Phase, reply: &Bytes, by: &By, seen: Option<i64>) -> Result<(), Stop> {
        self.seen(seen)?;
        let index = self.plan.index(step).ok_or(NoOp::UnknownStep)?;
        let ask = self.state.ask(&self.plan.steps[index], index, phase);
        let open = match (phase, self.state.steps[index].status) {
            (Phase::Forward, StepStatus::Rejected) => self.plan.after_pivot(index),
            (Phase::Forward, StepStatus::Asked { .. } | StepStatus::Unknown { .. } | StepStatus::Doubtful) => {
                !self.state.is_unwinding()
            }
            (
                Phase::Compensate,
                StepStatus::Undoing { .. } | StepStatus::UndoUnknown { .. } | StepStatus::UndoStuck,
            ) => true,
            _ => false,
        };
        if !open {
            return Err(NoOp::NotSkippable.into());
        }
        self.emit(match phase {
            Phase::Forward => Fact::StepSkipped {
                ask,
                by: Some((by.clone(), reply.clone())),
            },
            Phase::Compensate => Fact::UndoSkipped { ask, by: by.clone() },
        })?;
        let is_parked = matches!(self.state.status, Status::Parked(_));
        if is_parked && !(0..self.state.steps.len()).any(|index| self.is_stuck(index)) {
            self.emit(Fact::Resumed { by: by.clone() })?;
        }
        Ok(())
    }

    /// Parks the saga at a step; where it is parked already, the step's own event says enough.
    pub(super) fn park(
        &mut self,
        index: usize,
        phase: Phase,
        reason: ParkReason,
        text: String,
    ) -> Result<(), ReactError> {
        if matches!(self.state.status, Status::Parked(_)) {
            return Ok(());
        }
        let ask = Some(self.state.ask(&self.plan.steps[index], index, phase));
        self.emit(Fact::Parked(Parked { ask, reason, text }))
    }

    /// Adds an event and goes on from the state after it.
    pub(super) fn emit(&mut self, fact: Fact) -> Result<(), ReactError> {
        let mut event = SagaEvent {
            at: self.now,
            hash: None,
            begun: Vec::new(),
            fact,
        };
        let state = self.state.to_mut();
        if transition(self.plan, state, &event)? {
            let hash = memory_hash(state, &event.fact)?;
            if matches!(event.fact, Fact::Started { .. }) {
                state.input_hash = hash;
            }
            event.hash = Some(hash);
        }
        self.events.push(Decided {
            cause: self.cause,
            ordinal: self.ordinal,
            event,
        });
        self.ordinal += 1;
        Ok(())
    }

    /// Makes a local step, or its undo, the next to run: part of the last event.
    pub(super) fn begin(&mut self, ask: Ask) -> Result<(), ReactError> {
        let last = self.events.last_mut().filter(|_| self.ordinal > 0);
        begin(self.plan, self.state.to_mut(), self.now, &ask)?;
        last.expect("invariant: a saga advances only after an event")
            .event
            .begun
            .push(ask);
        Ok(())
    }
}
