//! What a saga does next, once an event has changed where it is.

use uuid::Uuid;

use super::{
    Ask, Content, Direction, Fact, Finish, ParkReason, Phase, Request, StepKind, StepStatus, UndoPlan,
    react::{Decider, ReactError, after},
};
use crate::definition::NOT_AFTER;

/// What the unwinding has to do about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    /// Nothing, or no more.
    Settled,
    /// To wait.
    Open,
    /// To undo it.
    Undo,
    /// To ask it once more: its undo needs its answer.
    Ask,
}

impl Decider<'_> {
    /// Asks and undoes until something has to be waited for, or the saga ends.
    pub(super) fn advance(&mut self) -> Result<(), ReactError> {
        while self.state.is_running() {
            let again = match self.state.direction {
                Direction::Forward => self.forward()?,
                Direction::Unwind { .. } => self.back()?,
            };
            if !again {
                break;
            }
        }
        Ok(())
    }

    /// Asks what may be asked. Says whether there is more to do at once.
    fn forward(&mut self) -> Result<bool, ReactError> {
        let plan = self.plan;
        let is_settled = |status| matches!(status, StepStatus::Done | StepStatus::Skipped | StepStatus::Overridden);
        let unsettled = self.state.steps.iter().position(|step| !is_settled(step.status));
        let Some(stage) = unsettled.map(|index| &plan.stages[plan.stage_of(index)]) else {
            self.complete()?;
            return Ok(false);
        };
        for index in stage.steps.clone() {
            let steps = &self.state.steps[stage.steps.clone()];
            let in_flight = steps
                .iter()
                .filter(|step| step.status != StepStatus::Waiting && !is_settled(step.status))
                .count();
            let others = steps.iter().filter(|step| !is_settled(step.status)).count();
            let is_first = self.state.steps[index].status == StepStatus::Waiting;
            // From the pivot's request on there is no way back, so that its siblings have to be settled before.
            let may_start = plan.pivot != Some(index) || others == 1;
            if is_first && may_start && stage.limit.is_none_or(|limit| in_flight < limit) {
                self.begin_step(index)?;
            }
            if !self.state.is_running() {
                return Ok(false);
            }
        }
        Ok(self.state.steps[stage.steps.clone()]
            .iter()
            .all(|step| is_settled(step.status)))
    }

    fn begin_step(&mut self, index: usize) -> Result<(), ReactError> {
        let plan = &self.plan.steps[index];
        let memory = self
            .state
            .memory
            .as_ref()
            .expect("invariant: a started saga has a memory");
        if plan.when.as_ref().is_some_and(|when| !when(memory)) {
            let ask = self.state.ask(plan, index, Phase::Forward);
            return self.emit(Fact::StepSkipped { ask, by: None });
        }
        let round = self.state.steps[index].round;
        self.first_ask(index, round)
    }

    /// Tries a rejected step anew: the rejection proves that there is no effect, so this is another one.
    pub(super) fn new_round(&mut self, index: usize) -> Result<(), ReactError> {
        let round = self.state.steps[index].round + 1;
        self.first_ask(index, round)
    }

    fn first_ask(&mut self, index: usize, round: u32) -> Result<(), ReactError> {
        let plan = &self.plan.steps[index];
        let iteration = self.state.steps[index].iteration;
        let effect = self.effect(&format!("{}/{iteration}/{round}", self.name(index)));
        let ask = Ask {
            attempt: 1,
            round,
            effect,
            ..self.state.ask(plan, index, Phase::Forward)
        };
        let StepKind::Call { ask: make, .. } = &plan.kind else {
            return self.begin(ask);
        };
        let memory = self
            .state
            .memory
            .as_ref()
            .expect("invariant: a started saga has a memory");
        match make(memory) {
            Ok(content) => {
                let request = self.request(index, ask, content, Phase::Forward);
                self.emit(Fact::StepRequested(request))
            }
            Err(error) => {
                let text = format!("the command of `{}` cannot be written: {error}", self.name(index));
                self.park(index, Phase::Forward, ParkReason::Unreadable, text)
            }
        }
    }

    /// The step as the saga knows it: what is stored names it so.
    pub(super) fn name(&self, index: usize) -> &str {
        &self.state.names[index]
    }
    fn effect(&self, name: &str) -> Uuid {
        Uuid::new_v5(&self.state.identity.instance, name.as_bytes())
    }

    fn request(&self, index: usize, ask: Ask, content: Content, travels_as: Phase) -> Request {
        let plan = &self.plan.steps[index];
        let due = after(self.now, plan.patience(ask.attempt));
        Request {
            ask,
            content,
            travels_as,
            reply_to: self.plan.reply_topic(),
            due,
            expires: after(self.now, NOT_AFTER),
            policy: plan.policy(),
        }
    }

    /// Asks for the same effect once more, with the same bytes.
    pub(super) fn ask_again(&mut self, index: usize) -> Result<(), ReactError> {
        if self.is_past_retention(index) {
            return self.park_forgotten(index, Phase::Forward);
        }
        let plan = &self.plan.steps[index];
        let mut ask = self.state.ask(plan, index, Phase::Forward);
        ask.attempt += 1;
        match self.state.steps[index].content.as_deref() {
            Some(content) => {
                let request = self.request(index, ask, content.clone(), Phase::Forward);
                self.emit(Fact::StepRequested(request))
            }
            None => self.begin(ask),
        }
    }

    /// Undoes what the saga has done, last stage first. Never more to do at once.
    fn back(&mut self) -> Result<bool, ReactError> {
        let plan = self.plan;
        for stage in plan.stages.iter().rev() {
            let mut open = false;
            for index in stage.steps.clone() {
                let back = self.back_of(index);
                open |= back != Back::Settled;
                match back {
                    Back::Settled | Back::Open => {}
                    Back::Undo => self.undo(index)?,
                    Back::Ask => self.ask_again(index)?,
                }
                if !self.state.is_running() {
                    return Ok(false);
                }
            }
            if open {
                return Ok(false);
            }
        }
        let steps = self.state.names.iter().zip(&self.state.steps);
        let left = steps.filter(|(_, step)| step.status == StepStatus::Left);
        let left_behind = left.map(|(name, _)| name.to_string()).collect();
        let Direction::Unwind { reason } = &self.state.direction else {
            return Ok(false);
        };
        let finish = Finish {
            reason: Some(reason.clone()),
            left_behind,
        };
        self.emit(Fact::Compensated(finish))?;
        Ok(false)
    }

    fn back_of(&self, index: usize) -> Back {
        let plan = &self.plan.steps[index];
        match self.state.steps[index].status {
            StepStatus::Waiting
            | StepStatus::Skipped
            | StepStatus::Rejected
            | StepStatus::Undone
            | StepStatus::Left => Back::Settled,
            StepStatus::Undoing { .. } | StepStatus::UndoUnknown { .. } | StepStatus::UndoStuck => Back::Open,
            _ if matches!(plan.undo, UndoPlan::None) => Back::Settled,
            StepStatus::Done | StepStatus::Overridden => Back::Undo,
            StepStatus::Asked { .. } | StepStatus::Unknown { .. } if plan.undo_needs_reply() => Back::Open,
            StepStatus::Doubtful if plan.undo_needs_reply() => Back::Ask,
            StepStatus::Asked { .. } | StepStatus::Unknown { .. } | StepStatus::Doubtful => Back::Undo,
        }
    }

    /// Asks for an undo for the first time.
    fn undo(&mut self, index: usize) -> Result<(), ReactError> {
        if self.is_past_retention(index) {
            return self.park_forgotten(index, Phase::Compensate);
        }
        let (plan, step) = (&self.plan.steps[index], &self.state.steps[index]);
        let mut ask = Ask {
            attempt: 1,
            ..self.state.ask(plan, index, Phase::Compensate)
        };
        let content = match &plan.undo {
            UndoPlan::Local(_) | UndoPlan::None => return self.begin(ask),
            UndoPlan::Participant => {
                let content = step
                    .content
                    .as_deref()
                    .expect("invariant: a step in doubt or done was asked");
                return self.emit_undo(index, ask, content.clone(), Phase::Compensate);
            }
            UndoPlan::Command { ask: make, .. } => {
                let memory = self
                    .state
                    .memory
                    .as_ref()
                    .expect("invariant: a started saga has a memory");
                make(memory, step.reply.as_deref().unwrap_or(b"null"))
            }
        };
        match content {
            Ok(content) => {
                let name = self.name(index);
                ask.effect = self.effect(&format!("{name}/{}/{}/undo", step.iteration, step.round));
                self.emit_undo(index, ask, content, Phase::Forward)
            }
            Err(error) => {
                let text = format!("the command that undoes `{}` cannot be made: {error}", self.name(index));
                self.park(index, Phase::Compensate, ParkReason::Unreadable, text)
            }
        }
    }

    fn emit_undo(&mut self, index: usize, ask: Ask, content: Content, travels_as: Phase) -> Result<(), ReactError> {
        let request = self.request(index, ask, content, travels_as);
        self.emit(Fact::UndoRequested(request))
    }

    /// Asks for the same undo once more, with the same bytes.
    pub(super) fn undo_again(&mut self, index: usize) -> Result<(), ReactError> {
        let (plan, step) = (&self.plan.steps[index], &self.state.steps[index]);
        if step.undo_attempt == 0 {
            return self.undo(index);
        }
        if self.is_past_retention(index) {
            return self.park_forgotten(index, Phase::Compensate);
        }
        let mut ask = self.state.ask(plan, index, Phase::Compensate);
        ask.attempt += 1;
        let travels_as = if step.undo_effect == step.effect {
            Phase::Compensate
        } else {
            Phase::Forward
        };
        match step.undo_content.as_deref() {
            Some(content) => self.emit_undo(index, ask, content.clone(), travels_as),
            None => self.begin(ask),
        }
    }

    /// Whether the participant may have forgotten the effect, so that a late ask could do it twice.
    pub(super) fn is_past_retention(&self, index: usize) -> bool {
        let first_asked = self.state.steps[index].first_asked;
        first_asked.is_some_and(|asked| self.now > after(asked, self.plan.barrier_retention))
    }

    fn park_forgotten(&mut self, index: usize, phase: Phase) -> Result<(), ReactError> {
        let days = self.plan.barrier_retention.as_secs() / 86_400;
        let name = self.name(index);
        let text = format!(
            "`{name}` was first asked more than {days} days ago: its participant may have forgotten it, and asking again \
             could do it twice"
        );
        self.park(index, phase, ParkReason::PastRetention, text)
    }

    /// Ends the saga. An answer that was the last thing missing is folded into the end.
    fn complete(&mut self) -> Result<(), ReactError> {
        let finish = Finish::default();
        if self.ordinal > 0
            && let Some(last) = self.events.last_mut()
            && let Fact::StepDone { ask, reply } = &last.event.fact
        {
            last.event.fact = Fact::Completed {
                last: Some((ask.clone(), reply.clone())),
                finish,
            };
            self.state.to_mut().status = super::Status::Completed;
            return Ok(());
        }
        self.emit(Fact::Completed { last: None, finish })
    }
}
