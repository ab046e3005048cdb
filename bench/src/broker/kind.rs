//! The kinds of brokers, each with its bare client.

use std::fmt::Display;

use sagamill_testkit::{Missing, Result, broker::Server, kafka, nats, rabbitmq};

use super::{
    bare::{Kafka, Nats, Postgres, RabbitMq},
    case::Cases,
    place::Broker,
};
use crate::case::Case;

/// What the bus is measured over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Kafka,
    #[value(name = "rabbitmq")]
    RabbitMq,
    Nats,
    Postgres,
}

impl Kind {
    /// As the command line has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::RabbitMq => "rabbitmq",
            Self::Nats => "nats",
            Self::Postgres => "postgres",
        }
    }
    /// Its cases, in the order in which they run.
    pub(crate) fn cases(self) -> &'static [Case] {
        match self {
            Self::Kafka => Cases::<Kafka>::ALL,
            Self::RabbitMq => Cases::<RabbitMq>::ALL,
            Self::Nats => Cases::<Nats>::ALL,
            Self::Postgres => Cases::<Postgres>::ALL,
        }
    }
    /// Starts a broker for one run, and says what it is on standard error. None: the bus is over a database.
    pub(crate) fn start(self) -> anyhow::Result<Option<Broker>> {
        let server = match self {
            Self::Kafka => started(kafka::Installation::find, kafka::Installation::start)?,
            Self::RabbitMq => started(rabbitmq::Installation::find, rabbitmq::Installation::start)?,
            Self::Nats => started(nats::Installation::find, nats::Installation::start)?,
            Self::Postgres => return Ok(None),
        };
        Ok(Some(Broker::new(server)))
    }
}

fn started<I: Display>(
    find: impl FnOnce() -> Result<I, Missing>,
    start: impl FnOnce(&I) -> Result<Server>,
) -> anyhow::Result<Server> {
    let installation = find()?;
    let server = start(&installation)?;
    eprintln!("{installation}, on this machine; processor time is of this process alone");
    Ok(server)
}
