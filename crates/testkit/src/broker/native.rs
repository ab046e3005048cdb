//! A broker of programs, in a throw-away directory.

use std::path::Path;

use rustix::process::Signal;

use super::Kind;
use crate::{
    Error, Result,
    account::Account,
    process,
    server::{Place, Program},
    supervisor::{Part, Supervisor},
};

/// Programs, and their directory. What the broker has stored stays over its starts.
#[derive(Debug)]
pub(crate) struct Native {
    kind: &'static Kind,
    program: Program,
}

impl Native {
    pub(crate) fn new(kind: &'static Kind, account: Account, part: &Part<'_>) -> Result<Self> {
        let program = Program::new(Supervisor::new(account, part)?);
        Ok(Self { kind, program })
    }
    /// Where its files are.
    pub(crate) fn directory(&self) -> &Path {
        self.program.supervisor.directory()
    }
    fn failure(&self, why: &str) -> Error {
        self.program.supervisor.failure(&self.name(), why)
    }
}

impl Place for Native {
    fn name(&self) -> String {
        format!("{} in {}", self.kind.name, self.directory().display())
    }
    fn start(&mut self, port: u16) -> Result<bool> {
        if !(self.kind.has_ports)(port) {
            return Ok(false);
        }
        let began = self.log().len();
        let pid = self.program.supervisor.start(port)?.and_then(|id| id.parse().ok());
        let pid = pid.ok_or_else(|| self.failure("its files could not be made"))?;
        if self.kind.wait_ready(port, || process::runs(pid))? {
            self.program.pid = Some(pid);
            return Ok(true);
        }
        if process::runs(pid)? {
            process::kill_tree(pid)?;
            return Err(self.failure("it did not answer in time"));
        }
        let log = self.log();
        if log.get(began..).unwrap_or(&log).contains(self.kind.port_taken) {
            return Ok(false);
        }
        Err(self.failure("it ended"))
    }
    fn stop(&mut self) -> Result<()> {
        self.program.stop(Signal::TERM)
    }
    fn kill(&mut self) -> Result<()> {
        self.program.kill()
    }
    fn pause(&mut self) -> Result<()> {
        self.program.pause()
    }
    fn resume(&mut self) -> Result<()> {
        self.program.resume()
    }
    fn log(&self) -> String {
        self.program.log()
    }
}
