//! Events as they are stored, kept as files for ever: what was written once must make the same of itself to each later
//! library, and what a later one writes must not be taken for something else.
//!
//! A file of an earlier revision is never changed. Where the vocabulary changes, a folder is added beside `v1`, and
//! [`CORE_REV`] counts up if an older library would fold it wrongly. `SAGAMILL_GOLDEN=write` writes files that are missing.

use std::{collections::BTreeSet, fs, path::PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use sagamill_bus::Headers;
use sagamill_eventstore::{NewEvent, Position, Recorded, StreamId, Version};
use serde_json::{Value, json};
use uuid::Uuid;

use super::fixture::{Table, record, saga};
use crate::core::{
    Ask, By, CORE_REV, Content, Decided, DecodeError, Doubt, Entry, Fact, Finish, Identity, LoadError, ParkReason,
    Parked, Phase, Request, SagaEvent, State, Status, apply, codec::encode, header,
};

const PROCESS: &str = "coordinator/4f6d2c1b9a80";
const DIGEST: u64 = 0x0123_4567_89ab_cdef;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
}
fn json(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}
fn identity() -> Identity {
    Identity {
        instance: Uuid::from_u128(0x01a3_185c_5117_825e_9b4f_de53_0128_4d99),
        definition: "place-order".into(),
        version: 3,
        key: "order-7/ü".into(),
    }
}
fn ask(phase: Phase) -> Ask {
    Ask {
        step: "reserve".into(),
        phase,
        group: 2,
        iteration: 3,
        round: 4,
        attempt: 5,
        effect: Uuid::from_u128(0x045d_37b9_2375_5e1e_a56b_49e2_0481_d896),
    }
}
fn by() -> By {
    By {
        actor: "ann".into(),
        reason: "the customer \"called\"".into(),
    }
}
fn request(phase: Phase, travels_as: Phase, key: Option<&str>) -> Request {
    Request {
        ask: ask(phase),
        content: Content {
            command: "stock.reserve".into(),
            version: 2,
            key: key.map(str::to_owned),
            payload: json(r#"{"sku":"tea","n":2}"#),
        },
        travels_as,
        reply_to: "place-order.v3.replies".into(),
        due: at(5_000),
        expires: at(86_400_000),
        policy: "timeout=5000ms backoff=100..30000ms attempts=8".into(),
    }
}
fn timed_out(error: Option<&str>, then: Doubt) -> Fact {
    Fact::StepTimedOut {
        ask: ask(Phase::Forward),
        error: error.map(str::to_owned),
        then,
    }
}
fn parked(ask: Option<Ask>, reason: ParkReason) -> Fact {
    let text = "it cannot succeed: \"no such thing\"".to_owned();
    Fact::Parked(Parked { ask, reason, text })
}

/// A fact of each kind, and of each shape that a kind has, by the name of its file.
fn facts() -> Vec<(&'static str, Fact)> {
    let (forward, undo) = (|| ask(Phase::Forward), || ask(Phase::Compensate));
    let started = |deadline| Fact::Started {
        instance: identity().instance,
        input: json(r#"{"sku":"tea","cents":450}"#),
        digest: DIGEST,
        deadline,
    };
    let finish = |reason: Option<&str>, left: &[&str]| Finish {
        reason: reason.map(str::to_owned),
        left_behind: left.iter().map(|step| (*step).to_owned()).collect(),
    };
    vec![
        ("started", started(None)),
        ("started-with-deadline", started(Some(at(600_000)))),
        (
            "step-requested",
            Fact::StepRequested(request(Phase::Forward, Phase::Forward, None)),
        ),
        (
            "step-requested-with-key",
            Fact::StepRequested(request(Phase::Forward, Phase::Forward, Some("shelf-9"))),
        ),
        (
            "step-waiting",
            Fact::StepWaiting {
                ask: forward(),
                until: None,
            },
        ),
        (
            "step-waiting-until",
            Fact::StepWaiting {
                ask: forward(),
                until: Some(at(900_000)),
            },
        ),
        (
            "step-done",
            Fact::StepDone {
                ask: forward(),
                reply: json(r#"{"id":7}"#),
            },
        ),
        (
            "step-rejected",
            Fact::StepRejected {
                ask: forward(),
                rejection: json(r#""out of stock""#),
            },
        ),
        ("step-timed-out-ask", timed_out(None, Doubt::Ask(at(7_500)))),
        ("step-timed-out-undo", timed_out(Some("it came too late"), Doubt::Undo)),
        ("step-timed-out-park", timed_out(Some("broken"), Doubt::Park)),
        (
            "step-skipped-not-needed",
            Fact::StepSkipped {
                ask: forward(),
                by: None,
            },
        ),
        (
            "step-skipped-by-operator",
            Fact::StepSkipped {
                ask: forward(),
                by: Some((by(), json(r#"{"id":8}"#))),
            },
        ),
        (
            "undo-requested",
            Fact::UndoRequested(request(Phase::Compensate, Phase::Compensate, None)),
        ),
        (
            "undo-requested-by-command",
            Fact::UndoRequested(request(Phase::Compensate, Phase::Forward, None)),
        ),
        ("undo-done", Fact::UndoDone { ask: undo() }),
        (
            "undo-failed",
            Fact::UndoFailed {
                ask: undo(),
                error: "no answer in time".into(),
                next: Some(at(9_000)),
            },
        ),
        (
            "undo-failed-for-good",
            Fact::UndoFailed {
                ask: undo(),
                error: "no such reservation".into(),
                next: None,
            },
        ),
        ("undo-skipped", Fact::UndoSkipped { ask: undo(), by: by() }),
        (
            "cancel-requested",
            Fact::CancelRequested {
                by: by(),
                pending: false,
            },
        ),
        (
            "cancel-requested-pending",
            Fact::CancelRequested {
                by: by(),
                pending: true,
            },
        ),
        ("deadline-passed", Fact::DeadlinePassed { pending: false }),
        ("deadline-passed-pending", Fact::DeadlinePassed { pending: true }),
        ("parked", parked(None, ParkReason::UnknownDefinition)),
        ("parked-in-doubt", parked(Some(forward()), ParkReason::InDoubt)),
        ("parked-rejected", parked(Some(forward()), ParkReason::Rejected)),
        ("parked-failed", parked(Some(undo()), ParkReason::Failed)),
        ("parked-past-retention", parked(Some(undo()), ParkReason::PastRetention)),
        ("parked-unreadable", parked(Some(forward()), ParkReason::Unreadable)),
        ("parked-code-changed", parked(None, ParkReason::CodeChanged)),
        ("parked-by-operator", parked(None, ParkReason::Operator)),
        ("resumed", Fact::Resumed { by: by() }),
        (
            "completed",
            Fact::Completed {
                last: None,
                finish: finish(None, &[]),
            },
        ),
        (
            "completed-with-last-reply",
            Fact::Completed {
                last: Some((forward(), json(r#"{"parcel":9}"#))),
                finish: finish(None, &[]),
            },
        ),
        (
            "compensated",
            Fact::Compensated(finish(Some("`reserve` was rejected: \"out of stock\""), &[])),
        ),
        (
            "compensated-with-effects-left-behind",
            Fact::Compensated(finish(Some("cancelled by ann: no reason"), &["book", "reserve"])),
        ),
    ]
}

/// The whole event, with all that any event may carry beside its fact.
fn event(fact: Fact) -> SagaEvent {
    let changes = matches!(
        fact,
        Fact::Started { .. }
            | Fact::StepDone { .. }
            | Fact::StepRejected { .. }
            | Fact::Completed { last: Some(_), .. }
    );
    let mut next = ask(Phase::Compensate);
    next.step = "höld".into();
    SagaEvent {
        at: at(0),
        hash: changes.then_some(0xfedc_ba98_7654_3210),
        begun: if changes {
            vec![ask(Phase::Forward), next]
        } else {
            Vec::new()
        },
        fact,
    }
}

fn stored(fact: Fact) -> NewEvent {
    let decided = Decided {
        cause: Uuid::from_u128(0x01a3_185c_5117_8efc_8324_3340_0f82_62c8),
        ordinal: 1,
        event: event(fact),
    };
    encode(&identity(), DIGEST, &decided, PROCESS)
}

fn folder(version: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/core/codec/golden")
        .join(version)
}

/// An event as a file holds it.
fn write(new: &NewEvent) -> Value {
    let payload = std::str::from_utf8(&new.payload).unwrap();
    json!({
        "id": new.id,
        "name": new.name,
        "schema": new.schema,
        "topic": new.topic.as_ref().map(ToString::to_string),
        "key": new.key,
        "correlation": new.correlation,
        "causation": new.causation,
        "headers": new.headers.iter().collect::<std::collections::BTreeMap<_, _>>(),
        "payload": payload,
    })
}
fn read(file: &Value) -> Recorded {
    let text = |field: &str| file[field].as_str().map(str::to_owned);
    let id = |field: &str| text(field).map(|id| id.parse::<Uuid>().unwrap());
    let mut headers = Headers::new();
    for (name, value) in file["headers"].as_object().unwrap() {
        headers.set(name.clone(), value.as_str().unwrap());
    }
    Recorded {
        position: Position(1),
        stream: StreamId::from(identity().stream()),
        version: Version(1),
        at: at(0),
        id: id("id").unwrap(),
        name: text("name").unwrap(),
        schema: file["schema"].as_u64().unwrap().try_into().unwrap(),
        topic: text("topic").map(Into::into),
        key: text("key"),
        correlation: id("correlation"),
        causation: id("causation"),
        headers,
        event: text("payload").unwrap().into(),
    }
}
fn golden(version: &str, name: &str) -> Option<Value> {
    let text = fs::read_to_string(folder(version).join(format!("{name}.json"))).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

#[test]
fn what_is_stored_today_is_what_was_stored_then() {
    for (name, fact) in facts() {
        let (today, path) = (write(&stored(fact)), folder("v1").join(format!("{name}.json")));
        let text = format!("{today:#}\n");
        if !path.exists() && std::env::var("SAGAMILL_GOLDEN").is_ok_and(|say| say == "write") {
            fs::create_dir_all(folder("v1")).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let file = golden("v1", name).unwrap_or_else(|| panic!("{} is missing: {text}", path.display()));
        assert_eq!(file, today, "{name}: a log that is there already holds something else");
    }
}

#[test]
fn what_was_stored_then_makes_today_what_it_made_then() {
    for (name, fact) in facts() {
        let file = golden("v1", name).unwrap_or_else(|| panic!("{name}.json is missing"));
        let entry = SagaEvent::decode(&read(&file)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = Entry {
            identity: identity(),
            process: Some(PROCESS.into()),
            event: event(fact),
        };
        assert_eq!(entry, expected, "{name}");
    }
}

/// A new kind of event has to be among the samples above, and so gets its file.
#[test]
fn each_kind_of_event_has_its_files_and_each_file_its_sample() {
    let source = include_str!("../event.rs");
    let names = |text: &'static str| text.split('"').filter(|part| part.starts_with("saga."));
    let kinds: BTreeSet<&str> = names(source).filter(|name| *name != "saga.aux").collect();
    let samples: BTreeSet<&str> = facts().iter().map(|(_, fact)| fact.name()).collect();
    assert_eq!(kinds, samples, "a kind of event has no sample");
    assert!(kinds.len() >= 17);
    let files = fs::read_dir(folder("v1")).unwrap();
    let files: BTreeSet<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let wanted: BTreeSet<String> = facts().iter().map(|(name, _)| format!("{name}.json")).collect();
    assert_eq!(files, wanted);
    let reasons = include_str!("../event.rs")
        .split("pub enum ParkReason {")
        .nth(1)
        .unwrap();
    let reasons = reasons
        .split('}')
        .next()
        .unwrap()
        .lines()
        .filter(|line| line.trim().ends_with(','))
        .count();
    let sampled: BTreeSet<String> = facts()
        .iter()
        .filter_map(|(_, fact)| match fact {
            Fact::Parked(parked) => Some(format!("{:?}", parked.reason)),
            _ => None,
        })
        .collect();
    assert_eq!(sampled.len(), reasons, "a reason to park has no sample: {sampled:?}");
}

#[test]
fn what_a_later_library_adds_to_an_event_is_passed_over() {
    for (name, fact) in facts() {
        let mut new = stored(fact.clone());
        new.headers.set("sagamill-mood", "good");
        new.headers.set("ce-sagamood", "good");
        let is_the_users = matches!(
            fact,
            Fact::Started { .. }
                | Fact::StepDone { .. }
                | Fact::StepRejected { .. }
                | Fact::StepRequested(_)
                | Fact::UndoRequested(_)
        );
        if !is_the_users {
            let mut content: Value = serde_json::from_slice(&new.payload).unwrap();
            content["mood"] = json!({ "is": "good" });
            new.payload = content.to_string().into();
        }
        let entry = SagaEvent::decode(&read(&write(&new))).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(entry.event, event(fact), "{name}");
    }
}

#[test]
fn an_event_of_a_later_revision_is_refused_whatever_it_is() {
    for (name, fact) in facts() {
        let mut file = golden("v1", name).unwrap();
        file["headers"][header::CORE] = json!((CORE_REV + 1).to_string());
        let refused = SagaEvent::decode(&read(&file));
        assert!(
            matches!(&refused, Err(DecodeError::Newer { rev, .. }) if *rev == CORE_REV + 1),
            "{name}: {refused:?}"
        );
        file["name"] = json!("saga.step-hopped");
        let refused = SagaEvent::decode(&read(&file));
        assert!(matches!(refused, Err(DecodeError::Newer { .. })), "{name}: {refused:?}");
        file["headers"][header::CORE] = json!(CORE_REV.to_string());
        let refused = SagaEvent::decode(&read(&file));
        assert!(matches!(refused, Err(DecodeError::Unknown(_))), "{fact:?}: {refused:?}");
    }
}

/// A fact that is marked changes nothing, wherever it stands: also one that this library would read otherwise, and one
/// whose marks of a later library (a hash, local steps begun) mean nothing here.
#[test]
fn a_fact_that_is_marked_as_aux_is_passed_over() {
    let aux = |name: &str, rev: u32, state: &State| {
        let mut new = stored(Fact::StepDone {
            ask: ask(Phase::Forward),
            reply: json("7"),
        });
        new.name = name.to_owned();
        new.headers.set(header::AUX, "1");
        new.headers.set(header::CORE, rev.to_string());
        SagaEvent::decode(&record(new, state, 0)).unwrap().event
    };
    let definition = saga();
    let mut table = Table::started(definition.clone());
    table.done("reserve", "7").unwrap();
    let middle = table.state.clone();
    let mut table = Table::started(definition.clone()).up_to("charge");
    table.rejected("charge").unwrap();
    table.undone("hold").unwrap();
    table.undone("reserve").unwrap();
    assert!(matches!(table.state.status, Status::Compensated { .. }));
    for state in [middle, table.state] {
        for (name, rev) in [("saga.commented", 1), ("saga.commented", 9), ("saga.step-done", 9)] {
            let event = aux(name, rev, &state);
            assert_eq!(event.fact, Fact::Aux { name: name.to_owned() });
            let mut after = state.clone();
            apply(definition.plan(), &mut after, &event).unwrap();
            let expected = State {
                version: state.version + 1,
                updated_at: event.at,
                ..state.clone()
            };
            assert_eq!(after, expected);
        }
    }
    let mut unborn = State::new(definition.plan(), "42");
    let event = aux("saga.commented", 1, &unborn);
    let first = apply(definition.plan(), &mut unborn, &event);
    assert!(
        matches!(first, Err(LoadError::Illegal(_))),
        "a saga begins with its start: {first:?}"
    );
}
