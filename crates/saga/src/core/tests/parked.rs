//! What only an operator can end: parked, resumed, skipped, left behind.

use std::time::Duration;

use bytes::Bytes;
use jiff::ToSpan as _;

use super::fixture::{Charge, Order, Reserve, Ship, Table, by, saga};
use crate::{
    Definition, Retry, Saga, call,
    core::{InputKind, NoOp, ParkReason, Phase, Reported, Status, StepStatus},
};

fn parked(table: &Table) -> ParkReason {
    match &table.state.status {
        Status::Parked(parked) => parked.reason,
        status => panic!("{status:?} is not parked"),
    }
}

fn skip(table: &mut Table, step: &str, phase: Phase, reply: &'static [u8]) -> Result<Vec<&'static str>, NoOp> {
    let reply = Bytes::from_static(reply);
    table.say(InputKind::Skip {
        step: step.into(),
        phase,
        reply,
        by: by(),
        seen: None,
    })
}

#[test]
fn a_rejection_after_the_pivot_parks_and_a_resume_opens_a_new_round() {
    let mut table = Table::started(saga()).up_to("ship");
    let first = table.ask("ship", Phase::Forward);
    assert_eq!(table.rejected("ship").unwrap(), ["saga.step-rejected", "saga.parked"]);
    assert_eq!(parked(&table), ParkReason::Rejected);
    assert!(
        table
            .state
            .timers(table.plan())
            .iter()
            .all(|timer| timer.step.is_none())
    );
    assert_eq!(table.resume().unwrap(), ["saga.resumed", "saga.step-requested"]);
    let second = table.ask("ship", Phase::Forward);
    assert_eq!((second.round, second.attempt), (2, 1));
    assert_ne!(
        second.effect, first.effect,
        "a rejection proves that there is no effect, so this is another one"
    );
    assert_eq!(table.done("ship", "\"P2\"").unwrap(), ["saga.completed"]);
}

#[test]
fn an_undo_that_fails_is_asked_for_ever_and_one_that_cannot_succeed_parks() {
    let mut table = Table::started(saga()).up_to("charge");
    table.rejected("charge").unwrap();
    for _ in 0..20 {
        assert_eq!(table.fire("hold").unwrap(), ["saga.undo-failed"]);
        assert_eq!(table.fire("hold").unwrap(), ["saga.undo-requested"]);
    }
    let ask = table.ask("hold", Phase::Compensate);
    let failed = Reported::Failed("no such reservation".into());
    assert_eq!(
        table.answer("hold", Phase::Compensate, failed.clone()).unwrap(),
        ["saga.undo-failed", "saga.parked"]
    );
    assert_eq!(parked(&table), ParkReason::Failed);
    assert_eq!(table.resume().unwrap(), ["saga.resumed", "saga.undo-requested"]);
    // What the earlier ask is answered once more does not park it again.
    assert_eq!(table.say(InputKind::Answer { ask, reported: failed }), Err(NoOp::Stale));
    assert_eq!(table.undone("hold").unwrap(), ["saga.undo-done", "saga.undo-requested"]);
}

#[test]
fn an_answer_that_was_missing_lets_a_parked_saga_go_on() {
    let retry = Retry::exponential(Duration::from_millis(10)..Duration::from_millis(20)).attempts(2);
    let definition: Definition<Order> = Saga::define("doubt")
        .pivot(
            "charge",
            call(|_: &Order| Charge("1".into())).retry(retry).park_in_doubt(),
        )
        .step("ship", call(|_| Ship("tea".into())))
        .build();
    let mut table = Table::started(definition);
    table.fire("charge").unwrap();
    table.fire("charge").unwrap();
    assert_eq!(table.fire("charge").unwrap(), ["saga.step-timed-out", "saga.parked"]);
    assert_eq!(parked(&table), ParkReason::InDoubt);
    assert_eq!(table.state.steps[0].status, StepStatus::Doubtful);
    let names = table.done("charge", "null").unwrap();
    assert_eq!(names, ["saga.step-done", "saga.resumed", "saga.step-requested"]);
}

#[test]
fn nothing_is_asked_or_undone_once_the_participant_may_have_forgotten() {
    let mut table = Table::started(saga()).up_to("notify");
    table.now = table.now.checked_add((91 * 24).hours()).unwrap();
    assert_eq!(table.cancel().unwrap(), ["saga.cancel-requested", "saga.parked"]);
    assert_eq!(parked(&table), ParkReason::PastRetention);
    assert_eq!(table.resume(), Err(NoOp::PastRetention));
    // Whoever has looked after the effects himself says so, and they are on record.
    assert_eq!(
        skip(&mut table, "hold", Phase::Compensate, b"null").unwrap(),
        ["saga.undo-skipped", "saga.resumed", "saga.parked"]
    );
    let names = skip(&mut table, "reserve", Phase::Compensate, b"null").unwrap();
    assert_eq!(names, ["saga.undo-skipped", "saga.resumed", "saga.compensated"]);
    let left_behind = vec!["reserve".to_owned(), "hold".to_owned()];
    assert_eq!(table.state.status, Status::Compensated { left_behind });
}

#[test]
fn a_skipped_step_counts_as_in_doubt_on_the_way_back() {
    let mut table = Table::started(saga());
    assert_eq!(
        skip(&mut table, "reserve", Phase::Forward, b"9").unwrap(),
        ["saga.step-skipped", "saga.step-requested"]
    );
    let order: &Order = table.state.memory.as_ref().unwrap().get().unwrap();
    assert_eq!(order.reservation, 9, "the saga goes on with the operator's reply");
    assert_eq!(
        table.rejected("hold").unwrap(),
        ["saga.step-rejected", "saga.undo-requested"]
    );
    assert_eq!(
        table.state.steps[0].status,
        StepStatus::Undoing {
            due: Some(table.request(0).due)
        }
    );
}

#[test]
fn an_undo_that_waits_for_a_lost_answer_is_ended_by_an_operator() {
    let lost = || {
        let mut table = Table::started(saga()).up_to("hold");
        assert_eq!(
            table.cancel().unwrap(),
            ["saga.cancel-requested"],
            "the undo of `hold` needs its reply"
        );
        assert_eq!(table.fire("hold").unwrap(), ["saga.step-timed-out"]);
        table
    };
    // He knows the reply,
    let mut table = lost();
    assert_eq!(
        skip(&mut table, "hold", Phase::Forward, b"8").unwrap(),
        ["saga.step-skipped", "saga.undo-requested"]
    );
    assert_eq!(&table.request(0).content.payload[..], b"\"8\"");
    // or he leaves it.
    let mut table = lost();
    let names = skip(&mut table, "hold", Phase::Compensate, b"null").unwrap();
    assert_eq!(names, ["saga.undo-skipped", "saga.undo-requested"]);
    table.undone("reserve").unwrap();
    assert_eq!(
        table.state.status,
        Status::Compensated {
            left_behind: vec!["hold".to_owned()]
        }
    );
}

#[test]
fn a_reply_that_cannot_be_read_parks_and_changes_nothing() {
    for reply in ["\"seven\"", "not json"] {
        let mut table = Table::started(saga());
        assert_eq!(table.done("reserve", reply).unwrap(), ["saga.parked"]);
        assert_eq!(parked(&table), ParkReason::Unreadable);
        assert_eq!(table.resume().unwrap(), ["saga.resumed", "saga.step-requested"]);
        assert_eq!(
            table.done("reserve", "7").unwrap(),
            ["saga.step-done", "saga.step-requested"]
        );
    }
}

#[test]
fn a_resume_of_what_runs_asks_at_once() {
    let mut table = Table::started(saga());
    assert_eq!(table.resume(), Err(NoOp::NothingToResume));
    table.fire("reserve").unwrap();
    assert_eq!(table.resume().unwrap(), ["saga.resumed", "saga.step-requested"]);
    assert_eq!(table.ask("reserve", Phase::Forward).attempt, 2);
}

#[test]
fn a_command_that_came_too_late_is_asked_again() {
    let mut table = Table::started(saga());
    assert_eq!(
        table.answer("reserve", Phase::Forward, Reported::Expired).unwrap(),
        ["saga.step-timed-out"]
    );
    assert_eq!(
        table.answer("reserve", Phase::Forward, Reported::Expired),
        Err(NoOp::Stale),
        "its next try has a date"
    );
    assert_eq!(table.fire("reserve").unwrap(), ["saga.step-requested"]);
}

/// Three steps side by side.
fn abreast() -> Definition<Order> {
    Saga::define("abreast")
        .step("first", call(|_: &Order| Reserve("a".into())).undo())
        .step("one", call(|_: &Order| Reserve("b".into())).undo())
        .step("two", call(|_: &Order| Reserve("c".into())).undo())
        .step("three", call(|_: &Order| Reserve("d".into())).undo())
        .build()
        .in_stages(&[0..1, 1..4], None)
}

#[test]
fn two_siblings_fail_at_once_and_a_third_that_succeeds_late_is_undone() {
    let mut table = Table::started(abreast());
    assert_eq!(
        table.done("first", "1").unwrap().len(),
        4,
        "the siblings are asked together"
    );
    let late = table.ask("three", Phase::Forward);
    assert_eq!(
        table.rejected("one").unwrap(),
        ["saga.step-rejected", "saga.undo-requested", "saga.undo-requested"]
    );
    // The second is asked to undo as well; that it was rejected says that there is nothing.
    assert_eq!(
        table.state.steps[0].status,
        StepStatus::Done,
        "a predecessor waits for all of its successors"
    );
    let reported = Reported::Done(Bytes::from_static(b"4"));
    assert_eq!(table.say(InputKind::Answer { ask: late, reported }), Err(NoOp::Stale));
    assert_eq!(table.undone("two").unwrap(), ["saga.undo-done"]);
    assert_eq!(
        table.undone("three").unwrap(),
        ["saga.undo-done", "saga.undo-requested"]
    );
    assert_eq!(table.undone("first").unwrap(), ["saga.undo-done", "saga.compensated"]);
}

#[test]
fn two_undos_that_fail_at_once_are_both_reported_after_a_restart() {
    let mut table = Table::started(abreast());
    table.done("first", "1").unwrap();
    table.rejected("one").unwrap();
    let broken = || Reported::Failed("broken".into());
    assert_eq!(
        table.answer("two", Phase::Compensate, broken()).unwrap(),
        ["saga.undo-failed", "saga.parked"]
    );
    assert_eq!(
        table.answer("three", Phase::Compensate, broken()).unwrap(),
        ["saga.undo-failed"]
    );
    // The state is the fold of what is stored: a restart sees the same.
    let stuck = table
        .state
        .steps
        .iter()
        .filter(|step| step.status == StepStatus::UndoStuck)
        .count();
    assert_eq!(stuck, 2);
    let why = crate::core::why(table.plan(), &table.state, table.now);
    assert!(
        why.text.contains("`two`") && why.text.contains("`three`"),
        "{}",
        why.text
    );
    assert_eq!(
        table.resume().unwrap(),
        ["saga.resumed", "saga.undo-requested", "saga.undo-requested"]
    );
}

#[test]
fn a_message_for_an_ended_saga_is_counted_and_changes_nothing() {
    let mut table = Table::started(saga()).up_to("ship");
    table.done("ship", "\"P\"").unwrap();
    let ask = table.ask("reserve", Phase::Forward);
    for kind in [
        InputKind::Answer {
            ask,
            reported: Reported::Done(Bytes::from_static(b"7")),
        },
        InputKind::Cancel { by: by(), seen: None },
        InputKind::DeadlineFired,
        InputKind::Resume { by: by(), seen: None },
    ] {
        assert_eq!(table.say(kind), Err(NoOp::Ended));
    }
    let start = InputKind::Start {
        input: Bytes::from_static(b"{}"),
    };
    assert_eq!(table.say(start), Err(NoOp::AlreadyStarted));
}
