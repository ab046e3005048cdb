//! What the processes count: writes that came too late, and were refused.

use std::{collections::BTreeMap, fmt};

use super::member::Member;
use crate::books::block_on;

/// Names of counters, and what they mean here.
const COUNTED: [(&str, &str); 3] = [
    ("sagamill_subscription_leases_lost_total", "leases lost to others"),
    ("sagamill_saga_conflicts_total", "decisions refused for a newer one"),
    ("sagamill_saga_inbox_duplicates_total", "commands that came again"),
];

/// Summed over all lives that could still be asked.
#[derive(Debug, Default)]
pub(super) struct Counters {
    sums: BTreeMap<&'static str, f64>,
    /// What each process said last, by its port.
    last: BTreeMap<(u16, &'static str), f64>,
}

impl Counters {
    /// Adds what a process has counted since it was last asked.
    pub(super) fn bank(&mut self, member: &Member) {
        // One that answers no more has taken its counts with it.
        let Some(text) = block_on(member.get("metrics")) else {
            return;
        };
        for (name, meaning) in COUNTED {
            let count: f64 = text.lines().filter_map(|line| value(line, name)).sum();
            let last = self.last.insert((member.port, meaning), count).unwrap_or_default();
            // Less than before is a new life's.
            let since = if count < last { count } else { count - last };
            *self.sums.entry(meaning).or_default() += since;
        }
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<_> = self
            .sums
            .iter()
            .map(|(meaning, count)| format!("{count} {meaning}"))
            .collect();
        f.write_str(&counts.join(", "))
    }
}

/// The value of a line of this counter, whatever its labels are.
fn value(line: &str, name: &str) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let is_it = rest.starts_with(['{', ' ']);
    rest.rsplit(' ').next().filter(|_| is_it)?.parse().ok()
}
