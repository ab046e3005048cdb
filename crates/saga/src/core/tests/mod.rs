//! The rules of the core, each played by hand.

mod explored;
mod fixture;
mod linear;
