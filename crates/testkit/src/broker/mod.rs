//! What brokers of all kinds share: started on a port that is free, asked whether they answer, crashed.

mod container;
mod native;
#[cfg(any(feature = "kafka", feature = "nats", feature = "rabbitmq"))]
mod own;
mod server;

use std::{
    fmt,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

pub(crate) use container::Container;
pub(crate) use native::Native;
#[cfg(any(feature = "kafka", feature = "nats", feature = "rabbitmq"))]
pub(crate) use own::Brokers;
#[cfg(any(feature = "kafka", feature = "nats", feature = "rabbitmq"))]
pub use own::Own;
pub use server::Server;

use crate::Result;

/// How long one look at a broker may take.
const LOOK: Duration = Duration::from_millis(500);

/// One kind of broker.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// Its name, in words for errors.
    pub(crate) name: &'static str,
    /// The official image, which runs where there is no program but Docker.
    pub(crate) image: &'static str,
    /// How long it may take to come up: what it has stored is read first.
    pub(crate) start_max: Duration,
    /// Between two looks whether it answers.
    pub(crate) look_again: Duration,
    /// Whether it can have this port, and those that it takes besides.
    pub(crate) has_ports: fn(u16) -> bool,
    /// What it is asked as soon as it is connected to; nothing, where it speaks first.
    pub(crate) question: &'static [u8],
    /// How its answer begins.
    pub(crate) is_answer: fn(&[u8; 8]) -> bool,
    /// What its program says where its port is taken.
    pub(crate) port_taken: &'static str,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Kind {
    /// Waits until a broker answers. False: it took too long, or runs no more.
    fn wait_ready(&self, port: u16, runs: impl Fn() -> Result<bool>) -> Result<bool> {
        let end = Instant::now() + self.start_max;
        while Instant::now() < end {
            if !runs()? {
                return Ok(false);
            }
            // Asked after that: another's broker may answer on this port.
            if self.answers(port) {
                return runs();
            }
            sleep(self.look_again);
        }
        Ok(false)
    }
    /// Not only whether it is connected to: Docker's own proxy takes connections before there is anybody behind it.
    fn answers(&self, port: u16) -> bool {
        let mut answer = [0; 8];
        let read = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).and_then(|mut server| {
            server.set_read_timeout(Some(LOOK))?;
            server.write_all(self.question)?;
            server.read_exact(&mut answer)
        });
        read.is_ok() && (self.is_answer)(&answer)
    }
}
