//! A definition's shape: what must not change under sagas in flight.

use xxhash_rust::xxh3::xxh3_64;

use super::{Plan, StepKind, UndoPlan};

impl Plan {
    /// The shape as text, one line for each step: names, kinds, order, groups, destinations, types of commands and replies
    /// with their schema versions, undos, pivot. No policy is in it: those may be tuned under sagas in flight.
    pub fn shape(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("{} v{}\n", self.name, self.version);
        for (index, step) in self.steps.iter().enumerate() {
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
            writeln!(text, "{} {}{pivot}{when}: {kind}{undo}", step.group, step.name)
                .expect("invariant: writing to a string does not fail");
        }
        text
    }
    pub(crate) fn shape_hash(&self) -> u64 {
        xxh3_64(self.shape().as_bytes())
    }
}
