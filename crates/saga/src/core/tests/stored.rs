//! What is stored: what may change under it and what may not, and what is told from it alone.

use std::time::Duration;

use super::fixture::{Charge, Order, Release, Reserve, Ship, Table, record, saga};
use crate::{
    Definition, Retry, Saga, call,
    core::{DecodeError, History, LoadError, SagaEvent, Summary, SummaryState, header, load, load_unverified},
};

fn one_step(fold: fn(&mut Order, u64)) -> Definition<Order> {
    Saga::define("one")
        .step(
            "reserve",
            call(|order: &Order| Reserve(order.sku.clone())).on_reply(fold).undo(),
        )
        .pivot("charge", call(|_| Charge("1".into())))
        .build()
}

#[test]
fn changed_code_is_told_by_name_and_event() {
    let before = one_step(|order, id| order.reservation = id);
    let after = one_step(|order, id| order.reservation = id + 1);
    assert_eq!(
        before.plan().digest,
        after.plan().digest,
        "the shape says nothing about bodies"
    );
    let mut table = Table::started(before);
    table.done("reserve", "7").unwrap();
    let error = load(after.plan(), "42", &table.events()).unwrap_err();
    let LoadError::CodeChanged { step, event } = error else {
        panic!("{error}")
    };
    assert_eq!((&*step, event), ("reserve", 3));
    assert!(
        load_unverified(after.plan(), "42", &table.events()).is_ok(),
        "so that it can be parked"
    );
}

#[test]
fn policies_may_change_under_a_saga_and_its_shape_may_not() {
    let step = |name: &'static str| {
        Saga::define("shape")
            .step(name, call(|_: &Order| Reserve("a".into())).undo())
            .build()
            .plan()
            .digest
    };
    let tuned: Definition<Order> = Saga::define("shape")
        .deadline(Duration::from_secs(1))
        .step(
            "reserve",
            call(|_: &Order| Reserve("b".into()))
                .timeout(Duration::from_secs(3))
                .retry(Retry::exponential(Duration::from_secs(1)..Duration::from_secs(2)).attempts(3))
                .undo()
                .undo_in_doubt(),
        )
        .build();
    assert_eq!(step("reserve"), tuned.plan().digest);
    assert_ne!(step("reserve"), step("hold"));
    let others: [Definition<Order>; 4] = [
        Saga::define("shape")
            .step("reserve", call(|_: &Order| Reserve("a".into())).no_undo())
            .build(),
        Saga::define("shape")
            .step("reserve", call(|_: &Order| Ship("a".into())).undo())
            .build(),
        Saga::define("shape")
            .pivot("reserve", call(|_: &Order| Reserve("a".into())))
            .build(),
        Saga::define("shape")
            .step(
                "reserve",
                call(|_: &Order| Reserve("a".into())).undo_with(|_, _| Release("a".into())),
            )
            .build(),
    ];
    for other in others {
        assert_ne!(step("reserve"), other.plan().digest, "{}", other.plan().shape());
    }
    let stored = Table::started(saga());
    let error = load(tuned.plan(), "42", &stored.events()).unwrap_err();
    assert!(matches!(error, LoadError::DigestChanged { .. }), "{error}");
}

#[test]
fn an_event_of_a_newer_library_is_handed_back() {
    let mut table = Table::started(saga());
    table.stored[1].headers.set(header::CORE, "2");
    let error = SagaEvent::decode(&table.stored[1]).unwrap_err();
    assert!(matches!(error, DecodeError::Newer { rev: 2, .. }), "{error}");
    table.stored[0].name = "order.placed".into();
    assert!(matches!(
        SagaEvent::decode(&table.stored[0]).unwrap_err(),
        DecodeError::Unknown(_)
    ));
    table.stored[0].headers.remove(header::TIME);
    let error = SagaEvent::decode(&table.stored[0]).unwrap_err();
    assert!(
        matches!(
            error,
            DecodeError::Header {
                header: header::TIME,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn deciding_twice_makes_the_same_ids() {
    let mut table = Table::started(saga());
    let ask = table.ask("reserve", crate::core::Phase::Forward);
    let reported = crate::core::Reported::Done(bytes::Bytes::from_static(b"7"));
    let input = table.input(crate::core::InputKind::Answer { ask, reported });
    let decide = || crate::core::react(table.plan(), &table.state, std::slice::from_ref(&input)).unwrap();
    let (one, two) = (decide().encode("first"), decide().encode("second"));
    assert_eq!(one.len(), 2);
    let same = |(one, two): (_, &sagamill_eventstore::NewEvent)| {
        let one: &sagamill_eventstore::NewEvent = one;
        one.id == two.id && one.payload == two.payload && one.topic == two.topic
    };
    assert!(one.iter().zip(&two).all(same));
    assert_ne!(one[0].id, one[1].id);
    assert_eq!(record(one[0].clone(), &table.state, 2).causation, Some(input.cause));
}

#[test]
fn a_saga_is_told_from_its_events_alone() {
    let mut table = Table::started(saga());
    table.fire("reserve").unwrap();
    table.fire("reserve").unwrap();
    let mut table = table.up_to("charge");
    table.rejected("charge").unwrap();
    let fold = |table: &Table| {
        table
            .entries()
            .iter()
            .fold(None, |history, entry| Some(History::fold(history, entry)))
            .unwrap()
    };
    let middle = fold(&table);
    assert_eq!(
        (middle.summary.state, middle.summary.unwinding),
        (SummaryState::Running, true)
    );
    assert_eq!(middle.steps[1].undo.as_ref().unwrap().state, "asked");
    table.undone("hold").unwrap();
    table.undone("reserve").unwrap();
    let mut history = fold(&table);
    let summary = &history.summary;
    assert_eq!((summary.state, summary.unwinding), (SummaryState::Compensated, true));
    assert_eq!(
        (&*summary.definition, &*summary.key, summary.events),
        ("place-order", "42", table.stored.len() as i64)
    );
    assert_eq!(summary.reason.as_deref(), Some("`charge` was rejected: \"no\""));
    let states = |history: &History| {
        history
            .steps
            .iter()
            .map(|step| (step.name.clone(), step.state))
            .collect::<Vec<_>>()
    };
    let happened = [
        ("reserve", "done"),
        ("hold", "done"),
        ("notify", "done"),
        ("charge", "rejected"),
    ];
    assert!(
        states(&history)
            .iter()
            .map(|(name, state)| (&**name, *state))
            .eq(happened)
    );
    let outcomes: Vec<_> = history.steps[0]
        .attempts
        .iter()
        .map(|attempt| (attempt.n, attempt.outcome))
        .collect();
    assert_eq!(outcomes, [(1, "timed-out"), (2, "done")]);
    assert_eq!(history.steps[0].undo.as_ref().unwrap().state, "undone");
    history.expect(table.plan());
    assert_eq!(history.steps[4].state, "waiting");
    let json = serde_json::to_value(&history).unwrap();
    assert_eq!(json["state"], "compensated");
    let again: Summary = serde_json::from_value(json).unwrap();
    assert_eq!(again, history.summary);
}

#[test]
fn one_sentence_says_why() {
    let mut table = Table::started(saga());
    let why = |table: &Table| crate::core::why(table.plan(), &table.state, table.now);
    let asked = why(&table);
    assert_eq!((&*asked.head, &*asked.next), ("waiting", "inventory"));
    assert_eq!(asked.text, "`reserve` waits for an answer of inventory, attempt 1");
    table.fire("reserve").unwrap();
    let late = why(&table);
    assert!(
        late.text
            .starts_with("`reserve` did not answer in time on attempt 1, so it is asked again in "),
        "{late:?}"
    );
    let mut table = table.up_to("charge");
    table.cancel().unwrap();
    let back = why(&table);
    assert!(
        back.head == "waiting" && back.text.contains("cancelled by ann"),
        "{back:?}"
    );
}

#[test]
fn problems_of_a_definition_are_told_all_at_once() {
    let definition: Definition<Order> = Saga::define("place/order")
        .version(0)
        .deadline(Duration::ZERO)
        .barrier_retention(Duration::from_hours(1))
        .step("", call(|_: &Order| Reserve("a".into())).timeout(Duration::ZERO).undo())
        .step("same", call(|_: &Order| Reserve("a".into())).undo())
        .step("same", call(|_: &Order| Reserve("a".into())).undo())
        .build();
    let crate::Error::Definition { saga: name, problems } = definition.check().unwrap_err() else {
        panic!()
    };
    assert_eq!(name, "place/order");
    assert!(problems.len() >= 7, "{problems:#?}");
    assert!(saga().check().is_ok());
}
