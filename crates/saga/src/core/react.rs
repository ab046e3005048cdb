//! Decides: which events follow from inputs.

use std::borrow::Cow;

use bytes::Bytes;
use jiff::{Timestamp, ToSpan as _};
use sagamill_bus::MessageId;
use sagamill_eventstore::NewEvent;
use uuid::Uuid;

use super::{
    Ask, Fact, Input, InputKind, LoadError, ParkReason, Parked, Phase, Plan, SagaEvent, State, Status,
    apply::{begin, memory_hash, transition},
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
            .map(|decided| super::codec::encode(&self.next.identity, self.next.digest, decided, process))
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

pub(super) fn millis(time: Timestamp) -> Timestamp {
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
            InputKind::DefinitionKnown => self.definition_known(),
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
