//! One connection to the brokers, and what is declared there.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    listener::{Cause, Listener},
    naming::Names,
    note::Consumed,
    options::Options,
    publish::Publisher,
    servers::Servers,
};
use crate::{
    BoxError, Error, Result,
    transport::{audience::Audience, lanes::Subscriptions},
};

/// The largest record that topics of ours take, and that is sent: more than the bus carries in a message with all its headers.
pub(super) const RECORD_MAX: usize = 8 << 20;
/// How long brokers may take to answer a question.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Link {
    pub(super) options: Options,
    pub(super) names: Names,
    /// What every client of this connection is made with.
    pub(super) config: ClientConfig,
    pub(super) admin: AdminClient<Listener>,
    pub(super) publisher: Arc<Publisher>,
    declared: Mutex<HashSet<String>>,
    pub(super) closed: CancellationToken,
    /// What a close waits for: publishes and subscriptions.
    pub(super) busy: TaskTracker,
    pub(super) subscriptions: Subscriptions<Consumed>,
    pub(super) audience: Audience,
}

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Messages,
    /// What was requeued for one group.
    Again,
    Dead,
}

impl Link {
    pub(super) async fn connect(options: Options) -> Result<Arc<Self>> {
        let names = Names::new(&options.prefix)
            .ok_or_else(|| unusable("the prefix must be 1 to 32 ASCII letters, digits or `-`"))?;
        let servers = Servers::parse(&options.url)?;
        let config = servers.config(&options)?;
        let admin: AdminClient<Listener> = create(config.create_with_context(Listener::default()))?;
        let link = Arc::new(Self {
            publisher: Arc::new(Publisher::new(&config)?),
            options,
            names,
            config,
            admin,
            declared: Mutex::default(),
            closed: CancellationToken::new(),
            busy: TaskTracker::new(),
            subscriptions: Subscriptions::default(),
            audience: Audience::default(),
        });
        let asked = Arc::clone(&link);
        let answer = blocking(move || asked.admin.inner().fetch_metadata(None, ANSWER_WITHIN)).await?;
        match answer {
            Ok(_) => Ok(link),
            Err(error) => Err(unreached(&servers.hosts, &error, link.publisher.heard())),
        }
    }
    /// Makes a topic where it is not there. Several processes may do so at once.
    pub(super) async fn declare(&self, name: &str, purpose: Purpose) -> Result<()> {
        if self.declared().contains(name) {
            return Ok(());
        }
        let partitions = if purpose == Purpose::Messages {
            self.options.partitions
        } else {
            1
        };
        // Less than one: what the broker takes for itself.
        let replicas = TopicReplication::Fixed(self.options.replicas.unwrap_or(-1));
        let (record_max, keep) = (
            RECORD_MAX.to_string(),
            self.options.keep.map(|keep| keep.as_millis().to_string()),
        );
        let mut topic = NewTopic::new(name, partitions, replicas).set("max.message.bytes", &record_max);
        topic = match purpose {
            Purpose::Messages => match &keep {
                Some(keep) => topic.set("retention.ms", keep),
                None => topic,
            },
            Purpose::Again => topic.set("retention.ms", "-1"),
            Purpose::Dead => topic.set("cleanup.policy", "compact"),
        };
        let options = AdminOptions::new()
            .request_timeout(Some(ANSWER_WITHIN))
            .operation_timeout(Some(ANSWER_WITHIN));
        let made = self.admin.create_topics([&topic], &options).await.map_err(failure)?;
        match made.into_iter().next() {
            Some(Err((_, code))) if !is_there(code) => Err(refusal(name, code)),
            Some(_) => {
                self.declared().insert(name.to_owned());
                Ok(())
            }
            None => Err(Error::Unconfirmed("no answer on a topic".into())),
        }
    }
    /// It was deleted meanwhile.
    pub(super) fn undeclare(&self, name: &str) {
        self.declared().remove(name);
    }
    fn declared(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why no broker answered, by what librdkafka said meanwhile.
fn unreached(hosts: &str, error: &KafkaError, said: Option<(Cause, String)>) -> Error {
    match said {
        Some((Cause::Credentials, why)) => {
            unusable(format!("{hosts} refuses the credentials: mend those in the URL: {why}"))
        }
        Some((Cause::Tls, why)) => unusable(format!("TLS with {hosts}: {why}")),
        Some((Cause::Network, why)) => Error::Disconnected(format!("{hosts}: {why}").into()),
        None => Error::Disconnected(format!("{hosts}: {error}").into()),
    }
}

/// Whether a topic need not be made: it is there, or the operator alone makes topics.
fn is_there(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{ClusterAuthorizationFailed, TopicAlreadyExists, TopicAuthorizationFailed};
    matches!(
        code,
        TopicAlreadyExists | TopicAuthorizationFailed | ClusterAuthorizationFailed
    )
}

fn refusal(name: &str, code: RDKafkaErrorCode) -> Error {
    match code {
        RDKafkaErrorCode::InvalidTopic => Error::InvalidTopic {
            topic: name.to_owned(),
            problem: "Kafka has a topic that differs in `.` and `_` alone, and takes the two for one: choose another name",
        },
        RDKafkaErrorCode::UnsupportedVersion => unusable("the brokers are too old: use Kafka 2.4 or later"),
        RDKafkaErrorCode::InvalidReplicationFactor
        | RDKafkaErrorCode::PolicyViolation
        | RDKafkaErrorCode::InvalidConfig
        | RDKafkaErrorCode::InvalidPartitions => unusable(format!("the topic `{name}` cannot be made: {code}")),
        _ => Error::Disconnected(format!("the topic `{name}` cannot be made now: {code}").into()),
    }
}

/// A client that was made, or a setting that is none.
pub(super) fn create<T>(made: Result<T, KafkaError>) -> Result<T> {
    made.map_err(|error| unusable(format!("a setting of the connection is none: {error}")))
}

/// Runs what waits for brokers in a thread of its own: a commit waits for as long as no broker is there, and would keep a
/// runtime that lends its threads from its end.
pub(super) async fn blocking<R: Send + 'static>(run: impl FnOnce() -> R + Send + 'static) -> Result<R> {
    let (done, answer) = oneshot::channel();
    let thread = std::thread::Builder::new().name("sagamill-kafka".to_owned());
    let started = thread.spawn(move || {
        // Nobody waits for it any more, perhaps.
        let _ = done.send(run());
    });
    started.map_err(|error| Error::Disconnected(Box::new(error)))?;
    answer.await.map_err(|error| Error::Unconfirmed(Box::new(error)))
}

/// An answer that is none, or a refusal.
pub(super) fn failure(error: KafkaError) -> Error {
    use RDKafkaErrorCode::{
        Authentication, ClusterAuthorizationFailed, GroupAuthorizationFailed, IllegalGeneration,
        TopicAuthorizationFailed, UnknownMemberId, UnsupportedVersion,
    };
    match error.rdkafka_error_code() {
        Some(
            Authentication
            | ClusterAuthorizationFailed
            | GroupAuthorizationFailed
            | TopicAuthorizationFailed
            | UnsupportedVersion,
        ) => unusable(error),
        Some(UnknownMemberId | IllegalGeneration) => Error::Stale,
        _ => Error::Disconnected(Box::new(error)),
    }
}

pub(super) fn unusable(why: impl Into<BoxError>) -> Error {
    Error::Unusable(why.into())
}
