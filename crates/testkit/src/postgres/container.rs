//! A server in a container of the official image.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    installation::IMAGE,
    native::START_MAX,
    place::{self, Place},
    template::SUPERUSER,
};
use crate::{
    Error, Result,
    account::Account,
    docker::{self, docker, is_running, is_taken, log, wait_down},
    random, server,
    supervisor::{Part, Supervisor, tail},
};

/// How often the container is asked whether it is ready: each time, Docker starts a process.
const PAUSE: Duration = Duration::from_millis(50);
/// A container that starts is sometimes refused a pause for a moment.
const PAUSES_MAX: u32 = 3;
/// The port inside.
const PORT: u16 = 5432;

/// The supervisor's part; its arguments are those of `docker run`.
const RUN: &str = r#"
start() {
    port=$1
    shift
    if [ -n "$id" ]; then docker start "$name" >&2; return; fi
    if docker run --publish "127.0.0.1:$port:5432" "$@" >&2; then id=$name; return; fi
    docker rm --force --volumes "$name" >&2
    return 1
}
"#;
/// What runs inside, instead of the image's own entry point, which first starts a server that is not the one to wait for.
const PRIMARY: &str = r#"
initialize() {
    initdb --username "$SUPERUSER" --auth=password --encoding=UTF8 --locale=C --no-sync --pwfile=/tmp/password -D "$data" "$@"
}
prepare() {
    printf %s "$PGPASSWORD" >/tmp/password
    initialize --locale-provider=icu --icu-locale=en-US || initialize || exit
    printf 'host all all all password\nhost replication all all password\n' >>"$data/pg_hba.conf"
}"#;
const STANDBY: &str = r#"
prepare() {
    pg_basebackup -d "host=$PRIMARY port=5432 user=$SUPERUSER" -D "$data" -R -X stream -c fast -C -S "$SLOT" --no-sync || exit
}"#;
const INSIDE: &str = r#"
data=$PGDATA/cluster
[ -s "$data/PG_VERSION" ] || prepare
exec postgres -D "$data" -c listen_addresses='*' "$@"
"#;

/// A container, with whoever ends it.
#[derive(Debug)]
pub(crate) struct Container {
    supervisor: Supervisor,
    name: String,
    password: String,
    settings: Vec<String>,
}

impl Container {
    pub(crate) fn new(settings: &[(&str, &str)]) -> Result<Self> {
        Self::with(place::arguments(settings), random::password(), PRIMARY, &[])
    }
    fn with(settings: Vec<String>, password: String, prepare: &str, more: &[(&str, &str)]) -> Result<Self> {
        let name = format!("sagamill-test-{}", random::suffix());
        let part = Part {
            functions: &[RUN, docker::END].concat(),
            variables: &[("name", &name)],
            arguments: &run_arguments(&name, &password, prepare, more, &settings),
        };
        Ok(Self {
            supervisor: Supervisor::new(Account::own(), &part)?,
            name,
            password,
            settings,
        })
    }
    fn docker(&self, arguments: &[&str]) -> Result<String> {
        docker(&[arguments, &[&self.name]].concat())
    }
}

impl server::Place for Container {
    fn name(&self) -> String {
        format!("PostgreSQL in the container {}", self.name)
    }
    fn start(&mut self, port: u16) -> Result<bool> {
        let began = self.supervisor.log().len();
        if self.supervisor.start(port)?.is_none() {
            let log = self.supervisor.log();
            let words = log.get(began..).unwrap_or(&log);
            return if is_taken(words) {
                Ok(false)
            } else {
                Err(self.supervisor.failure(&server::Place::name(self), "Docker refused"))
            };
        }
        wait_ready(&self.name).map(|()| true)
    }
    fn stop(&mut self) -> Result<()> {
        self.docker(&["kill", "--signal=INT"])?;
        wait_down(&self.name)
    }
    fn kill(&mut self) -> Result<()> {
        self.docker(&["kill", "--signal=KILL"])?;
        wait_down(&self.name)
    }
    fn pause(&mut self) -> Result<()> {
        let mut tries = 1;
        loop {
            match self.docker(&["pause"]) {
                Err(_) if tries < PAUSES_MAX => tries += 1,
                done => return done.map(drop),
            }
            sleep(PAUSE);
        }
    }
    fn resume(&mut self) -> Result<()> {
        self.docker(&["unpause"]).map(drop)
    }
    fn log(&self) -> String {
        format!("{}{}", self.supervisor.log(), log(&self.name))
    }
}

impl Place for Container {
    fn password(&self) -> &str {
        &self.password
    }
    fn standby(&self, _port: u16) -> Result<Box<dyn Place>> {
        let format = "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = self.docker(&["inspect", format])?;
        let slot = format!("standby_{}", random::suffix());
        let more = [("PRIMARY", address.as_str()), ("SLOT", slot.as_str())];
        let standby = Self::with(self.settings.clone(), self.password.clone(), STANDBY, &more)?;
        Ok(Box::new(standby))
    }
}

/// The arguments of `docker run` for a server, but for the port that it is published on.
fn run_arguments(name: &str, password: &str, prepare: &str, more: &[(&str, &str)], settings: &[String]) -> Vec<String> {
    let own = [("PGPASSWORD", password), ("SUPERUSER", SUPERUSER)];
    let variables = own
        .iter()
        .chain(more)
        .map(|(name, value)| format!("--env={name}={value}"));
    let head = ["--detach", "--name", name, "--user=postgres", "--entrypoint=sh"].map(str::to_owned);
    let inside = [IMAGE, "-c", &format!("{prepare}{INSIDE}"), "sh"].map(str::to_owned);
    let settings = settings.iter().cloned();
    head.into_iter()
        .chain(variables)
        .chain(inside)
        .chain(settings)
        .collect()
}

/// A server that outlives this process: made where there is none of the name, started where it does not run.
pub(super) fn run_for_good(name: &str, password: &str, port: u16) -> Result<()> {
    if docker(&["inspect", name]).is_ok() {
        docker(&["start", name])?;
    } else {
        let publish = format!("--publish=127.0.0.1:{port}:{PORT}");
        let rest = run_arguments(name, password, PRIMARY, &[], &place::arguments(&[]));
        let all: Vec<_> = ["run", &publish]
            .into_iter()
            .chain(rest.iter().map(String::as_str))
            .collect();
        docker(&all)?;
    }
    wait_ready(name)
}

/// Stops such a server.
pub(super) fn stop(name: &str) -> Result<()> {
    docker(&["stop", name]).map(drop)
}

fn wait_ready(name: &str) -> Result<()> {
    let failure = |why: String| Error::Start {
        server: format!("PostgreSQL in the container {name}"),
        why,
        log: tail(&log(name)),
    };
    let end = Instant::now() + START_MAX;
    while docker(&["exec", name, "pg_isready", "--quiet", "--host=127.0.0.1"]).is_err() {
        if !is_running(name) {
            return Err(failure("it ended".to_owned()));
        }
        if Instant::now() > end {
            return Err(failure(format!("it took longer than {START_MAX:?}")));
        }
        sleep(PAUSE);
    }
    Ok(())
}
