//! What follows from an answer, and from one that does not come.

use bytes::Bytes;
use jiff::Timestamp;
use sagamill_bus::MessageId;

use super::{
    Ask, By, Doubt, Fact, InDoubt, LoadError, ParkReason, Parked, Phase, Reported, Status, StepStatus, UndoPlan,
    apply::NO_ANSWER,
    react::{Decider, NoOp, ReactError, Stop, after},
};

impl Decider<'_> {
    pub(super) fn answer(&mut self, ask: &Ask, reported: &Reported) -> Result<(), Stop> {
        let index = self.plan.index(&ask.step).ok_or(NoOp::UnknownStep)?;
        let step = &self.state.steps[index];
        let is_undo =
            step.undo_effect == Some(ask.effect) && (ask.phase == Phase::Compensate || step.undo_effect != step.effect);
        match (is_undo, step.effect == Some(ask.effect) && ask.phase == Phase::Forward) {
            (true, _) => self.undo_answer(index, ask.attempt, reported)?,
            (false, true) => self.forward_answer(index, ask.attempt, reported)?,
            (false, false) => return Err(NoOp::Stale.into()),
        }
        self.resume_if_answered()?;
        Ok(())
    }

    fn forward_answer(&mut self, index: usize, attempt: u32, reported: &Reported) -> Result<(), Stop> {
        let (step, plan) = (&self.state.steps[index], &self.plan.steps[index]);
        let open = matches!(
            step.status,
            StepStatus::Asked { .. } | StepStatus::Unknown { .. } | StepStatus::Doubtful
        );
        if !open || !self.state.is_live(plan) {
            return Err(NoOp::Stale.into());
        }
        // A local step is run again without an event that says so.
        let rerun = plan.is_local() && matches!(step.status, StepStatus::Unknown { .. });
        let current = attempt == step.attempt + u32::from(rerun) && step.status != StepStatus::Doubtful;
        let waiting = matches!(step.status, StepStatus::Asked { .. }) || rerun;
        let ask = Ask {
            attempt,
            ..self.state.ask(plan, index, Phase::Forward)
        };
        match reported {
            Reported::Done(reply) => self.done(ask, reply),
            Reported::Rejected(rejection) => self.rejected(index, ask, rejection),
            Reported::Failed(error) if current => {
                self.emit(Fact::StepTimedOut {
                    ask,
                    error: Some(error.clone()),
                    then: Doubt::Park,
                })?;
                Ok(self.park(
                    index,
                    Phase::Forward,
                    ParkReason::Failed,
                    format!("`{}` cannot succeed: {error}", self.name(index)),
                )?)
            }
            Reported::Expired if current && waiting => self.unanswered(index, ask, Some("it came too late".to_owned())),
            Reported::Unknown(error) if current && waiting => self.unanswered(index, ask, Some(error.clone())),
            Reported::Failed(_) | Reported::Expired | Reported::Unknown(_) => Err(NoOp::Stale.into()),
        }
    }

    fn done(&mut self, ask: Ask, reply: &Bytes) -> Result<(), Stop> {
        self.or_park(
            ask.clone(),
            Fact::StepDone {
                ask,
                reply: reply.clone(),
            },
        )
    }

    fn rejected(&mut self, index: usize, ask: Ask, rejection: &Bytes) -> Result<(), Stop> {
        let name = ask.step.to_string();
        self.or_park(
            ask.clone(),
            Fact::StepRejected {
                ask,
                rejection: rejection.clone(),
            },
        )?;
        if self.plan.after_pivot(index) && self.state.steps[index].status == StepStatus::Rejected {
            let text = format!("`{name}` was rejected after the pivot, where there is no way back");
            self.park(index, Phase::Forward, ParkReason::Rejected, text)?;
        }
        Ok(())
    }

    /// Emits an answer; where it does not fit its type, parks the saga.
    fn or_park(&mut self, ask: Ask, fact: Fact) -> Result<(), Stop> {
        match self.emit(fact) {
            Err(ReactError::Apply(LoadError::Unreadable { step, source, .. })) => {
                if matches!(self.state.status, Status::Parked(_)) {
                    return Err(NoOp::AlreadyParked.into());
                }
                let text = format!("what `{step}` answered does not fit its type: {source}");
                Ok(self.emit(Fact::Parked(Parked {
                    ask: Some(ask),
                    reason: ParkReason::Unreadable,
                    text,
                }))?)
            }
            result => Ok(result?),
        }
    }

    /// No answer, or an error in place of one: nobody knows whether there is an effect.
    fn unanswered(&mut self, index: usize, ask: Ask, error: Option<String>) -> Result<(), Stop> {
        let plan = &self.plan.steps[index];
        let exhausted = plan.retry.attempts_max.is_some_and(|max| ask.attempt >= max);
        let then = match plan.in_doubt {
            InDoubt::Park if exhausted => Doubt::Park,
            InDoubt::Undo if exhausted && !self.state.is_unwinding() => Doubt::Undo,
            InDoubt::Ask | InDoubt::Undo | InDoubt::Park => Doubt::Ask(self.next_try(index, &ask)),
        };
        let text = format!(
            "`{}` has not answered {} times: it is not known whether it took effect",
            self.name(index),
            ask.attempt
        );
        self.emit(Fact::StepTimedOut { ask, error, then })?;
        if then == Doubt::Park {
            self.park(index, Phase::Forward, ParkReason::InDoubt, text)?;
        }
        Ok(())
    }

    fn next_try(&self, index: usize, ask: &Ask) -> Timestamp {
        after(
            self.now,
            self.plan.steps[index].retry.backoff(MessageId(ask.effect), ask.attempt),
        )
    }

    fn undo_answer(&mut self, index: usize, attempt: u32, reported: &Reported) -> Result<(), Stop> {
        let (step, plan) = (&self.state.steps[index], &self.plan.steps[index]);
        let rerun = matches!(plan.undo, UndoPlan::Local(_)) && matches!(step.status, StepStatus::UndoUnknown { .. });
        let waiting = matches!(step.status, StepStatus::Undoing { .. }) || rerun;
        if !waiting && !matches!(step.status, StepStatus::UndoUnknown { .. } | StepStatus::UndoStuck) {
            return Err(NoOp::Stale.into());
        }
        let current = attempt == step.undo_attempt + u32::from(rerun) && step.status != StepStatus::UndoStuck;
        let ask = Ask {
            attempt,
            ..self.state.ask(plan, index, Phase::Compensate)
        };
        let permanent = match reported {
            Reported::Done(_) => return Ok(self.emit(Fact::UndoDone { ask })?),
            Reported::Rejected(rejection) => {
                format!("it was rejected: {}", String::from_utf8_lossy(rejection))
            }
            Reported::Failed(error) => error.clone(),
            Reported::Expired if current && waiting => {
                return self.undo_unanswered(index, ask, "it came too late".to_owned());
            }
            Reported::Unknown(error) if current && waiting => return self.undo_unanswered(index, ask, error.clone()),
            Reported::Expired | Reported::Unknown(_) => return Err(NoOp::Stale.into()),
        };
        if !current {
            return Err(NoOp::Stale.into());
        }
        let text = format!("the undo of `{}` cannot succeed: {permanent}", self.name(index));
        self.emit(Fact::UndoFailed {
            ask,
            error: permanent,
            next: None,
        })?;
        Ok(self.park(index, Phase::Compensate, ParkReason::Failed, text)?)
    }

    /// An undo is asked for ever: it can only become late.
    fn undo_unanswered(&mut self, index: usize, ask: Ask, error: String) -> Result<(), Stop> {
        let next = Some(self.next_try(index, &ask));
        Ok(self.emit(Fact::UndoFailed { ask, error, next })?)
    }

    /// A saga that was parked for want of an answer goes on once it is there.
    fn resume_if_answered(&mut self) -> Result<(), ReactError> {
        match &self.state.status {
            Status::Parked(parked) if parked.reason.ends_with_an_answer() => {}
            _ => return Ok(()),
        }
        if (0..self.state.steps.len()).any(|index| self.is_stuck(index)) {
            return Ok(());
        }
        let by = By::system("what it waited for has been answered");
        self.emit(Fact::Resumed { by })
    }

    /// Whether the step does not go on by itself.
    pub(super) fn is_stuck(&self, index: usize) -> bool {
        match self.state.steps[index].status {
            StepStatus::Doubtful => self.state.is_live(&self.plan.steps[index]),
            StepStatus::UndoStuck => true,
            StepStatus::Rejected => self.plan.after_pivot(index),
            _ => false,
        }
    }

    pub(super) fn timer(&mut self, step: &str, phase: Phase, attempt: u32, fired: Timestamp) -> Result<(), Stop> {
        if !self.state.is_running() {
            return Err(NoOp::Stale.into());
        }
        let index = self.plan.index(step).ok_or(NoOp::UnknownStep)?;
        let (step, plan) = (&self.state.steps[index], &self.plan.steps[index]);
        let ask = self.state.ask(plan, index, phase);
        let live = self.state.is_live(plan);
        match (phase, step.status) {
            _ if attempt != ask.attempt => Err(NoOp::Stale.into()),
            (Phase::Forward, StepStatus::Asked { due }) if live && due == Some(fired) => {
                self.unanswered(index, ask, None)
            }
            (Phase::Forward, StepStatus::Unknown { next }) if live && next == fired && !plan.is_local() => {
                Ok(self.ask_again(index)?)
            }
            (Phase::Compensate, StepStatus::Undoing { due }) if due == Some(fired) => {
                self.undo_unanswered(index, ask, NO_ANSWER.to_owned())
            }
            (Phase::Compensate, StepStatus::UndoUnknown { next })
                if next == fired && !matches!(plan.undo, UndoPlan::Local(_)) =>
            {
                Ok(self.undo_again(index)?)
            }
            _ => Err(NoOp::Stale.into()),
        }
    }
}
