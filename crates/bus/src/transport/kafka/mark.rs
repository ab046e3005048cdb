//! What is written down of a partition beside its committed offset: what the next process must know of the messages from there
//! on. Kafka keeps a few kilobytes of text with an offset, and changes both at once.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

/// Most bytes that a broker takes, unless its `offset.metadata.max.bytes` says otherwise.
const BYTES_MAX: usize = 4_096;
/// Room for what stands before the runs.
const HEAD_MAX: usize = 40;
/// So far behind the offset a mark may reach: what others wrote must not fill the memory.
const REACH_MAX: i64 = 1 << 24;
/// The form of the text.
const FORM: &str = "sm1";

/// What is known of the messages from a committed offset on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// Attempts that nobody counted may have been made before this offset; none: the last process ended in order.
    pub(super) begun: Option<i64>,
    /// Messages that are not settled, with their attempts; ...
    pub(super) open: BTreeMap<i64, u32>,
    /// ... before this offset. Others there are settled.
    pub(super) end: i64,
}

impl Mark {
    /// For an offset. What does not fit is left out at the end: what was settled there comes again, as if never tried.
    pub(super) fn write(&self, offset: i64) -> String {
        let begun = self.begun.map_or_else(|| "-".to_owned(), |begun| begun.to_string());
        let bytes_max = (BYTES_MAX - HEAD_MAX) / 4 * 3;
        let mut runs = Vec::new();
        for (state, length) in self.runs(offset) {
            let before = runs.len();
            put(&mut runs, state);
            put(&mut runs, length);
            if runs.len() > bytes_max {
                runs.truncate(before);
                break;
            }
        }
        format!("{FORM} {begun} {}", STANDARD_NO_PAD.encode(runs))
    }
    /// None where somebody else has written it.
    pub(super) fn read(text: &str, offset: i64) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next()? != FORM {
            return None;
        }
        let begun = words.next()?.parse().ok();
        let runs = STANDARD_NO_PAD.decode(words.next()?).ok()?;
        let (mut rest, mut open, mut at) = (runs.as_slice(), BTreeMap::new(), offset);
        while let Some((state, length)) = take(&mut rest).zip(take(&mut rest)) {
            let end = at.checked_add(i64::try_from(length).ok()?)?;
            if end - offset > REACH_MAX {
                return None;
            }
            if let Some(attempts) = state.checked_sub(1) {
                let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
                open.extend((at..end).map(|offset| (offset, attempts)));
            }
            at = end;
        }
        Some(Self { begun, open, end: at })
    }
    /// Whether a message is settled.
    pub(super) fn is_settled(&self, offset: i64) -> bool {
        offset < self.end && !self.open.contains_key(&offset)
    }
    /// Equal states side by side, with how many there are: 0 is settled, else one more than the attempts.
    fn runs(&self, offset: i64) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut push = |state: u64, length: i64| {
            let Some(length) = u64::try_from(length).ok().filter(|length| *length > 0) else {
                return;
            };
            match runs.last_mut() {
                Some((last, so_far)) if *last == state => *so_far += length,
                _ => runs.push((state, length)),
            }
        };
        let mut at = offset;
        for (open, attempts) in self.open.range(offset..self.end) {
            push(0, open - at);
            push(u64::from(*attempts) + 1, 1);
            at = open + 1;
        }
        push(0, self.end - at);
        runs
    }
}

/// Seven bits a byte, the lowest first.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}
fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, Mark};

    fn mark(begun: Option<i64>, open: &[(i64, u32)], end: i64) -> Mark {
        Mark {
            begun,
            open: open.iter().copied().collect(),
            end,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let marks = [
            mark(None, &[], 100),
            mark(Some(1_000), &[(100, 0)], 101),
            mark(None, &[(100, 3), (101, 3), (105, 0), (300, u32::MAX)], 400),
        ];
        for mark in marks {
            assert_eq!(Mark::read(&mark.write(100), 100), Some(mark));
        }
    }

    #[test]
    fn what_others_wrote_is_nothing() {
        for text in ["", "x", "sm1", "sm1 - !", "sm2 - AQE"] {
            assert_eq!(Mark::read(text, 0), None, "{text}");
        }
    }

    #[test]
    fn a_mark_of_impossible_reach_is_nothing() {
        let far = mark(None, &[], super::REACH_MAX + 1).write(0);
        assert_eq!(Mark::read(&far, 0), None);
        let near = mark(None, &[], super::REACH_MAX);
        assert_eq!(Mark::read(&near.write(0), 0), Some(near));
    }

    #[test]
    fn what_does_not_fit_comes_again() {
        let many: Vec<(i64, u32)> = (0..10_000).map(|n| (n * 2, u32::try_from(n % 5).unwrap())).collect();
        let full = mark(Some(30_000), &many, 20_000);
        let text = full.write(0);
        assert!(text.len() <= BYTES_MAX, "{}", text.len());
        let read = Mark::read(&text, 0).unwrap();
        assert_eq!(read.begun, Some(30_000));
        assert!(read.end > 1_000 && read.end < 20_000);
        assert!(
            read.open
                .iter()
                .all(|(offset, attempts)| full.open.get(offset) == Some(attempts))
        );
        assert!(read.is_settled(1) && !read.is_settled(2) && !read.is_settled(19_999));
    }

    #[test]
    fn a_crowd_that_failed_as_often_takes_little_room() {
        let many: Vec<(i64, u32)> = (0..10_000).map(|n| (n, 2)).collect();
        assert!(mark(None, &many, 10_000).write(0).len() < 32);
    }
}
