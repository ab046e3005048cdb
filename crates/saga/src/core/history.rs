//! A saga's past as a person reads it, from its events alone: no definition is needed.

use jiff::Timestamp;
use serde::Serialize;

use super::{Ask, Doubt, Entry, Fact, Phase, Plan, Summary, UndoPlan};

/// What became of each step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct History {
    /// Where the saga is.
    #[serde(flatten)]
    pub summary: Summary,
    /// Its steps in the order in which they were first named.
    pub steps: Vec<StepHistory>,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepHistory {
    /// Its name.
    pub name: String,
    /// Its stage, from 0.
    pub stage: u32,
    /// `waiting`, `asked`, `unknown`, `done`, `rejected`, `not-needed`, `skipped` or `parked`.
    pub state: &'static str,
    /// When its next try is due, or its wait ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// Its tries.
    pub attempts: Vec<AttemptHistory>,
    /// Its undo, as far as one was asked or is to be expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo: Option<UndoHistory>,
}

/// What became of a step's undo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UndoHistory {
    /// `possible`, `asked`, `unknown`, `undone`, `left` or `parked`.
    pub state: &'static str,
    /// When its next try is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// Its tries.
    pub attempts: Vec<AttemptHistory>,
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttemptHistory {
    /// Which, from 1.
    pub n: u32,
    /// When it began.
    pub from: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// `asked`, `done`, `rejected`, `timed-out` or `failed`.
    pub outcome: &'static str,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl AttemptHistory {
    /// How long it took, in whole milliseconds; none: it has not ended.
    pub fn ms(&self) -> Option<i64> {
        self.to.map(|to| to.as_millisecond() - self.from.as_millisecond())
    }
}

impl StepHistory {
    /// From its first ask to its last answer, in whole milliseconds; none: it has no answer.
    pub fn ms(&self) -> Option<i64> {
        let (first, last) = (self.attempts.first()?, self.attempts.last()?);
        Some(last.to?.as_millisecond() - first.from.as_millisecond())
    }
}

impl History {
    /// Folds one more event in; none: the saga's first.
    pub fn fold(history: Option<Self>, entry: &Entry) -> Self {
        let (summary, steps) = match history {
            Some(history) => (Some(history.summary), history.steps),
            None => (None, Vec::new()),
        };
        let mut history = Self {
            summary: Summary::fold(summary, entry),
            steps,
        };
        if let Some(ask) = entry.event.fact.ask() {
            history.take(ask, &entry.event.fact, entry.event.at);
        }
        for ask in &entry.event.begun {
            history.step(ask).begin(ask, entry.event.at, None);
        }
        history
    }
    /// Adds the steps still to come, and which undos are possible.
    pub fn expect(&mut self, plan: &Plan) {
        for step in &plan.steps {
            let index = self
                .steps
                .iter()
                .position(|known| step.is_named(&known.name))
                .unwrap_or_else(|| {
                    self.steps.push(StepHistory::new(&step.name, step.group));
                    self.steps.len() - 1
                });
            if self.steps[index].undo.is_none() && !matches!(step.undo, UndoPlan::None) {
                self.steps[index].undo = Some(UndoHistory {
                    state: "possible",
                    due: None,
                    attempts: Vec::new(),
                });
            }
        }
        self.steps.sort_by_key(|step| plan.index(&step.name));
    }
    fn step(&mut self, ask: &Ask) -> &mut StepHistory {
        let index = self
            .steps
            .iter()
            .position(|step| step.name == *ask.step)
            .unwrap_or_else(|| {
                self.steps.push(StepHistory::new(&ask.step, ask.group));
                self.steps.len() - 1
            });
        &mut self.steps[index]
    }
    fn take(&mut self, ask: &Ask, fact: &Fact, at: Timestamp) {
        let step = self.step(ask);
        match fact {
            Fact::StepRequested(request) | Fact::UndoRequested(request) => step.begin(ask, at, Some(request.due)),
            Fact::StepWaiting { until, .. } => step.begin(ask, at, *until),
            Fact::StepDone { .. } | Fact::Completed { .. } => step.end(ask, at, "done", "done", None),
            Fact::StepRejected { .. } => step.end(ask, at, "rejected", "rejected", None),
            Fact::StepTimedOut { error, then, .. } => {
                step.end(ask, at, "unknown", "timed-out", error.clone());
                if let Doubt::Ask(next) = then {
                    step.due = Some(*next);
                }
            }
            Fact::StepSkipped { by: None, .. } => step.state = "not-needed",
            Fact::StepSkipped { by: Some(_), .. } => step.state = "skipped",
            Fact::UndoDone { .. } => step.end(ask, at, "undone", "done", None),
            Fact::UndoFailed { error, next, .. } => {
                step.end(ask, at, "unknown", "failed", Some(error.clone()));
                step.undo().due = *next;
            }
            Fact::UndoSkipped { .. } => step.undo().state = "left",
            Fact::Parked(_) => match ask.phase {
                // A rejection stays one: it is the reason.
                Phase::Forward if step.state == "rejected" => {}
                Phase::Forward => step.state = "parked",
                Phase::Compensate => step.undo().state = "parked",
            },
            _ => {}
        }
    }
}

impl StepHistory {
    fn new(name: &str, stage: u32) -> Self {
        Self {
            name: name.to_owned(),
            stage,
            state: "waiting",
            due: None,
            attempts: Vec::new(),
            undo: None,
        }
    }
    fn undo(&mut self) -> &mut UndoHistory {
        self.undo.get_or_insert(UndoHistory {
            state: "asked",
            due: None,
            attempts: Vec::new(),
        })
    }
    fn phase(&mut self, phase: Phase) -> (&mut &'static str, &mut Option<Timestamp>, &mut Vec<AttemptHistory>) {
        match phase {
            Phase::Forward => (&mut self.state, &mut self.due, &mut self.attempts),
            Phase::Compensate => {
                let undo = self.undo();
                (&mut undo.state, &mut undo.due, &mut undo.attempts)
            }
        }
    }
    fn begin(&mut self, ask: &Ask, at: Timestamp, until: Option<Timestamp>) {
        let (state, due, attempts) = self.phase(ask.phase);
        (*state, *due) = ("asked", until);
        attempts.push(AttemptHistory {
            n: ask.attempt,
            from: at,
            to: None,
            outcome: "asked",
            error: None,
        });
    }
    fn end(&mut self, ask: &Ask, at: Timestamp, now: &'static str, outcome: &'static str, error: Option<String>) {
        let (state, due, attempts) = self.phase(ask.phase);
        // A local step is tried again without an event that says so: it began when its try was due.
        let from = due.take().unwrap_or(at).min(at);
        *state = now;
        let attempt = match attempts.iter().rposition(|attempt| attempt.n == ask.attempt) {
            Some(index) => &mut attempts[index],
            None => {
                attempts.push(AttemptHistory {
                    n: ask.attempt,
                    from,
                    to: None,
                    outcome,
                    error: None,
                });
                let last = attempts.len() - 1;
                &mut attempts[last]
            }
        };
        attempt.to = Some(at);
        attempt.outcome = outcome;
        attempt.error = error;
    }
}
