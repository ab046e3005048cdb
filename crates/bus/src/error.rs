pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between this process and the broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL names a transport that this build leaves out: add the feature it names.
    #[error("`{scheme}:` needs the feature `{feature}`: cargo add sagamill-bus --features {feature}")]
    FeatureOff { scheme: String, feature: &'static str },
    /// No transport answers to this scheme.
    #[error("no transport for `{scheme}:`; known are memory, kafka, amqp, nats, sqlite, postgres")]
    UnknownScheme { scheme: String },
    /// A handler asks for what the transport cannot promise: found at start-up.
    #[error("{transport} cannot promise {wanted}")]
    Unsupported {
        transport: &'static str,
        wanted: &'static str,
    },
    /// The broker did not confirm in time: the message may or may not be there. Publish again under the same id.
    #[error("the broker did not confirm")]
    Unconfirmed(#[source] BoxError),
    /// The delivery belongs to an earlier assignment; somebody else has it now.
    #[error("the delivery is stale")]
    Stale,
    #[error("the broker cannot be reached")]
    Disconnected(#[source] BoxError),
    /// A mandatory message was published where no group is subscribed: publish it again when one is.
    #[error("nobody is subscribed to `{topic}`")]
    NoSubscriber { topic: String },
    #[error("the payload does not fit its type")]
    Codec(#[source] BoxError),
}

impl Error {
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unconfirmed(_) | Self::Disconnected(_) | Self::NoSubscriber { .. })
    }
}

/// Why a handler gave up this time. `?` makes one of any error, to be tried again; [`permanent`](Self::permanent) ones are not.
#[derive(Debug)]
pub struct HandlerError {
    _source: BoxError,
    _permanent: bool,
}

impl HandlerError {
    pub fn permanent(source: impl Into<BoxError>) -> Self {
        Self {
            _source: source.into(),
            _permanent: true,
        }
    }
}
impl<E: std::error::Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(source: E) -> Self {
        Self {
            _source: source.into(),
            _permanent: false,
        }
    }
}
impl From<HandlerError> for BoxError {
    fn from(error: HandlerError) -> Self {
        error._source
    }
}
