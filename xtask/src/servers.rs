//! What the gate's tests run on: found, or installed where that is ours to do; started once, and gone in the end.

use std::{
    env, fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use sagamill_testkit::{
    ALL, TESTS, nats,
    postgres::{self, Installation},
};

/// Debian's packages make a database of their own when they are installed, unless a file here says no.
const CLUSTER_SETTINGS: &str = "/etc/postgresql-common/createcluster.d";
/// What the package index of Python is read with.
const PIP: [&[&str]; 2] = [
    &["update"],
    &["install", "-y", "--no-install-recommends", "python3-pip"],
];
const INSTALL: [&[&str]; 2] = [&["update"], &["install", "-y", "--no-install-recommends", "postgresql"]];

/// Servers for one run of the gate. They end with this value, and with this process, however that ends.
#[derive(Debug)]
pub(crate) struct Servers {
    /// What tells the tests of them.
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) took: Duration,
    /// None: the caller has named one.
    _postgres: Option<postgres::Server>,
    _nats: Option<nats::Server>,
}

impl Servers {
    /// Gets and starts what is needed.
    pub(crate) fn start() -> anyhow::Result<Self> {
        println!("==> servers");
        let begun = Instant::now();
        // Also where the caller names a server: tests that crash theirs start it themselves.
        let installation = installation()?;
        let named = env::var(postgres::URL).ok().filter(|url| !url.is_empty());
        let (url, postgres) = match named {
            Some(url) => {
                println!("PostgreSQL of {}, and {installation}", postgres::URL);
                (url, None)
            }
            None => {
                println!("{installation}");
                let server = installation.start(&[])?;
                (server.url(), Some(server))
            }
        };
        let (nats_url, nats) = start_nats()?;
        Ok(Self {
            env: vec![(postgres::URL, url), (nats::URL, nats_url), (TESTS, ALL.to_owned())],
            took: begun.elapsed(),
            _postgres: postgres,
            _nats: nats,
        })
    }
}

/// NATS: the caller's, or one of this run's own.
fn start_nats() -> anyhow::Result<(String, Option<nats::Server>)> {
    let installation = nats_installation()?;
    if let Some(url) = env::var(nats::URL).ok().filter(|url| !url.is_empty()) {
        println!("NATS of {}, and {installation}", nats::URL);
        return Ok((url, None));
    }
    println!("{installation}");
    let server = installation.start()?;
    Ok((server.url(), Some(server)))
}

/// NATS as this machine has it, or as it gets it: a program in a directory of the user's own.
fn nats_installation() -> anyhow::Result<nats::Installation> {
    let missing = match nats::Installation::find() {
        Ok(found) => return Ok(found),
        Err(missing) => missing,
    };
    println!("{missing}");
    let got = nats::Installation::install();
    if got.is_err() && may_install() {
        PIP.iter().try_for_each(|arguments| apt(arguments))?;
        nats::Installation::install().context("cannot get NATS")?;
    } else {
        got.context("cannot get NATS")?;
    }
    Ok(nats::Installation::find()?)
}

/// PostgreSQL as this machine has it, or as it gets it where root asks for it on a Debian.
fn installation() -> anyhow::Result<Installation> {
    match Installation::find() {
        Err(missing) if may_install() => {
            println!("{missing}");
            install().context("cannot install PostgreSQL")?;
            Ok(Installation::find()?)
        }
        found => Ok(found?),
    }
}

fn may_install() -> bool {
    rustix::process::geteuid().is_root() && Path::new("/usr/bin/apt-get").exists()
}

/// Installs Debian's package, and nothing that runs.
fn install() -> anyhow::Result<()> {
    let settings = Path::new(CLUSTER_SETTINGS).join("sagamill-gate.conf");
    fs::create_dir_all(CLUSTER_SETTINGS)?;
    fs::write(&settings, "create_main_cluster = false\n")?;
    let installed = INSTALL.iter().try_for_each(|arguments| apt(arguments));
    // Who installs a server for good shall have its database made.
    fs::remove_file(&settings)?;
    installed
}

fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    println!("+ apt-get {}", arguments.join(" "));
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("cannot start apt-get")?;
    ensure!(status.success(), "apt-get {} failed: {status}", arguments.join(" "));
    Ok(())
}
