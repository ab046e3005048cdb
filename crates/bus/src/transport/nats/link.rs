//! One connection to the servers, and what is declared there.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Client, ConnectErrorKind, Event, ServerAddr,
    connection::State,
    jetstream::{
        self, Context, ErrorCode,
        context::CreateStreamErrorKind,
        stream::{Config, RetentionPolicy, Stream},
    },
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{naming::Names, note::Consumed, options::Options};
use crate::{
    BoxError, Error, Result,
    transport::{audience::Audience, lanes::Subscriptions},
};

/// Notes of messages that nobody came back for are thrown away after this time.
const NOTES_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Between two tries to reach a server.
const RECONNECT: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_secs(2);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Asked so often whether it is there; a server that misses three questions is taken to be gone.
const PING: Duration = Duration::from_millis(1_500);

pub(super) struct Link {
    pub(super) client: Client,
    pub(super) context: Context,
    pub(super) names: Names,
    pub(super) options: Options,
    /// How often the connection was lost; also told when it is made.
    changes: watch::Receiver<u64>,
    pub(super) closed: CancellationToken,
    /// What a close waits for: publishes and subscriptions.
    pub(super) busy: TaskTracker,
    pub(super) subscriptions: Subscriptions<Consumed>,
    pub(super) audience: Audience,
}

impl Link {
    pub(super) async fn connect(options: Options) -> Result<Arc<Self>> {
        let names = Names::new(&options.prefix)
            .ok_or_else(|| unusable("the prefix must be 1 to 32 ASCII letters, digits, `_` or `-`"))?;
        let (changed, changes) = watch::channel(0);
        let client = dial(&options, changed).await?;
        if !client.is_server_compatible(2, 10, 0) {
            let version = client.server_info().version;
            return Err(unusable(format!("the server is NATS {version}: use 2.10 or later")));
        }
        let mut context = jetstream::new(client.clone());
        context.set_timeout(options.confirm_within);
        let link = Self {
            client,
            context,
            names,
            options,
            changes,
            closed: CancellationToken::new(),
            busy: TaskTracker::new(),
            subscriptions: Subscriptions::default(),
            audience: Audience::default(),
        };
        link.declare().await?;
        Ok(Arc::new(link))
    }
    /// Makes the streams where they are not there. Several processes may do so at once.
    pub(super) async fn declare(&self) -> Result<()> {
        let (names, options) = (&self.names, &self.options);
        let base = Config {
            retention: RetentionPolicy::Limits,
            storage: options.storage.of_client(),
            num_replicas: options.replicas,
            duplicate_window: options.duplicate_window,
            allow_direct: true,
            ..Config::default()
        };
        let topics = Config {
            name: names.stream(),
            subjects: names.stream_subjects(),
            max_age: options.keep.unwrap_or_default(),
            ..base.clone()
        };
        let dead = Config {
            name: names.dead_stream(),
            subjects: vec![names.dead_subjects()],
            max_messages_per_subject: 1,
            ..base.clone()
        };
        let notes = Config {
            name: names.note_stream(),
            subjects: vec![names.note_subjects()],
            max_messages_per_subject: 1,
            max_age: NOTES_KEPT,
            ..base
        };
        for config in [topics, dead, notes] {
            self.declare_stream(config).await?;
        }
        Ok(())
    }
    async fn declare_stream(&self, config: Config) -> Result<()> {
        let name = config.name.clone();
        let Err(error) = self.context.create_stream(config).await else {
            return Ok(());
        };
        match error.kind() {
            // There with other settings: they are the operator's.
            CreateStreamErrorKind::JetStream(refused) if refused.error_code() == ErrorCode::STREAM_NAME_EXIST => Ok(()),
            CreateStreamErrorKind::JetStream(refused)
                if [
                    ErrorCode::JETSTREAM_NOT_ENABLED,
                    ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT,
                ]
                .contains(&refused.error_code()) =>
            {
                Err(unusable(
                    "JetStream is off for this account: start nats-server with `-js`, or enable it there",
                ))
            }
            // A cluster without a leader, or a server without room, may be better soon.
            CreateStreamErrorKind::JetStream(refused) if refused.code() < 500 => {
                Err(unusable(format!("the stream `{name}` cannot be made: {refused}")))
            }
            CreateStreamErrorKind::JetStreamUnavailable => Err(unusable(
                "no JetStream answers: start nats-server with `-js`, or enable it for this account",
            )),
            _ => Err(Error::Disconnected(Box::new(error))),
        }
    }
    /// A stream by its name; asks the server nothing.
    pub(super) async fn stream(&self, name: String) -> Result<Stream<()>> {
        let stream = self.context.get_stream_no_info(name).await;
        stream.map_err(|error| Error::Disconnected(Box::new(error)))
    }
    /// Waits for the connection, not for long.
    pub(super) async fn online(&self) -> Result<()> {
        if self.is_online() {
            return Ok(());
        }
        let mut changes = self.changes();
        let back = async { while !self.is_online() && changes.changed().await.is_ok() {} };
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(Error::Closed),
            back = tokio::time::timeout(self.options.reconnect_within, back) => {
                back.map_err(|_| Error::Disconnected("no server has answered in time".into()))
            }
        }
    }
    pub(super) fn is_online(&self) -> bool {
        self.client.connection_state() == State::Connected
    }
    /// Changes each time the connection is made or lost from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        let mut changes = self.changes.clone();
        changes.mark_unchanged();
        changes
    }
    /// Waits for the server's answer, but not beyond the connection that it was asked on: that one's answer never comes.
    pub(super) async fn answered<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let mut changes = self.changes();
        let before = *changes.borrow();
        let lost = async { while *changes.borrow_and_update() == before && changes.changed().await.is_ok() {} };
        tokio::select! {
            biased;
            answer = answer => answer,
            () = lost => Err(Error::Unconfirmed("the connection was lost before the answer".into())),
        }
    }
}

async fn dial(options: &Options, changed: watch::Sender<u64>) -> Result<Client> {
    let servers = servers(&options.url)?;
    let mut dialled = async_nats::ConnectOptions::new()
        .name("sagamill")
        .connection_timeout(CONNECT_WITHIN)
        .ping_interval(PING)
        .request_timeout(Some(options.confirm_within))
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(move |event| {
            match event {
                Event::Connected => changed.send_modify(|_| ()),
                Event::Disconnected => changed.send_modify(|lost| *lost += 1),
                Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_) => {
                    tracing::warn!(%event, "the connection to NATS");
                }
                Event::LameDuckMode | Event::Draining | Event::Closed => {
                    tracing::debug!(%event, "the connection to NATS")
                }
            }
            std::future::ready(())
        });
    // Credentials of the URL; a user alone is a token, as everywhere with NATS.
    let named = servers
        .iter()
        .find_map(|server| Some((server.username()?, server.password())));
    dialled = match named {
        Some((user, Some(password))) => dialled.user_and_password(user.to_owned(), password.to_owned()),
        Some((token, None)) => dialled.token(token.to_owned()),
        None => dialled,
    };
    if let Some(file) = &options.credentials {
        let read = dialled.credentials_file(file).await;
        dialled = read.map_err(|error| unusable(format!("the credentials file `{}`: {error}", file.display())))?;
    }
    let hosts = servers
        .iter()
        .map(|server| format!("{}:{}", server.host(), server.port()));
    let hosts = hosts.collect::<Vec<_>>().join(", ");
    dialled.connect(servers).await.map_err(|error| match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            unusable(format!("{hosts} refuses the credentials: mend those in the URL"))
        }
        ConnectErrorKind::Tls => unusable(format!("TLS with {hosts}: {error}")),
        _ => Error::Disconnected(format!("{hosts}: {error}").into()),
    })
}

/// Waits longer from try to try, and never the same for all who lost the same server.
fn reconnect_delay(tries: usize) -> Duration {
    let doublings = u32::try_from(tries).unwrap_or(u32::MAX).min(8);
    let full = RECONNECT.start.saturating_mul(1 << doublings).min(RECONNECT.end);
    jittered(full)
}

/// Shortened by up to a half.
pub(super) fn jittered(full: Duration) -> Duration {
    let noise = crate::MessageId::random().0.as_bytes()[15];
    full - full.mul_f64(f64::from(noise) / 512.0)
}

/// The servers of a URL: several are divided by commas. What is wrong with it is told without it, for its password.
fn servers(url: &str) -> Result<Vec<ServerAddr>> {
    let parse = |part: &str| {
        let part = if part.contains("://") {
            part.to_owned()
        } else {
            format!("nats://{part}")
        };
        part.parse()
            .map_err(|_| unusable("the URL is none: write `nats://user:password@host:4222`, several with commas"))
    };
    url.split(',').map(|part| parse(part.trim())).collect()
}

pub(super) fn unusable(why: impl Into<BoxError>) -> Error {
    Error::Unusable(why.into())
}
