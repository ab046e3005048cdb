//! The one dependency: bus, event store and sagas, their features forwarded.

#![allow(missing_docs, reason = "being built")]
pub use sagamill_bus as bus;
pub use sagamill_eventstore as eventstore;
pub use sagamill_saga as saga;
pub use sagamill_saga::{Error, Result, test};

pub mod prelude {
    pub use sagamill_bus::prelude::*;
    pub use sagamill_eventstore::{Expected, Recorded};
    pub use sagamill_saga::prelude::*;
}

/// A bus by URL, of all the schemes that this build knows.
pub async fn connect(url: &str) -> Result<bus::Bus> {
    Ok(bus::Transports::default().connect(url).await?)
}
