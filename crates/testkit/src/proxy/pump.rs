//! One direction of a connection.

use std::{collections::VecDeque, io};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{ReadHalf, WriteHalf},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::link::{Flow, Link};

/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;
/// Bytes that are on their way at a time; more wait at the sender, as they do on a slow line.
const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How a direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The sender has no more to say, and all that it said has arrived.
    Closed,
    /// A side has gone, or the tap has shut.
    Broken,
}

/// Bytes on their way, and when they arrive.
#[derive(Default)]
struct Queue {
    chunks: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

/// Carries bytes until the sender ends or the tap, which sees each read before it is sent on, shuts.
pub(super) async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut link: watch::Receiver<Link>,
    mut tap: impl FnMut(&[u8]) -> bool,
) -> End {
    let mut queue = Queue::default();
    let mut ended = false;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let now = *link.borrow_and_update();
        let flows = now.flow == Flow::Open;
        if ended && queue.chunks.is_empty() {
            return if to.shutdown().await.is_ok() {
                End::Closed
            } else {
                End::Broken
            };
        }
        tokio::select! {
            changed = link.changed() => if changed.is_err() { return End::Broken },
            read = from.read(&mut buffer), if flows && !ended && queue.bytes < QUEUE_BYTES_MAX => match read {
                Ok(0) => ended = true,
                Ok(count) if tap(&buffer[..count]) => queue.push(Instant::now() + now.delay, &buffer[..count]),
                Ok(_) | Err(_) => return End::Broken,
            },
            arrived = queue.arrive(&mut to), if flows && !queue.chunks.is_empty() => if arrived.is_err() {
                return End::Broken;
            },
        }
    }
}

impl Queue {
    fn push(&mut self, due: Instant, bytes: &[u8]) {
        // A shorter delay overtakes nothing.
        let due = self.chunks.back().map_or(due, |(last, _)| due.max(*last));
        self.bytes += bytes.len();
        self.chunks.push_back((due, bytes.to_vec()));
    }
    /// Waits for the first chunk's time, and writes as much of it as the receiver takes. Dropped, nothing is lost.
    async fn arrive(&mut self, to: &mut WriteHalf<'_>) -> io::Result<()> {
        let (due, bytes) = self
            .chunks
            .front_mut()
            .expect("invariant: it is asked for while there is one");
        sleep_until(*due).await;
        let written = to.write(bytes).await?;
        bytes.drain(..written);
        self.bytes -= written;
        if bytes.is_empty() {
            self.chunks.pop_front();
        }
        Ok(())
    }
}
