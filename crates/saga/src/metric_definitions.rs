//! The names of the metrics, and what they count.

use metrics::counter;

use crate::barrier::{Phase, Verdict};

/// Commands answered by participants of this process, by `command`, `phase` and `outcome`.
pub const COMMANDS_ANSWERED: &str = "sagamill_saga_commands_answered_total";

pub(crate) fn command_answered(command: &str, phase: Phase, verdict: &Verdict) {
    let outcome = match verdict {
        Verdict::Done(_) => "done",
        Verdict::Rejected(_) => "rejected",
        Verdict::Expired => "expired",
        Verdict::Failed(_) => "failed",
        Verdict::Busy(_) => "busy",
    };
    counter!(COMMANDS_ANSWERED, "command" => command.to_owned(), "phase" => phase.as_str(), "outcome" => outcome)
        .increment(1);
}
