//! The rules of the core, each played by hand.

mod exhaustive;
mod explored;
mod fixture;
mod golden;
mod linear;
mod parked;
mod stored;
