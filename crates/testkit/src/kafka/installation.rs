//! Where Kafka comes from on this machine: its archives and a Java, or else Docker.

use std::{fmt, fs, path::PathBuf, process::Command};

use super::{
    Server,
    place::{self, KAFKA},
};
use crate::{Missing, Result, supervisor::output, tools};

const WANTED: &str = "Apache Kafka 4.1";
/// What is got, and what a directory of archives is named for.
const VERSION: &str = "4.1.1";
/// The archive without which the others are nothing.
const MARK: &str = "kafka_2.13-4.1.1.jar";
/// What the archives are got by: Maven reads the names of all that Kafka needs.
const PROJECT: &str = "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
    <groupId>t</groupId><artifactId>t</artifactId><version>1</version><packaging>pom</packaging><dependencies>\
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>4.1.1</version></dependency>\
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>4.1.1</version></dependency>\
    </dependencies></project>";

/// Kafka as this machine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The directory of archives; none: Docker.
    archives: Option<PathBuf>,
}

impl Installation {
    /// Looks for archives and a Java, then for Docker.
    ///
    /// # Errors
    ///
    /// [`Missing`], with the command that gets it.
    pub fn find() -> Result<Self, Missing> {
        let archives = tools::directory().join(directory());
        let has_archives = fs::exists(archives.join(MARK)).unwrap_or(false);
        let has_java = output(Command::new("java").arg("-version")).is_ok();
        if has_archives && has_java {
            return Ok(Self {
                archives: Some(archives),
            });
        }
        if tools::has_docker() {
            return Ok(Self { archives: None });
        }
        let found = has_archives.then(|| format!("Kafka {VERSION} in {}, but no java on the PATH", archives.display()));
        Err(missing(found.into_iter().collect()))
    }
    /// Puts the archives into the directory for tools, from the repository that Maven knows.
    ///
    /// # Errors
    ///
    /// [`Error::Program`](crate::Error::Program) where Maven is missing, or the archives cannot be had.
    pub fn install() -> Result<()> {
        output(Command::new("sh").args(["-c", &script()])).map(drop)
    }
    /// Starts a broker of its own, which ends with this process: on a port of the loopback address, its files where they
    /// last as long as it does.
    ///
    /// # Errors
    ///
    /// [`Error::Start`](crate::Error::Start) with the end of the broker's log, and whatever stands in the way of files.
    pub fn start(&self) -> Result<Server> {
        place::start(self.archives.as_deref())
    }
    /// Starts one whose URL is over TLS (`kafkas:`), with the file of its certificate and a user who signs in by SCRAM.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); [`Missing`] where there are no archives: the official image is not told of certificates.
    pub fn start_secured(&self) -> Result<Server> {
        let archives = self.archives.as_deref().ok_or_else(|| missing(Vec::new()))?;
        place::start_secured(archives)
    }
}

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.archives {
            Some(archives) => write!(f, "Kafka {VERSION} in {}", archives.display()),
            None => write!(f, "{} in Docker", KAFKA.image),
        }
    }
}

fn missing(found: Vec<String>) -> Missing {
    Missing {
        wanted: WANTED,
        found,
        remedy: format!("{} (needs Maven and Java 17 or newer; or start Docker)", script()),
    }
}

fn directory() -> String {
    format!("kafka-{VERSION}")
}

/// The command that gets Kafka, in a shell of its own, since somebody may type it. The directory gets its name when all is
/// in it.
fn script() -> String {
    let (tools, name) = (tools::directory(), directory());
    let tools = tools.display();
    format!(
        "(set -e; mkdir -p '{tools}/{name}.new'; cd '{tools}/{name}.new'; echo '{PROJECT}' >pom.xml; \
         mvn -q -B dependency:copy-dependencies -DoutputDirectory=. -DincludeScope=runtime; \
         rm -rf '../{name}'; mv '../{name}.new' '../{name}')"
    )
}
