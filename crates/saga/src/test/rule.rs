//! What holds for every saga at the end of every schedule.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{barrier::Effect, simulation::Simulation};
use crate::core::{
    Ask, Doubt, Fact, InDoubt, Input, Phase, Plan, SagaEvent, State, Status, StepStatus, UndoPlan, apply, react,
};

/// Checks a schedule that has come to its end. The error says which rule is broken.
pub(super) fn check<W: Clone>(simulation: &Simulation<'_, W>) -> Result<(), String> {
    one_state(simulation)?;
    let mut walk = Walk::new(simulation.plan);
    for decided in &simulation.log {
        walk.take(&decided.event)?;
    }
    walk.identities()?;
    walk.effects(simulation)?;
    restart(simulation)?;
    repeats(simulation)
}

/// What is stored makes the state that was decided; each event has an id of its own.
fn one_state<W: Clone>(simulation: &Simulation<'_, W>) -> Result<(), String> {
    if simulation.load()? != simulation.truth {
        return Err("the stored events make another state than the one that was decided".to_owned());
    }
    let ids: BTreeSet<_> = simulation
        .log
        .iter()
        .map(|decided| (decided.cause, decided.ordinal))
        .collect();
    if ids.len() != simulation.log.len() {
        return Err("two events have the same id".to_owned());
    }
    Ok(())
}

/// The asks of one effect.
#[derive(Debug, Default)]
struct Asks {
    step: usize,
    round: u32,
    /// What undoes it, where it was asked.
    undo: Option<Uuid>,
    /// The command's bytes.
    payloads: BTreeSet<Vec<u8>>,
    attempts: Vec<u32>,
}

/// Goes through the events, always with the state before each.
struct Walk<'a> {
    plan: &'a Plan,
    state: State,
    effects: BTreeMap<Uuid, Asks>,
    cancelled: bool,
}

impl<'a> Walk<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            state: State::new(plan, "test"),
            effects: BTreeMap::new(),
            cancelled: false,
        }
    }

    fn take(&mut self, event: &SagaEvent) -> Result<(), String> {
        let undoes = matches!(&event.fact, Fact::UndoRequested(_));
        if let Fact::StepRequested(request) | Fact::UndoRequested(request) = &event.fact {
            self.asked(&request.ask, Some(&request.content.payload))?;
        }
        let past = self.state.is_past_return(self.plan);
        if undoes && past {
            return Err(format!(
                "`{}` undoes what is past the point of no return",
                event.fact.describe()
            ));
        }
        self.policy(event)?;
        match &event.fact {
            Fact::CancelRequested { pending, .. } | Fact::DeadlinePassed { pending } => {
                if *pending != past {
                    return Err(
                        "a cancel or deadline past the point of no return has to wait, and only there".to_owned(),
                    );
                }
                self.cancelled |= !pending;
            }
            _ => {}
        }
        let mut state = self.state.clone();
        apply(self.plan, &mut state, event).map_err(|error| error.to_string())?;
        // Local steps begin after the event itself, before its own.
        let mut bare = event.clone();
        bare.begun.clear();
        apply(self.plan, &mut self.state, &bare).map_err(|error| error.to_string())?;
        for ask in &event.begun {
            self.asked(ask, None)?;
        }
        self.state = state;
        Ok(())
    }

    /// The order of asks and undos.
    fn asked(&mut self, ask: &Ask, payload: Option<&[u8]>) -> Result<(), String> {
        let index = self.plan.index(&ask.step).ok_or("an unknown step is asked")?;
        let group = ask.group as usize;
        let is_new = self
            .effects
            .get(&ask.effect)
            .is_none_or(|asks| asks.attempts.is_empty());
        if is_new {
            match ask.phase {
                Phase::Forward => self.may_start(ask, group)?,
                Phase::Compensate => {}
            }
        }
        if ask.phase == Phase::Compensate && ask.attempt == 1 {
            self.may_undo(ask, group)?;
            if let Some(effect) = self.state.steps[index].effect {
                self.effects.entry(effect).or_default().undo = Some(ask.effect);
            }
        }
        let asks = self.effects.entry(ask.effect).or_default();
        if ask.phase == Phase::Forward {
            (asks.step, asks.round) = (index, ask.round);
            asks.attempts.push(ask.attempt);
        }
        asks.payloads.extend(payload.map(<[u8]>::to_vec));
        Ok(())
    }

    fn may_start(&self, ask: &Ask, group: usize) -> Result<(), String> {
        if self.state.is_unwinding() {
            return Err(format!("`{}` is asked for the first time on the way back", ask.step));
        }
        let before = &self.plan.stages[group].steps.start;
        let settled = |status| matches!(status, StepStatus::Done | StepStatus::Skipped | StepStatus::Overridden);
        match self.state.steps[..*before].iter().all(|step| settled(step.status)) {
            true => Ok(()),
            false => Err(format!("`{}` is asked before the stages before it are done", ask.step)),
        }
    }

    fn may_undo(&self, ask: &Ask, group: usize) -> Result<(), String> {
        if !self.state.is_unwinding() {
            return Err(format!("`{}` is undone on the way forward", ask.step));
        }
        let after = self.plan.stages[group].steps.end;
        let steps = self.plan.steps.iter().zip(&self.state.steps).skip(after);
        let settled = |status| {
            matches!(
                status,
                StepStatus::Waiting
                    | StepStatus::Skipped
                    | StepStatus::Rejected
                    | StepStatus::Undone
                    | StepStatus::Left
            )
        };
        for (plan, step) in steps {
            if !settled(step.status) && !matches!(plan.undo, UndoPlan::None) {
                return Err(format!(
                    "`{}` is undone before `{}`, which came after it",
                    ask.step, plan.name
                ));
            }
        }
        Ok(())
    }

    /// Tries are counted, and wait as long as the policy says.
    fn policy(&self, event: &SagaEvent) -> Result<(), String> {
        let (ask, next) = match &event.fact {
            Fact::StepTimedOut {
                ask,
                then: Doubt::Ask(next),
                ..
            } => (ask, *next),
            Fact::UndoFailed {
                ask, next: Some(next), ..
            } => (ask, *next),
            _ => return Ok(()),
        };
        let index = self.plan.index(&ask.step).ok_or("an unknown step failed")?;
        let plan = &self.plan.steps[index];
        let full = plan
            .retry
            .backoff_min
            .saturating_mul(1 << ask.attempt.saturating_sub(1).min(31));
        let full = i64::try_from(full.min(plan.retry.backoff_max).as_millis()).unwrap_or(i64::MAX);
        let wait = next.as_millisecond() - event.at.as_millisecond();
        if wait > full || wait + 1 < full / 2 {
            return Err(format!(
                "`{}` waits {wait} ms after attempt {}, not {full} at most",
                ask.step, ask.attempt
            ));
        }
        let counted = ask.phase == Phase::Forward && plan.in_doubt != InDoubt::Ask && !self.state.is_unwinding();
        if counted && plan.retry.attempts_max.is_some_and(|max| ask.attempt >= max) {
            return Err(format!("`{}` is asked more often than its policy allows", ask.step));
        }
        Ok(())
    }

    /// One effect for each step and round; the same bytes on each ask; attempts without a gap.
    fn identities(&self) -> Result<(), String> {
        let mut rounds = BTreeSet::new();
        for asks in self.effects.values().filter(|asks| !asks.attempts.is_empty()) {
            let name = &self.plan.steps[asks.step].name;
            if !rounds.insert((asks.step, asks.round)) {
                return Err(format!("`{name}` has two effect ids in one round"));
            }
            if asks.payloads.len() > 1 {
                return Err(format!("`{name}` was asked again with other bytes"));
            }
            if asks.attempts.windows(2).any(|pair| pair[0] >= pair[1]) || asks.attempts[0] != 1 {
                return Err(format!("`{name}` counts its attempts {:?}", asks.attempts));
            }
        }
        Ok(())
    }

    /// What participants have committed fits how the saga ended.
    fn effects<W: Clone>(&self, simulation: &Simulation<'_, W>) -> Result<(), String> {
        let participants = &simulation.participants;
        for (id, _) in &participants.committed {
            let effects = participants.effects(*id);
            if !matches!(
                &*effects,
                [Effect::Done | Effect::Tombstone] | [Effect::Done, Effect::Undone]
            ) {
                return Err(format!("effect {id} is {effects:?}"));
            }
        }
        let truth = &simulation.truth;
        match &truth.status {
            Status::Completed if self.cancelled => Err("it was cancelled, and is completed".to_owned()),
            Status::Compensated { .. } if truth.is_past_return(self.plan) => {
                Err("it was undone from past the point of no return".to_owned())
            }
            Status::Completed => self.all_done(simulation),
            Status::Compensated { .. } => self.all_undone(simulation),
            Status::Parked(_) => Ok(()),
            Status::New | Status::Running => Err("it hangs: it waits, and nothing will come".to_owned()),
        }
    }

    fn all_done<W: Clone>(&self, simulation: &Simulation<'_, W>) -> Result<(), String> {
        for (plan, step) in self.plan.steps.iter().zip(&simulation.truth.steps) {
            let effects = step
                .effect
                .map(|effect| simulation.participants.effects(effect))
                .unwrap_or_default();
            match step.status {
                StepStatus::Skipped | StepStatus::Overridden => {}
                StepStatus::Done if *effects == [Effect::Done] => {}
                _ => {
                    return Err(format!(
                        "it is completed, and `{}` is {:?}, {effects:?}",
                        plan.name, step.status
                    ));
                }
            }
        }
        Ok(())
    }

    fn all_undone<W: Clone>(&self, simulation: &Simulation<'_, W>) -> Result<(), String> {
        let participants = &simulation.participants;
        for (effect, asks) in self.effects.iter().filter(|(_, asks)| !asks.attempts.is_empty()) {
            let (plan, step) = (&self.plan.steps[asks.step], &simulation.truth.steps[asks.step]);
            if step.status == StepStatus::Left || matches!(plan.undo, UndoPlan::None) {
                continue;
            }
            let done = participants.effects(*effect);
            let is_undone = match asks.undo {
                // Another command undoes it, with an effect of its own.
                Some(undo) if undo != *effect => {
                    *done == [Effect::Done] && *participants.effects(undo) == [Effect::Done]
                }
                _ => *done != [Effect::Done],
            };
            if !is_undone {
                return Err(format!(
                    "it is compensated, and the effect of `{}` is still there",
                    plan.name
                ));
            }
        }
        Ok(())
    }
}

/// From each point at which everything can have died, the saga goes on: it waits for a timer, a function, an operator.
fn restart<W: Clone>(simulation: &Simulation<'_, W>) -> Result<(), String> {
    let plan = simulation.plan;
    let mut state = State::new(plan, "test");
    let mut ends = simulation.appends.iter();
    let mut end = ends.next();
    for (index, decided) in simulation.log.iter().enumerate() {
        apply(plan, &mut state, &decided.event).map_err(|error| error.to_string())?;
        if end == Some(&(index + 1)) {
            end = ends.next();
            let waits =
                !state.timers(plan).iter().all(|timer| timer.step.is_none()) || !state.local_work(plan).is_empty();
            if state.is_running() && !waits {
                return Err(format!("after event {} it would wait for ever", index + 1));
            }
        }
    }
    Ok(())
}

/// Each input once more, now that all is over: nothing follows.
fn repeats<W: Clone>(simulation: &Simulation<'_, W>) -> Result<(), String> {
    for input in &simulation.given {
        let input = Input {
            now: simulation.now,
            ..input.clone()
        };
        let again = react(simulation.plan, &simulation.truth, std::slice::from_ref(&input))
            .map_err(|error| error.to_string())?;
        if let Some(event) = again.events.first() {
            return Err(format!(
                "{:?} a second time is followed by `{}`",
                input.kind,
                event.event.fact.name()
            ));
        }
    }
    Ok(())
}
