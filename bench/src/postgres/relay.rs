//! A way to the server on which round trips are counted: each `Sync`, and each simple query, is a time that the client waits
//! for the server.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

/// What is read at once.
const CHUNK: usize = 64 << 10;
/// Messages after which the server is waited for.
const SYNC: u8 = b'S';
const QUERY: u8 = b'Q';

/// See the module. It ends when this is dropped, and all connections with it.
#[derive(Debug)]
pub(crate) struct Relay {
    url: String,
    round_trips: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Stands before the server of this URL.
    pub(crate) async fn start(url: &str) -> anyhow::Result<Self> {
        let (before, rest) = url.split_once('@').context("the server's URL names a user")?;
        let (server, database) = rest.split_once('/').context("the server's URL names a database")?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("{before}@{}/{database}", listener.local_addr()?);
        let round_trips = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server.to_owned(), round_trips.clone()));
        Ok(Self {
            url,
            round_trips,
            _tasks: tasks,
        })
    }
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
    /// So far, on all connections.
    pub(crate) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, server: String, round_trips: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (server, round_trips) = (server.clone(), round_trips.clone());
        connections.spawn(async move {
            // Whoever is cut off sees it on its own side.
            let _ = between(client, &server, &round_trips).await;
        });
    }
}

async fn between(client: TcpStream, server: &str, round_trips: &AtomicU64) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, mut to_client), (mut from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        asked = forward(from_client, to_server, round_trips) => asked,
        answered = tokio::io::copy(&mut from_server, &mut to_client) => answered.map(drop),
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, round_trips: &AtomicU64) -> std::io::Result<()> {
    let (mut chunk, mut counter) = (vec![0; CHUNK], Counter::default());
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        round_trips.fetch_add(counter.count(&chunk[..length]), Ordering::Relaxed);
        to.write_all(&chunk[..length]).await?;
    }
}

/// Where in the stream of messages a client has come to.
#[derive(Debug, Default)]
struct Counter {
    /// A message's head that is not whole yet.
    head: Vec<u8>,
    /// What is still to come of a message's body.
    body: usize,
    /// The first messages have no type: what is asked about encryption, and the start.
    has_started: bool,
}

/// The request for TLS, and that for encryption by GSSAPI: the start is still to come.
const ASKED_FOR_ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];

impl Counter {
    fn count(&mut self, mut bytes: &[u8]) -> u64 {
        let mut round_trips = 0;
        while !bytes.is_empty() {
            if self.body > 0 {
                let taken = self.body.min(bytes.len());
                (self.body, bytes) = (self.body - taken, &bytes[taken..]);
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            round_trips += u64::from(self.begin());
        }
        round_trips
    }
    /// A head may be whole; true where it is that of a round trip.
    fn begin(&mut self) -> bool {
        // A type where there is one, and a length that counts itself; the start has its version besides.
        let length_at = usize::from(self.has_started);
        let whole = if self.has_started { 5 } else { 8 };
        if self.head.len() < whole {
            return false;
        }
        let number = |at: usize| {
            let bytes = self.head[at..at + 4].try_into();
            u32::from_be_bytes(bytes.expect("invariant: the head is whole"))
        };
        self.body = (number(length_at) as usize).saturating_sub(whole - length_at);
        let kind = self.has_started.then(|| self.head[0]);
        self.has_started |= !ASKED_FOR_ENCRYPTION.contains(&number(4.min(whole - 4)));
        self.head.clear();
        matches!(kind, Some(SYNC | QUERY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind][..], &length[..], body].concat()
    }

    #[test]
    fn each_sync_and_each_simple_query_is_a_round_trip() {
        let start = [&16_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes()[..], &[0; 8][..]].concat();
        let tls = [8_u32.to_be_bytes(), ASKED_FOR_ENCRYPTION[0].to_be_bytes()].concat();
        let stream = [
            tls,
            start,
            message(b'p', b"secret\0"),
            message(b'P', b"S and Q inside"),
            message(SYNC, b""),
            message(QUERY, b"BEGIN\0"),
            message(b'B', &[SYNC; 20]),
            message(SYNC, b""),
        ]
        .concat();
        for chunk in [1, 3, 7, stream.len()] {
            let mut counter = Counter::default();
            let counted: u64 = stream.chunks(chunk).map(|bytes| counter.count(bytes)).sum();
            assert_eq!(counted, 3, "in chunks of {chunk}");
        }
    }
}
