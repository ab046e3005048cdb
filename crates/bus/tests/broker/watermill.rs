//! What the tests of Watermill's form share, whichever broker carries it.

use std::collections::BTreeMap;

use sagamill_bus::{Bus, Delivery, Message, Subscribe};

use crate::fixture::{next, topic};

/// The header of Watermill's id.
pub(crate) const ID: &str = "_watermill_message_uuid";
/// An id as a service may give it: any text.
pub(crate) const THEIR_ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
/// What the bus gives to each message.
pub(crate) const TRACE: &str = "traceparent";

/// A message with odd metadata, such as Watermill carries on every broker.
pub(crate) fn message() -> Message {
    Message::new("payload")
        .key("k")
        .header("tenant", "north")
        .header("ce-type", "order.placed")
        .header("Correlation_ID", "100 % \"größe\"")
        .header("empty", "")
}

/// All headers that a service on Watermill sees of a message.
pub(crate) fn metadata(message: &Message) -> BTreeMap<String, String> {
    let headers = message.headers.iter();
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    headers.chain([(ID.to_owned(), message.id.to_string())]).collect()
}

/// A message is what its sender wrote, but for the trace that the bus gives to each.
pub(crate) fn assert_is(came: &Delivery, sent: &Message) {
    let mut came = came.message.clone();
    came.headers.remove(TRACE);
    assert_eq!(came, *sent);
}

/// What came from a service on Watermill goes on in the same form, its own id included.
pub(crate) async fn goes_on_as_it_came(bus: &Bus, came: Message) {
    assert_eq!(came.headers.get(ID), Some(THEIR_ID), "it goes on as it came");
    let on = topic("onwards");
    let mut stream = bus.subscribe(Subscribe::new(on.clone(), "group")).await.unwrap();
    bus.publish_to(on, [came.clone()]).await.unwrap();
    let delivery = next(&mut stream).await;
    assert_is(&delivery, &came);
    delivery.ack().await.unwrap();
}
