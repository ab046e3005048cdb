//! One step after the other: forward, back, asked again.

use super::fixture::{Order, Table, saga};
use crate::{
    core::{Direction, Phase, Reported, Status, StepStatus},
    wire,
};

#[test]
fn each_reply_asks_the_next_step_and_the_last_one_ends_the_saga() {
    let mut table = Table::started(saga());
    assert_eq!(table.names(), ["started", "step-requested"]);
    assert_eq!(
        table.done("reserve", "7").unwrap(),
        ["saga.step-done", "saga.step-requested"]
    );
    assert_eq!(
        table.done("hold", "8").unwrap(),
        ["saga.step-done", "saga.step-requested"]
    );
    assert_eq!(
        table.done("notify", "null").unwrap(),
        ["saga.step-done", "saga.step-requested"]
    );
    assert_eq!(
        &table.request(0).content.payload[..],
        b"\"7\"",
        "a reply's fold feeds later commands"
    );
    assert_eq!(
        table.done("charge", "null").unwrap(),
        ["saga.step-done", "saga.step-requested"]
    );
    assert_eq!(table.done("ship", "\"P1\"").unwrap(), ["saga.completed"]);
    assert_eq!(table.state.status, Status::Completed);
    let order: &Order = table.state.memory.as_ref().unwrap().get().unwrap();
    assert_eq!((order.reservation, &*order.notes), (7, &["P1".to_owned()][..]));
    assert!(table.state.timers(table.plan()).is_empty());
}

#[test]
fn a_request_is_what_travels() {
    let table = Table::started(saga());
    let stored = &table.stored[1];
    assert_eq!(stored.topic.as_ref().unwrap().as_ref(), "inventory.commands");
    assert_eq!(stored.key.as_deref(), Some("42"));
    assert_eq!(&stored.event[..], b"\"tea\"");
    let header = |name| stored.headers.get(name).unwrap();
    assert_eq!(header("ce-type"), "inventory.reserve");
    assert_eq!(header("ce-expirytime"), "2023-11-15T22:13:20Z");
    assert_eq!(header("sagamill-mandatory"), "1");
    assert_eq!(header(wire::REPLY_TO), "place-order.v1.replies");
    assert_eq!(header(wire::PHASE), "forward");
    assert_eq!(header(wire::KEY), "42");
    assert_eq!(table.stored[0].topic, None, "all but requests stay inside the log");
}

#[test]
fn a_rejection_undoes_in_reverse_order() {
    let mut table = Table::started(saga()).up_to("charge");
    assert_eq!(
        table.rejected("charge").unwrap(),
        ["saga.step-rejected", "saga.undo-requested"]
    );
    // Another command undoes `hold`: it has an effect of its own and travels as a command.
    let release = table.request(0);
    assert_eq!(
        (&*release.content.command, release.travels_as),
        ("inventory.release", Phase::Forward)
    );
    assert_eq!(&release.content.payload[..], b"\"8\"");
    assert_ne!(Some(release.ask.effect), table.state.steps[1].effect);
    assert_eq!(table.undone("hold").unwrap(), ["saga.undo-done", "saga.undo-requested"]);
    // The participant undoes `reserve`: the command as it was, under the same effect.
    let undo = table.request(0);
    assert_eq!(
        (&*undo.content.command, undo.travels_as),
        ("inventory.reserve", Phase::Compensate)
    );
    assert_eq!(&undo.content.payload[..], b"\"tea\"");
    assert_eq!(Some(undo.ask.effect), table.state.steps[0].effect);
    assert_eq!(table.undone("reserve").unwrap(), ["saga.undo-done", "saga.compensated"]);
    assert_eq!(
        table.state.status,
        Status::Compensated {
            left_behind: Vec::new()
        }
    );
    let Direction::Unwind { reason } = &table.state.direction else {
        panic!("it went back")
    };
    assert_eq!(reason, "`charge` was rejected: \"no\"");
}

#[test]
fn a_step_without_an_answer_is_asked_again_with_the_same_bytes() {
    let mut table = Table::started(saga());
    let first = table.request(0);
    assert_eq!(table.fire("reserve").unwrap(), ["saga.step-timed-out"]);
    assert!(matches!(table.state.steps[0].status, StepStatus::Unknown { next } if next > first.due));
    assert_eq!(table.fire("reserve").unwrap(), ["saga.step-requested"]);
    let second = table.request(0);
    assert_eq!((second.ask.attempt, second.ask.effect), (2, first.ask.effect));
    assert_eq!(second.content, first.content);
    assert_ne!(table.stored[1].id, table.stored[3].id, "each ask is another message");
    // The first ask's answer is as good as the second's.
    let ask = first.ask;
    let reported = Reported::Done(bytes::Bytes::from_static(b"7"));
    let answer = crate::core::InputKind::Answer { ask, reported };
    assert_eq!(table.say(answer).unwrap(), ["saga.step-done", "saga.step-requested"]);
}

/// A participant that is late for all of them would else be asked more and more often, and never catch up.
#[test]
fn each_ask_without_an_answer_is_given_twice_the_time() {
    let mut table = Table::started(saga());
    let mut waits = Vec::new();
    for _ in 0..6 {
        let asked = table.now;
        waits.push(table.request(0).due.duration_since(asked).as_secs());
        assert_eq!(table.fire("reserve").unwrap(), ["saga.step-timed-out"]);
        assert_eq!(table.fire("reserve").unwrap(), ["saga.step-requested"]);
    }
    assert_eq!(waits, [10, 20, 40, 80, 80, 80]);
}
