//! What servers of all kinds share: started on a port that is free, stopped, crashed, made to stand still.

use std::fmt;

use rustix::process::Signal;

use crate::{Error, Result, port, process, supervisor::Supervisor};

/// Ports that are tried for one server.
const PORTS_MAX: u32 = 5;

/// Where a server's files are and its processes run: in a directory of this machine, or in a container.
pub(crate) trait Place: fmt::Debug + Send + Sync {
    /// What it is, in words for errors.
    fn name(&self) -> String;
    /// Starts it on a port and waits until it takes connections. False: the port is taken.
    fn start(&mut self, port: u16) -> Result<bool>;
    /// Ends it in order: what is stored is on disk.
    fn stop(&mut self) -> Result<()>;
    /// Ends it as a crash would.
    fn kill(&mut self) -> Result<()>;
    /// Lets all its processes stand still.
    fn pause(&mut self) -> Result<()>;
    /// Lets them go on.
    fn resume(&mut self) -> Result<()>;
    /// What it has said.
    fn log(&self) -> String;
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

/// A server in its place, on a port that it keeps, asked only for what it can do as it is.
#[derive(Debug)]
pub(crate) struct Machine<P: ?Sized> {
    state: State,
    port: u16,
    place: Box<P>,
}

impl<P: Place + ?Sized> Machine<P> {
    /// Starts what was made, on the first port that nobody takes.
    pub(crate) fn start_in(mut place: Box<P>) -> Result<Self> {
        for _ in 0..PORTS_MAX {
            let port = port::free().map_err(Error::run("listening"))?;
            if place.start(port)? {
                let state = State::Running;
                return Ok(Self { state, port, place });
            }
        }
        Err(Error::Start {
            server: place.name(),
            why: format!("{PORTS_MAX} ports that were free were taken before it came to listen"),
            log: place.log(),
        })
    }
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
    pub(crate) fn place(&self) -> &P {
        &self.place
    }
    pub(crate) fn start(&mut self) -> Result<()> {
        self.only_if(&[State::Down], "start")?;
        let (place, port) = (&mut self.place, self.port);
        process::wait_until(|| place.start(port), "a start on the same port")?;
        self.state = State::Running;
        Ok(())
    }
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.only_if_running("stop")?;
        self.place.stop()?;
        self.state = State::Down;
        Ok(())
    }
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.only_if(&[State::Running, State::Paused], "be killed")?;
        self.place.kill()?;
        self.state = State::Down;
        Ok(())
    }
    pub(crate) fn pause(&mut self) -> Result<()> {
        self.only_if_running("pause")?;
        self.place.pause()?;
        self.state = State::Paused;
        Ok(())
    }
    pub(crate) fn resume(&mut self) -> Result<()> {
        self.only_if(&[State::Paused], "go on")?;
        self.place.resume()?;
        self.state = State::Running;
        Ok(())
    }
    /// Refuses what only a server that runs can do.
    pub(crate) fn only_if_running(&self, verb: &'static str) -> Result<()> {
        self.only_if(&[State::Running], verb)
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

/// A program under its supervisor, and the process that it is while it runs.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) supervisor: Supervisor,
    /// The process that all others come from; none: it was stopped or killed, or never started.
    pub(crate) pid: Option<u32>,
}

impl Program {
    pub(crate) fn new(supervisor: Supervisor) -> Self {
        Self { supervisor, pid: None }
    }
    fn running(&self) -> u32 {
        self.pid.expect("invariant: the server looks before it asks")
    }
    /// Ends it by the signal that it takes for an order, and waits until all of it has ended.
    pub(crate) fn stop(&mut self, signal: Signal) -> Result<()> {
        let pid = self.running();
        let all = process::Table::now()?.descendants(pid);
        process::signal(pid, signal);
        process::wait_gone(&[pid])?;
        process::wait_gone(&all)?;
        self.pid = None;
        Ok(())
    }
    pub(crate) fn kill(&mut self) -> Result<()> {
        process::kill_tree(self.running())?;
        self.pid = None;
        Ok(())
    }
    pub(crate) fn pause(&self) -> Result<()> {
        process::stop_tree(self.running()).map(drop)
    }
    pub(crate) fn resume(&self) -> Result<()> {
        process::continue_tree(self.running())
    }
    pub(crate) fn log(&self) -> String {
        self.supervisor.log()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The supervisor ends the server, too, but cannot reach processes that stand still, which are then waited for.
        if let Some(pid) = self.pid {
            let _ = process::kill_tree(pid);
        }
    }
}
