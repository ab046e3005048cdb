//! A server in a container of the official image.

use super::{
    installation::IMAGE,
    server::{CONFIG, wait_ready},
};
use crate::{
    Error, Result,
    account::Account,
    docker, random,
    server::Place,
    supervisor::{Part, Supervisor, tail},
};

/// The supervisor's part.
const RUN: &str = r#"
start() {
    if [ -n "$id" ]; then docker start "$name" >&2; return; fi
    if docker run --detach --name "$name" --publish "127.0.0.1:$1:4222" --env "config=$config" --entrypoint sh "$image" \
        -c 'printf "%s\n" "$config" >/tmp/config; exec nats-server -c /tmp/config -a 0.0.0.0 -p 4222 -sd /tmp/data' >&2; then
        id=$name
        return
    fi
    docker rm --force --volumes "$name" >&2
    return 1
}
"#;

/// A container, with whoever ends it.
#[derive(Debug)]
pub(super) struct Container {
    supervisor: Supervisor,
    name: String,
}

impl Container {
    pub(super) fn new(token: &str) -> Result<Self> {
        let name = format!("sagamill-test-{}", random::suffix());
        let config = CONFIG.replace("TOKEN", token);
        let part = Part {
            functions: &[RUN, docker::END].concat(),
            variables: &[("name", &name), ("config", &config), ("image", IMAGE)],
            arguments: &[],
        };
        let supervisor = Supervisor::new(Account::own(), &part)?;
        Ok(Self { supervisor, name })
    }
    fn docker(&self, verb: &str) -> Result<()> {
        docker::docker(&[verb, &self.name]).map(drop)
    }
}

impl Place for Container {
    fn name(&self) -> String {
        format!("NATS in the container {}", self.name)
    }
    fn start(&mut self, port: u16) -> Result<bool> {
        if self.supervisor.start(port)?.is_none() {
            if docker::is_taken(&self.supervisor.log()) {
                return Ok(false);
            }
            return Err(self.supervisor.failure(&self.name(), "docker refused"));
        }
        if wait_ready(port, || Ok(docker::is_running(&self.name)))? {
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
