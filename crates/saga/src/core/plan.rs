//! A definition with its types erased: what the core decides by.

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use sagamill_bus::Retry;

use super::{Content, Memory, digest::Names};
use crate::step::LocalRun;

/// A definition with its types erased. Cheap to share, never changed.
#[derive(Debug)]
pub struct Plan {
    /// The definition's name.
    pub name: Arc<str>,
    /// Its version.
    pub version: u32,
    /// How long a saga may take from its start until it is undone; none: as long as it takes.
    pub deadline: Option<Duration>,
    /// How long participants remember effects. Nothing is asked or undone for an effect first asked longer ago.
    pub barrier_retention: Duration,
    /// What runs one after the other.
    pub stages: Vec<Stage>,
    /// All steps, stage by stage.
    pub steps: Vec<StepPlan>,
    /// Which of the steps is the pivot.
    pub pivot: Option<usize>,
    /// A hash of the shape. See [`Plan::shape`].
    pub digest: u64,
    /// The digest of each shape that its sagas in flight may have, and the names of the steps in it; its own comes first.
    pub(crate) shapes: Vec<(u64, Names)>,
    pub(crate) decode: fn(&[u8]) -> serde_json::Result<Memory>,
}

/// Steps that run at the same time; mostly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Which of [`Plan::steps`].
    pub steps: Range<usize>,
    /// How many of them at once; none: all.
    pub limit: Option<usize>,
}

/// So many times the patience with an ask doubles.
const PATIENCE_DOUBLINGS: u32 = 3;

/// One step, its types erased.
pub struct StepPlan {
    /// Unique in the definition.
    pub name: Arc<str>,
    /// Its stage.
    pub group: u32,
    /// What it does.
    pub kind: StepKind,
    /// How it is undone.
    pub undo: UndoPlan,
    /// How long the first ask may stay without an answer.
    pub timeout: Duration,
    /// When it is asked again.
    pub retry: Retry,
    /// What happens when `retry` has no attempts left.
    pub in_doubt: InDoubt,
    /// Names it had before, by which sagas in flight may know it.
    pub was: Vec<&'static str>,
    pub(crate) when: Option<Condition>,
    pub(crate) on_reply: Option<Fold>,
    pub(crate) on_rejection: Option<Fold>,
}

/// What a step does.
#[derive(Clone)]
#[non_exhaustive]
pub enum StepKind {
    /// Asks a participant.
    Call {
        /// The command's name.
        command: &'static str,
        /// The command's schema version.
        version: u16,
        /// The reply's type, without its path.
        reply: String,
        /// Makes the command from the state.
        ask: AskFn,
    },
    /// Runs a function of this process.
    Local {
        /// The reply's type, without its path.
        reply: String,
        /// The function.
        run: Arc<dyn LocalRun>,
    },
}

/// How a step is undone.
#[derive(Clone)]
#[non_exhaustive]
pub enum UndoPlan {
    /// Nothing is to be undone.
    None,
    /// By the participant that did it: its barrier knows what was done.
    Participant,
    /// By another command, made from the state and the reply.
    Command {
        /// The command's name.
        command: &'static str,
        /// The command's schema version.
        version: u16,
        /// Makes the command.
        ask: UndoFn,
    },
    /// By a function of this process, given the step's reply.
    Local(Arc<dyn LocalRun>),
}

/// What happens when a step's attempts are used up without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InDoubt {
    /// It is asked on, until it answers or the saga's deadline passes.
    Ask,
    /// It is undone through the barrier, and with it the saga.
    Undo,
    /// The saga is parked.
    Park,
}

pub(crate) type Condition = Arc<dyn Fn(&Memory) -> bool + Send + Sync>;
pub(crate) type Fold = Arc<dyn Fn(&mut Memory, &[u8]) -> serde_json::Result<()> + Send + Sync>;
/// Makes a command from the state.
pub type AskFn = Arc<dyn Fn(&Memory) -> serde_json::Result<Content> + Send + Sync>;
/// Makes an undo's command from the state and the reply.
pub type UndoFn = Arc<dyn Fn(&Memory, &[u8]) -> serde_json::Result<Content> + Send + Sync>;

impl Plan {
    /// The step that has this name, or had it.
    pub fn index(&self, step: &str) -> Option<usize> {
        self.steps.iter().position(|plan| plan.is_named(step))
    }
    /// Where replies to this definition's sagas go.
    pub fn reply_topic(&self) -> String {
        crate::wire::reply_topic(&self.name, self.version)
    }
    pub(crate) fn stage_of(&self, step: usize) -> usize {
        self.steps[step].group as usize
    }
    /// Whether the step stands after the pivot, where there is no way back.
    pub(crate) fn after_pivot(&self, step: usize) -> bool {
        self.pivot.is_some_and(|pivot| step > pivot)
    }
}

impl StepPlan {
    /// Whether this is its name, or was.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        &*self.name == name || self.was.contains(&name)
    }
    /// Whether it runs in this process.
    pub fn is_local(&self) -> bool {
        matches!(self.kind, StepKind::Local { .. })
    }
    /// How long this ask, from 1, may stay without an answer. Each waits twice as long as the one before: a participant that
    /// comes to its commands too late would else get more and more of them, and never catch up.
    pub fn patience(&self, attempt: u32) -> Duration {
        self.timeout
            .saturating_mul(1 << attempt.saturating_sub(1).min(PATIENCE_DOUBLINGS))
    }
    /// Whether its undo needs its reply, which is known to the coordinator alone: then it is asked until it answers, and
    /// undone after that. Otherwise a barrier knows what was done, and it may be undone without an answer.
    pub fn undo_needs_reply(&self) -> bool {
        match (&self.undo, &self.kind) {
            (UndoPlan::Command { .. }, _) => true,
            (UndoPlan::Local(_), StepKind::Local { run, .. }) => !run.is_transactional(),
            (UndoPlan::None | UndoPlan::Participant | UndoPlan::Local(_), _) => false,
        }
    }
    /// The policy in force, as it is recorded with each ask.
    pub fn policy(&self) -> String {
        let retry = &self.retry;
        let (timeout, min, max) = (
            self.timeout.as_millis(),
            retry.backoff_min.as_millis(),
            retry.backoff_max.as_millis(),
        );
        match retry.attempts_max {
            Some(attempts) => format!("timeout={timeout}ms backoff={min}..{max}ms attempts={attempts}"),
            None => format!("timeout={timeout}ms backoff={min}..{max}ms"),
        }
    }
}

impl fmt::Debug for StepPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepPlan")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("undo", &self.undo)
            .field("conditional", &self.when.is_some())
            .field("policy", &self.policy())
            .field("in_doubt", &self.in_doubt)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { command, .. } => write!(f, "Call({command})"),
            Self::Local { reply, .. } => write!(f, "Local({reply})"),
        }
    }
}

impl fmt::Debug for UndoPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Participant => f.write_str("Participant"),
            Self::Command { command, .. } => write!(f, "Command({command})"),
            Self::Local(_) => f.write_str("Local"),
        }
    }
}
