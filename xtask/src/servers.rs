//! What the gate's tests run on: found, or installed where that is ours to do; started once, and gone in the end.

use std::{
    env,
    fmt::Display,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use sagamill_testkit::{
    ALL, Missing, TESTS, broker, kafka, nats,
    postgres::{self, Installation},
    rabbitmq,
};

use crate::packages::{install, may_install, without_services};

/// Debian's packages make a database of their own when they are installed, unless a file here says no.
const CLUSTER_SETTINGS: &str = "/etc/postgresql-common/createcluster.d";

/// Servers for one run of the gate. They end with this value, and with this process, however that ends.
#[derive(Debug)]
pub(crate) struct Servers {
    /// What tells the tests of them.
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) took: Duration,
    /// None: the caller has named one.
    _postgres: Option<postgres::Server>,
    _nats: Option<broker::Server>,
    _kafka: Option<broker::Server>,
    _rabbitmq: Option<broker::Server>,
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
        let (nats_url, nats) = NATS.start()?;
        let (kafka_url, kafka) = KAFKA.start()?;
        let (amqp_url, rabbitmq) = RABBITMQ.start()?;
        Ok(Self {
            env: vec![
                (postgres::URL, url),
                (nats::URL, nats_url),
                (kafka::URL, kafka_url),
                (rabbitmq::URL, amqp_url),
                (TESTS, ALL.to_owned()),
            ],
            took: begun.elapsed(),
            _postgres: postgres,
            _nats: nats,
            _kafka: kafka,
            _rabbitmq: rabbitmq,
        })
    }
}

/// A broker of one kind: the caller's, or one of this run's own, of what this machine has or gets.
struct Broker<I> {
    name: &'static str,
    /// The environment variable with the URL of the caller's.
    url: &'static str,
    find: fn() -> Result<I, Missing>,
    /// Puts it into a directory of the user's own; none: it comes as a package.
    install: Option<fn() -> sagamill_testkit::Result<()>>,
    /// The packages that this needs and what is got runs on, or that have it.
    packages: &'static [&'static str],
    start: fn(&I) -> sagamill_testkit::Result<broker::Server>,
}

const NATS: Broker<nats::Installation> = Broker {
    name: "NATS",
    url: nats::URL,
    find: nats::Installation::find,
    install: Some(nats::Installation::install),
    packages: &["python3-pip"],
    start: nats::Installation::start,
};
const KAFKA: Broker<kafka::Installation> = Broker {
    name: "Kafka",
    url: kafka::URL,
    find: kafka::Installation::find,
    install: Some(kafka::Installation::install),
    packages: &["maven", "default-jre-headless"],
    start: kafka::Installation::start,
};

const RABBITMQ: Broker<rabbitmq::Installation> = Broker {
    name: "RabbitMQ",
    url: rabbitmq::URL,
    find: rabbitmq::Installation::find,
    install: None,
    packages: &["rabbitmq-server"],
    start: rabbitmq::Installation::start,
};

impl<I: Display> Broker<I> {
    fn start(&self) -> anyhow::Result<(String, Option<broker::Server>)> {
        let installation = self.installation()?;
        if let Some(url) = env::var(self.url).ok().filter(|url| !url.is_empty()) {
            println!("{} of {}, and {installation}", self.name, self.url);
            return Ok((url, None));
        }
        println!("{installation}");
        let server = (self.start)(&installation)?;
        Ok((server.url(), Some(server)))
    }
    fn installation(&self) -> anyhow::Result<I> {
        let missing = match (self.find)() {
            Ok(found) => return Ok(found),
            Err(missing) => missing,
        };
        println!("{missing}");
        let cannot = || format!("cannot get {}", self.name);
        if self.install.is_some_and(|install| install().is_ok())
            && let Ok(found) = (self.find)()
        {
            return Ok(found);
        }
        if may_install() {
            without_services(|| install(self.packages)).with_context(cannot)?;
        }
        if let Some(install) = self.install {
            install().with_context(cannot)?;
        }
        Ok((self.find)()?)
    }
}

/// PostgreSQL as this machine has it, or as it gets it where root asks for it on a Debian.
fn installation() -> anyhow::Result<Installation> {
    match Installation::find() {
        Err(missing) if may_install() => {
            println!("{missing}");
            install_postgres().context("cannot install PostgreSQL")?;
            Ok(Installation::find()?)
        }
        found => Ok(found?),
    }
}

/// Installs Debian's package, and nothing that runs.
fn install_postgres() -> anyhow::Result<()> {
    let settings = Path::new(CLUSTER_SETTINGS).join("sagamill-gate.conf");
    fs::create_dir_all(CLUSTER_SETTINGS)?;
    fs::write(&settings, "create_main_cluster = false\n")?;
    let installed = install(&["postgresql"]);
    // Who installs a server for good shall have its database made.
    fs::remove_file(&settings)?;
    installed
}
