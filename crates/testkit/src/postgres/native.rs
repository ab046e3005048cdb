//! A server of programs that are installed, in a throw-away directory.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    place::{self, Place},
    template::{SUPERUSER, Template},
};
use crate::{
    Error, Result,
    account::Account,
    process, random,
    server::{self, Program},
    supervisor::{Part, Supervisor},
};

/// How long a server may take to come up: recovery after a crash included.
pub(crate) const START_MAX: Duration = Duration::from_secs(60);

/// Of its own network, it listens on the loopback address alone, and on no socket, whose path could be too long.
pub(super) const LOOPBACK: [(&str, &str); 2] = [("listen_addresses", "127.0.0.1"), ("unix_socket_directories", "")];

/// Where a server writes its process id and how it is.
pub(super) const PID_FILE: &str = "postmaster.pid";

/// The supervisor's part. The data directory is made at the first start.
const RUN: &str = r#"
start() {
    port=$1
    shift
    [ -e "$dir/data" ] || prepare >&2 || return
    [ -z "$id" ] || wait "$id"
    exec "$programs/postgres" -D "$dir/data" "$@" -p "$port" >&2 &
    id=$!
}
# A server that has only just begun does not hear yet, so it is told again and again: SIGTERM ends it before it has handlers
# of its own, SIGQUIT after that, at once, and SIGCONT lets it hear them where it stands still.
end() {
    [ -n "$id" ] || return
    (while kill -TERM "$id" && kill -QUIT "$id" && kill -CONT "$id"; do sleep 0.1; done) &
    wait "$id"
    kill "$!"
}
"#;
const COPY: &str = r#"prepare() { cp -R "$source" "$dir/data"; }"#;
/// With a slot of its own, so that the primary keeps for it what it does not take.
const FOLLOW: &str = r#"
prepare() {
    "$programs/pg_basebackup" -d "$source" -D "$dir/data" -R -X stream -c fast -C -S "$slot" --no-sync
}
"#;

/// Programs, a directory, and the processes in it.
#[derive(Debug)]
pub(crate) struct Native {
    program: Program,
    account: Account,
    programs: PathBuf,
    arguments: Vec<String>,
    password: String,
}

impl Native {
    pub(crate) fn new(programs: &Path, version: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let account = Account::of_servers()?;
        let template = Template::get(account, programs, version)?;
        let arguments = place::arguments(LOOPBACK.iter().chain(settings));
        let source = template.data.display().to_string();
        Self::with(
            account,
            programs,
            arguments,
            template.password,
            COPY,
            &[("source", &source)],
        )
    }
    fn with(
        account: Account,
        programs: &Path,
        arguments: Vec<String>,
        password: String,
        prepare: &str,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let directory = programs.display().to_string();
        let all = [variables, &[("programs", &directory), ("PGPASSWORD", &password)]].concat();
        let part = Part {
            functions: &format!("{prepare}\n{RUN}"),
            variables: &all,
            arguments: &arguments,
        };
        Ok(Self {
            program: Program::new(Supervisor::new(account, &part)?),
            account,
            programs: programs.to_owned(),
            arguments,
            password,
        })
    }
    fn failure(&self, why: &str) -> Error {
        self.program.supervisor.failure(&server::Place::name(self), why)
    }
}

impl server::Place for Native {
    fn name(&self) -> String {
        format!("PostgreSQL in {}", self.program.supervisor.directory().display())
    }
    fn start(&mut self, port: u16) -> Result<bool> {
        let began = self.program.supervisor.log().len();
        let id = self.program.supervisor.start(port)?;
        let id = id.and_then(|id| id.parse().ok());
        let postmaster = id.ok_or_else(|| self.failure("its files could not be made"))?;
        let data = self.program.supervisor.directory().join("data");
        self.program.pid = match wait_ready(&data, postmaster)? {
            Ready::Yes => Some(postmaster),
            Ready::Late => return Err(self.failure(&format!("it took longer than {START_MAX:?}"))),
            Ready::Ended => {
                let log = self.program.supervisor.log();
                let taken = log.get(began..).unwrap_or(&log).contains("could not bind");
                if !taken {
                    return Err(self.failure("it ended"));
                }
                None
            }
        };
        Ok(self.program.pid.is_some())
    }
    fn stop(&mut self) -> Result<()> {
        // As `pg_ctl stop -m fast` does: sessions end, a checkpoint is written.
        self.program.stop(Signal::INT)
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

impl Place for Native {
    fn password(&self) -> &str {
        &self.password
    }
    fn standby(&self, port: u16) -> Result<Box<dyn Place>> {
        let source = format!("host=127.0.0.1 port={port} user={SUPERUSER}");
        let slot = format!("standby_{}", random::suffix());
        let variables = [("source", source.as_str()), ("slot", slot.as_str())];
        let (arguments, password) = (self.arguments.clone(), self.password.clone());
        let standby = Self::with(self.account, &self.programs, arguments, password, FOLLOW, &variables)?;
        Ok(Box::new(standby))
    }
}

/// What became of a server that starts.
pub(super) enum Ready {
    Yes,
    Ended,
    Late,
}

/// Waits until the server of a data directory says that it takes connections.
pub(super) fn wait_ready(data: &Path, postmaster: u32) -> Result<Ready> {
    let end = Instant::now() + START_MAX;
    while !says_ready(data, postmaster) {
        if !process::runs(postmaster)? {
            return Ok(Ready::Ended);
        }
        if Instant::now() > end {
            return Ok(Ready::Late);
        }
        sleep(process::PAUSE);
    }
    Ok(Ready::Yes)
}

/// Whether this process has written that it is ready; the file may be of one that was killed.
fn says_ready(data: &Path, postmaster: u32) -> bool {
    let text = fs::read_to_string(data.join(PID_FILE)).unwrap_or_default();
    let mut lines = text.lines();
    lines.next() == Some(&postmaster.to_string()) && lines.last().is_some_and(|status| status.trim() == "ready")
}
