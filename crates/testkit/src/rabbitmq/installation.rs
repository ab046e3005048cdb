//! Where RabbitMQ comes from on this machine: programs that are installed, or else Docker.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
};

use super::{
    Server,
    place::{self, RABBITMQ},
};
use crate::{Missing, Result, tools};

const WANTED: &str = "RabbitMQ 3.10 or newer";
/// The oldest version that Sagamill runs on.
const VERSION_MIN: (u32, u32) = (3, 10);
/// Where packages put it, a directory for each version: the programs on the `PATH` are wrappers for the system's own broker.
const PLACES: [&str; 3] = ["/usr/lib/rabbitmq/lib", "/usr/local/lib/rabbitmq/lib", "/opt/rabbitmq"];

/// RabbitMQ as this machine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The program; none: Docker.
    program: Option<PathBuf>,
    version: String,
}

impl Installation {
    /// Looks for programs, then for Docker.
    ///
    /// # Errors
    ///
    /// [`Missing`], with the command that gets it.
    pub fn find() -> Result<Self, Missing> {
        let mut found: Vec<Self> = places().iter().filter_map(|place| Self::of_directory(place)).collect();
        if let Some(at) = found
            .iter()
            .position(|one| tools::is_at_least(&one.version, VERSION_MIN))
        {
            return Ok(found.swap_remove(at));
        }
        if tools::has_docker() {
            return Ok(Self {
                program: None,
                version: RABBITMQ.image.to_owned(),
            });
        }
        Err(Missing {
            wanted: WANTED,
            found: found.iter().map(Self::to_string).collect(),
            remedy: remedy(),
        })
    }
    /// A directory as it is unpacked: `rabbitmq_server-3.10.8`, with the programs in `sbin`.
    fn of_directory(directory: &Path) -> Option<Self> {
        let version = directory.file_name()?.to_str()?.strip_prefix("rabbitmq_server-")?;
        let program = directory.join("sbin/rabbitmq-server");
        program.is_file().then(|| Self {
            program: Some(program),
            version: version.to_owned(),
        })
    }
    /// Starts a broker of its own, which ends with this process: on a port of the loopback address, its files where they
    /// last as long as it does.
    ///
    /// # Errors
    ///
    /// [`Error::Start`](crate::Error::Start) with the end of the broker's log, and whatever stands in the way of files.
    pub fn start(&self) -> Result<Server> {
        place::start(self.program.as_deref())
    }
}

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program {
            Some(program) => write!(f, "RabbitMQ {} in {}", self.version, program.display()),
            None => write!(f, "{} in Docker", RABBITMQ.image),
        }
    }
}

/// Directories where it may be: those above the programs on the `PATH`, and those of packages.
fn places() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let above = env::split_paths(&path).filter_map(|directory| directory.parent().map(Path::to_owned));
    let packaged = PLACES.iter().filter_map(|place| fs::read_dir(place).ok());
    let packaged = packaged
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()));
    above.chain(packaged).collect()
}

/// The command that gets RabbitMQ, to be shown.
fn remedy() -> String {
    let installs = if Path::new("/usr/bin/apt-get").exists() {
        "apt-get install rabbitmq-server"
    } else {
        "install RabbitMQ"
    };
    format!("{installs} (or start Docker)")
}
