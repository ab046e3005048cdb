//! Where a saga is: the fold of its events.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Ask, Content, Identity, Memory, ParkReason, Parked, Phase, Plan, StepKind, UndoPlan};
use crate::step::LocalRun;

/// Where a saga is.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Which saga. Its `instance` is nil before the start.
    pub identity: Identity,
    /// How many events are folded in: the version of its stream.
    pub version: i64,
    /// Whether it runs.
    pub status: Status,
    /// Which way it goes.
    pub direction: Direction,
    /// Its steps, as in [`Plan::steps`].
    pub steps: Vec<StepState>,
    /// By which names it knows its steps: those of the shape that it was started by, which may have others by now.
    pub names: Arc<[Arc<str>]>,
    /// What it remembers; none before the start.
    pub memory: Option<Memory>,
    /// The hash of the state it was started with: tells two starts of one key apart.
    pub input_hash: u64,
    /// The digest of the definition it was started by.
    pub digest: u64,
    /// When it started.
    pub started_at: Timestamp,
    /// When its last event was decided.
    pub updated_at: Timestamp,
    /// When it will be undone if it is not past its pivot.
    pub deadline: Option<Timestamp>,
    /// The deadline has passed.
    pub deadline_passed: bool,
    /// Somebody wanted it undone past the point of no return.
    pub cancel_pending: Option<String>,
}

/// Whether a saga runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// It has no event yet.
    New,
    /// It goes on by itself.
    Running,
    /// It waits for an operator.
    Parked(Parked),
    /// Each step is done.
    Completed,
    /// What had been done has been undone, but for what is left behind.
    Compensated {
        /// Steps whose effect is still there.
        left_behind: Vec<String>,
    },
}

/// Which way a saga goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Direction {
    /// From step to step.
    Forward,
    /// Back.
    Unwind {
        /// What for.
        reason: String,
    },
}

/// Where a step is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepState {
    /// Whether it was asked, done, undone.
    pub status: StepStatus,
    /// Which run, from 1.
    pub iteration: u32,
    /// Which round, from 1.
    pub round: u32,
    /// How often it was asked in this round.
    pub attempt: u32,
    /// How often its undo was asked.
    pub undo_attempt: u32,
    /// The key of the barrier, once it was asked.
    pub effect: Option<Uuid>,
    /// The key under which its undo travels, once that was asked: another one than `effect` where another command undoes.
    pub undo_effect: Option<Uuid>,
    /// What was asked.
    pub content: Option<Arc<Content>>,
    /// What was asked to undo it.
    pub undo_content: Option<Arc<Content>>,
    /// What it replied, JSON.
    pub reply: Option<Bytes>,
    /// When this effect was first asked.
    pub first_asked: Option<Timestamp>,
    /// When it, or its undo, was last asked, answered or skipped.
    pub updated_at: Option<Timestamp>,
    /// What went wrong last.
    pub error: Option<String>,
}

/// Whether a step was asked, done, undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StepStatus {
    /// Its turn has not come.
    Waiting,
    /// Its condition was false: there is nothing to undo.
    Skipped,
    /// Asked; an answer is late after `due` (none: a local step, or a wait without end).
    Asked {
        /// When an answer is late.
        due: Option<Timestamp>,
    },
    /// No answer in time, or an error: asked again at `next`.
    Unknown {
        /// When it is asked again.
        next: Timestamp,
    },
    /// No answer, and not asked again by itself.
    Doubtful,
    /// The effect is there.
    Done,
    /// An operator took it for done: it is not known whether the effect is there.
    Overridden,
    /// Refused: there is no effect.
    Rejected,
    /// The undo is asked.
    Undoing {
        /// When an answer is late; none: a local undo.
        due: Option<Timestamp>,
    },
    /// The undo gave no answer or an error: asked again at `next`.
    UndoUnknown {
        /// When it is asked again.
        next: Timestamp,
    },
    /// The undo cannot succeed by itself.
    UndoStuck,
    /// The effect is gone, or never was.
    Undone,
    /// An operator left the effect where it is.
    Left,
}

/// A time at which an input is due. Wanted as long as the state says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// The step it belongs to; none: the saga's deadline.
    pub step: Option<(Arc<str>, Phase, u32)>,
    /// When.
    pub due: Timestamp,
}

/// A function of this process that is to be run now. Wanted as long as the state says so.
#[derive(Clone)]
pub struct LocalWork {
    /// Which ask; its answer echoes it.
    pub ask: Ask,
    /// The function.
    pub run: Arc<dyn LocalRun>,
    /// Not before this time: it is tried again.
    pub not_before: Option<Timestamp>,
    /// How long it may take.
    pub timeout: std::time::Duration,
    /// Of an undo: what its step replied, where the coordinator knows it. Forward steps take the saga's memory.
    pub reply: Option<Bytes>,
}

impl std::fmt::Debug for LocalWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalWork")
            .field("ask", &self.ask)
            .field("not_before", &self.not_before)
            .finish_non_exhaustive()
    }
}

impl State {
    /// A saga of this definition and key that has no event yet.
    pub fn new(plan: &Plan, key: &str) -> Self {
        Self {
            identity: Identity {
                instance: Uuid::nil(),
                definition: Arc::clone(&plan.name),
                version: plan.version,
                key: key.into(),
            },
            version: 0,
            status: Status::New,
            direction: Direction::Forward,
            steps: vec![StepState::default(); plan.steps.len()],
            names: plan.steps.iter().map(|step| step.name.clone()).collect(),
            memory: None,
            input_hash: 0,
            digest: plan.digest,
            started_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            deadline: None,
            deadline_passed: false,
            cancel_pending: None,
        }
    }
    /// Whether nothing will happen to it any more.
    pub fn is_ended(&self) -> bool {
        matches!(self.status, Status::Completed | Status::Compensated { .. })
    }
    /// Whether it goes on by itself.
    pub fn is_running(&self) -> bool {
        self.status == Status::Running
    }
    /// Whether it is parked for no other reason than that nobody knew its definition.
    pub(crate) fn waits_for_its_definition(&self) -> bool {
        matches!(&self.status, Status::Parked(parked) if parked.reason == ParkReason::UnknownDefinition)
    }
    /// Whether it goes back.
    pub fn is_unwinding(&self) -> bool {
        matches!(self.direction, Direction::Unwind { .. })
    }
    /// Whether its pivot was asked (or passed over) and not rejected: no way back from there.
    pub fn is_past_return(&self, plan: &Plan) -> bool {
        plan.pivot
            .is_some_and(|pivot| !matches!(self.steps[pivot].status, StepStatus::Waiting | StepStatus::Rejected))
    }
    /// The timers it wants.
    pub fn timers(&self, plan: &Plan) -> Vec<Timer> {
        let mut timers = Vec::new();
        if self.is_ended() || self.status == Status::New {
            return timers;
        }
        if let Some(due) = self.deadline
            && !self.deadline_passed
            && !self.is_unwinding()
        {
            timers.push(Timer { step: None, due });
        }
        if self.is_running() {
            timers.extend((0..self.steps.len()).filter_map(|index| self.step_timer(plan, index)));
        }
        timers
    }
    fn step_timer(&self, plan: &Plan, index: usize) -> Option<Timer> {
        let (step, plan) = (&self.steps[index], &plan.steps[index]);
        let (phase, attempt, due) = match step.status {
            StepStatus::Asked { due } if self.is_live(plan) => (Phase::Forward, step.attempt, due?),
            StepStatus::Unknown { next } if self.is_live(plan) && !plan.is_local() => {
                (Phase::Forward, step.attempt, next)
            }
            StepStatus::Undoing { due } => (Phase::Compensate, step.undo_attempt, due?),
            StepStatus::UndoUnknown { next } if !matches!(plan.undo, UndoPlan::Local(_)) => {
                (Phase::Compensate, step.undo_attempt, next)
            }
            _ => return None,
        };
        Some(Timer {
            step: Some((Arc::clone(&self.names[index]), phase, attempt)),
            due,
        })
    }
    /// What is to be run in this process now. Empty while it is parked.
    pub fn local_work(&self, plan: &Plan) -> Vec<LocalWork> {
        if !self.is_running() {
            return Vec::new();
        }
        (0..self.steps.len())
            .filter_map(|index| self.step_work(plan, index))
            .collect()
    }
    fn step_work(&self, plan: &Plan, index: usize) -> Option<LocalWork> {
        let (step, plan) = (&self.steps[index], &plan.steps[index]);
        let (phase, not_before) = match step.status {
            StepStatus::Asked { .. } if self.is_live(plan) => (Phase::Forward, None),
            StepStatus::Unknown { next } if self.is_live(plan) => (Phase::Forward, Some(next)),
            StepStatus::Undoing { .. } => (Phase::Compensate, None),
            StepStatus::UndoUnknown { next } => (Phase::Compensate, Some(next)),
            _ => return None,
        };
        let ((Phase::Forward, StepKind::Local { run, .. }, _) | (Phase::Compensate, _, UndoPlan::Local(run))) =
            (phase, &plan.kind, &plan.undo)
        else {
            return None;
        };
        let mut ask = self.ask(plan, index, phase);
        ask.attempt += u32::from(not_before.is_some());
        let reply = step.reply.clone().filter(|_| phase == Phase::Compensate);
        Some(LocalWork {
            ask,
            run: Arc::clone(run),
            not_before,
            timeout: plan.timeout,
            reply,
        })
    }
    /// Whether the step's own answer still matters: while it unwinds, only where its undo needs the reply.
    pub(crate) fn is_live(&self, plan: &super::StepPlan) -> bool {
        !self.is_unwinding() || plan.undo_needs_reply()
    }
    /// The ask that stands open, or stood last; nil in place of an effect that was never asked.
    pub(crate) fn ask(&self, plan: &super::StepPlan, index: usize, phase: Phase) -> Ask {
        let step = &self.steps[index];
        let (attempt, effect) = match phase {
            Phase::Forward => (step.attempt, step.effect),
            Phase::Compensate => (step.undo_attempt, step.undo_effect.or(step.effect)),
        };
        Ask {
            step: Arc::clone(&self.names[index]),
            phase,
            group: plan.group,
            iteration: step.iteration,
            round: step.round,
            attempt,
            effect: effect.unwrap_or_default(),
        }
    }
}

impl Default for StepState {
    fn default() -> Self {
        Self {
            status: StepStatus::Waiting,
            iteration: 1,
            round: 1,
            attempt: 0,
            undo_attempt: 0,
            effect: None,
            undo_effect: None,
            content: None,
            undo_content: None,
            reply: None,
            first_asked: None,
            updated_at: None,
            error: None,
        }
    }
}
