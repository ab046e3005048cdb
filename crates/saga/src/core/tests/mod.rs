//! The rules of the core, each played by hand.

mod fixture;
mod linear;
