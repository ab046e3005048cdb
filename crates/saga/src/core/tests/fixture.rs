//! A saga of four commands and the hands to play it: every event is stored and read again on its way.

use bytes::Bytes;
use jiff::Timestamp;
use sagamill_eventstore::{NewEvent, Position, Recorded, StreamId, Version};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Command, Definition, Never, Saga, call,
    core::{
        Ask, By, Decision, Entry, Fact, Input, InputKind, NoOp, Phase, Plan, Reported, SagaEvent, State, load, react,
    },
};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) sku: String,
    pub(super) reservation: u64,
    pub(super) notes: Vec<String>,
}

macro_rules! commands {
    ($($command:ident $name:literal $reply:ty, $rejection:ty;)*) => {$(
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct $command(pub(super) String);
        impl Command for $command {
            const NAME: &'static str = $name;
            type Reply = $reply;
            type Rejection = $rejection;
        }
    )*};
}
commands! {
    Reserve "inventory.reserve" u64, String;
    Release "inventory.release" (), Never;
    Notify "mail.notify" (), String;
    Charge "payment.charge" (), String;
    Ship "shipping.ship" String, String;
}

/// reserve, hold, notify, the pivot charge, ship: undo by the participant, by another command, none.
pub(super) fn saga() -> Definition<Order> {
    Saga::define("place-order")
        .deadline(std::time::Duration::from_mins(10))
        .step(
            "reserve",
            call(|order: &Order| Reserve(order.sku.clone()))
                .on_reply(|order, id| order.reservation = id)
                .undo(),
        )
        .step(
            "hold",
            call(|order: &Order| Reserve(format!("{}-gift", order.sku)))
                .on_rejection(|order, why| order.notes.push(why))
                .undo_with(|_, id| Release(id.to_string())),
        )
        .step("notify", call(|order: &Order| Notify(order.sku.clone())).no_undo())
        .pivot("charge", call(|order: &Order| Charge(order.reservation.to_string())))
        .step(
            "ship",
            call(|order: &Order| Ship(order.sku.clone())).on_reply(|order, parcel| order.notes.push(parcel)),
        )
        .build()
}

/// A saga on the table: its stored events and the state they make.
pub(super) struct Table {
    pub(super) definition: Definition<Order>,
    pub(super) state: State,
    pub(super) stored: Vec<Recorded>,
    pub(super) now: Timestamp,
    causes: u128,
}

pub(super) fn by() -> By {
    By {
        actor: "ann".into(),
        reason: "the customer called".into(),
    }
}

impl Table {
    pub(super) fn new(definition: Definition<Order>) -> Self {
        let state = State::new(definition.plan(), "42");
        let now = Timestamp::from_millisecond(1_700_000_000_000).unwrap();
        Self {
            definition,
            state,
            stored: Vec::new(),
            now,
            causes: 0,
        }
    }
    pub(super) fn started(definition: Definition<Order>) -> Self {
        let mut table = Self::new(definition);
        let input = serde_json::to_vec(&Order {
            sku: "tea".into(),
            ..Order::default()
        })
        .unwrap();
        table.say(InputKind::Start { input: input.into() }).unwrap();
        table
    }
    pub(super) fn plan(&self) -> &Plan {
        self.definition.plan()
    }
    pub(super) fn input(&mut self, kind: InputKind) -> Input {
        self.causes += 1;
        Input {
            cause: Uuid::from_u128(self.causes),
            now: self.now,
            kind,
        }
    }
    /// One input: the names of the events that follow.
    pub(super) fn say(&mut self, kind: InputKind) -> Result<Vec<&'static str>, NoOp> {
        let input = self.input(kind);
        self.take(&[input])
    }
    pub(super) fn take(&mut self, inputs: &[Input]) -> Result<Vec<&'static str>, NoOp> {
        let decision = react(self.definition.plan(), &self.state, inputs).unwrap();
        if let Some((_, noop)) = decision.noops.first() {
            assert_eq!(decision.events, [], "a no-op decides nothing");
            assert_eq!(decision.next, self.state);
            return Err(*noop);
        }
        let names = decision
            .events
            .iter()
            .map(|decided| decided.event.fact.name())
            .collect();
        self.store(&decision);
        Ok(names)
    }
    fn store(&mut self, decision: &Decision) {
        for new in decision.encode("test") {
            self.stored.push(record(new, &self.state, self.stored.len()));
        }
        let events = self.events();
        assert_eq!(
            events[events.len() - decision.events.len()..],
            decision
                .events
                .iter()
                .map(|decided| decided.event.clone())
                .collect::<Vec<_>>(),
            "events are read as they were decided"
        );
        self.state = load(self.definition.plan(), "42", &events).unwrap();
        assert_eq!(
            self.state, decision.next,
            "the fold of what is stored is the state that was decided"
        );
    }
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.stored
            .iter()
            .map(|recorded| SagaEvent::decode(recorded).unwrap())
            .collect()
    }
    pub(super) fn events(&self) -> Vec<SagaEvent> {
        self.entries().into_iter().map(|entry| entry.event).collect()
    }
    pub(super) fn names(&self) -> Vec<&str> {
        self.stored
            .iter()
            .map(|recorded| recorded.name.strip_prefix("saga.").unwrap())
            .collect()
    }
    /// The last ask of a step.
    pub(super) fn ask(&self, step: &str, phase: Phase) -> Ask {
        let index = self.plan().index(step).unwrap();
        self.state.ask(&self.plan().steps[index], index, phase)
    }
    pub(super) fn answer(&mut self, step: &str, phase: Phase, reported: Reported) -> Result<Vec<&'static str>, NoOp> {
        let ask = self.ask(step, phase);
        self.say(InputKind::Answer { ask, reported })
    }
    pub(super) fn done(&mut self, step: &str, reply: &str) -> Result<Vec<&'static str>, NoOp> {
        self.answer(
            step,
            Phase::Forward,
            Reported::Done(Bytes::copy_from_slice(reply.as_bytes())),
        )
    }
    pub(super) fn rejected(&mut self, step: &str) -> Result<Vec<&'static str>, NoOp> {
        self.answer(step, Phase::Forward, Reported::Rejected(Bytes::from_static(b"\"no\"")))
    }
    pub(super) fn undone(&mut self, step: &str) -> Result<Vec<&'static str>, NoOp> {
        self.answer(step, Phase::Compensate, Reported::Done(Bytes::from_static(b"null")))
    }
    /// The step's timer fires: its answer is late, or its next try is due.
    pub(super) fn fire(&mut self, step: &str) -> Result<Vec<&'static str>, NoOp> {
        let timer = self
            .state
            .timers(self.plan())
            .into_iter()
            .find(|timer| timer.step.as_ref().is_some_and(|(name, ..)| &**name == step));
        let timer = timer.unwrap_or_else(|| panic!("`{step}` waits for no timer"));
        let (step, phase, attempt) = timer.step.unwrap();
        self.now = self.now.max(timer.due);
        self.say(InputKind::TimerFired {
            step: step.to_string(),
            phase,
            attempt,
            due: timer.due,
        })
    }
    pub(super) fn cancel(&mut self) -> Result<Vec<&'static str>, NoOp> {
        self.say(InputKind::Cancel { by: by(), seen: None })
    }
    pub(super) fn resume(&mut self) -> Result<Vec<&'static str>, NoOp> {
        self.say(InputKind::Resume { by: by(), seen: None })
    }
    /// Plays the steps before this one to their good ends.
    pub(super) fn up_to(mut self, step: &str) -> Self {
        for (name, reply) in [("reserve", "7"), ("hold", "8"), ("notify", "null"), ("charge", "null")] {
            if name == step {
                break;
            }
            self.done(name, reply).unwrap();
        }
        self
    }
    pub(super) fn request(&self, nth_from_last: usize) -> crate::core::Request {
        match self.events().into_iter().rev().nth(nth_from_last).unwrap().fact {
            Fact::StepRequested(request) | Fact::UndoRequested(request) => request,
            fact => panic!("{} is no request", fact.name()),
        }
    }
}

/// What a log would store.
pub(super) fn record(new: NewEvent, state: &State, before: usize) -> Recorded {
    let version = i64::try_from(before).unwrap() + 1;
    Recorded {
        position: Position(version),
        stream: StreamId::from(state.identity.stream()),
        version: Version(version),
        at: Timestamp::UNIX_EPOCH,
        id: new.id,
        name: new.name,
        schema: new.schema,
        topic: new.topic,
        key: new.key,
        correlation: new.correlation,
        causation: new.causation,
        headers: new.headers,
        event: new.payload,
    }
}
