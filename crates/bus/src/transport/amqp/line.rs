//! A connection that is made again whenever it is lost.
//!
//! RabbitMQ slows connections down that publish too much, and would keep acknowledgements waiting with them: so there are two
//! lines to a broker, one to publish and one to consume.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{
    Channel, Connection, ConnectionProperties, ErrorKind, Event,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    uri::AMQPUri,
};
use tokio::{
    sync::watch,
    time::{interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{BoxError, Error, Result, error::chain};

/// Between two tries to reach the broker.
const RECONNECT: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_secs(2);
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How often the connection is looked at, beside what it tells by itself.
const LOOK: Duration = Duration::from_millis(250);
/// Headers must fit into one frame; RabbitMQ's default.
const FRAME_MIN: u32 = 128 << 10;

/// One connection, while it lasts.
pub(super) struct Live {
    connection: Connection,
    /// Which connection of its line it is.
    pub(super) number: u64,
}

impl Live {
    /// A new channel on it.
    pub(super) async fn channel(&self) -> Result<Channel> {
        self.connection.create_channel().await.map_err(disconnected)
    }
    pub(super) fn is_up(&self) -> bool {
        self.connection.status().connected()
    }
    /// Whether the broker takes nothing at present, for want of memory or disk.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }
}

/// The latest connection of a line, or none while it is lost.
#[derive(Clone)]
pub(super) struct Line {
    latest: watch::Receiver<Option<Arc<Live>>>,
    hang_up: CancellationToken,
    within: Duration,
}

impl Line {
    /// Connects, and keeps connected until `hang_up`.
    pub(super) async fn open(
        address: AMQPUri,
        purpose: &'static str,
        within: Duration,
        hang_up: CancellationToken,
    ) -> Result<Self> {
        let live = dial(&address, purpose, 1).await?;
        let (sender, latest) = watch::channel(Some(Arc::clone(&live)));
        let keeper = Keeper {
            address,
            purpose,
            latest: sender,
            hang_up: hang_up.clone(),
        };
        tokio::spawn(keeper.run(live));
        Ok(Self {
            latest,
            hang_up,
            within,
        })
    }
    /// The connection, waited for, but not for long.
    pub(super) async fn live(&self) -> Result<Arc<Live>> {
        let late = |_| Error::Disconnected("no broker has answered in time".into());
        timeout(self.within, self.await_live()).await.map_err(late)?
    }
    /// The connection, waited for as long as it takes.
    pub(super) async fn await_live(&self) -> Result<Arc<Live>> {
        let mut latest = self.latest.clone();
        tokio::select! {
            biased;
            () = self.hang_up.cancelled() => Err(Error::Closed),
            live = latest.wait_for(|live| live.as_ref().is_some_and(|live| live.is_up())) => {
                let live = live.map_err(|_| Error::Closed)?;
                live.clone().ok_or(Error::Closed)
            }
        }
    }
    /// Ends it in order.
    pub(super) async fn close(&self) -> Result<()> {
        let live = self.latest.borrow().clone();
        self.hang_up.cancel();
        let Some(live) = live.filter(|live| live.is_up()) else {
            return Ok(());
        };
        let closed = live.connection.close(200, "closed".into());
        match timeout(CONNECT_WITHIN, closed).await {
            Ok(closed) => closed.map_err(disconnected),
            Err(_) => Err(Error::Disconnected("the broker did not answer the end".into())),
        }
    }
}

/// Whoever makes the connection again.
struct Keeper {
    address: AMQPUri,
    purpose: &'static str,
    latest: watch::Sender<Option<Arc<Live>>>,
    hang_up: CancellationToken,
}

impl Keeper {
    async fn run(self, first: Arc<Live>) {
        let hang_up = self.hang_up.clone();
        tokio::select! {
            () = hang_up.cancelled() => {}
            () = self.keep(first) => {}
        }
    }
    async fn keep(&self, mut live: Arc<Live>) {
        loop {
            self.until_lost(&live).await;
            let number = live.number + 1;
            drop(live);
            self.latest.send_replace(None);
            live = self.redial(number).await;
            tracing::info!(line = self.purpose, "connected to RabbitMQ again");
            self.latest.send_replace(Some(Arc::clone(&live)));
        }
    }
    async fn until_lost(&self, live: &Live) {
        let mut events = Box::pin(live.connection.events_listener());
        let mut look = interval(LOOK);
        while live.is_up() {
            tokio::select! {
                _ = look.tick() => {}
                event = events.next() => match event {
                    Some(Event::Error(error)) => {
                        tracing::warn!(line = self.purpose, error = chain(&error), "the connection to RabbitMQ");
                    }
                    Some(Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(line = self.purpose, reason, "RabbitMQ takes nothing at present: publishes wait");
                    }
                    Some(Event::ConnectionUnblocked) => {
                        tracing::info!(line = self.purpose, "RabbitMQ takes messages again");
                    }
                    Some(_) => {}
                    None => return,
                },
            }
        }
        tracing::warn!(line = self.purpose, "the connection to RabbitMQ is lost");
    }
    async fn redial(&self, number: u64) -> Arc<Live> {
        let mut pause = RECONNECT.start;
        loop {
            sleep(jittered(pause)).await;
            match dial(&self.address, self.purpose, number).await {
                Ok(live) => return live,
                Err(error) => {
                    tracing::warn!(
                        line = self.purpose,
                        error = chain(&error),
                        "RabbitMQ cannot be reached now"
                    );
                    pause = (pause * 2).min(RECONNECT.end);
                }
            }
        }
    }
}

async fn dial(address: &AMQPUri, purpose: &str, number: u64) -> Result<Arc<Live>> {
    let host = format!("{}:{}", address.authority.host, address.authority.port);
    let properties = ConnectionProperties::default().with_connection_name(format!("sagamill, to {purpose}").into());
    let dialled = timeout(CONNECT_WITHIN, Connection::connect_uri(address.clone(), properties)).await;
    let connection = match dialled {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(refused(&host, &address.vhost, &error)),
        Err(_) => return Err(Error::Disconnected(format!("{host}: no answer in time").into())),
    };
    let frame = connection.configuration().frame_max();
    if (1..FRAME_MIN).contains(&frame) {
        return Err(unusable(format!(
            "{host} takes frames of {frame} bytes: set its `frame_max` to {FRAME_MIN} or more"
        )));
    }
    Ok(Arc::new(Live { connection, number }))
}

/// Why a broker does not take us, without what the URL says of us.
fn refused(host: &str, vhost: &str, error: &lapin::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.kind().clone()),
        _ => None,
    };
    match kind {
        Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => {
            unusable(format!("{host} refuses the credentials: mend those in the URL"))
        }
        Some(AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH)) => unusable(format!(
            "{host} has no virtual host `{vhost}` for this user: mend the path of the URL, or its rights"
        )),
        _ => Error::Disconnected(format!("{host}: {error}").into()),
    }
}

/// Shortened by up to a half, so that those who lost the same broker do not come back at once.
pub(super) fn jittered(full: Duration) -> Duration {
    let noise = crate::MessageId::random().0.as_bytes()[15];
    full - full.mul_f64(f64::from(noise) / 512.0)
}

pub(super) fn unusable(why: impl Into<BoxError>) -> Error {
    Error::Unusable(why.into())
}
pub(super) fn disconnected(error: lapin::Error) -> Error {
    Error::Disconnected(Box::new(error))
}
