//! One server of our own, by its processes: started, stopped, crashed, made to stand still.

use super::place::{self, Place};
use crate::{Error, Result, port, process};

/// Ports that are tried for one server.
const PORTS_MAX: u32 = 5;

/// A PostgreSQL of this process's own: it and its files go when this is dropped, and when the process dies, however.
///
/// Its methods wait until what they do is done, and block meanwhile; tests have [`Own`](super::Own) over it.
/// It keeps its port over restarts.
#[derive(Debug)]
pub struct Server {
    place: Box<dyn Place>,
    port: u16,
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
    /// Starts what was made, on the first port that nobody takes.
    pub(super) fn start_in(mut place: Box<dyn Place>) -> Result<Self> {
        for _ in 0..PORTS_MAX {
            let port = port::free().map_err(Error::run("listening"))?;
            if place.start(port)? {
                let state = State::Running;
                return Ok(Self { place, port, state });
            }
        }
        Err(Error::Start {
            server: place.name(),
            why: format!("{PORTS_MAX} ports that were free were taken before it came to listen"),
            log: place.log(),
        })
    }
    /// The URL of the database `postgres`, as the superuser.
    #[must_use]
    pub fn url(&self) -> String {
        place::url(self.place.password(), self.port)
    }
    /// The port that it listens on while it runs.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
    /// Starts it again, on the same port and data; after a crash it recovers first.
    ///
    /// # Errors
    ///
    /// [`Error::State`] where it runs; [`Error::Start`] with its log, also where its port stays taken for half a minute.
    pub fn start(&mut self) -> Result<()> {
        self.only_if(&[State::Down], "start")?;
        let (place, port) = (&mut self.place, self.port);
        process::wait_until(|| place.start(port), "a start on the same port")?;
        self.state = State::Running;
        Ok(())
    }
    /// Ends it in order: sessions are cut, what is committed is flushed.
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
    /// Ends all its processes with `SIGKILL`, as a crash of its machine would, but that the system's buffers survive.
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
    /// Lets all its processes stand still (`SIGSTOP`): connections stay open, and nothing answers.
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
    /// Lets them go on.
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
    /// A streaming, asynchronous standby: a copy of this server that takes over what it commits, a little later.
    ///
    /// # Errors
    ///
    /// [`Error::State`] where this server does not run; [`Error::Start`] with the standby's log.
    pub fn standby(&self) -> Result<Self> {
        self.only_if(&[State::Running], "have a standby")?;
        Self::start_in(self.place.standby(self.port)?)
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
