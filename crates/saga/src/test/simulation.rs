//! One schedule: a log, two coordinators with caches, a network, participants, an operator; on virtual time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jiff::{Timestamp, ToSpan as _};
use uuid::Uuid;

use super::{
    barrier::{Call, Models, Participants},
    fault::{Faults, Way},
    play,
};
use crate::core::{
    By, Decided, Decision, Fact, Input, InputKind, Phase, Plan, Reported, Request, SagaEvent, State, Status, load,
    react,
};

/// A schedule that takes more turns than this does not end.
const TURNS_MAX: u32 = 20_000;
/// How often the operator lets a parked saga go on.
const RESUMES_MAX: u32 = 40;
/// Something on its way.
#[derive(Debug, Clone)]
enum Flight {
    /// To a participant, or to a local function.
    Call { call: Call, undo: bool },
    /// To a coordinator.
    Input { cause: Uuid, kind: InputKind, crash: bool },
}

/// One schedule.
pub(super) struct Simulation<'a, W> {
    pub(super) plan: &'a Plan,
    models: &'a Models<W>,
    faults: Faults,
    pub(super) participants: Participants<W>,
    /// What is stored.
    pub(super) log: Vec<Decided>,
    /// How long the log was after each append.
    pub(super) appends: Vec<usize>,
    /// The state that the log makes.
    pub(super) truth: State,
    /// Each input that was given.
    pub(super) given: Vec<Input>,
    pub(super) now: Timestamp,
    caches: [Option<State>; 2],
    flights: BTreeMap<(Timestamp, u64), Flight>,
    running: BTreeSet<(Uuid, Phase, u32)>,
    causes: u64,
    resumes: u32,
}

impl<'a, W: Clone> Simulation<'a, W> {
    pub(super) fn new(plan: &'a Plan, models: &'a Models<W>, world: W, faults: Faults) -> Self {
        Self {
            plan,
            models,
            faults,
            participants: Participants::new(world),
            log: Vec::new(),
            appends: Vec::new(),
            truth: State::new(plan, "test"),
            given: Vec::new(),
            now: Timestamp::UNIX_EPOCH,
            caches: [None, None],
            flights: BTreeMap::new(),
            running: BTreeSet::new(),
            causes: 0,
            resumes: 0,
        }
    }

    /// Plays until nothing more will happen.
    pub(super) fn run(&mut self, input: Bytes) -> Result<(), String> {
        self.send_input(InputKind::Start { input }, 0, false);
        for _ in 0..TURNS_MAX {
            if !self.turn()? {
                return Ok(());
            }
        }
        Err(format!("it does not end within {TURNS_MAX} turns"))
    }

    pub(super) fn history(&self) -> String {
        let events: Vec<_> = self.events();
        play::history(&events)
    }

    pub(super) fn events(&self) -> Vec<SagaEvent> {
        self.log.iter().map(|decided| decided.event.clone()).collect()
    }

    /// The next thing that happens. False: nothing more.
    fn turn(&mut self) -> Result<bool, String> {
        self.disturb();
        self.run_local();
        let flight = self.flights.keys().next().copied();
        let timer = self.truth.timers(self.plan).into_iter().min_by_key(|timer| timer.due);
        // A timer may be late: what is on its way then comes first.
        let late = flight.is_some() && self.faults.happens(12);
        let is_parked = matches!(self.truth.status, Status::Parked(_));
        match (flight, timer) {
            (None, _) if is_parked && self.resumes < RESUMES_MAX => self.operate()?,
            (None, None) => return Ok(false),
            (Some(at), Some(timer)) if at.0 <= timer.due || late => self.land(at)?,
            (Some(at), None) => self.land(at)?,
            (_, Some(timer)) => {
                self.now = self.now.max(timer.due);
                let kind = match timer.step {
                    None => InputKind::DeadlineFired,
                    Some((step, phase, attempt)) => InputKind::TimerFired {
                        step: step.to_string(),
                        phase,
                        attempt,
                        due: timer.due,
                    },
                };
                let cause = self.cause();
                self.give(vec![(cause, kind.clone())], false)?;
                if self.faults.repeats || self.faults.happens(10) {
                    self.give(vec![(cause, kind)], false)?;
                }
            }
        }
        Ok(true)
    }

    /// What can happen at any time: a cancel, a deadline, a dead coordinator, a dead cluster.
    fn disturb(&mut self) {
        if self.truth.status == Status::New {
            return;
        }
        if let Some(step) = &self.faults.cancel_after
            && self
                .plan
                .index(step)
                .is_some_and(|index| self.truth.steps[index].reply.is_some())
        {
            self.faults.cancel_after = None;
            self.send_input(
                InputKind::Cancel {
                    by: by("cancels"),
                    seen: None,
                },
                0,
                false,
            );
        }
        if self.faults.happens(60) {
            self.send_input(
                InputKind::Cancel {
                    by: by("cancels"),
                    seen: None,
                },
                0,
                false,
            );
        }
        if self.faults.happens(80)
            && let Some(deadline) = self.truth.deadline
        {
            self.now = self.now.max(deadline);
            self.send_input(InputKind::DeadlineFired, 0, false);
        }
        if self.faults.happens(40) {
            let who = self.who();
            self.caches[who] = None;
            self.running.clear();
        }
        if self.faults.happens(80) {
            self.caches = [None, None];
            self.running.clear();
            // Starts stay with their callers, who try again; all else that is on its way is lost.
            self.flights.retain(|_, flight| {
                matches!(
                    flight,
                    Flight::Input {
                        kind: InputKind::Start { .. },
                        ..
                    }
                )
            });
        }
    }

    /// A parked saga: an operator lets it go on, or now and then cancels it or skips the step.
    fn operate(&mut self) -> Result<(), String> {
        self.resumes += 1;
        let Status::Parked(parked) = &self.truth.status else {
            return Ok(());
        };
        let seen = Some(self.truth.version);
        let kind = match &parked.ask {
            Some(_) if self.resumes > RESUMES_MAX / 2 && !self.truth.is_unwinding() => InputKind::Cancel {
                by: by("gives up"),
                seen,
            },
            _ => InputKind::Resume {
                by: by("resumes"),
                seen,
            },
        };
        let cause = self.cause();
        self.give(vec![(cause, kind)], false)
    }

    /// Starts what is to be run in this process.
    fn run_local(&mut self) {
        for work in self.truth.local_work(self.plan) {
            let key = (work.ask.effect, work.ask.phase, work.ask.attempt);
            if !self.running.insert(key) {
                continue;
            }
            let memory = self
                .truth
                .memory
                .as_ref()
                .expect("invariant: a started saga has a memory");
            let call = Call {
                model: format!("local:{}", work.ask.step),
                phase: work.ask.phase,
                payload: memory.to_json().unwrap_or_default(),
                expires: Timestamp::MAX,
                ask: work.ask,
            };
            let undo = call.phase == Phase::Compensate;
            let at = work.not_before.unwrap_or(self.now).max(self.now);
            let delay = 1 + self.faults.below(40);
            self.fly(at, delay, Flight::Call { call, undo });
        }
    }

    fn cause(&mut self) -> Uuid {
        self.causes += 1;
        Uuid::from_u128(u128::from(self.causes))
    }

    fn who(&mut self) -> usize {
        usize::try_from(self.faults.below(2)).unwrap_or(0)
    }

    fn fly(&mut self, from: Timestamp, delay_ms: i64, flight: Flight) {
        self.causes += 1;
        let at = from.checked_add(delay_ms.milliseconds()).unwrap_or(Timestamp::MAX);
        self.flights.insert((at, self.causes), flight);
    }

    fn send_input(&mut self, kind: InputKind, delay_ms: i64, crash: bool) {
        let cause = self.cause();
        self.fly(self.now, delay_ms, Flight::Input { cause, kind, crash });
    }

    fn land(&mut self, at: (Timestamp, u64)) -> Result<(), String> {
        let Some(flight) = self.flights.remove(&at) else {
            return Ok(());
        };
        self.now = self.now.max(at.0);
        match flight {
            Flight::Call { call, undo } => {
                self.handle(&call, undo);
                Ok(())
            }
            Flight::Input { cause, kind, crash } => {
                let mut inputs = vec![(cause, kind)];
                // What waits for the same saga may be decided together.
                if let Some(next) = self.flights.keys().next().copied()
                    && matches!(self.flights[&next], Flight::Input { crash: false, .. })
                    && self.faults.happens(6)
                    && let Some(Flight::Input { cause, kind, .. }) = self.flights.remove(&next)
                {
                    self.now = self.now.max(next.0);
                    inputs.push((cause, kind));
                }
                self.give(inputs, crash)
            }
        }
    }

    /// A participant, or a local function, handles a call.
    fn handle(&mut self, call: &Call, undo: bool) {
        let is_local = call.model.starts_with("local:");
        let refuses = !undo && (self.faults.is_planned(call, undo, Way::Reject) || self.faults.happens(20));
        let refuse = self.models.rejections.get(&call.model).filter(|_| refuses);
        let fails = self.faults.is_planned(call, undo, Way::Fail) || self.faults.happens(40);
        let errs = is_local && self.faults.happens(12);
        let reported = match (fails, errs) {
            (true, _) => Reported::Failed("it is broken".to_owned()),
            (_, true) => Reported::Unknown("it is busy".to_owned()),
            (false, false) => self.participants.handle(self.models, call, refuse, self.now),
        };
        if self.faults.is_planned(call, undo, Way::LoseReply) || self.faults.happens(10) {
            // A local outcome is lost only with its process, which then runs it again.
            if is_local {
                self.caches = [None, None];
                self.running.clear();
            }
            return;
        }
        let crash = self.faults.is_planned(call, undo, Way::Crash);
        let late = self.faults.is_planned(call, undo, Way::Late) || self.faults.happens(15);
        let delay = if late {
            30_000 + self.faults.below(600_000)
        } else {
            1 + self.faults.below(2000)
        };
        let kind = InputKind::Answer {
            ask: call.ask.clone(),
            reported,
        };
        let cause = self.cause();
        if !is_local && (self.faults.repeats || self.faults.happens(8)) {
            let again = delay + self.faults.below(20_000);
            self.fly(
                self.now,
                again,
                Flight::Input {
                    cause,
                    kind: kind.clone(),
                    crash: false,
                },
            );
        }
        let delay = if is_local { 1 } else { delay };
        self.fly(self.now, delay, Flight::Input { cause, kind, crash });
    }

    /// A coordinator takes inputs: it decides, appends, publishes, acknowledges; and may die between any two of these.
    fn give(&mut self, inputs: Vec<(Uuid, InputKind)>, crash: bool) -> Result<(), String> {
        let who = self.who();
        let now = self.now;
        let inputs: Vec<_> = inputs
            .into_iter()
            .map(|(cause, kind)| Input { cause, now, kind })
            .collect();
        self.given.extend(inputs.iter().cloned());
        loop {
            let state = match self.caches[who].take() {
                Some(state) => state,
                None => self.load()?,
            };
            let decision = react(self.plan, &state, &inputs).map_err(|error| error.to_string())?;
            together(self.plan, &state, &inputs, &decision)?;
            // Stale: an append would conflict, and doing nothing is not final. The cache is dropped.
            if state.version == self.truth.version {
                self.append(who, decision);
                break;
            }
        }
        if crash || self.faults.happens(25) {
            self.caches[who] = None;
            self.running.clear();
            for input in inputs {
                let delay = self.faults.below(3000);
                self.fly(
                    self.now,
                    delay,
                    Flight::Input {
                        cause: input.cause,
                        kind: input.kind,
                        crash: false,
                    },
                );
            }
        }
        Ok(())
    }

    pub(super) fn load(&self) -> Result<State, String> {
        load(self.plan, "test", &self.events()).map_err(|error| format!("the stored events make no state: {error}"))
    }

    fn append(&mut self, who: usize, decision: Decision) {
        self.caches[who] = Some(decision.next.clone());
        self.truth = decision.next;
        if decision.events.is_empty() {
            return;
        }
        for decided in &decision.events {
            if let Fact::StepRequested(request) | Fact::UndoRequested(request) = &decided.event.fact {
                self.publish(request, matches!(decided.event.fact, Fact::UndoRequested(_)));
            }
        }
        self.log.extend(decision.events);
        self.appends.push(self.log.len());
    }

    fn publish(&mut self, request: &Request, undo: bool) {
        let call = Call {
            model: request.content.command.to_string(),
            ask: crate::core::Ask {
                phase: request.travels_as,
                ..request.ask.clone()
            },
            phase: request.travels_as,
            payload: request.content.payload.clone(),
            expires: request.expires,
        };
        if self.faults.is_planned(&call, undo, Way::LoseRequest) || self.faults.happens(12) {
            return;
        }
        let copies = 1 + u32::from(self.faults.repeats || self.faults.happens(10));
        for _ in 0..copies {
            let late = self.faults.happens(15);
            let delay = if late {
                30_000 + self.faults.below(600_000)
            } else {
                1 + self.faults.below(2000)
            };
            self.fly(
                self.now,
                delay,
                Flight::Call {
                    call: call.clone(),
                    undo,
                },
            );
        }
    }
}

/// Deciding inputs together is deciding them one by one.
fn together(plan: &Plan, state: &State, inputs: &[Input], decision: &Decision) -> Result<(), String> {
    if inputs.len() < 2 {
        return Ok(());
    }
    let (mut state, mut events) = (state.clone(), Vec::new());
    for input in inputs {
        let one = react(plan, &state, std::slice::from_ref(input)).map_err(|error| error.to_string())?;
        events.extend(one.events);
        state = one.next;
    }
    match events == decision.events && state == decision.next {
        true => Ok(()),
        false => Err("inputs decided together end elsewhere than one by one".to_owned()),
    }
}

fn by(what: &str) -> By {
    By {
        actor: "operator".to_owned(),
        reason: format!("the schedule {what}"),
    }
}
