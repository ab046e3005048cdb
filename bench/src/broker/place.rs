//! Where a round is run: on the broker of this run, or in a database of the round's own.

use std::sync::Arc;

use anyhow::Context as _;
use sagamill_testkit::broker::Server;

use crate::{case::Setting, postgres::database::Database};

/// A broker that ends with this run.
#[derive(Debug, Clone)]
pub(crate) struct Broker(Arc<Server>);

impl Broker {
    pub(crate) fn new(server: Server) -> Self {
        Self(Arc::new(server))
    }
}

/// The place of one round.
#[derive(Debug)]
pub(crate) struct Place {
    url: String,
    /// None: rounds have topics of their own on one broker.
    database: Option<Database>,
}

impl Place {
    pub(crate) async fn find(setting: &Setting) -> anyhow::Result<Self> {
        if let Some(Broker(server)) = &setting.broker {
            return Ok(Self {
                url: server.url(),
                database: None,
            });
        }
        let database = Database::create(setting).await.context("this case runs on a broker")?;
        database.begin().await?;
        Ok(Self {
            url: database.url().to_owned(),
            database: Some(database),
        })
    }
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
    pub(crate) async fn leave(self) -> anyhow::Result<()> {
        match self.database {
            Some(database) => database.remove().await,
            None => Ok(()),
        }
    }
}
