//! One server of our own, by its processes: started, stopped, crashed, made to stand still.

use super::place::{self, Place};
use crate::{Result, server::Machine};

/// A PostgreSQL of this process's own: it and its files go when this is dropped, and when the process dies, however.
///
/// Its methods wait until what they do is done, and block meanwhile; tests have [`Own`](super::Own) over it.
/// It keeps its port over restarts.
#[derive(Debug)]
pub struct Server(Machine<dyn Place>);

impl Server {
    /// Starts what was made, on the first port that nobody takes.
    pub(super) fn start_in(place: Box<dyn Place>) -> Result<Self> {
        Machine::start_in(place).map(Self)
    }
    /// The URL of the database `postgres`, as the superuser.
    #[must_use]
    pub fn url(&self) -> String {
        place::url(self.0.place().password(), self.0.port())
    }
    /// The port that it listens on while it runs.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port()
    }
    /// Starts it again, on the same port and data; after a crash it recovers first.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it runs; [`Error::Start`](crate::Error::Start) with its log, also where its port stays taken for half a minute.
    pub fn start(&mut self) -> Result<()> {
        self.0.start()
    }
    /// Ends it in order: sessions are cut, what is committed is flushed.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it does not run, [`Error::Late`](crate::Error::Late) where it does not obey.
    pub fn stop(&mut self) -> Result<()> {
        self.0.stop()
    }
    /// Ends all its processes with `SIGKILL`, as a crash of its machine would, but that the system's buffers survive.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.0.kill()
    }
    /// Lets all its processes stand still (`SIGSTOP`): connections stay open, and nothing answers.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.0.pause()
    }
    /// Lets them go on.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it is not paused.
    pub fn resume(&mut self) -> Result<()> {
        self.0.resume()
    }
    /// A streaming, asynchronous standby: a copy of this server that takes over what it commits, a little later.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where this server does not run; [`Error::Start`](crate::Error::Start) with the standby's log.
    pub fn standby(&self) -> Result<Self> {
        self.0.only_if_running("have a standby")?;
        Self::start_in(self.0.place().standby(self.0.port())?)
    }
    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.0.place().log()
    }
}
