//! A server of a program, in a throw-away directory.

use std::path::Path;

use rustix::process::Signal;

use super::server::{CONFIG, wait_ready};
use crate::{
    Error, Result,
    account::Account,
    process,
    server::{Place, Program},
    supervisor::{Part, Supervisor},
};

/// The supervisor's part. What the server has stored stays over its starts.
const RUN: &str = r#"
start() {
    [ -z "$id" ] || wait "$id"
    printf '%s\n' "$config" >"$dir/config"
    exec "$program" -c "$dir/config" -a 127.0.0.1 -p "$1" -sd "$dir/data" >&2 &
    id=$!
}
end() {
    [ -n "$id" ] || return
    kill -KILL "$id"
    wait "$id"
}
"#;

/// A program, and its directory.
#[derive(Debug)]
pub(super) struct Native(Program);

impl Native {
    pub(super) fn new(program: &Path, token: &str) -> Result<Self> {
        let program = program.display().to_string();
        let config = CONFIG.replace("TOKEN", token);
        let part = Part {
            functions: RUN,
            variables: &[("program", &program), ("config", &config)],
            arguments: &[],
        };
        // As whoever we are: others cannot reach a program below this user's home, and this server does not mind.
        let supervisor = Supervisor::new(Account::own(), &part)?;
        Ok(Self(Program::new(supervisor)))
    }
    fn failure(&self, why: &str) -> Error {
        self.0.supervisor.failure(&self.name(), why)
    }
}

impl Place for Native {
    fn name(&self) -> String {
        format!("NATS in {}", self.0.supervisor.directory().display())
    }
    fn start(&mut self, port: u16) -> Result<bool> {
        let began = self.log().len();
        let pid = self.0.supervisor.start(port)?.and_then(|id| id.parse().ok());
        let pid = pid.ok_or_else(|| self.failure("its files could not be made"))?;
        if wait_ready(port, || process::runs(pid))? {
            self.0.pid = Some(pid);
            return Ok(true);
        }
        if process::runs(pid)? {
            process::kill_tree(pid)?;
            return Err(self.failure("it did not answer in time"));
        }
        let log = self.log();
        if log.get(began..).unwrap_or(&log).contains("address already in use") {
            return Ok(false);
        }
        Err(self.failure("it ended"))
    }
    fn stop(&mut self) -> Result<()> {
        self.0.stop(Signal::TERM)
    }
    fn kill(&mut self) -> Result<()> {
        self.0.kill()
    }
    fn pause(&mut self) -> Result<()> {
        self.0.pause()
    }
    fn resume(&mut self) -> Result<()> {
        self.0.resume()
    }
    fn log(&self) -> String {
        self.0.log()
    }
}
