//! What every service needs around its logic: logs, metrics, health, shutdown, limits, errors that clients can read.
//!
//! Beside the services and the command line, this is the only crate that reads the environment.

mod health;
mod intake;
#[cfg(feature = "failpoints")]
mod kill;
mod logging;
mod measurement;
mod probe;
mod problem;
mod process;
mod serve;
mod shutdown;

pub use health::{Check, Health};
pub use intake::{ApiJson, BODY_LIMIT, Intake};
#[cfg(feature = "failpoints")]
pub use kill::arm_kill_points;
pub use logging::{LogError, LogFormat, start_logging};
pub use measurement::{Metrics, MetricsError};
pub use probe::ask_ready;
pub use problem::Problem;
pub use process::{Process, ProcessError};
pub use serve::{Frontdoor, serve};
pub use shutdown::Shutdown;
