//! How a service answers for its own database. In the same process, over HTTP or gRPC, whoever asks holds the same trait.
//! Nobody opens another's database.

use std::{fmt, pin::Pin};

use serde::{Deserialize, Serialize};

use crate::{Line, Money, OrderId, Sku};

/// An answer on its way.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, BooksError>> + Send + 'a>>;

/// The service cannot answer now.
#[derive(Debug, thiserror::Error)]
#[error("{service} cannot answer for its books")]
pub struct BooksError {
    /// Who was asked.
    pub service: &'static str,
    /// Why not.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl BooksError {
    /// Of this service, for this reason.
    pub fn new(service: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            service,
            source: source.into(),
        }
    }
}

/// A page of a service's books, as it is at one moment.
pub trait Book<P>: fmt::Debug + Send + Sync {
    /// Reads it.
    fn read(&self) -> Answering<'_, P>;
}

/// One article's stock: what there was at first is available or held, at every moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLevel {
    /// The article.
    pub sku: Sku,
    /// How many there were when the shop opened.
    pub initial: i64,
    /// How many can be reserved.
    pub available: i64,
    /// How many are set aside.
    pub held: i64,
}

/// Inventory's database at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockBook {
    /// Each article.
    pub stock: Vec<StockLevel>,
    /// All reservations, released ones too.
    pub reservations: Vec<Reservation>,
}

/// What was set aside for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// For whom.
    pub order: OrderId,
    /// What, sorted by article.
    pub lines: Vec<Line>,
    /// Still set aside, not released.
    pub held: bool,
}

/// Payment's database, then its provider's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentBook {
    /// What payment believes.
    pub authorizations: Vec<HeldAuthorization>,
    /// What the provider did.
    pub provider: ProviderBook,
}

/// The provider's ledger at one moment: what customers have lost is held or the merchant's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderBook {
    /// All authorizations that were granted.
    pub authorizations: Vec<HeldAuthorization>,
    /// The balance of all customers together; zero or negative.
    pub customers: Money,
    /// The balance of what is held.
    pub held: Money,
    /// The balance of the merchant.
    pub merchant: Money,
}

/// Money that was authorized for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldAuthorization {
    /// The provider's name for it.
    pub authorization: String,
    /// For whom.
    pub order: OrderId,
    /// How much.
    pub amount: Money,
    /// What became of it.
    pub state: AuthorizationState,
}

/// What became of an authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthorizationState {
    /// The money is held.
    Authorized,
    /// The money is the merchant's.
    Captured,
    /// The money is the customer's again.
    Voided,
}

impl AuthorizationState {
    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authorized => "authorized",
            Self::Captured => "captured",
            Self::Voided => "voided",
        }
    }
    /// From what is stored.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Authorized, Self::Captured, Self::Voided]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// Shipping's database at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippingBook {
    /// All shipments, cancelled ones too.
    pub shipments: Vec<BookedShipment>,
}

/// A shipment that was booked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookedShipment {
    /// For whom.
    pub order: OrderId,
    /// What became of it.
    pub state: ShipmentState,
}

/// What became of a shipment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShipmentState {
    /// The carrier will come.
    Booked,
    /// The goods are gone: it can no longer be cancelled.
    Dispatched,
    /// The carrier will not come.
    Cancelled,
}

impl ShipmentState {
    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Booked => "booked",
            Self::Dispatched => "dispatched",
            Self::Cancelled => "cancelled",
        }
    }
    /// From what is stored.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Booked, Self::Dispatched, Self::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}
