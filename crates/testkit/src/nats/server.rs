//! One server of our own, by its process: started, stopped, crashed, made to stand still.

use std::{
    fmt,
    io::Read as _,
    net::{Ipv4Addr, TcpStream},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{container::Container, native::Native};
use crate::{Error, Result, port, process, random};

/// Ports that are tried for one server.
const PORTS_MAX: u32 = 5;
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

/// Where a server's files are and its process runs: in a directory of this machine, or in a container.
pub(super) trait Place: fmt::Debug + Send + Sync {
    /// What it is, in words for errors.
    fn name(&self) -> String;
    /// Starts it on a port and waits until it takes connections. False: the port is taken.
    fn start(&mut self, port: u16) -> Result<bool>;
    /// Ends it in order.
    fn stop(&mut self) -> Result<()>;
    /// Ends it as a crash would.
    fn kill(&mut self) -> Result<()>;
    /// Lets it stand still.
    fn pause(&mut self) -> Result<()>;
    /// Lets it go on.
    fn resume(&mut self) -> Result<()>;
    /// What it has said.
    fn log(&self) -> String;
}

/// A NATS of this process's own: it and its files go when this is dropped, and when the process dies, however.
///
/// Its methods wait until what they do is done, and block meanwhile. It keeps its port and what it has stored over restarts.
#[derive(Debug)]
pub struct Server {
    place: Box<dyn Place>,
    port: u16,
    token: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Paused,
    Down,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Down => "not running",
        }
    }
}

impl Server {
    pub(super) fn start_new(program: Option<&Path>) -> Result<Self> {
        let token = random::password();
        let mut place: Box<dyn Place> = match program {
            Some(program) => Box::new(Native::new(program, &token)?),
            None => Box::new(Container::new(&token)?),
        };
        for _ in 0..PORTS_MAX {
            let port = port::free().map_err(Error::run("listening"))?;
            if place.start(port)? {
                let state = State::Running;
                return Ok(Self {
                    place,
                    port,
                    token,
                    state,
                });
            }
        }
        Err(Error::Start {
            server: place.name(),
            why: format!("{PORTS_MAX} ports that were free were taken before it came to listen"),
            log: place.log(),
        })
    }
    /// Its URL, with a token that nobody else knows.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}@127.0.0.1:{}", self.token, self.port)
    }
    /// Starts it again, on the same port and with what it has stored.
    ///
    /// # Errors
    ///
    /// [`Error::State`] where it runs; [`Error::Start`] with its log.
    pub fn start(&mut self) -> Result<()> {
        self.only_if(&[State::Down], "start")?;
        let (place, port) = (&mut self.place, self.port);
        process::wait_until(|| place.start(port), "a start on the same port")?;
        self.state = State::Running;
        Ok(())
    }
    /// Ends it in order.
    ///
    /// # Errors
    ///
    /// [`Error::State`] where it does not run, [`Error::Late`] where it does not obey.
    pub fn stop(&mut self) -> Result<()> {
        self.only_if(&[State::Running], "stop")?;
        self.place.stop()?;
        self.state = State::Down;
        Ok(())
    }
    /// Ends it with `SIGKILL`, as a crash of its machine would, but that the system's buffers survive.
    ///
    /// # Errors
    ///
    /// [`Error::State`] where it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.only_if(&[State::Running, State::Paused], "be killed")?;
        self.place.kill()?;
        self.state = State::Down;
        Ok(())
    }
    /// Lets it stand still (`SIGSTOP`): connections stay open, and nothing answers.
    ///
    /// # Errors
    ///
    /// [`Error::State`] where it does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.only_if(&[State::Running], "pause")?;
        self.place.pause()?;
        self.state = State::Paused;
        Ok(())
    }
    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// [`Error::State`] where it is not paused.
    pub fn resume(&mut self) -> Result<()> {
        self.only_if(&[State::Paused], "go on")?;
        self.place.resume()?;
        self.state = State::Running;
        Ok(())
    }
    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.place.log()
    }
    fn only_if(&self, states: &[State], verb: &'static str) -> Result<()> {
        if states.contains(&self.state) {
            return Ok(());
        }
        Err(Error::State {
            server: self.place.name(),
            state: self.state.name(),
            verb,
        })
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
