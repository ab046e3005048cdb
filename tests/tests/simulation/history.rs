//! The rules: what every saga's stream and the participants' ledger must show, whatever happened on the way.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sagamill::{
    eventstore::{EventStore, Recorded},
    saga::core::{Ask, Doubt, Entry, Fact, ParkReason, Phase, SagaEvent},
};
use uuid::Uuid;

use crate::world::{Books, FINAL, Plan, UNDOABLE, first_name, last_steps};

/// How a saga stands at the end of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Running,
    Completed,
    Compensated,
    Parked,
}

/// One saga's stream, decoded.
pub(crate) struct History {
    pub(crate) key: String,
    entries: Vec<(Recorded, Entry)>,
}

/// Reads a saga's stream.
pub(crate) async fn read(store: &EventStore, key: &str) -> History {
    let mut entries = Vec::new();
    let mut events = store.read(sagamill::saga::wire::stream("place-order", key));
    while let Some(recorded) = events.next().await {
        let recorded = recorded.expect("the log can be read");
        let entry = SagaEvent::decode(&recorded).expect("every event of a saga can be decoded");
        entries.push((recorded, entry));
    }
    History {
        key: key.to_owned(),
        entries,
    }
}

impl History {
    fn facts(&self) -> impl Iterator<Item = (usize, &Fact)> {
        self.entries
            .iter()
            .enumerate()
            .map(|(index, (_, entry))| (index, &entry.event.fact))
    }
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
    /// Its events with their times, on one line.
    pub(crate) fn story(&self) -> String {
        let names: Vec<String> = self
            .entries
            .iter()
            .map(|(r, _)| format!("{}@{}", r.name, r.at))
            .collect();
        format!("{}: {}", self.key, names.join(" "))
    }
    pub(crate) fn end(&self) -> End {
        let mut end = End::Running;
        for (_, fact) in self.facts() {
            match fact {
                Fact::Completed { .. } => end = End::Completed,
                Fact::Compensated(_) => end = End::Compensated,
                Fact::Parked(_) => end = End::Parked,
                Fact::Resumed { .. } => end = End::Running,
                _ => {}
            }
        }
        end
    }

    /// All the rules that a single saga's stream can be held against.
    pub(crate) fn check(&self, books: &Books, plan: &Plan, broken: &mut Vec<String>) {
        let mut say = |what: String| broken.push(format!("saga {}: {what}", self.key));
        self.is_dense(&mut say);
        self.ends_once(&mut say);
        self.goes_forward_in_order(plan.version, &mut say);
        self.is_parked_for_its_definition_alone(&mut say);
        self.unwinds_in_reverse(&mut say);
        self.never_undoes_behind_the_pivot(&mut say);
        self.keeps_its_effect_ids(&mut say);
        self.is_never_early(&mut say);
        self.has_the_effects_of_its_end(books, plan, &mut say);
    }

    fn is_dense(&self, say: &mut impl FnMut(String)) {
        for (index, (recorded, _)) in self.entries.iter().enumerate() {
            if recorded.version.0 != index as i64 + 1 {
                say(format!("version {} stands at place {}", recorded.version, index + 1));
            }
        }
        let ids: BTreeSet<Uuid> = self.entries.iter().map(|(recorded, _)| recorded.id).collect();
        if ids.len() != self.entries.len() {
            say("an event id occurs twice".to_owned());
        }
    }

    /// One end, and nothing after it.
    fn ends_once(&self, say: &mut impl FnMut(String)) {
        let ends: Vec<usize> = self
            .facts()
            .filter(|(_, f)| matches!(f, Fact::Completed { .. } | Fact::Compensated(_)))
            .map(|(i, _)| i)
            .collect();
        if ends.len() > 1 || ends.first().is_some_and(|end| *end + 1 != self.len()) {
            say(format!("ends at {ends:?} of {} events", self.len()));
        }
    }

    fn done(&self, phase: Phase) -> Vec<(usize, &Ask)> {
        self.facts()
            .filter_map(|(index, fact)| match fact {
                Fact::StepDone { ask, .. }
                | Fact::Completed {
                    last: Some((ask, _)), ..
                } if phase == Phase::Forward => Some((index, ask)),
                Fact::UndoDone { ask } if phase == Phase::Compensate => Some((index, ask)),
                _ => None,
            })
            .collect()
    }

    /// How often it was parked because nobody knew its definition.
    pub(crate) fn parked(&self) -> usize {
        self.facts().filter(|(_, fact)| matches!(fact, Fact::Parked(_))).count()
    }
    /// Nothing else parks a saga here, and it goes on by itself.
    fn is_parked_for_its_definition_alone(&self, say: &mut impl FnMut(String)) {
        for (_, fact) in self.facts() {
            match fact {
                Fact::Parked(parked) if parked.reason != ParkReason::UnknownDefinition => {
                    say(format!("is parked: {}", parked.text));
                }
                Fact::Resumed { by } if by.actor != "sagamill" => say(format!("is resumed by {}", by.actor)),
                _ => {}
            }
        }
    }

    fn goes_forward_in_order(&self, version: u32, say: &mut impl FnMut(String)) {
        let order: Vec<&str> = UNDOABLE.iter().chain(last_steps(version)).copied().collect();
        let place = |step: &str| {
            let name = first_name(step);
            order.iter().position(|known| *known == name).expect("a known step")
        };
        let done: BTreeMap<usize, usize> = self
            .done(Phase::Forward)
            .iter()
            .map(|(i, ask)| (place(&ask.step), *i))
            .collect();
        let mut unwinding = false;
        for (index, fact) in self.facts() {
            match fact {
                Fact::StepRequested(request) => {
                    let step = place(&request.ask.step);
                    if step > 0 && done.get(&(step - 1)).is_none_or(|before| *before > index) {
                        say(format!(
                            "{} was asked for before the step before it was done",
                            request.ask.step
                        ));
                    }
                    // A step in doubt may be asked again while the saga unwinds, to learn how it ended; a new one may not.
                    if unwinding && request.ask.attempt == 1 {
                        say(format!("{} was begun while the saga unwinds", request.ask.step));
                    }
                }
                Fact::UndoRequested(_) => unwinding = true,
                _ => {}
            }
        }
    }

    fn unwinds_in_reverse(&self, say: &mut impl FnMut(String)) {
        let place = |step: &str| UNDOABLE.iter().position(|name| *name == first_name(step));
        let mut last_done = UNDOABLE.len();
        for (index, fact) in self.facts() {
            let Fact::UndoRequested(request) = fact else { continue };
            let Some(step) = place(&request.ask.step) else {
                say(format!("{} was undone, which has no undo", request.ask.step));
                continue;
            };
            if step > last_done {
                say(format!("{} is undone too late, at event {index}", request.ask.step));
            }
            let undone = |later: usize| {
                self.done(Phase::Compensate)
                    .iter()
                    .any(|(i, ask)| *i < index && place(&ask.step) == Some(later))
            };
            let touched = |later: usize| {
                self.facts()
                    .any(|(_, f)| matches!(f, Fact::UndoRequested(r) if place(&r.ask.step) == Some(later)))
            };
            for (later, name) in UNDOABLE.iter().enumerate().skip(step + 1) {
                if touched(later) && !undone(later) {
                    say(format!("{} is undone before {name}", UNDOABLE[step]));
                }
            }
            last_done = last_done.min(step);
        }
    }

    /// Requested and not rejected: no undo.
    fn never_undoes_behind_the_pivot(&self, say: &mut impl FnMut(String)) {
        let mut requested = false;
        for (_, fact) in self.facts() {
            match fact {
                Fact::StepRequested(request) if &*request.ask.step == "capture" => requested = true,
                Fact::StepRejected { ask, .. } if &*ask.step == "capture" => requested = false,
                Fact::UndoRequested(request) if requested => {
                    say(format!(
                        "{} is undone although the pivot was asked for",
                        request.ask.step
                    ));
                }
                _ => {}
            }
        }
    }

    /// One effect id for all asks of a step, and the same bytes in each.
    fn keeps_its_effect_ids(&self, say: &mut impl FnMut(String)) {
        let mut known = BTreeMap::new();
        for (_, fact) in self.facts() {
            let (Fact::StepRequested(request) | Fact::UndoRequested(request)) = fact else {
                continue;
            };
            let ask = &request.ask;
            let this = (ask.step.to_string(), ask.iteration, ask.round, ask.phase.as_str());
            match known.get(&this) {
                Some((effect, bytes, _)) if *effect != ask.effect || *bytes != request.content.payload => {
                    say(format!("{} is asked again as something else", ask.step));
                }
                Some((.., attempt)) if *attempt + 1 != ask.attempt => {
                    say(format!("{}: attempt {} follows {attempt}", ask.step, ask.attempt));
                }
                _ => {}
            }
            known.insert(this, (ask.effect, request.content.payload.to_vec(), ask.attempt));
        }
    }

    /// A time-out is not before its time, by the log's clock, and a next try is not before its own.
    fn is_never_early(&self, say: &mut impl FnMut(String)) {
        let mut due: BTreeMap<(String, &'static str), Timestamp> = BTreeMap::new();
        for (recorded, entry) in &self.entries {
            match &entry.event.fact {
                Fact::StepRequested(request) | Fact::UndoRequested(request) => {
                    let this = (request.ask.step.to_string(), request.ask.phase.as_str());
                    if let Some(next) = due.get(&this).filter(|next| recorded.at < **next) {
                        say(format!(
                            "{} is asked again at {}, {} too early",
                            request.ask.step,
                            recorded.at,
                            *next - recorded.at
                        ));
                    }
                    due.insert(this, request.due);
                }
                Fact::StepTimedOut { ask, then, error } => {
                    let this = (ask.step.to_string(), ask.phase.as_str());
                    if error.is_none() && due.get(&this).is_some_and(|due| recorded.at < *due) {
                        say(format!("{} times out too early", ask.step));
                    }
                    match then {
                        Doubt::Ask(next) => due.insert(this, *next),
                        _ => due.remove(&this),
                    };
                }
                Fact::UndoFailed {
                    ask, next: Some(next), ..
                } => {
                    due.insert((ask.step.to_string(), ask.phase.as_str()), *next);
                }
                _ => {}
            }
        }
    }

    fn has_the_effects_of_its_end(&self, books: &Books, plan: &Plan, say: &mut impl FnMut(String)) {
        let mut acts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for effect in books.effects.values().filter(|effect| effect.saga == plan.number) {
            acts.entry(&effect.step).or_default().push(&effect.acts);
        }
        let all = UNDOABLE.iter().chain(last_steps(plan.version)).copied();
        match self.end() {
            End::Completed => {
                for step in all {
                    if acts.get(step).is_none_or(|acts| acts[..] != ["A"]) {
                        say(format!("completed, but {step} has {:?}", acts.get(step)));
                    }
                }
            }
            End::Compensated => {
                for step in UNDOABLE {
                    if acts.get(step).is_some_and(|acts| acts.iter().any(|acts| *acts != "AC")) {
                        say(format!("compensated, but {step} has {:?}", acts.get(step)));
                    }
                }
                for step in FINAL {
                    if acts.contains_key(step) {
                        say(format!("compensated, but {step} was done"));
                    }
                }
            }
            End::Running | End::Parked => {}
        }
    }
}
