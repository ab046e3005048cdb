//! What the services of the sample shop ask of each other: commands with their replies and rejections, events, the
//! catalogue, and how each answers for its own database.

mod books;
mod catalogue;
mod command;
mod event;
mod money;
mod name;

pub use books::{
    Answering, AuthorizationState, Book, BookedShipment, BooksError, HeldAuthorization, PaymentBook, ProviderBook,
    Reservation, ShipmentState, ShippingBook, StockBook, StockLevel,
};
pub use catalogue::{Article, CATALOGUE, Delivery, article};
pub use command::{
    Authorize, Authorized, BookShipment, Booked, Capture, CaptureRejected, Captured, CarrierDown, Declined, OutOfStock,
    ReserveStock, Reserved,
};
pub use event::{OrderConfirmed, OrderPlaced};
pub use money::Money;
pub use name::{Line, OrderId, Quantity, QuantityError, Sku};
