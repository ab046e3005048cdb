//! How a message was given up, as it travels with it: in one text, of which a broker carries so many bytes.

use serde::{Deserialize, Serialize};

use super::Letter;
use crate::dead_letter::Death;

/// Most bytes that are kept of why a message was given up.
const REASON_MAX: usize = 4 << 10;

/// One death in a story.
#[derive(Serialize, Deserialize)]
struct Told {
    reason: String,
    attempts: u32,
}

impl Letter {
    /// Its deaths, oldest first.
    pub(crate) fn story(&self) -> Vec<Death> {
        let reason = &self.last.reason;
        let mut story = self.history.clone();
        story.push(Death {
            reason: reason[..reason.floor_char_boundary(REASON_MAX)].to_owned(),
            attempts: self.last.attempts,
        });
        story
    }
}

/// The newest deaths that fit, as they are to be written; at least the last.
pub(crate) fn tell(story: &[Death], bytes_max: usize, write: impl Fn(String) -> String) -> String {
    let told = |deaths: &[Death]| {
        let told = deaths.iter().map(|death| Told {
            reason: death.reason.clone(),
            attempts: death.attempts,
        });
        write(serde_json::to_string(&told.collect::<Vec<_>>()).unwrap_or_default())
    };
    let mut newest = story;
    let mut text = told(newest);
    while text.len() > bytes_max && newest.len() > 1 {
        newest = &newest[1..];
        text = told(newest);
    }
    text
}

/// What was told; nothing where somebody else wrote it.
pub(crate) fn told(story: &str) -> Vec<Death> {
    let told: Vec<Told> = serde_json::from_str(story).unwrap_or_default();
    let death = |Told { reason, attempts }| Death { reason, attempts };
    told.into_iter().map(death).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_keeps_its_newest_deaths() {
        let death = |reason: &str| Death {
            reason: reason.to_owned(),
            attempts: 3,
        };
        let long = vec![death(&"a".repeat(60 << 10)), death(&"b".repeat(10 << 10)), death("c")];
        assert_eq!(told(&tell(&long, 64 << 10, |json| json)), long[1..]);
        assert!(told("nonsense").is_empty());
    }
}
