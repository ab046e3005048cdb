//! A broker in a container of the official image.

use super::Kind;
use crate::{
    Error, Result,
    account::Account,
    docker, random,
    server::Place,
    supervisor::{Part, Supervisor, tail},
};

/// The supervisor's `start`, which makes the container by the kind's own `make` and starts the same one from then on.
const START: &str = r#"
start() {
    if [ -n "$id" ]; then docker start "$name" >&2; return; fi
    if make "$1" >&2; then
        id=$name
        return
    fi
    docker rm --force --volumes "$name" >&2
    return 1
}
"#;

/// A container, with whoever ends it.
#[derive(Debug)]
pub(crate) struct Container {
    kind: &'static Kind,
    supervisor: Supervisor,
    name: String,
}

impl Container {
    /// `make` gets the port, and finds in its environment the container's `name`, the `image`, and `variables`.
    pub(crate) fn new(kind: &'static Kind, make: &str, variables: &[(&str, &str)]) -> Result<Self> {
        let name = format!("sagamill-test-{}", random::suffix());
        let part = Part {
            functions: &[make, START, docker::END].concat(),
            variables: &[&[("name", &*name), ("image", kind.image)], variables].concat(),
            arguments: &[],
        };
        let supervisor = Supervisor::new(Account::own(), &part)?;
        Ok(Self { kind, supervisor, name })
    }
    fn docker(&self, verb: &str) -> Result<()> {
        docker::docker(&[verb, &self.name]).map(drop)
    }
}

impl Place for Container {
    fn name(&self) -> String {
        format!("{} in the container {}", self.kind.name, self.name)
    }
    fn start(&mut self, port: u16) -> Result<bool> {
        if self.supervisor.start(port)?.is_none() {
            if docker::is_taken(&self.supervisor.log()) {
                return Ok(false);
            }
            return Err(self.supervisor.failure(&self.name(), "docker refused"));
        }
        if self.kind.wait_ready(port, || Ok(docker::is_running(&self.name)))? {
            return Ok(true);
        }
        Err(Error::Start {
            server: self.name(),
            why: "it did not answer in time, or ended".to_owned(),
            log: tail(&self.log()),
        })
    }
    fn stop(&mut self) -> Result<()> {
        self.docker("stop")?;
        docker::wait_down(&self.name)
    }
    fn kill(&mut self) -> Result<()> {
        self.docker("kill")?;
        docker::wait_down(&self.name)
    }
    fn pause(&mut self) -> Result<()> {
        self.docker("pause")
    }
    fn resume(&mut self) -> Result<()> {
        self.docker("unpause")
    }
    fn log(&self) -> String {
        docker::log(&self.name)
    }
}
