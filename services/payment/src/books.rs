//! How payment answers for its database, and for its provider.

use shop_contracts::{Answering, Book, BooksError, PaymentBook};
use shop_frame::Db;

use crate::desk::Desk;

#[derive(Debug)]
pub(crate) struct Books<D: Db>(pub(crate) Desk<D>);

/// Payments, and then the provider's ledger.
impl<D: Db> Book<PaymentBook> for Books<D> {
    fn read(&self) -> Answering<'_, PaymentBook> {
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
