//! One broker of our own, by its process: started, stopped, crashed, made to stand still.

use crate::{
    Result,
    server::{Machine, Place},
};

/// A broker of this process's own: it and its files go when this is dropped, and when the process dies, however.
///
/// Its methods wait until what they do is done, and block meanwhile. It keeps its port and what it has stored over restarts.
#[derive(Debug)]
pub struct Server {
    machine: Machine<dyn Place>,
    url: String,
}

impl Server {
    /// Starts it on a port that is free, by which its URL is known.
    pub(crate) fn start_in(place: Box<dyn Place>, url: impl FnOnce(u16) -> String) -> Result<Self> {
        let machine = Machine::start_in(place)?;
        let url = url(machine.port());
        Ok(Self { machine, url })
    }
    /// Its URL, with a secret that nobody else knows where brokers of its kind ask for one.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
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
