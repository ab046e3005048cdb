//! The bare clients: each as somebody would write it who knows it well, with the promise that the bus gives.

mod kafka;
mod nats;
mod postgres;
mod rabbitmq;

pub(crate) use self::{kafka::Kafka, nats::Nats, postgres::Postgres, rabbitmq::RabbitMq};
