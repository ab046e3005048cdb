//! Every input at every state of small sagas: cancel, deadline, verbs and answers in all orders.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::fixture::{Charge, Order, Release, Reserve, Ship, by};
use crate::{
    Definition, Saga, call,
    core::{
        Decision, Direction, Fact, Input, InputKind, NoOp, ParkReason, Phase, Plan, Reported, State, Status,
        StepStatus, react,
    },
};

/// Two steps that are undone in different ways, the pivot, one step after it.
fn small() -> Definition<Order> {
    Saga::define("small")
        .deadline(Duration::from_hours(1))
        .step("reserve", call(|order: &Order| Reserve(order.sku.clone())).undo())
        .step(
            "hold",
            call(|_: &Order| Reserve("gift".into())).undo_with(|_, id| Release(id.to_string())),
        )
        .pivot("charge", call(|_: &Order| Charge("1".into())).park_in_doubt())
        .step("ship", call(|_: &Order| Ship("tea".into())))
        .build()
}

/// A step may be asked so often before the search lets it be: attempts would make endless states.
const ATTEMPTS_MAX: u32 = 2;

struct Node {
    state: State,
    given: Vec<Input>,
}

/// What tells states apart: all but times, and how often something was asked.
fn signature(state: &State) -> String {
    let steps = state.steps.iter().map(|step| {
        let status = format!("{:?}", step.status);
        let status = status.split([' ', '{']).next().unwrap().to_owned();
        (status, step.round.min(2))
    });
    let parked = match &state.status {
        Status::Parked(parked) => format!("{:?} {:?}", parked.reason, parked.ask.as_ref().map(|ask| &ask.step)),
        other => format!("{other:?}"),
    };
    let pending = (
        state.deadline_passed,
        state.cancel_pending.is_some(),
        state.is_unwinding(),
    );
    format!("{parked} {pending:?} {:?}", steps.collect::<Vec<_>>())
}

/// All that could be said to a saga in this state.
fn inputs(plan: &Plan, state: &State) -> Vec<InputKind> {
    let mut kinds = vec![
        InputKind::Cancel { by: by(), seen: None },
        InputKind::DeadlineFired,
        InputKind::Resume { by: by(), seen: None },
        InputKind::Park {
            reason: ParkReason::Operator,
            text: "for a look".into(),
        },
        InputKind::Park {
            reason: ParkReason::UnknownDefinition,
            text: "nobody knows it".into(),
        },
        InputKind::DefinitionKnown,
    ];
    for (index, (step, at)) in plan.steps.iter().zip(&state.steps).enumerate() {
        for phase in [Phase::Forward, Phase::Compensate] {
            let ask = state.ask(step, index, phase);
            let reply = Bytes::from_static(if &*step.name == "ship" { b"\"P\"" } else { b"7" });
            let charge = if &*step.name == "charge" {
                Bytes::from_static(b"null")
            } else {
                reply
            };
            let all = [
                Reported::Done(charge.clone()),
                Reported::Rejected(Bytes::from_static(b"\"no\"")),
                Reported::Failed("broken".into()),
                Reported::Expired,
            ];
            kinds.extend(all.map(|reported| InputKind::Answer {
                ask: ask.clone(),
                reported,
            }));
            let step = step.name.to_string();
            kinds.push(InputKind::Skip {
                step,
                phase,
                reply: charge,
                by: by(),
                seen: None,
            });
        }
        let attempts = at.attempt.max(at.undo_attempt);
        if attempts < ATTEMPTS_MAX || matches!(at.status, StepStatus::Asked { .. } | StepStatus::Undoing { .. }) {
            let timers = state
                .timers(plan)
                .into_iter()
                .filter_map(|timer| Some((timer.step?, timer.due)));
            kinds.extend(
                timers
                    .filter(|((name, ..), _)| *name == step.name)
                    .map(|((_, phase, attempt), due)| InputKind::TimerFired {
                        step: step.name.to_string(),
                        phase,
                        attempt,
                        due,
                    }),
            );
        }
    }
    kinds
}

fn decide(plan: &Plan, state: &State, inputs: &[Input]) -> Decision {
    react(plan, state, inputs).unwrap_or_else(|error| panic!("{error}\n{}\n{inputs:?}", signature(state)))
}

fn told(state: &State, kind: &InputKind, cause: usize) -> Input {
    let now = match kind {
        InputKind::TimerFired { due, .. } => (*due).max(state.updated_at),
        InputKind::DeadlineFired => state.deadline.unwrap().max(state.updated_at),
        _ => state.updated_at,
    };
    Input {
        cause: Uuid::from_u128(cause as u128),
        now,
        kind: kind.clone(),
    }
}

/// Visits every state that can be reached; `visit` sees each state, what is said, and what follows.
fn explore(plan: &Plan, mut visit: impl FnMut(&Node, &InputKind, &Decision)) -> usize {
    let start = InputKind::Start {
        input: Bytes::from_static(br#"{"sku":"tea","reservation":0,"notes":[]}"#),
    };
    let new = State::new(plan, "1");
    let start = Input {
        cause: Uuid::from_u128(1),
        now: Timestamp::from_millisecond(1_000).unwrap(),
        kind: start,
    };
    let first = decide(plan, &new, std::slice::from_ref(&start)).next;
    let mut seen = BTreeMap::from([(signature(&first), ())]);
    let mut queue = VecDeque::from([Node {
        state: first,
        given: vec![start],
    }]);
    while let Some(node) = queue.pop_front() {
        for kind in inputs(plan, &node.state) {
            let input = told(&node.state, &kind, node.given.len() + 1);
            let decision = decide(plan, &node.state, std::slice::from_ref(&input));
            visit(&node, &kind, &decision);
            let attempts = |state: &State| state.steps.iter().map(|step| step.attempt.max(step.undo_attempt)).max();
            let rounds = decision.next.steps.iter().any(|step| step.round > 2);
            if attempts(&decision.next) > Some(ATTEMPTS_MAX + 1) || rounds {
                continue;
            }
            if seen.insert(signature(&decision.next), ()).is_none() {
                let given = node.given.iter().cloned().chain([input]).collect();
                queue.push_back(Node {
                    state: decision.next,
                    given,
                });
            }
        }
    }
    seen.len()
}

#[test]
fn from_the_pivots_request_on_only_its_rejection_leads_back() {
    let definition = small();
    let plan = definition.plan();
    let (mut cancelled, mut waited) = (0, 0);
    let states = explore(plan, |node, kind, decision| {
        let past = node.state.is_past_return(plan);
        let undoes = decision
            .events
            .iter()
            .any(|decided| matches!(decided.event.fact, Fact::UndoRequested(_)));
        let pivot_rejected = decision.next.steps[2].status == StepStatus::Rejected;
        assert!(
            !undoes || !past || pivot_rejected,
            "{kind:?} undoes past the pivot\n{}",
            signature(&node.state)
        );
        if !matches!(kind, InputKind::Cancel { .. } | InputKind::DeadlineFired) || decision.events.is_empty() {
            return;
        }
        if past {
            waited += 1;
            assert_eq!(decision.next.direction, Direction::Forward, "{kind:?}");
            assert_eq!(decision.next.status, node.state.status);
        } else {
            cancelled += 1;
            assert!(decision.next.is_unwinding(), "{kind:?} before the pivot leads back");
        }
    });
    assert!(
        states > 500 && cancelled > 30 && waited > 300,
        "{states} states, {cancelled} cancelled, {waited} waited"
    );
}

#[test]
fn it_never_turns_forward_again_and_never_goes_on_after_its_end() {
    let definition = small();
    let (mut completed, mut compensated) = (0, 0);
    explore(definition.plan(), |node, kind, decision| {
        if node.state.is_unwinding() {
            assert!(decision.next.is_unwinding(), "{kind:?}");
            let starts = decision.events.iter().any(|decided| match &decided.event.fact {
                Fact::StepRequested(request) => request.ask.attempt == 1,
                _ => false,
            });
            assert!(!starts, "{kind:?} asks a new step on the way back");
        }
        if node.state.is_ended() {
            assert_eq!(decision.noops.first(), Some(&(0, NoOp::Ended)), "{kind:?}");
        }
        let done = |status| matches!(status, StepStatus::Done | StepStatus::Overridden);
        match &decision.next.status {
            Status::Completed => {
                completed += 1;
                assert!(decision.next.steps.iter().all(|step| done(step.status)));
            }
            Status::Compensated { left_behind } => {
                compensated += 1;
                let left = decision
                    .next
                    .steps
                    .iter()
                    .filter(|step| step.status == StepStatus::Left)
                    .count();
                assert_eq!(left_behind.len(), left);
                let there = |step: &crate::core::StepState| done(step.status) || step.status == StepStatus::Doubtful;
                assert!(!decision.next.steps.iter().any(there), "{}", signature(&decision.next));
            }
            _ => {}
        }
    });
    assert!(
        completed > 5 && compensated > 5,
        "{completed} completed, {compensated} compensated"
    );
}

#[test]
fn what_runs_waits_for_something() {
    let definition = small();
    let plan = definition.plan();
    explore(plan, |_, kind, decision| {
        let waits = decision.next.timers(plan).iter().any(|timer| timer.step.is_some());
        assert!(
            !decision.next.is_running() || waits,
            "{kind:?} makes it hang\n{}",
            signature(&decision.next)
        );
        let says = crate::core::why(plan, &decision.next, decision.next.updated_at);
        assert!(
            !says.text.is_empty() && says.text != "it is between two steps",
            "{says:?}"
        );
    });
}

#[test]
fn an_input_given_again_is_a_no_op() {
    let definition = small();
    let plan = definition.plan();
    explore(plan, |_, kind, decision| {
        // A verb is given again by whoever saw its effect: it names the version that he saw.
        let again = match kind.clone() {
            InputKind::Resume { by, .. } => InputKind::Resume { by, seen: Some(0) },
            InputKind::Skip {
                step, phase, reply, by, ..
            } => InputKind::Skip {
                step,
                phase,
                reply,
                by,
                seen: Some(0),
            },
            InputKind::Park { .. } => return,
            kind => kind,
        };
        let again = told(&decision.next, &again, 0);
        let second = decide(plan, &decision.next, &[again]);
        assert!(
            second.events.is_empty(),
            "{kind:?} twice\n{}",
            signature(&decision.next)
        );
    });
}

#[test]
fn inputs_decided_together_end_where_they_end_one_by_one() {
    let definition = small();
    let plan = definition.plan();
    let mut pairs = 0_usize;
    explore(plan, |node, kind, decision| {
        // Each pair at a part of the states: all of them would take minutes.
        for (place, second) in inputs(plan, &node.state).iter().enumerate() {
            if !(place + pairs).is_multiple_of(23) {
                pairs += 1;
                continue;
            }
            pairs += 1;
            let inputs = [told(&node.state, kind, 2), told(&node.state, second, 3)];
            let together = decide(plan, &node.state, &inputs);
            let then = decide(plan, &decide(plan, &node.state, &inputs[..1]).next, &inputs[1..]);
            assert_eq!(together.next, then.next, "{kind:?} and {second:?}");
            let events = decide(plan, &node.state, &inputs[..1])
                .events
                .into_iter()
                .chain(then.events);
            assert!(together.events.into_iter().eq(events), "{kind:?} and {second:?}");
        }
        assert_eq!(decision.next.version, node.state.version + decision.events.len() as i64);
    });
}

#[test]
fn a_verb_is_meant_for_the_version_that_was_seen() {
    let definition = small();
    let plan = definition.plan();
    let mut moved = 0;
    explore(plan, |node, kind, decision| {
        if !matches!(kind, InputKind::Answer { .. }) || decision.events.is_empty() || decision.next.is_ended() {
            return;
        }
        // The answer was faster than the operator who looked at the picture before it.
        let seen = Some(node.state.version);
        let index = node
            .state
            .steps
            .iter()
            .position(|step| matches!(step.status, StepStatus::Asked { .. }));
        let step = plan.steps[index.unwrap_or(0)].name.to_string();
        let skip = InputKind::Skip {
            step,
            phase: Phase::Forward,
            reply: Bytes::from_static(b"7"),
            by: by(),
            seen,
        };
        let late = decide(plan, &decision.next, &[told(&decision.next, &skip, 9)]);
        assert_eq!(late.noops, [(0, NoOp::Moved)]);
        moved += 1;
    });
    assert!(moved > 100);
}

#[test]
fn a_saga_whose_definition_was_unknown_goes_on_as_it_was() {
    let definition = small();
    let plan = definition.plan();
    let (mut resumed, mut left_alone) = (0, 0);
    explore(plan, |node, kind, decision| {
        if !matches!(kind, InputKind::DefinitionKnown) {
            return;
        }
        if !node.state.waits_for_its_definition() {
            left_alone += 1;
            return assert!(decision.events.is_empty(), "{}", signature(&node.state));
        }
        resumed += 1;
        let first = &decision.events[0].event.fact;
        assert!(
            matches!(first, Fact::Resumed { by } if by.actor == "sagamill"),
            "{first:?}"
        );
        assert!(decision.next.status != node.state.status);
    });
    assert!(resumed > 50 && left_alone > 50, "{resumed} {left_alone}");
    // Parked and resumed with nothing between, nothing has changed: what waited waits as long as it did.
    explore(plan, |node, kind, decision| {
        let unknown = ParkReason::UnknownDefinition;
        if !matches!(kind, InputKind::Park { reason, .. } if *reason == unknown) || !node.state.is_running() {
            return;
        }
        let known = told(&decision.next, &InputKind::DefinitionKnown, 99);
        let after = decide(plan, &decision.next, &[known]).next;
        let before = State {
            version: after.version,
            ..node.state.clone()
        };
        assert_eq!(after, before, "{}", signature(&node.state));
    });
}
