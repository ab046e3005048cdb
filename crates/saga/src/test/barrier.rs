//! Participants as a test has them: models behind a barrier that behaves as the real one does.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    Answer,
    core::{Ask, Phase, Reported},
};

/// What a participant does, its types erased: on which world, with which command or state, as JSON.
pub(super) type Act<W> = Box<dyn Fn(&mut W, &[u8]) -> serde_json::Result<Answer<Bytes, Bytes>>>;
/// How it is undone: on which world, with which command and which reply, as JSON.
pub(super) type Revert<W> = Box<dyn Fn(&mut W, &[u8], &[u8]) -> serde_json::Result<()>>;

/// Models by the command's name, or by `local:` and the step's.
pub(super) struct Models<W> {
    pub(super) acts: BTreeMap<String, Act<W>>,
    pub(super) reverts: BTreeMap<String, Revert<W>>,
    /// The smallest rejection of each, where there is one.
    pub(super) rejections: BTreeMap<String, Bytes>,
}

impl<W> Default for Models<W> {
    fn default() -> Self {
        Self {
            acts: BTreeMap::new(),
            reverts: BTreeMap::new(),
            rejections: BTreeMap::new(),
        }
    }
}

/// A command, an undo, or a local run on its way.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) model: String,
    /// As the answer will name it.
    pub(super) ask: Ask,
    /// What the barrier is asked.
    pub(super) phase: Phase,
    pub(super) payload: Bytes,
    pub(super) expires: Timestamp,
}

/// What a participant has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The effect is there.
    Done,
    /// It was undone.
    Undone,
    /// The undo came first: the effect will never be there.
    Tombstone,
}

#[derive(Debug, Clone)]
enum Row {
    Done { command: Bytes, reply: Bytes },
    Rejected(Bytes),
    Gone,
}

/// All participants: what they have changed, their barriers, and the log of what they have committed.
#[derive(Clone)]
pub(super) struct Participants<W> {
    pub(super) world: W,
    rows: BTreeMap<Uuid, Row>,
    pub(super) committed: Vec<(Uuid, Effect)>,
}

impl<W: Clone> Participants<W> {
    pub(super) fn new(world: W) -> Self {
        Self {
            world,
            rows: BTreeMap::new(),
            committed: Vec::new(),
        }
    }

    /// Handles one call. `refuse` gives the rejection with which the model refuses what it has not done yet.
    pub(super) fn handle(
        &mut self,
        models: &Models<W>,
        call: &Call,
        refuse: Option<&Bytes>,
        now: Timestamp,
    ) -> Reported {
        if now > call.expires {
            return Reported::Expired;
        }
        match call.phase {
            Phase::Forward => self.act(models, call, refuse),
            Phase::Compensate => self.revert(models, call),
        }
    }

    fn act(&mut self, models: &Models<W>, call: &Call, refuse: Option<&Bytes>) -> Reported {
        match self.rows.get(&call.ask.effect) {
            Some(Row::Done { reply, .. }) => return Reported::Done(reply.clone()),
            Some(Row::Rejected(rejection)) => return Reported::Rejected(rejection.clone()),
            Some(Row::Gone) => return Reported::Rejected(Bytes::from_static(b"\"undone before it came\"")),
            None => {}
        }
        let before = self.world.clone();
        let answer = match (refuse, models.acts.get(&call.model)) {
            (Some(rejection), _) => Answer::Rejected(rejection.clone()),
            (None, Some(act)) => act(&mut self.world, &call.payload)
                .unwrap_or_else(|error| panic!("the model of `{}` cannot read what it is asked: {error}", call.model)),
            (None, None) => panic!("no model for `{}`: add `.on(..)`, or `.local(..)`", call.model),
        };
        match answer {
            Answer::Done(reply) => {
                self.committed.push((call.ask.effect, Effect::Done));
                let row = Row::Done {
                    command: call.payload.clone(),
                    reply: reply.clone(),
                };
                self.rows.insert(call.ask.effect, row);
                Reported::Done(reply)
            }
            Answer::Rejected(rejection) => {
                self.world = before;
                self.rows.insert(call.ask.effect, Row::Rejected(rejection.clone()));
                Reported::Rejected(rejection)
            }
        }
    }

    fn revert(&mut self, models: &Models<W>, call: &Call) -> Reported {
        let effect = match self.rows.get(&call.ask.effect) {
            None => Effect::Tombstone,
            Some(Row::Rejected(_) | Row::Gone) => return Reported::Done(Bytes::from_static(b"null")),
            Some(Row::Done { command, reply }) => {
                let revert = models.reverts.get(&call.model);
                let revert = revert.unwrap_or_else(|| panic!("no model that undoes `{}`: add `.undo(..)`", call.model));
                revert(&mut self.world, command, reply)
                    .unwrap_or_else(|error| panic!("the undo of `{}` cannot read its reply: {error}", call.model));
                Effect::Undone
            }
        };
        self.committed.push((call.ask.effect, effect));
        self.rows.insert(call.ask.effect, Row::Gone);
        Reported::Done(Bytes::from_static(b"null"))
    }

    pub(super) fn effects(&self, effect: Uuid) -> Vec<Effect> {
        self.committed
            .iter()
            .filter(|(id, _)| *id == effect)
            .map(|(_, effect)| *effect)
            .collect()
    }
}
