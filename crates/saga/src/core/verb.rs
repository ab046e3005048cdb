//! What follows from the verbs of operators, and from the deadline.

use bytes::Bytes;

use super::{
    By, Fact, ParkReason, Phase, Status, StepStatus,
    react::{Decider, NoOp, ReactError, Stop},
};

impl Decider<'_> {
    pub(super) fn deadline(&mut self) -> Result<(), Stop> {
        if self.state.deadline.is_none() || self.state.deadline_passed || self.state.is_unwinding() {
            return Err(NoOp::Stale.into());
        }
        let pending = self.state.is_past_return(self.plan);
        Ok(self.emit(Fact::DeadlinePassed { pending })?)
    }

    fn seen(&self, seen: Option<i64>) -> Result<(), Stop> {
        match seen {
            Some(version) if version != self.state.version => Err(NoOp::Moved.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn cancel(&mut self, by: &By, seen: Option<i64>) -> Result<(), Stop> {
        // It asks for an end, not for a step: whatever has happened since, the same is wanted.
        let pending = self.state.is_past_return(self.plan);
        if self.state.is_unwinding() || pending && self.state.cancel_pending.is_some() {
            return Err(NoOp::AlreadyCancelled.into());
        }
        self.seen(seen)?;
        Ok(self.emit(Fact::CancelRequested {
            by: by.clone(),
            pending,
        })?)
    }

    pub(super) fn resume(&mut self, by: &By, seen: Option<i64>) -> Result<(), Stop> {
        self.seen(seen)?;
        let parked = matches!(self.state.status, Status::Parked(_));
        let waits = |index: &usize| {
            let step = &self.state.steps[*index];
            match step.status {
                StepStatus::Unknown { .. } => self.state.is_live(&self.plan.steps[*index]),
                StepStatus::UndoUnknown { .. } => true,
                _ => parked && self.is_stuck(*index),
            }
        };
        let waiting: Vec<_> = (0..self.state.steps.len()).filter(waits).collect();
        if waiting.is_empty() && !parked {
            return Err(NoOp::NothingToResume.into());
        }
        if waiting.iter().any(|index| self.is_past_retention(*index)) {
            return Err(NoOp::PastRetention.into());
        }
        self.emit(Fact::Resumed { by: by.clone() })?;
        for index in waiting {
            match self.state.steps[index].status {
                _ if !self.state.is_running() => break,
                StepStatus::Rejected => self.new_round(index)?,
                StepStatus::UndoUnknown { .. } | StepStatus::UndoStuck => self.undo_again(index)?,
                _ => self.ask_again(index)?,
            }
        }
        Ok(())
    }

    /// Its timers are due as they were: what was asked is not asked again for this.
    pub(super) fn definition_known(&mut self) -> Result<(), Stop> {
        if !self.state.waits_for_its_definition() {
            return Err(NoOp::NothingToResume.into());
        }
        let by = By::system("a process that knows its definition is there again");
        self.emit(Fact::Resumed { by })?;
        // An answer that came meanwhile may have left a step that does not go on by itself.
        match (0..self.state.steps.len()).find(|index| self.is_stuck(*index)) {
            Some(index) => Ok(self.park_stuck(index)?),
            None => Ok(()),
        }
    }
    fn park_stuck(&mut self, index: usize) -> Result<(), ReactError> {
        let step = &self.state.steps[index];
        let (phase, reason) = match step.status {
            StepStatus::UndoStuck => (Phase::Compensate, ParkReason::Failed),
            StepStatus::Rejected => (Phase::Forward, ParkReason::Rejected),
            _ => (Phase::Forward, ParkReason::InDoubt),
        };
        let text = match (phase, &step.error) {
            (Phase::Compensate, error) => {
                let error = error.as_deref().unwrap_or_default();
                format!("the undo of `{}` cannot succeed: {error}", self.name(index))
            }
            (Phase::Forward, Some(error)) => format!("`{}` does not go on: {error}", self.name(index)),
            (Phase::Forward, None) => format!("`{}` was rejected after the pivot", self.name(index)),
        };
        self.park(index, phase, reason, text)
    }

    pub(super) fn skip(
        &mut self,
        step: &str,
        phase: Phase,
        reply: &Bytes,
        by: &By,
        seen: Option<i64>,
    ) -> Result<(), Stop> {
        self.seen(seen)?;
        let index = self.plan.index(step).ok_or(NoOp::UnknownStep)?;
        let ask = self.state.ask(&self.plan.steps[index], index, phase);
        // On the way back a step waits for its own answer only if its undo needs it. Where that never comes, the operator
        // gives the reply, or leaves the effect where it is.
        let live = self.state.is_live(&self.plan.steps[index]);
        let open = match (phase, self.state.steps[index].status) {
            (Phase::Forward, StepStatus::Rejected) => self.plan.after_pivot(index),
            (Phase::Forward, StepStatus::Asked { .. } | StepStatus::Unknown { .. } | StepStatus::Doubtful) => live,
            (Phase::Compensate, StepStatus::Asked { .. } | StepStatus::Unknown { .. } | StepStatus::Doubtful) => {
                live && self.state.is_unwinding()
            }
            (
                Phase::Compensate,
                StepStatus::Undoing { .. } | StepStatus::UndoUnknown { .. } | StepStatus::UndoStuck,
            ) => true,
            _ => false,
        };
        if !open {
            return Err(NoOp::NotSkippable.into());
        }
        self.emit(match phase {
            Phase::Forward => Fact::StepSkipped {
                ask,
                by: Some((by.clone(), reply.clone())),
            },
            Phase::Compensate => Fact::UndoSkipped { ask, by: by.clone() },
        })?;
        let is_parked = matches!(self.state.status, Status::Parked(_));
        if is_parked && !(0..self.state.steps.len()).any(|index| self.is_stuck(index)) {
            self.emit(Fact::Resumed { by: by.clone() })?;
        }
        Ok(())
    }
}
