//! How payment answers for its database, and for its provider.

use shop_contracts::{Answering, BooksError, PaymentBook, PaymentBooks};

use crate::desk::Desk;

#[derive(Debug)]
pub(crate) struct Books(pub(crate) Desk);

impl PaymentBooks for Books {
    fn book(&self) -> Answering<'_, PaymentBook> {
        Box::pin(async {
            let failed = |error| BooksError::new("payment", error);
            let authorizations = self.0.payments().await.map_err(failed)?;
            let provider = self.0.provider.book().await.map_err(failed)?;
            Ok(PaymentBook {
                authorizations,
                provider,
            })
        })
    }
}
