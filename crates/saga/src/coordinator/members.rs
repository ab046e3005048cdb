//! Which definitions the live coordinators of a log know: each says so at short intervals, and hears what the others say. So
//! what is unknown here can be left to whoever knows it, and what nobody knows is told from what another process knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use sagamill_eventstore::{EventStore, Member};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::core::{CORE_REV, DecodeError, LoadError, Plan};
use crate::{Error, Result};

/// The name under which coordinators join, whatever they subscribe to.
const NAME: &str = "saga-definitions";

/// What a coordinator says of itself, as JSON. Fields that are not known are for a newer one.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    /// The newest revision of events that it can fold.
    core: u32,
    definitions: Vec<Knows>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Knows {
    name: String,
    version: u32,
    /// 16 hexadecimal digits each: its own shape, and those under earlier names of its steps.
    digests: Vec<String>,
}

/// What a process must know to go on with a saga.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needs {
    /// The definition, in the shape that the saga was started by.
    Digest(u64),
    /// The definition; in which shape could not be told.
    Definition(String, u32),
    /// Events of this revision.
    Core(u32),
}

impl Needs {
    /// What is missing here, where that is why a saga cannot be loaded.
    pub(crate) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::UnknownDefinition { definition, version } => Some(Self::Definition(definition.clone(), *version)),
            Error::Unloadable { source, .. } => match source {
                LoadError::DigestChanged { pinned, .. } => Some(Self::Digest(*pinned)),
                LoadError::Decode(DecodeError::Newer { rev, .. }) => Some(Self::Core(*rev)),
                _ => None,
            },
            _ => None,
        }
    }
}

/// This coordinator's place among those that live, and what it has heard of them.
#[derive(Default)]
pub(crate) struct Members(Mutex<View>);

#[derive(Default)]
struct View {
    /// How long something may be known to nobody before it is given up.
    grace: Duration,
    /// False: nothing has been heard yet, so that nothing is known to be missing.
    has_heard: bool,
    digests: BTreeSet<u64>,
    definitions: BTreeSet<(String, u32)>,
    core: u32,
    /// Since when nobody was heard who knows what a saga needed: few, for sagas of one definition need the same.
    missing: BTreeMap<Needs, Timestamp>,
}

impl Members {
    fn lock(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Whether a live process has said that it knows this; also as long as none was heard.
    pub(crate) fn know(&self, needs: &Needs) -> bool {
        self.lock().knows(needs)
    }
    /// Whether no live process has known this for the grace. Asked for the first time, it is missed from then on.
    pub(crate) fn have_missed(&self, needs: &Needs, now: Timestamp) -> bool {
        let mut view = self.lock();
        let grace = view.grace;
        if view.knows(needs) {
            view.missing.remove(needs);
            return false;
        }
        let since = *view.missing.entry(needs.clone()).or_insert(now);
        now.duration_since(since) >= SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX)
    }
    fn hear(&self, members: &[Member], grace: Duration) {
        let mut view = self.lock();
        let missing = std::mem::take(&mut view.missing);
        *view = View {
            grace,
            has_heard: true,
            ..View::default()
        };
        for member in members {
            match member.about.as_deref().map(serde_json::from_str::<About>) {
                Some(Ok(about)) => view.add(about),
                said => tracing::debug!(process = %member.id, ?said, "a coordinator does not say what it knows"),
            }
        }
        // What is known again and lost once more is missed anew.
        view.missing = missing.into_iter().filter(|(needs, _)| !view.knows(needs)).collect();
    }
}

impl View {
    fn add(&mut self, about: About) {
        self.core = self.core.max(about.core);
        for Knows { name, version, digests } in about.definitions {
            let parse = |digest: &String| u64::from_str_radix(digest, 16).ok();
            self.digests.extend(digests.iter().filter_map(parse));
            self.definitions.insert((name, version));
        }
    }
    fn knows(&self, needs: &Needs) -> bool {
        !self.has_heard
            || match needs {
                Needs::Digest(digest) => self.digests.contains(digest),
                Needs::Definition(name, version) => self.definitions.contains(&(name.clone(), *version)),
                Needs::Core(rev) => self.core >= *rev,
            }
    }
}

/// One coordinator's word, said again and again.
pub(crate) struct Membership {
    store: EventStore,
    process: Uuid,
    about: String,
    lease: Duration,
    grace: Duration,
}

impl Membership {
    /// Says for the first time what this process knows, and hears what the others do.
    pub(crate) async fn begin(
        store: &EventStore,
        members: &Members,
        plans: &[Arc<Plan>],
        lease: Duration,
        grace: Duration,
    ) -> Result<Self> {
        let knows = |plan: &Arc<Plan>| Knows {
            name: plan.name.to_string(),
            version: plan.version,
            digests: plan.digests().map(|digest| format!("{digest:016x}")).collect(),
        };
        let about = About {
            core: CORE_REV,
            definitions: plans.iter().map(knows).collect(),
        };
        let membership = Self {
            store: store.clone(),
            process: store.new_owner(),
            about: serde_json::to_string(&about).expect("invariant: names and numbers can be written as JSON"),
            lease,
            grace,
        };
        membership.say(members).await?;
        Ok(membership)
    }
    /// Says it again in time, until `stop`.
    pub(crate) async fn keep(&self, members: &Members, stop: &CancellationToken) -> Result<()> {
        while stop
            .run_until_cancelled(tokio::time::sleep(self.lease / 3))
            .await
            .is_some()
        {
            if let Err(error) = self.say(members).await {
                tracing::warn!(%error, "other coordinators cannot be told what is known here; trying again");
            }
        }
        Ok(())
    }
    async fn say(&self, members: &Members) -> Result<()> {
        let all = self.store.join(NAME, self.process, &self.about, self.lease).await?;
        members.hear(&all, self.grace);
        Ok(())
    }
    /// Takes it back, so that what only this process knew is missed from now on.
    pub(crate) async fn end(self) -> Result<()> {
        Ok(self.store.leave(NAME, self.process).await?)
    }
}
