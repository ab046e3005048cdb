//! Which topics and groups have had dead letters. The broker tells the names of its queues to operators alone, so they are
//! kept in a queue of names.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Mutex, PoisonError},
};

use lapin::{BasicProperties, types::FieldTable};
use serde::{Deserialize, Serialize};

use super::{
    desk::{Fate, Parcel},
    link::{Link, quorum},
    reading::Reading,
};
use crate::{Error, Result, Topic};

/// One name in the queue of names.
#[derive(Serialize, Deserialize)]
struct Entry {
    topic: String,
    group: String,
}

/// Whose dead letters have a name there, as far as this process knows.
#[derive(Debug, Default)]
pub(super) struct Register(Mutex<HashSet<(Topic, String)>>);

impl Register {
    fn knows(&self, at: &(Topic, String)) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(at)
    }
    fn learn(&self, names: impl IntoIterator<Item = (Topic, String)>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
    }
}

impl Link {
    /// Makes the queue of a topic's and group's dead letters, and puts them into the register, unless they are there. Two processes may do so at once: readers do not mind.
    pub(super) async fn enrol(&self, topic: &Topic, group: &str, settings: FieldTable) -> Result<()> {
        let at = (topic.clone(), group.to_owned());
        if self.register.knows(&at) {
            return Ok(());
        }
        self.make_lasting(&self.names.register(), quorum()).await?;
        self.make_lasting(&self.names.dead(group, topic), settings).await?;
        if self.enrolled().await?.contains(&at) {
            return Ok(());
        }
        let entry = Entry {
            topic: topic.to_string(),
            group: group.to_owned(),
        };
        let parcel = Parcel {
            exchange: String::new(),
            routing_key: String::new(),
            properties: BasicProperties::default()
                .with_delivery_mode(2)
                .with_message_id(crate::MessageId::random().to_string().into()),
            payload: serde_json::to_vec(&entry)
                .map_err(|error| Error::Codec(error.into()))?
                .into(),
        };
        match self.send_to(&self.names.register(), parcel).await? {
            Fate::Stored => {
                self.register.learn([at]);
                Ok(())
            }
            _ => Err(Error::Unconfirmed(
                "the register of dead letters did not take a name".into(),
            )),
        }
    }
    /// All that are in the register; names that are there twice are taken out.
    pub(super) async fn enrolled(&self) -> Result<BTreeSet<(Topic, String)>> {
        let name = self.names.register();
        let mut reading = Reading::open(self, &name, quorum()).await?;
        let mut names = BTreeSet::new();
        while let Some(delivery) = reading.next().await? {
            let entry: Option<Entry> = serde_json::from_slice(&delivery.data).ok();
            let is_new = entry.is_some_and(|Entry { topic, group }| names.insert((Topic::from(topic), group)));
            if !is_new {
                reading.take_out(&delivery).await?;
            }
        }
        reading.close().await?;
        self.register.learn(names.iter().cloned());
        Ok(names)
    }
}
