//! The subscriptions of a connection: one for each group and what it is subscribed to, whatever number of members it has here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Broker, Group};
use crate::{Deliveries, Error, Result, Subscribe, Topic};

type At = (String, Topic);
type Groups<B> = HashMap<At, Arc<Group<B>>>;

pub(crate) struct Subscriptions<B: Broker>(Mutex<Groups<B>>);

impl<B: Broker> Default for Subscriptions<B> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<B: Broker> Subscriptions<B> {
    /// One more member of the group, where it has some here. None: it is to be begun.
    ///
    /// One that is ending is waited for, but not for longer than this, so that what it gives back comes in order.
    pub(crate) async fn join(&self, request: &Subscribe, predecessor: Duration) -> Result<Option<Deliveries>> {
        loop {
            let known = self.lock().get(&at(request)).cloned();
            let Some(group) = known else { return Ok(None) };
            if let Some(stream) = group.join(request)? {
                return Ok(Some(stream));
            }
            // It gives back what it has; or it cannot, and what it has comes in its time.
            let _ = timeout(predecessor, group.ended.cancelled()).await;
            self.remove(request, &group);
        }
    }
    /// The first member of a group. None: another was faster, and is to be joined.
    pub(crate) fn begin(
        &self,
        request: &Subscribe,
        group: &Arc<Group<B>>,
        closed: &CancellationToken,
    ) -> Result<Option<Deliveries>> {
        let mut all = self.lock();
        if closed.is_cancelled() {
            return Err(Error::Closed);
        }
        if all.contains_key(&at(request)) {
            return Ok(None);
        }
        let stream = group.join(request)?;
        if stream.is_some() {
            all.insert(at(request), Arc::clone(group));
        }
        Ok(stream)
    }
    /// Ends one, unless another has taken its place.
    pub(crate) fn remove(&self, request: &Subscribe, group: &Arc<Group<B>>) {
        let mut all = self.lock();
        if all.get(&at(request)).is_some_and(|other| Arc::ptr_eq(other, group)) {
            all.remove(&at(request));
        }
    }
    fn lock(&self) -> MutexGuard<'_, Groups<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn at(request: &Subscribe) -> At {
    (request.group.clone(), request.topic.clone())
}
