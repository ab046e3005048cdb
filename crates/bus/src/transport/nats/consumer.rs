//! A group's consumer on the server, which stays when its members are gone.

use async_nats::jetstream::{
    ErrorCode,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull::Config},
    stream::{ConsumerCreateStrictErrorKind, ConsumerErrorKind},
};

use super::{
    link::{Link, unusable},
    naming,
};
use crate::{Error, Result, Start, Subscribe};

/// Most messages that all processes of a group together have unsettled: room for many that each hold what they may.
const UNSETTLED_MAX: i64 = 50_000;
/// The server delivers for ever: attempts are counted, and given up, on this side.
const DELIVERIES_UNLIMITED: i64 = -1;

impl Link {
    /// The consumer of a group on a topic or pattern; made where it is not there. One that is there keeps its settings.
    pub(super) async fn consumer(&self, request: &Subscribe) -> Result<PullConsumer> {
        self.online().await?;
        let name = naming::consumer(&request.group, &request.topic);
        let mut last = None;
        // Somebody may make it, or delete it, in between.
        for _ in 0..3 {
            if let Some(found) = self.find_consumer(&name).await? {
                return Ok(found);
            }
            let made = self
                .context
                .create_consumer_strict_on_stream(self.config(&name, request), self.names.stream());
            match made.await {
                Ok(made) => return Ok(made),
                Err(error) => match error.kind() {
                    ConsumerCreateStrictErrorKind::AlreadyExists => last = Some(error),
                    ConsumerCreateStrictErrorKind::JetStream(refused)
                        if refused.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                    {
                        self.declare().await?;
                        last = Some(error);
                    }
                    ConsumerCreateStrictErrorKind::JetStream(refused) if refused.code() < 500 => {
                        return Err(unusable(format!("the consumer `{name}` cannot be made: {refused}")));
                    }
                    _ => return Err(Error::Disconnected(Box::new(error))),
                },
            }
        }
        let why = last.map_or_else(|| "it comes and goes".into(), Into::into);
        Err(Error::Disconnected(why))
    }
    async fn find_consumer(&self, name: &str) -> Result<Option<PullConsumer>> {
        let found = self.context.get_consumer_from_stream(name, self.names.stream()).await;
        found.map(Some).or_else(|error| match error.kind() {
            ConsumerErrorKind::JetStream(refused)
                if [ErrorCode::CONSUMER_NOT_FOUND, ErrorCode::STREAM_NOT_FOUND].contains(&refused.error_code()) =>
            {
                Ok(None)
            }
            _ => Err(Error::Disconnected(Box::new(error))),
        })
    }
    fn config(&self, name: &str, request: &Subscribe) -> Config {
        let subjects = vec![
            self.names.topic(&request.topic),
            self.names.again(&request.group, &request.topic),
        ];
        let about = [
            ("sagamill-group", request.group.clone()),
            ("sagamill-topic", request.topic.to_string()),
        ];
        Config {
            durable_name: Some(name.to_owned()),
            filter_subjects: subjects,
            deliver_policy: match request.start {
                Start::Earliest => DeliverPolicy::All,
                Start::Latest => DeliverPolicy::New,
            },
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.options.ack_wait,
            max_deliver: DELIVERIES_UNLIMITED,
            max_ack_pending: UNSETTLED_MAX,
            metadata: about.map(|(name, value)| (name.to_owned(), value)).into(),
            ..Config::default()
        }
    }
}
