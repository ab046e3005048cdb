//! A server in a container of the official image.

use std::process::Command;

use super::{
    installation::IMAGE,
    server::{CONFIG, Place, wait_ready},
};
use crate::{
    Error, Result,
    account::Account,
    process, random,
    supervisor::{Part, Supervisor, output, tail},
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
end() {
    for _ in 1 2 3 4 5; do
        docker inspect "$name" >/dev/null || return
        docker rm --force --volumes "$name" && return
        sleep 1
    done
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
            functions: RUN,
            variables: &[("name", &name), ("config", &config), ("image", IMAGE)],
            arguments: &[],
        };
        let supervisor = Supervisor::new(Account::own(), &part)?;
        Ok(Self { supervisor, name })
    }
    fn docker(&self, verb: &str) -> Result<()> {
        output(Command::new("docker").args([verb, &self.name])).map(drop)
    }
    fn is_running(&self) -> bool {
        let asked = ["inspect", "--format={{.State.Running}}", &self.name];
        output(Command::new("docker").args(asked)).is_ok_and(|running| running == "true")
    }
    fn wait_down(&self) -> Result<()> {
        process::wait_until(|| Ok(!self.is_running()), "the end of a container")
    }
}

impl Place for Container {
    fn name(&self) -> String {
        format!("NATS in the container {}", self.name)
    }
    fn start(&mut self, port: u16) -> Result<bool> {
        if self.supervisor.start(port)?.is_none() {
            let said = self.supervisor.log();
            if said.contains("already allocated") || said.contains("address already in use") {
                return Ok(false);
            }
            return Err(self.supervisor.failure(&self.name(), "docker refused"));
        }
        if wait_ready(port, || Ok(self.is_running()))? {
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
        self.wait_down()
    }
    fn kill(&mut self) -> Result<()> {
        self.docker("kill")?;
        self.wait_down()
    }
    fn pause(&mut self) -> Result<()> {
        self.docker("pause")
    }
    fn resume(&mut self) -> Result<()> {
        self.docker("unpause")
    }
    fn log(&self) -> String {
        let output = Command::new("docker").args(["logs", &self.name]).output();
        output.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    }
}
