//! Plays a saga against a model of its participants.

use std::fmt;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    barrier::{Act, Models},
    fault::{Faults, Planned, Way},
    rule, sample,
    simulation::Simulation,
};
use crate::{
    Answer, Command, Definition, Outcome, Undo,
    core::{Phase, Status, UndoPlan},
    step::Data,
};

/// Plays a saga against a model of its participants, over many schedules of faults.
///
/// Participants stand behind a barrier, coordinators are two and may crash, messages get lost, come twice, late, or in
/// another order. After each schedule it checks what must hold for every saga: an end in which each effect is either
/// there or undone, none twice; order, the pivot, stable ids, no input twice, restart from any point; and the rules that
/// were added by [`check`](Self::check).
#[must_use = "it plays when `.fail_at_every_step()`, `.repeat_every_step()` or `.schedules(..)` is called"]
pub struct Explore<S, W> {
    definition: Definition<S>,
    input: Bytes,
    world: W,
    models: Models<W>,
    checks: Vec<Check<S, W>>,
}

struct Check<S, W> {
    rule: &'static str,
    holds: Holds<S, W>,
}

type Holds<S, W> = Box<dyn Fn(&W, &Outcome<S>) -> bool>;

impl<S, W> fmt::Debug for Explore<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explore")
            .field("definition", &self.definition)
            .finish_non_exhaustive()
    }
}

impl<S: Data, W: Clone + 'static> Explore<S, W> {
    /// `world` is what the participants change, as it is before the saga.
    ///
    /// # Panics
    /// The definition has problems.
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "whoever starts a saga gives its state away"
    )]
    pub fn new(definition: Definition<S>, input: S, world: W) -> Self {
        if let Err(error) = definition.check() {
            panic!("{error}");
        }
        let input = serde_json::to_vec(&input).expect("invariant: the state of a saga can be written as JSON");
        Self {
            definition,
            input: input.into(),
            world,
            models: Models::default(),
            checks: Vec::new(),
        }
    }
    /// What a participant does and answers.
    pub fn on<C: Command>(mut self, model: impl Fn(&mut W, C) -> Answer<C::Reply, C::Rejection> + 'static) -> Self {
        let act: Act<W> = Box::new(move |world, command| json(model(world, serde_json::from_slice(command)?)));
        self.add::<C::Rejection>(C::NAME.to_owned(), act);
        self
    }
    /// How a participant undoes it.
    pub fn undo<C: Command>(mut self, model: impl Fn(&mut W, Undo<C>) + 'static) -> Self {
        let revert = move |world: &mut W, command: &[u8], reply: &[u8]| {
            model(
                world,
                Undo {
                    command: serde_json::from_slice(command)?,
                    reply: serde_json::from_slice(reply)?,
                },
            );
            Ok(())
        };
        self.models.reverts.insert(C::NAME.to_owned(), Box::new(revert));
        self
    }
    /// What a local step does and answers.
    pub fn local<T, R>(mut self, step: &str, model: impl Fn(&mut W, S) -> Answer<T, R> + 'static) -> Self
    where
        T: Serialize,
        R: Serialize + DeserializeOwned,
    {
        let act: Act<W> = Box::new(move |world, state| json(model(world, serde_json::from_slice(state)?)));
        self.add::<R>(format!("local:{step}"), act);
        self
    }
    /// How a local step is undone, given its reply.
    pub fn local_undo<T: DeserializeOwned>(mut self, step: &str, model: impl Fn(&mut W, T) + 'static) -> Self {
        let revert = move |world: &mut W, _: &[u8], reply: &[u8]| {
            model(world, serde_json::from_slice(reply)?);
            Ok(())
        };
        self.models.reverts.insert(format!("local:{step}"), Box::new(revert));
        self
    }
    fn add<R: Serialize + DeserializeOwned>(&mut self, name: String, act: Act<W>) {
        if let Some(rejection) = sample::smallest::<R>().and_then(|rejection| serde_json::to_vec(&rejection).ok()) {
            self.models.rejections.insert(name.clone(), rejection.into());
        }
        self.models.acts.insert(name, act);
    }
    /// What must hold at the end of every schedule, beside the rules that hold for all sagas.
    pub fn check(mut self, rule: &'static str, holds: impl Fn(&W, &Outcome<S>) -> bool + 'static) -> Self {
        self.checks.push(Check {
            rule,
            holds: Box::new(holds),
        });
        self
    }
    /// Fails each step and each undo in each way once: refused, cannot succeed, request or reply lost, answer late,
    /// coordinator dead.
    ///
    /// # Panics
    /// A rule is broken: with the schedule and the history.
    #[track_caller]
    pub fn fail_at_every_step(&self) {
        let steps: Vec<_> = self
            .definition
            .plan()
            .steps
            .iter()
            .map(|step| step.name.to_string())
            .collect();
        for (index, step) in steps.iter().enumerate() {
            for way in Way::ALL {
                let planned = Planned {
                    step: step.clone(),
                    phase: Phase::Forward,
                    way,
                };
                self.play(Faults::planned(vec![planned]), &format!("{way:?} at step `{step}`"));
                if matches!(self.definition.plan().steps[index].undo, UndoPlan::None) || way == Way::Reject {
                    continue;
                }
                let undo = Planned {
                    step: step.clone(),
                    phase: Phase::Compensate,
                    way,
                };
                let faults = Faults::planned(vec![undo]).cancel_after(step);
                self.play(faults, &format!("{way:?} at the undo of `{step}`"));
            }
        }
    }
    /// Does and undoes everything twice: each message comes twice, each timer fires twice.
    ///
    /// # Panics
    /// A rule is broken: with the schedule and the history.
    #[track_caller]
    pub fn repeat_every_step(&self) {
        self.play(Faults::planned(Vec::new()).repeat_all(), "everything twice");
        for step in &self.definition.plan().steps {
            let name = step.name.to_string();
            let refused = Planned {
                step: name.clone(),
                phase: Phase::Forward,
                way: Way::Reject,
            };
            let faults = Faults::planned(vec![refused]).repeat_all();
            self.play(faults, &format!("everything twice, `{name}` refused"));
            let faults = Faults::planned(Vec::new()).repeat_all().cancel_after(&name);
            self.play(faults, &format!("everything twice, cancelled after `{name}`"));
        }
    }
    /// Crashes, duplicates, reorders, delays, loses, cancels by so many seeds.
    ///
    /// # Panics
    /// A rule is broken: with the seed, which [`schedule`](Self::schedule) plays again, and the history.
    #[track_caller]
    pub fn schedules(&self, count: u32) {
        for seed in 0..u64::from(count) {
            self.schedule(seed);
        }
    }
    /// Plays the schedule of one seed.
    ///
    /// # Panics
    /// A rule is broken: with the seed and the history.
    #[track_caller]
    pub fn schedule(&self, seed: u64) {
        self.play(
            Faults::seeded(seed),
            &format!("seed {seed} (`.schedule({seed})` plays it again)"),
        );
    }

    #[track_caller]
    fn play(&self, faults: Faults, schedule: &str) {
        let plan = self.definition.plan();
        let mut simulation = Simulation::new(plan, &self.models, self.world.clone(), faults);
        let broken = simulation
            .run(self.input.clone())
            .and_then(|()| rule::check(&simulation))
            .and_then(|()| self.check_own(&simulation));
        if let Err(broken) = broken {
            panic!("{schedule}: {broken}\nwhat has happened:\n{}", simulation.history());
        }
    }

    fn check_own(&self, simulation: &Simulation<'_, W>) -> Result<(), String> {
        let outcome = outcome(simulation)?;
        let world = &simulation.participants.world;
        match self.checks.iter().find(|check| !(check.holds)(world, &outcome)) {
            Some(check) => Err(format!("`{}` does not hold", check.rule)),
            None => Ok(()),
        }
    }
}

fn outcome<S: Data, W>(simulation: &Simulation<'_, W>) -> Result<Outcome<S>, String> {
    let truth = &simulation.truth;
    let state = truth
        .memory
        .as_ref()
        .expect("invariant: a started saga has a memory")
        .of::<S>()
        .clone();
    match &truth.status {
        Status::Completed => Ok(Outcome::Completed(state)),
        Status::Compensated { .. } => {
            let crate::core::Direction::Unwind { reason } = &truth.direction else {
                return Err("it is compensated, but has never gone back".to_owned());
            };
            Ok(Outcome::Compensated {
                state,
                reason: reason.clone(),
            })
        }
        Status::Parked(parked) => {
            let step = parked.ask.as_ref().map(|ask| ask.step.to_string()).unwrap_or_default();
            Ok(Outcome::Parked {
                state,
                step,
                reason: parked.text.clone(),
            })
        }
        Status::New | Status::Running => Err("it hangs: it waits, and nothing will come".to_owned()),
    }
}

fn json<T: Serialize, R: Serialize>(answer: Answer<T, R>) -> serde_json::Result<Answer<Bytes, Bytes>> {
    Ok(match answer {
        Answer::Done(reply) => Answer::Done(serde_json::to_vec(&reply)?.into()),
        Answer::Rejected(rejection) => Answer::Rejected(serde_json::to_vec(&rejection)?.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::{Explore, Faults, Simulation};
    use crate::{
        Answer::{self, Done, Rejected},
        Command, Saga, Undo, call,
    };

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Reserve(u32);
    impl Command for Reserve {
        const NAME: &'static str = "stock.reserve";
        type Reply = u32;
        type Rejection = u32;
    }
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Charge(u32);
    impl Command for Charge {
        const NAME: &'static str = "money.charge";
        type Reply = u32;
        type Rejection = u32;
    }

    #[test]
    fn a_seed_plays_the_same_each_time() {
        let definition = Saga::define("order")
            .step(
                "reserve",
                call(|sum: &u32| Reserve(*sum)).on_reply(|sum, n| *sum += n).undo(),
            )
            .pivot("charge", call(|sum: &u32| Charge(*sum)))
            .build();
        let charge = |left: &mut u32, Charge(n): Charge| -> Answer<u32, u32> {
            if n % 2 == 0 { Done(n) } else { Rejected(*left) }
        };
        let explore = Explore::new(definition, 3, 9)
            .on(|left: &mut u32, Reserve(n)| {
                *left -= n;
                Done(n)
            })
            .undo(|left: &mut u32, undo: Undo<Reserve>| *left += undo.reply)
            .on(charge);
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let play = || {
                let (plan, faults) = (explore.definition.plan(), Faults::seeded(seed));
                let mut simulation = Simulation::new(plan, &explore.models, explore.world, faults);
                simulation.run(explore.input.clone()).unwrap();
                (simulation.log, simulation.given, simulation.participants.committed)
            };
            let (first, second) = (play(), play());
            assert_eq!(first, second, "seed {seed}");
            lengths.insert(first.0.len());
        }
        assert!(lengths.len() > 3, "schedules of different seeds differ");
    }
}
