//! Folds events into the state.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    Ask, DecodeError, Direction, Doubt, Fact, IllegalTransition, Phase, Plan, Request, SagaEvent, State, Status,
    StepStatus,
    plan::Fold,
    transition::{saga_allows, step_after, step_begun},
};

/// What is on record where there was no answer at all.
pub(super) const NO_ANSWER: &str = "no answer in time";

/// Why a saga's stream makes no state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// An event cannot be read, or is of a newer library: hand the saga back.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An event cannot follow what stands before it.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The definition's code makes another state of this event than it did when the event was stored: register the old
    /// code under its version and the new one under the next.
    #[error("the code of step `{step}` has changed: event {event} of the saga makes another state than it did")]
    CodeChanged {
        /// The step whose fold it is; `start` for the input.
        step: String,
        /// The event's version in the stream.
        event: i64,
    },
    /// An input, a reply or a rejection does not fit its type any more.
    #[error("event {event} of the saga does not fit the type of `{step}`")]
    Unreadable {
        /// The step whose reply it is; `start` for the input.
        step: String,
        /// The event's version in the stream.
        event: i64,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
    /// It was started by a definition of another shape under the same name and version.
    #[error("the definition has another shape than the one that started the saga: count up its version")]
    DigestChanged {
        /// What the saga pins.
        pinned: u64,
        /// What the definition has.
        known: u64,
    },
}

/// Folds one event in, and checks the memory's hash where the event has one.
///
/// # Errors
/// The state is then of no use.
pub fn apply(plan: &Plan, state: &mut State, event: &SagaEvent) -> Result<(), LoadError> {
    if let Fact::Started { digest, .. } = event.fact
        && plan.names(digest).is_none()
    {
        return Err(LoadError::DigestChanged {
            pinned: digest,
            known: plan.digest,
        });
    }
    transition(plan, state, event)?;
    match event.hash {
        Some(stored) if stored != memory_hash(state, &event.fact)? => Err(LoadError::CodeChanged {
            step: subject(&event.fact),
            event: state.version,
        }),
        _ => Ok(()),
    }
}

/// Folds a saga's events, in order.
///
/// # Errors
/// See [`LoadError`].
pub fn load<'a>(plan: &Plan, key: &str, events: impl IntoIterator<Item = &'a SagaEvent>) -> Result<State, LoadError> {
    let mut state = State::new(plan, key);
    events
        .into_iter()
        .try_for_each(|event| apply(plan, &mut state, event))?;
    Ok(state)
}

/// Folds a saga's events without a look at digests and hashes, so that one with changed code can be parked.
///
/// # Errors
/// See [`LoadError`].
pub fn load_unverified<'a>(
    plan: &Plan,
    key: &str,
    events: impl IntoIterator<Item = &'a SagaEvent>,
) -> Result<State, LoadError> {
    let mut state = State::new(plan, key);
    events
        .into_iter()
        .try_for_each(|event| transition(plan, &mut state, event).map(drop))?;
    Ok(state)
}

/// Folds one event in and looks at no hash. Says whether the event changes the memory.
///
/// The code of the user runs first: where it fails, nothing has changed.
pub(super) fn transition(plan: &Plan, state: &mut State, event: &SagaEvent) -> Result<bool, LoadError> {
    if !saga_allows(state, &event.fact) {
        return Err(illegal(
            &event.fact,
            format!("a saga that is {:?}, {:?}", state.status, state.direction),
        ));
    }
    let changes = match &event.fact {
        Fact::Started { input, .. } => start(plan, state, event, input)?,
        fact => match fact.ask() {
            Some(ask) => step(plan, state, event, ask)?,
            None => false,
        },
    };
    saga(plan, state, &event.fact);
    state.version += 1;
    state.updated_at = event.at;
    for ask in &event.begun {
        begin(plan, state, event.at, ask)?;
    }
    if let (Fact::Started { .. }, Some(hash)) = (&event.fact, event.hash) {
        state.input_hash = hash;
    }
    Ok(changes)
}

/// The hash of what the saga remembers.
pub(super) fn memory_hash(state: &State, fact: &Fact) -> Result<u64, LoadError> {
    let memory = state.memory.as_ref().expect("invariant: a started saga has a memory");
    memory.hash().map_err(|source| LoadError::Unreadable {
        step: subject(fact),
        event: state.version,
        source,
    })
}

fn start(plan: &Plan, state: &mut State, event: &SagaEvent, input: &Bytes) -> Result<bool, LoadError> {
    let Fact::Started {
        instance,
        digest,
        deadline,
        ..
    } = event.fact
    else {
        return Ok(false);
    };
    let memory = (plan.decode)(input);
    state.memory = Some(memory.map_err(|source| LoadError::Unreadable {
        step: "start".into(),
        event: 1,
        source,
    })?);
    state.identity.instance = instance;
    state.digest = digest;
    if let Some(names) = plan.names(digest) {
        state.names = names.clone();
    }
    state.started_at = event.at;
    state.deadline = deadline;
    Ok(true)
}

fn step(plan: &Plan, state: &mut State, event: &SagaEvent, ask: &Ask) -> Result<bool, LoadError> {
    let fact = &event.fact;
    let index = find(plan, ask).ok_or_else(|| illegal(fact, format!("a saga without a step `{}`", ask.step)))?;
    let before = state.steps[index].status;
    let known = state.steps[index]
        .effect
        .is_none_or(|effect| fits(state, index, ask, effect));
    let Some(status) = step_after(before, fact).filter(|_| known) else {
        return Err(illegal(fact, format!("step `{}` that is {before:?}", ask.step)));
    };
    let changes = fold(plan, state, index, fact)?;
    let step = &mut state.steps[index];
    step.status = status;
    step.updated_at = Some(event.at);
    match fact {
        Fact::StepRequested(request) => requested(step, request, event.at),
        Fact::UndoRequested(request) => {
            step.undo_attempt = ask.attempt;
            step.undo_effect = Some(ask.effect);
            step.undo_content
                .get_or_insert_with(|| Arc::new(request.content.clone()));
        }
        Fact::StepWaiting { .. } => asked(step, ask, event.at),
        Fact::StepDone { reply, .. }
        | Fact::Completed {
            last: Some((_, reply)), ..
        } => {
            step.attempt = ask.attempt.max(step.attempt);
            step.reply = Some(reply.clone());
            step.error = None;
        }
        Fact::StepRejected { .. } => step.attempt = ask.attempt.max(step.attempt),
        Fact::StepSkipped {
            by: Some((_, reply)), ..
        } => step.reply = Some(reply.clone()),
        Fact::StepTimedOut { error, .. } => {
            step.attempt = ask.attempt.max(step.attempt);
            step.error = Some(error.clone().unwrap_or_else(|| NO_ANSWER.to_owned()));
        }
        Fact::UndoFailed { error, .. } => {
            step.undo_attempt = ask.attempt.max(step.undo_attempt);
            step.error = Some(error.clone());
        }
        Fact::Parked(parked) => step.error = Some(parked.text.clone()),
        _ => {}
    }
    Ok(changes)
}

/// An event names the step's effect, that of its undo, or opens a new round.
fn fits(state: &State, index: usize, ask: &Ask, effect: uuid::Uuid) -> bool {
    let step = &state.steps[index];
    ask.effect == effect
        || ask.phase == Phase::Compensate && step.undo_effect.is_none_or(|undo| undo == ask.effect)
        || step.status == StepStatus::Rejected && ask.round == step.round + 1
}

fn requested(step: &mut super::StepState, request: &Request, at: Timestamp) {
    if step.effect != Some(request.ask.effect) {
        step.content = Some(Arc::new(request.content.clone()));
    }
    asked(step, &request.ask, at);
}

fn asked(step: &mut super::StepState, ask: &Ask, at: Timestamp) {
    if step.effect != Some(ask.effect) {
        step.first_asked = Some(at);
    }
    step.effect = Some(ask.effect);
    step.iteration = ask.iteration;
    step.round = ask.round;
    step.attempt = ask.attempt;
}

/// Makes a local step, or its undo, the next to run.
pub(super) fn begin(plan: &Plan, state: &mut State, at: Timestamp, ask: &Ask) -> Result<(), LoadError> {
    let illegal = |state: String| {
        LoadError::Illegal(IllegalTransition {
            event: "the start of a local step",
            state,
        })
    };
    let index = find(plan, ask).ok_or_else(|| illegal(format!("a saga without a step `{}`", ask.step)))?;
    let step = &mut state.steps[index];
    step.status = step_begun(step.status, ask.phase)
        .ok_or_else(|| illegal(format!("step `{}` that is {:?}", ask.step, step.status)))?;
    step.updated_at = Some(at);
    match ask.phase {
        Phase::Forward => asked(step, ask, at),
        Phase::Compensate => {
            step.undo_attempt = ask.attempt;
            step.undo_effect = Some(ask.effect);
        }
    }
    Ok(())
}

/// Runs the user's code for this event, if there is any.
fn fold(plan: &Plan, state: &mut State, index: usize, fact: &Fact) -> Result<bool, LoadError> {
    let step = &plan.steps[index];
    let (fold, json): (&Option<Fold>, &[u8]) = match fact {
        Fact::StepDone { reply, .. }
        | Fact::Completed {
            last: Some((_, reply)), ..
        }
        | Fact::StepSkipped {
            by: Some((_, reply)), ..
        } => (&step.on_reply, reply),
        Fact::StepRejected { rejection, .. } => (&step.on_rejection, rejection),
        _ => return Ok(false),
    };
    let unreadable = |source| LoadError::Unreadable {
        step: state.names[index].to_string(),
        event: state.version + 1,
        source,
    };
    let Some(fold) = fold else {
        // It is stored as JSON, so it has to be JSON.
        return serde_json::from_slice::<serde::de::IgnoredAny>(json)
            .map(|_| false)
            .map_err(unreadable);
    };
    let memory = state.memory.as_mut().expect("invariant: a started saga has a memory");
    match fold(memory, json) {
        Ok(()) => Ok(true),
        Err(source) => Err(LoadError::Unreadable {
            step: state.names[index].to_string(),
            event: state.version + 1,
            source,
        }),
    }
}

/// What the event changes about the saga as a whole.
fn saga(plan: &Plan, state: &mut State, fact: &Fact) {
    match fact {
        Fact::Started { .. } | Fact::Resumed { .. } => state.status = Status::Running,
        Fact::StepRejected { ask, rejection } => {
            let back = find(plan, ask).is_some_and(|index| !plan.after_pivot(index));
            if back && !state.is_unwinding() {
                let rejection = String::from_utf8_lossy(rejection);
                let reason = match &*rejection {
                    "null" => format!("`{}` was rejected", ask.step),
                    _ => format!("`{}` was rejected: {rejection}", ask.step),
                };
                unwind(state, reason);
            }
        }
        Fact::StepTimedOut {
            ask, then: Doubt::Undo, ..
        } => {
            unwind(
                state,
                format!("`{}` did not answer after {} attempts", ask.step, ask.attempt),
            );
        }
        Fact::CancelRequested { by, pending } => {
            let reason = format!("cancelled by {}: {}", by.actor, by.reason);
            match pending {
                true => state.cancel_pending = Some(reason),
                false => turn_back(state, reason),
            }
        }
        Fact::DeadlinePassed { pending } => {
            state.deadline_passed = true;
            if !pending {
                turn_back(state, "its deadline has passed".to_owned());
            }
        }
        Fact::Parked(parked) => state.status = Status::Parked(parked.clone()),
        Fact::Completed { .. } => state.status = Status::Completed,
        Fact::Compensated(finish) => {
            state.status = Status::Compensated {
                left_behind: finish.left_behind.clone(),
            }
        }
        _ => {}
    }
}

fn unwind(state: &mut State, reason: String) {
    if !state.is_unwinding() {
        state.direction = Direction::Unwind { reason };
    }
}

// Whoever turns a parked saga back has decided about it.
fn turn_back(state: &mut State, reason: String) {
    unwind(state, reason);
    state.status = Status::Running;
}

pub(super) fn find(plan: &Plan, ask: &Ask) -> Option<usize> {
    // Streams name the group, so the search is mostly one comparison.
    let first = plan.stages.get(ask.group as usize).map_or(0, |stage| stage.steps.start);
    match plan.steps.get(first) {
        Some(step) if step.name == ask.step => Some(first),
        _ => plan.index(&ask.step),
    }
}

fn subject(fact: &Fact) -> String {
    fact.ask()
        .map_or_else(|| "start".to_owned(), |ask| ask.step.to_string())
}

fn illegal(fact: &Fact, state: String) -> LoadError {
    LoadError::Illegal(IllegalTransition {
        event: fact.name(),
        state,
    })
}
