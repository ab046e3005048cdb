//! A server that stays when the process that started it ends: for as long as somebody works on the code.

use std::{
    fmt::Write as _,
    fs::{self, File},
    net::{Ipv4Addr, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::process::Signal;

use super::{
    container,
    installation::Installation,
    native::{LOOPBACK, PID_FILE, Ready, wait_ready},
    place::{self, SETTINGS},
    template::Template,
};
use crate::{
    Error, Result,
    account::Account,
    docker, port, process, random,
    supervisor::{output, tail},
};

/// A server that has a directory for good, and runs until it is told to stop.
#[derive(Debug, Clone)]
pub struct Daemon {
    directory: PathBuf,
}

/// How a daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It takes connections.
    Running {
        /// The URL of its database `postgres`, as the superuser.
        url: String,
    },
    /// It has run before, and its data is kept.
    Stopped,
    /// There is none.
    Absent,
}

/// Files of its directory, with what is to be known of it.
const PASSWORD: &str = "password";
const PORT: &str = "port";
/// The name of its container, where it runs in one.
const CONTAINER: &str = "container";

/// Closes what the caller's caller may have open, locks among it, before a server keeps it for good.
const DETACHED: &str = r#"exec 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-; exec "$0" "$@""#;

impl Daemon {
    /// The one of a directory, whether it exists or not.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }
    /// How it is.
    #[must_use]
    pub fn state(&self) -> State {
        let (Some(password), Some(port)) = (self.read(PASSWORD), self.known_port()) else {
            return State::Absent;
        };
        let runs = match self.read(CONTAINER) {
            Some(name) => docker::is_running(&name),
            None => self.postmaster().is_some_and(|pid| process::runs(pid).unwrap_or(false)),
        };
        // The id in a file of before a reboot may be anybody's now; that and the port together are not.
        if runs && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            let url = place::url(&password, port);
            return State::Running { url };
        }
        State::Stopped
    }
    /// Starts it, unless it runs; gives its URL, which stays the same for as long as nobody takes its port.
    ///
    /// # Errors
    ///
    /// [`Error::Directory`] where the server's user cannot reach its directory; [`Error::Start`] with the end of its log.
    pub fn up(&self, installation: &Installation) -> Result<String> {
        if let State::Running { url } = self.state() {
            return Ok(url);
        }
        if let Some(above) = self.directory.parent() {
            fs::create_dir_all(above).map_err(Error::directory(above))?;
        }
        match installation.programs() {
            Some(programs) => self.up_here(programs, installation.version()),
            None => self.up_in_docker(),
        }
    }
    /// Stops it in order, and keeps its data. False: it did not run.
    ///
    /// # Errors
    ///
    /// [`Error::Late`] where it does not obey.
    pub fn down(&self) -> Result<bool> {
        if !matches!(self.state(), State::Running { .. }) {
            return Ok(false);
        }
        if let Some(name) = self.read(CONTAINER) {
            container::stop(&name)?;
        } else if let Some(postmaster) = self.postmaster() {
            process::signal(postmaster, Signal::INT);
            process::wait_gone(&[postmaster])?;
        }
        Ok(true)
    }

    fn up_here(&self, programs: &Path, version: &str) -> Result<String> {
        let account = Account::of_servers()?;
        account.private_directory(&self.directory)?;
        output(account.command("test").arg("-w").arg(&self.directory)).map_err(|_| Error::Directory {
            directory: self.directory.clone(),
            why: format!(
                "user {} does not get there: open the directories above it to others",
                account.uid
            ),
        })?;
        let data = self.directory.join("data");
        if !data.exists() {
            self.create(account, &Template::get(account, programs, version)?, &data)?;
        }
        let port = self.port()?;
        self.start(account, programs, &data, port)?;
        Ok(place::url(&self.read(PASSWORD).unwrap_or_default(), port))
    }
    /// Copies the template, whole or not at all, and remembers its password.
    fn create(&self, account: Account, template: &Template, data: &Path) -> Result<()> {
        let draft = self.directory.join("draft");
        let _ = fs::remove_dir_all(&draft);
        output(account.command("cp").arg("-R").arg(&template.data).arg(&draft))?;
        let file = draft.join("postgresql.conf");
        let mut text = fs::read_to_string(&file).map_err(Error::directory(&file))?;
        for (name, value) in LOOPBACK.iter().chain(&SETTINGS) {
            let _ = writeln!(text, "{name} = '{value}'");
        }
        fs::write(&file, text).map_err(Error::directory(&file))?;
        self.write(PASSWORD, &template.password)?;
        fs::rename(&draft, data).map_err(Error::directory(data))
    }
    fn start(&self, account: Account, programs: &Path, data: &Path, port: u16) -> Result<()> {
        let path = self.directory.join("log");
        let log = || File::create(&path).map_err(Error::directory(&path));
        let mut command = account.command("sh");
        command
            .args(["-c", DETACHED])
            .arg(programs.join("postgres"))
            .arg("-D")
            .arg(data);
        command.args(["-p", &port.to_string()]).process_group(0);
        let child = command
            .stdout(Stdio::null())
            .stderr(log()?)
            .spawn()
            .map_err(Error::run("sh"))?;
        let why = match wait_ready(data, child.id())? {
            Ready::Yes => return Ok(()),
            Ready::Ended => "it ended",
            Ready::Late => "it took too long",
        };
        Err(Error::Start {
            server: format!("PostgreSQL in {}", self.directory.display()),
            why: why.to_owned(),
            log: tail(&fs::read_to_string(&path).unwrap_or_default()),
        })
    }
    fn up_in_docker(&self) -> Result<String> {
        Account::own().private_directory(&self.directory)?;
        let name = self
            .read(CONTAINER)
            .unwrap_or_else(|| format!("sagamill-infra-{}", random::suffix()));
        let password = self.read(PASSWORD).unwrap_or_else(random::password);
        // A container keeps the port that it was made with.
        let port = self.known_port().map_or_else(|| self.port(), Ok)?;
        self.write(PASSWORD, &password)?;
        self.write(CONTAINER, &name)?;
        container::run_for_good(&name, &password, port)?;
        Ok(place::url(&password, port))
    }

    /// The port of last time, or another one where that is taken.
    fn port(&self) -> Result<u16> {
        let known = self.known_port().filter(|&port| port::is_free(port));
        let port = known.map_or_else(port::free, Ok).map_err(Error::run("listening"))?;
        self.write(PORT, &port.to_string())?;
        Ok(port)
    }
    fn known_port(&self) -> Option<u16> {
        self.read(PORT)?.parse().ok()
    }
    /// The process that starts all others, as its file has it.
    fn postmaster(&self) -> Option<u32> {
        let text = fs::read_to_string(self.directory.join("data").join(PID_FILE)).ok()?;
        text.lines().next()?.parse().ok()
    }
    fn read(&self, file: &str) -> Option<String> {
        Some(fs::read_to_string(self.directory.join(file)).ok()?.trim().to_owned())
    }
    fn write(&self, file: &str, text: &str) -> Result<()> {
        fs::write(self.directory.join(file), text).map_err(Error::directory(&self.directory))
    }
}
