//! What the tests of every broker share.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use sagamill_bus::{Deliveries, Delivery, Message, MessageId, Topic};

use super::QUIET;

/// Longer than anything here takes, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How many of something there are: what the environment says, or else this.
pub(crate) fn count(variable: &str, default: usize) -> usize {
    let said = std::env::var(variable);
    said.map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable} is a number"))
    })
}

/// A topic nobody else has.
pub(crate) fn topic(name: &str) -> Topic {
    Topic::from(format!("{name}-{}", MessageId::random()))
}

pub(crate) async fn next(stream: &mut Deliveries) -> Delivery {
    loop {
        let next = tokio::time::timeout(PATIENCE, stream.next()).await;
        match next.expect("a message comes in time").expect("the stream goes on") {
            Ok(delivery) => return delivery,
            // Of the connection, and not of a message.
            Err(error) => println!("the subscription says: {error}"),
        }
    }
}

pub(crate) async fn is_silent(stream: &mut Deliveries) -> bool {
    tokio::time::timeout(QUIET, stream.next()).await.is_err()
}

pub(crate) fn text(message: &Message) -> String {
    String::from_utf8(message.payload.to_vec()).expect("the payload is text")
}

pub(crate) fn number(message: &Message) -> usize {
    text(message).parse().expect("the payload is a number")
}

/// Acknowledges until so many different numbers have come; gives them in the order of their first deliveries.
pub(crate) async fn acknowledge(stream: &mut Deliveries, different: usize) -> Vec<usize> {
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    while seen.len() < different {
        let delivery = next(stream).await;
        let number = number(&delivery.message);
        if seen.insert(number) {
            order.push(number);
        }
        if let Err(error) = delivery.ack().await {
            println!("{number} was not acknowledged: {error}");
        }
    }
    order
}

/// Says how long a test took.
pub(crate) struct Took(pub(crate) &'static str, pub(crate) Instant);

impl Took {
    pub(crate) fn new(name: &'static str) -> Self {
        Self(name, Instant::now())
    }
}

impl Drop for Took {
    fn drop(&mut self) {
        println!("{} took {:?}", self.0, self.1.elapsed());
    }
}
