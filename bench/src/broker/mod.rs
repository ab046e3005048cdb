//! The cases on brokers: the bus over each, beside the broker's own client library under the same promise.

mod bare;
mod case;
mod consume;
mod drain;
mod kind;
mod latency;
mod message;
mod ours;
mod place;
mod publish;
mod settle;
mod way;

pub(crate) use self::{kind::Kind, place::Broker};
