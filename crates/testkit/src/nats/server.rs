//! One server of our own, by its process: started, stopped, crashed, made to stand still.

use std::{
    io::Read as _,
    net::{Ipv4Addr, TcpStream},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{container::Container, native::Native};
use crate::{
    Result, process, random,
    server::{Machine, Place},
};

/// How long a server may take to come up: what it has stored is read first.
const START_MAX: Duration = Duration::from_secs(60);
/// How long one look at it may take.
const LOOK: Duration = Duration::from_millis(500);

/// What is not an argument. Messages may be as large as the bus carries, with their headers.
pub(super) const CONFIG: &str = r#"
max_payload: 8MB
jetstream: enabled
authorization: { token: "TOKEN" }
"#;

/// A NATS of this process's own: it and its files go when this is dropped, and when the process dies, however.
///
/// Its methods wait until what they do is done, and block meanwhile. It keeps its port and what it has stored over restarts.
#[derive(Debug)]
pub struct Server {
    machine: Machine<dyn Place>,
    token: String,
}

impl Server {
    pub(super) fn start_new(program: Option<&Path>) -> Result<Self> {
        let token = random::password();
        let place: Box<dyn Place> = match program {
            Some(program) => Box::new(Native::new(program, &token)?),
            None => Box::new(Container::new(&token)?),
        };
        let machine = Machine::start_in(place)?;
        Ok(Self { machine, token })
    }
    /// Its URL, with a token that nobody else knows.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}@127.0.0.1:{}", self.token, self.machine.port())
    }
    /// Starts it again, on the same port and with what it has stored.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it runs; [`Error::Start`](crate::Error::Start) with its log.
    pub fn start(&mut self) -> Result<()> {
        self.machine.start()
    }
    /// Ends it in order.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it does not run, [`Error::Late`](crate::Error::Late) where it does not obey.
    pub fn stop(&mut self) -> Result<()> {
        self.machine.stop()
    }
    /// Ends it with `SIGKILL`, as a crash of its machine would, but that the system's buffers survive.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.machine.kill()
    }
    /// Lets it stand still (`SIGSTOP`): connections stay open, and nothing answers.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.machine.pause()
    }
    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it is not paused.
    pub fn resume(&mut self) -> Result<()> {
        self.machine.resume()
    }
    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.machine.place().log()
    }
}

/// Waits until a server greets. False: it took too long, or runs no more.
pub(super) fn wait_ready(port: u16, runs: impl Fn() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + START_MAX;
    while Instant::now() < end {
        if !runs()? {
            return Ok(false);
        }
        // Asked after that: another's server may greet on this port.
        if greets(port) {
            return runs();
        }
        sleep(process::PAUSE);
    }
    Ok(false)
}

/// A server says what it is as soon as somebody connects; Docker's own proxy says nothing.
fn greets(port: u16) -> bool {
    let mut word = [0; 4];
    let read = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).and_then(|mut server| {
        server.set_read_timeout(Some(LOOK))?;
        server.read_exact(&mut word)
    });
    read.is_ok() && &word == b"INFO"
}
