//! A definition's shape: what must not change under sagas in flight, but for the names of its steps where it says what
//! they were.

use std::{iter, sync::Arc};

use xxhash_rust::xxh3::xxh3_64;

use super::{Plan, StepKind, UndoPlan};

/// Most shapes of one definition: its own, and those under combinations of earlier names of its steps.
pub(crate) const SHAPES_MAX: usize = 16;

/// The names of a definition's steps, in their order.
pub(crate) type Names = Arc<[Arc<str>]>;

impl Plan {
    /// The shape as text, one line for each step: names, kinds, order, groups, destinations, types of commands and replies
    /// with their schema versions, undos, pivot. No policy is in it: those may be tuned under sagas in flight.
    pub fn shape(&self) -> String {
        self.shape_under(&self.current_names())
    }
    /// The digest of its shape, and then those of the shapes that it had under earlier names of its steps: sagas of all
    /// these go on by it.
    pub fn digests(&self) -> impl Iterator<Item = u64> {
        self.shapes.iter().map(|(digest, _)| *digest)
    }
    /// By which names the sagas of a digest know their steps; none: it is not of this definition.
    pub(crate) fn names(&self, digest: u64) -> Option<&Names> {
        self.shapes
            .iter()
            .find_map(|(known, names)| (*known == digest).then_some(names))
    }
    /// How many shapes its steps' names make.
    pub(crate) fn shape_count(&self) -> usize {
        let of = self.steps.iter().map(|step| step.was.len() + 1);
        of.fold(1, usize::saturating_mul)
    }
    /// Computes the digests. After that the steps do not change any more.
    pub(crate) fn seal(&mut self) {
        let mut all = vec![Vec::new()];
        for step in &self.steps {
            let was = step.was.iter().map(|name| Arc::from(*name));
            let names: Vec<Arc<str>> = iter::once(step.name.clone()).chain(was).collect();
            // The current names come first. Beyond the bound it is refused when it is registered.
            all = names
                .iter()
                .flat_map(|name| all.iter().map(move |before| (before, name)))
                .map(|(before, name)| before.iter().chain(iter::once(name)).cloned().collect())
                .take(SHAPES_MAX)
                .collect();
        }
        let digest = |names: &Vec<Arc<str>>| xxh3_64(self.shape_under(names).as_bytes());
        self.shapes = all
            .iter()
            .map(|names| (digest(names), names.as_slice().into()))
            .collect();
        self.digest = self.shapes[0].0;
    }
    fn current_names(&self) -> Vec<Arc<str>> {
        self.steps.iter().map(|step| step.name.clone()).collect()
    }
    fn shape_under(&self, names: &[Arc<str>]) -> String {
        use std::fmt::Write as _;
        let mut text = format!("{} v{}\n", self.name, self.version);
        for (index, (step, name)) in self.steps.iter().zip(names).enumerate() {
            let pivot = if self.pivot == Some(index) { " pivot" } else { "" };
            let when = if step.when.is_some() { " when" } else { "" };
            let kind = match &step.kind {
                StepKind::Call {
                    command,
                    version,
                    reply,
                    ..
                } => {
                    let topic = crate::wire::command_topic(command);
                    format!("call {command} v{version} to {topic} -> {reply}")
                }
                StepKind::Local { reply, .. } => format!("local -> {reply}"),
            };
            let undo = match &step.undo {
                UndoPlan::None => String::new(),
                UndoPlan::Participant => " undo".to_owned(),
                UndoPlan::Command { command, version, .. } => {
                    format!(" undo {command} v{version} to {}", crate::wire::command_topic(command))
                }
                UndoPlan::Local(_) => " undo local".to_owned(),
            };
            writeln!(text, "{} {name}{pivot}{when}: {kind}{undo}", step.group)
                .expect("invariant: writing to a string does not fail");
        }
        text
    }
}
