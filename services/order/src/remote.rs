//! The others' books, over HTTP.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use reqwest::{Client, Url};
use serde::de::DeserializeOwned;
use shop_contracts::{Answering, Book, BooksError};

use crate::Books;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the other services answer. Of one whose address is not known, `/catalog` or `/ledger` says so with 503.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Others {
    /// Where inventory answers: `http://127.0.0.1:7702`.
    #[arg(long, value_name = "URL", env = "SAGAMILL_INVENTORY")]
    pub inventory: Option<Url>,
    /// Where payment answers.
    #[arg(long, value_name = "URL", env = "SAGAMILL_PAYMENT")]
    pub payment: Option<Url>,
    /// Where shipping answers.
    #[arg(long, value_name = "URL", env = "SAGAMILL_SHIPPING")]
    pub shipping: Option<Url>,
}

impl Others {
    /// Their books.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn books(self) -> Result<Books, reqwest::Error> {
        let client = Client::builder().timeout(PATIENCE).no_proxy().build()?;
        let page = |service, at: &Option<Url>, path| Page {
            service,
            at: at.as_ref().and_then(|at| at.join(path).ok()),
            client: client.clone(),
            page: PhantomData,
        };
        Ok(Books {
            stock: Arc::new(page("inventory", &self.inventory, "/stock").of()),
            inventory: Arc::new(page("inventory", &self.inventory, "/book").of()),
            payment: Arc::new(page("payment", &self.payment, "/book").of()),
            shipping: Arc::new(page("shipping", &self.shipping, "/book").of()),
        })
    }
}

/// A page of a service's books; none where its address is not known.
#[derive(Debug)]
struct Page<P> {
    service: &'static str,
    at: Option<Url>,
    client: Client,
    page: PhantomData<fn() -> P>,
}

impl Page<()> {
    fn of<P>(self) -> Page<P> {
        let Self {
            service, at, client, ..
        } = self;
        Page {
            service,
            at,
            client,
            page: PhantomData,
        }
    }
}

impl<P: DeserializeOwned + std::fmt::Debug> Book<P> for Page<P> {
    fn read(&self) -> Answering<'_, P> {
        Box::pin(async {
            let failed = |why: Box<dyn std::error::Error + Send + Sync>| BooksError::new(self.service, why);
            let at = self.at.clone().ok_or_else(|| {
                failed(format!("its address is not known to this process: --{}", self.service).into())
            })?;
            let asked = async { self.client.get(at).send().await?.error_for_status()?.json().await };
            asked.await.map_err(|error: reqwest::Error| failed(error.into()))
        })
    }
}
