//! One saga, played by hand.

use std::{fmt::Debug, marker::PhantomData, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    Command, Definition,
    core::{
        Ask, By, Content, Fact, Input, InputKind, Phase, Plan, Reported, SagaEvent, State, Status, StepStatus, react,
    },
    step::Data,
};

/// Plays one saga by hand: each call says what the saga is expected to do next, and what becomes of it.
///
/// Every method panics where the saga does something else, and prints what has happened to it.
#[must_use = "a test ends in `.completed()`, `.compensated()` or `.parked()`"]
pub struct SagaTest<S> {
    table: Table,
    state: PhantomData<fn() -> S>,
}

struct Table {
    plan: Arc<Plan>,
    state: State,
    events: Vec<SagaEvent>,
    now: Timestamp,
    inputs: u128,
}

impl<S> Debug for SagaTest<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&history(&self.table.events))
    }
}

impl<S: Data> SagaTest<S> {
    /// Starts a saga with this state.
    ///
    /// # Panics
    /// The definition has problems.
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "whoever starts a saga gives its state away"
    )]
    pub fn start(definition: Definition<S>, input: S) -> Self {
        if let Err(error) = definition.check() {
            panic!("{error}");
        }
        let plan = Arc::clone(definition.plan());
        let mut table = Table {
            state: State::new(&plan, "test"),
            plan,
            events: Vec::new(),
            now: Timestamp::UNIX_EPOCH,
            inputs: 0,
        };
        let input = serde_json::to_vec(&input).expect("invariant: the state of a saga can be written as JSON");
        table.say(InputKind::Start { input: input.into() });
        Self {
            table,
            state: PhantomData,
        }
    }
    /// The saga asks this.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "a command is given away")]
    pub fn expect<C: Command + PartialEq + Debug>(self, command: C) -> Asked<S, C> {
        let open = self.table.open(C::NAME, Phase::Forward);
        let Some((ask, content)) = open else {
            self.table.fail(&format!("the saga does not ask {command:?}"));
        };
        let asked: C = match serde_json::from_slice(&content.payload) {
            Ok(asked) => asked,
            Err(error) => self
                .table
                .fail(&format!("`{}` is asked with another content: {error}", C::NAME)),
        };
        if asked != command {
            self.table.fail(&format!("the saga asks {asked:?}, not {command:?}"));
        }
        Asked {
            test: self,
            ask,
            command: PhantomData,
        }
    }
    /// The saga asks its participant to undo this command; it is undone.
    #[track_caller]
    pub fn expect_undo<C: Command>(mut self) -> Self {
        let Some((ask, _)) = self.table.open(C::NAME, Phase::Compensate) else {
            self.table
                .fail(&format!("the saga does not ask that `{}` be undone", C::NAME));
        };
        self.table.answer(ask, Reported::Done(Bytes::from_static(b"null")));
        self
    }
    /// The saga runs this local step, which replies so.
    #[track_caller]
    pub fn local(mut self, step: &str, reply: impl Serialize) -> Self {
        let ask = self.table.local(step, Phase::Forward);
        self.table.answer(ask, Reported::Done(json(&reply)));
        self
    }
    /// The saga runs this local step, which rejects it so.
    #[track_caller]
    pub fn local_rejected(mut self, step: &str, rejection: impl Serialize) -> Self {
        let ask = self.table.local(step, Phase::Forward);
        self.table.answer(ask, Reported::Rejected(json(&rejection)));
        self
    }
    /// The saga runs the undo of this local step; it is undone.
    #[track_caller]
    pub fn local_undo(mut self, step: &str) -> Self {
        let ask = self.table.local(step, Phase::Compensate);
        self.table.answer(ask, Reported::Done(Bytes::from_static(b"null")));
        self
    }
    /// Somebody cancels the saga.
    #[track_caller]
    pub fn cancel(mut self, reason: &str) -> Self {
        self.table.say(InputKind::Cancel {
            by: operator(reason),
            seen: None,
        });
        self
    }
    /// The saga's deadline passes.
    #[track_caller]
    pub fn deadline(mut self) -> Self {
        let Some(deadline) = self.table.state.deadline else {
            self.table.fail("the saga has no deadline");
        };
        self.table.now = self.table.now.max(deadline);
        self.table.say(InputKind::DeadlineFired);
        self
    }
    /// An operator lets the parked saga go on.
    #[track_caller]
    pub fn resume(mut self, reason: &str) -> Self {
        self.table.say(InputKind::Resume {
            by: operator(reason),
            seen: None,
        });
        self
    }
    /// Each step is done: the saga's last state.
    #[track_caller]
    pub fn completed(self) -> S {
        match self.table.state.status {
            Status::Completed => self.memory(),
            _ => self.table.fail("the saga is not completed"),
        }
    }
    /// What had been done has been undone: the saga's last state.
    #[track_caller]
    pub fn compensated(self) -> S {
        match self.table.state.status {
            Status::Compensated { .. } => self.memory(),
            _ => self.table.fail("the saga is not compensated"),
        }
    }
    /// The saga waits for an operator: the reason.
    #[track_caller]
    pub fn parked(self) -> String {
        match &self.table.state.status {
            Status::Parked(parked) => parked.text.clone(),
            _ => self.table.fail("the saga is not parked"),
        }
    }
    fn memory(&self) -> S {
        let memory = self
            .table
            .state
            .memory
            .as_ref()
            .expect("invariant: a started saga has a memory");
        memory.of::<S>().clone()
    }
}

impl Table {
    #[track_caller]
    fn say(&mut self, kind: InputKind) {
        self.inputs += 1;
        let input = Input {
            cause: Uuid::from_u128(self.inputs),
            now: self.now,
            kind,
        };
        match react(&self.plan, &self.state, &[input]) {
            Ok(decision) => match decision.noops.first() {
                Some((_, noop)) => self.fail(&format!("the saga does nothing about it: {noop:?}")),
                None => {
                    self.events
                        .extend(decision.events.into_iter().map(|decided| decided.event));
                    self.state = decision.next;
                }
            },
            Err(error) => self.fail(&format!("the saga cannot decide: {error}")),
        }
    }
    #[track_caller]
    fn answer(&mut self, ask: Ask, reported: Reported) {
        self.say(InputKind::Answer { ask, reported });
    }
    /// The ask of this command that waits for an answer.
    fn open(&self, command: &str, travels_as: Phase) -> Option<(Ask, Arc<Content>)> {
        (0..self.plan.steps.len()).find_map(|index| {
            let (plan, step) = (&self.plan.steps[index], &self.state.steps[index]);
            let (phase, content, travels) = match step.status {
                StepStatus::Asked { .. } => (Phase::Forward, step.content.as_ref()?, Phase::Forward),
                StepStatus::Undoing { .. } if step.undo_effect == step.effect => {
                    (Phase::Compensate, step.undo_content.as_ref()?, Phase::Compensate)
                }
                StepStatus::Undoing { .. } => (Phase::Compensate, step.undo_content.as_ref()?, Phase::Forward),
                _ => return None,
            };
            let fits = travels == travels_as && &*content.command == command;
            fits.then(|| (self.state.ask(plan, index, phase), Arc::clone(content)))
        })
    }
    #[track_caller]
    fn local(&self, step: &str, phase: Phase) -> Ask {
        let mut work = self.state.local_work(&self.plan).into_iter();
        match work.find(|work| &*work.ask.step == step && work.ask.phase == phase) {
            Some(work) => work.ask,
            None if phase == Phase::Forward => self.fail(&format!("the saga does not run `{step}`")),
            None => self.fail(&format!("the saga does not undo `{step}`")),
        }
    }
    /// The step's answer is late; if it is to be asked again, it is.
    #[track_caller]
    fn unknown(&mut self, ask: &Ask) {
        for _ in 0..2 {
            let timers = self.state.timers(&self.plan);
            let timer = timers.into_iter().find_map(|timer| {
                let (step, phase, attempt) = timer.step?;
                (step == ask.step && phase == ask.phase && attempt == ask.attempt).then_some((attempt, timer.due))
            });
            let Some((attempt, due)) = timer else { return };
            self.now = self.now.max(due);
            self.say(InputKind::TimerFired {
                step: ask.step.to_string(),
                phase: ask.phase,
                attempt,
                due,
            });
        }
    }
    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        let why = crate::core::why(&self.plan, &self.state, self.now);
        panic!(
            "{what}\n{}: {}\nwhat has happened:\n{}",
            why.head,
            why.text,
            history(&self.events)
        )
    }
}

/// A command that waits for its answer.
#[must_use = "say what becomes of it: `.done(..)`, `.rejected(..)` or `.unknown()`"]
pub struct Asked<S, C> {
    test: SagaTest<S>,
    ask: Ask,
    command: PhantomData<fn() -> C>,
}

impl<S, C: Command> Debug for Asked<S, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {:?}", C::NAME, self.ask)
    }
}

impl<S: Data, C: Command> Asked<S, C> {
    /// It is done.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "an answer is given away")]
    pub fn done(mut self, reply: C::Reply) -> SagaTest<S> {
        self.test.table.answer(self.ask, Reported::Done(json(&reply)));
        self.test
    }
    /// It is refused.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "an answer is given away")]
    pub fn rejected(mut self, rejection: C::Rejection) -> SagaTest<S> {
        self.test.table.answer(self.ask, Reported::Rejected(json(&rejection)));
        self.test
    }
    /// It cannot succeed, and the participant says so.
    #[track_caller]
    pub fn failed(mut self, error: &str) -> SagaTest<S> {
        self.test.table.answer(self.ask, Reported::Failed(error.to_owned()));
        self.test
    }
    /// No answer comes in time. If the step is asked again, it is.
    #[track_caller]
    pub fn unknown(mut self) -> SagaTest<S> {
        self.test.table.unknown(&self.ask);
        self.test
    }
}

fn operator(reason: &str) -> By {
    By {
        actor: "test".to_owned(),
        reason: reason.to_owned(),
    }
}

fn json<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value)
        .expect("invariant: a reply can be written as JSON")
        .into()
}

/// What has happened, line by line.
pub(super) fn history(events: &[SagaEvent]) -> String {
    let line = |(index, event): (usize, &SagaEvent)| {
        let begun: Vec<_> = event
            .begun
            .iter()
            .map(|ask| format!("{} {}", ask.phase, ask.step))
            .collect();
        let begun = if begun.is_empty() {
            String::new()
        } else {
            format!(" -> {}", begun.join(", "))
        };
        let command = match &event.fact {
            Fact::StepRequested(request) | Fact::UndoRequested(request) => {
                format!(
                    " {} {}",
                    request.content.command,
                    String::from_utf8_lossy(&request.content.payload)
                )
            }
            _ => String::new(),
        };
        format!(
            "{:>4} {} {}{command}{begun}\n",
            index + 1,
            event.at,
            event.fact.describe()
        )
    };
    events.iter().enumerate().map(line).collect()
}
