//! Where PostgreSQL comes from on this machine: programs that are installed, or else Docker.

use std::{
    collections::BTreeSet,
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Server, container::Container, native::Native};
use crate::{Missing, Result, supervisor::output, tools};

/// The oldest major version that Sagamill runs on.
pub(crate) const MAJOR_MIN: u32 = 15;
pub(crate) const WANTED: &str = "PostgreSQL 15 or newer";
/// What runs where nothing is installed but Docker.
pub(crate) const IMAGE: &str = "postgres:17-alpine";

/// Where distributions put the programs, besides the `PATH`; the first `*` is a version.
const PLACES: [&str; 5] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
];

/// PostgreSQL as this machine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    source: Source,
    /// As PostgreSQL writes it: `15.18`.
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// The directory of `postgres` and `initdb`.
    Programs(PathBuf),
    Docker,
}

impl Installation {
    /// Looks for programs on the `PATH` and where distributions put them, then for Docker.
    ///
    /// # Errors
    ///
    /// [`Missing`], with the command that gets it.
    pub fn find() -> Result<Self, Missing> {
        let mut found: Vec<Self> = directories().into_iter().filter_map(Self::of_programs).collect();
        // What stands on the PATH was chosen; of the others, the newest.
        if let Some(at) = found.iter().position(Self::is_new_enough) {
            return Ok(found.swap_remove(at));
        }
        if tools::has_docker() {
            return Ok(Self {
                source: Source::Docker,
                version: IMAGE.to_owned(),
            });
        }
        Err(Missing {
            wanted: WANTED,
            found: found.iter().map(Self::to_string).collect(),
            remedy: remedy(),
        })
    }
    fn of_programs(directory: PathBuf) -> Option<Self> {
        let version = output(Command::new(directory.join("postgres")).arg("--version")).ok()?;
        // `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`
        let version = version.split_whitespace().nth(2)?.to_owned();
        let source = Source::Programs(directory);
        Some(Self { source, version })
    }
    fn is_new_enough(&self) -> bool {
        let digits = self.version.split(|c: char| !c.is_ascii_digit()).next();
        digits
            .and_then(|major| major.parse().ok())
            .is_some_and(|major: u32| major >= MAJOR_MIN)
    }
    /// Starts a server of its own, which ends with this process: on a port of the loopback address, durable as in
    /// production. Each setting is a name and a value of `postgresql.conf`.
    ///
    /// # Errors
    ///
    /// [`Error::Start`](crate::Error::Start) with the end of the server's log, and whatever stands in the way of files.
    pub fn start(&self, settings: &[(&str, &str)]) -> Result<Server> {
        match &self.source {
            Source::Programs(programs) => Server::start_in(Box::new(Native::new(programs, &self.version, settings)?)),
            Source::Docker => Server::start_in(Box::new(Container::new(settings)?)),
        }
    }
    /// The directory of the programs; none: Docker.
    pub(super) fn programs(&self) -> Option<&Path> {
        match &self.source {
            Source::Programs(programs) => Some(programs),
            Source::Docker => None,
        }
    }
    pub(super) fn version(&self) -> &str {
        &self.version
    }
}

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Programs(programs) => write!(f, "PostgreSQL {} in {}", self.version, programs.display()),
            Source::Docker => write!(f, "{IMAGE} in Docker"),
        }
    }
}

/// Directories with PostgreSQL's programs: those of the `PATH` in its order, then the newest first.
fn directories() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).filter_map(|place| real(&place));
    let mut installed: Vec<_> = PLACES
        .into_iter()
        .flat_map(matching)
        .filter_map(|place| real(&place))
        .collect();
    installed.sort_by_key(|place| std::cmp::Reverse(numbers(place)));
    let mut seen = BTreeSet::new();
    on_path
        .chain(installed)
        .filter(|place| seen.insert(place.clone()))
        .collect()
}

/// Where the programs of a directory really are: links stand on the `PATH` for some of them, and all are needed.
fn real(directory: &Path) -> Option<PathBuf> {
    let postgres = fs::canonicalize(directory.join("postgres")).ok()?;
    let real = postgres.parent()?;
    real.join("initdb").exists().then(|| real.to_owned())
}

/// The paths that fit a pattern with one `*` in one of its parts.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let star = pattern.find('*').expect("invariant: each place has a star");
    let folder = pattern[..star].rfind('/').expect("invariant: each place is absolute");
    let (parent, rest) = (&pattern[..folder], &pattern[folder + 1..]);
    let (part, below) = rest.split_once('/').unwrap_or((rest, ""));
    let (begin, end) = part.split_once('*').expect("invariant: the part has the star");
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let fitting = names.filter(|name| name.starts_with(begin) && name.ends_with(end));
    fitting.map(|name| Path::new(parent).join(name).join(below)).collect()
}

/// The numbers in a path, so that 9 comes before 15.
fn numbers(path: &Path) -> Vec<u32> {
    let text = path.to_string_lossy();
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// The command that gets PostgreSQL on this kind of system.
fn remedy() -> String {
    let path = env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| env::split_paths(&path).any(|place| place.join(program).exists());
    let sudo = if rustix::process::geteuid().is_root() {
        ""
    } else {
        "sudo "
    };
    if has("apt-get") {
        format!("{sudo}apt-get update && {sudo}apt-get install -y --no-install-recommends postgresql")
    } else if has("brew") {
        "brew install postgresql@17".to_owned()
    } else if has("dnf") {
        format!("{sudo}dnf install -y postgresql-server postgresql")
    } else if has("apk") {
        format!("{sudo}apk add postgresql17")
    } else if has("docker") {
        "start Docker".to_owned()
    } else {
        format!("install {WANTED} so that `postgres` and `initdb` are on the PATH, or start Docker")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(version: &str) -> Installation {
        Installation {
            source: Source::Docker,
            version: version.to_owned(),
        }
    }

    #[test]
    fn fourteen_is_too_old_and_a_beta_is_not() {
        assert!(!version("14.9").is_new_enough());
        assert!(!version("9.6").is_new_enough());
        for fit in ["15.0", "15.18", "18beta2", "100.1"] {
            assert!(version(fit).is_new_enough(), "{fit}");
        }
    }

    #[test]
    fn a_star_stands_for_a_version() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["pg-9/bin", "pg-17/bin", "other/bin"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let mut found = matching(&format!("{}/pg-*/bin", folder.path().display()));
        found.sort_by_key(|place| std::cmp::Reverse(numbers(place.strip_prefix(folder.path()).unwrap())));
        assert_eq!(found, [folder.path().join("pg-17/bin"), folder.path().join("pg-9/bin")]);
    }

    #[test]
    fn links_are_followed_to_where_all_programs_are() {
        let folder = tempfile::tempdir().unwrap();
        let [real_bin, path] = ["real", "path"].map(|name| folder.path().join(name));
        for place in [&real_bin, &path] {
            fs::create_dir(place).unwrap();
        }
        for program in ["postgres", "initdb"] {
            fs::write(real_bin.join(program), "").unwrap();
        }
        std::os::unix::fs::symlink(real_bin.join("postgres"), path.join("postgres")).unwrap();
        assert_eq!(real(&path), Some(fs::canonicalize(real_bin).unwrap()));
        assert_eq!(real(folder.path()), None);
    }
}
