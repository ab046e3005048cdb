//! Topics and who reads them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, RwLock, atomic::AtomicU64},
};

use super::{Limits, confirm::Confirm, fault::Switch, group::Group, lock};
use crate::{Message, Result, Start, Subscribe, Topic, TopicInfo, headers::name, metric_definitions};

/// All that connections share.
#[derive(Debug, Default)]
pub(super) struct Broker {
    pub(super) limits: Limits,
    pub(super) faults: Arc<Switch>,
    pub(super) connections: AtomicU64,
    directory: RwLock<Directory>,
}

#[derive(Debug, Default)]
struct Directory {
    topics: BTreeMap<Topic, Arc<TopicLog>>,
    /// By name, then by what it is subscribed to; in order of creation within a topic.
    groups: BTreeMap<(String, Topic), Arc<Group>>,
}

/// One topic: the groups that get what is published, and the newest messages, for groups that are yet to come.
#[derive(Debug)]
pub(super) struct TopicLog {
    topic: Topic,
    limits: Limits,
    state: Mutex<TopicState>,
}

#[derive(Debug, Default)]
struct TopicState {
    groups: Vec<Arc<Group>>,
    retained: VecDeque<Arc<Message>>,
    retained_bytes: usize,
    published: u64,
}

/// Why a message could not be put into its topic now.
pub(super) enum Refused {
    NoSubscriber,
    Full(Arc<Group>),
}

impl Broker {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }
    pub(super) fn topic(&self, topic: &Topic) -> Arc<TopicLog> {
        let directory = self.directory.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(log) = directory.topics.get(topic) {
            return Arc::clone(log);
        }
        drop(directory);
        let mut directory = self
            .directory
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        directory.topic(topic, self.limits)
    }
    /// The group of a subscription; made, and given what is retained, where it is new.
    pub(super) fn group(&self, request: &Subscribe) -> Arc<Group> {
        let mut directory = self
            .directory
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let id = (request.group.clone(), request.topic.clone());
        if let Some(group) = directory.groups.get(&id) {
            return Arc::clone(group);
        }
        let (name, pattern) = id.clone();
        let group = Arc::new(Group::new(name, pattern, self.limits, Arc::clone(&self.faults)));
        directory.groups.insert(id, Arc::clone(&group));
        if !request.topic.is_pattern() {
            directory.topic(&request.topic, self.limits);
        }
        for log in directory.topics.values().filter(|log| request.topic.covers(&log.topic)) {
            log.attach(&group, request.start);
        }
        group
    }
    /// All topics, by name.
    pub(super) fn topics(&self) -> Vec<TopicInfo> {
        let directory = self.directory.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        directory.topics.values().map(|log| log.info()).collect()
    }
    pub(super) fn groups(&self) -> Vec<Arc<Group>> {
        let directory = self.directory.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        directory.groups.values().cloned().collect()
    }
    /// The groups of this name that get, or once got, a topic.
    pub(super) fn groups_of(&self, topic: &Topic, name: &str) -> Vec<Arc<Group>> {
        let mut groups = self.groups();
        groups.retain(|group| group.name == name && group.pattern.covers(topic));
        groups
    }
}

impl Directory {
    fn topic(&mut self, topic: &Topic, limits: Limits) -> Arc<TopicLog> {
        if let Some(log) = self.topics.get(topic) {
            return Arc::clone(log);
        }
        let log = Arc::new(TopicLog {
            topic: topic.clone(),
            limits,
            state: Mutex::default(),
        });
        for group in self.groups.values().filter(|group| group.pattern.covers(topic)) {
            log.attach(group, Start::Latest);
        }
        self.topics.insert(topic.clone(), Arc::clone(&log));
        log
    }
}

impl TopicLog {
    /// Puts a message into the queue of each group, or of none.
    pub(super) fn push(&self, message: &Arc<Message>, confirm: Option<&Arc<Confirm>>) -> Result<u64, Refused> {
        let mut state = lock(&self.state);
        if state.groups.is_empty() && message.headers.get(name::MANDATORY) == Some("1") {
            return Err(Refused::NoSubscriber);
        }
        if let Some(full) = state.groups.iter().position(|group| !group.reserve()) {
            state.groups[..full].iter().for_each(|group| group.unreserve());
            return Err(Refused::Full(Arc::clone(&state.groups[full])));
        }
        if let Some(confirm) = confirm {
            confirm.expect(state.groups.len());
        }
        state.published += 1;
        self.retain(&mut state, message);
        for group in &state.groups {
            group.push(message, &self.topic, confirm.cloned());
        }
        Ok(state.published)
    }
    /// A group gets this topic from now on, through one of its subscriptions: the one to the topic itself before those to
    /// patterns, and of these the first.
    fn attach(&self, group: &Arc<Group>, start: Start) {
        let mut state = lock(&self.state);
        if let Some(place) = state.groups.iter().position(|other| other.name == group.name) {
            if group.pattern == self.topic {
                state.groups[place] = Arc::clone(group);
            }
            return;
        }
        if start == Start::Earliest {
            for message in &state.retained {
                group.force_reserve();
                group.push(message, &self.topic, None);
            }
        }
        state.groups.push(Arc::clone(group));
    }
    fn info(&self) -> TopicInfo {
        let state = lock(&self.state);
        let (last, messages) = (state.published, state.retained.len() as u64);
        TopicInfo {
            messages: Some(messages),
            first: (messages > 0).then(|| last - messages + 1),
            last: (messages > 0).then_some(last),
            ..TopicInfo::new(self.topic.clone())
        }
    }
    fn retain(&self, state: &mut TopicState, message: &Arc<Message>) {
        state.retained_bytes += message.payload.len();
        state.retained.push_back(Arc::clone(message));
        while state.retained.len() > self.limits.retained
            || (state.retained_bytes > self.limits.retained_bytes && !state.retained.is_empty())
        {
            let Some(oldest) = state.retained.pop_front() else {
                break;
            };
            state.retained_bytes -= oldest.payload.len();
            if state.groups.is_empty() {
                // Nobody was subscribed when it came, and nobody came in time.
                metrics::counter!(metric_definitions::UNREAD_DROPPED, "destination" => self.topic.label()).increment(1);
            }
        }
    }
}
