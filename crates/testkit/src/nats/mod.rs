//! NATS with JetStream for tests: one server that many tests share, or a server of a test's own that it may crash.
//!
//! What runs is found in this order: the server that [`URL`] names, a program (on the `PATH`, in the directory that [`TOOLS`]
//! names, or in `~/.cache/sagamill-tools`), Docker with the official image. A server of ours listens on the loopback address
//! alone, carries messages of 8 MiB, and ends with the process that started it, however that ends.

mod container;
mod installation;
mod native;
#[cfg(feature = "nats")]
mod own;
mod server;

pub use installation::Installation;
#[cfg(feature = "nats")]
pub use own::{Own, own, shared};
pub use server::Server;

/// The environment variable with the URL of a server that tests share.
pub const URL: &str = "SAGAMILL_TEST_NATS";
/// The environment variable with a directory of programs that are not installed.
pub const TOOLS: &str = "SAGAMILL_TOOLS";
