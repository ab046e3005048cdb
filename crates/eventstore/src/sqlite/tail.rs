//! The newest events of a file, as its stores of this process have committed them: who follows the log is given them from
//! here, and reads the file for what he has missed alone.

use std::collections::VecDeque;

use crate::{
    Anchor, Position, Recorded,
    backend::{Page, Query},
};

/// Most events that are kept.
const EVENTS: usize = 1_024;
/// Most bytes of their payloads, but for the last event's.
const BYTES: usize = 1 << 20;

/// Events at positions that follow on one another.
#[derive(Debug, Default)]
pub(super) struct Tail {
    events: VecDeque<Recorded>,
    bytes: usize,
    /// The log may go on after them: somebody else has committed.
    is_behind: bool,
}

impl Tail {
    /// Takes events in that have just been committed, in order. Where they do not follow on the last one, somebody else has
    /// committed in between, or the log has lost its end: what was before them is forgotten.
    pub(super) fn push(&mut self, events: impl IntoIterator<Item = Recorded>) {
        for event in events {
            let next = self.events.back().map(|last| last.position.0 + 1);
            if next.is_some_and(|next| next != event.position.0) {
                self.events.clear();
                self.bytes = 0;
            }
            // Positions are dense: nobody has committed between the event before and this one.
            self.is_behind = false;
            self.bytes += event.event.len();
            self.events.push_back(event);
            while self.events.len() > EVENTS || self.bytes > BYTES && self.events.len() > 1 {
                let oldest = self.events.pop_front();
                self.bytes -= oldest.map_or(0, |oldest| oldest.event.len());
            }
        }
    }
    /// The log may have grown by others' commits.
    pub(super) fn fall_behind(&mut self) {
        self.is_behind = true;
    }
    /// The log has come to this position.
    pub(super) fn has_grown(&mut self, head: Position) {
        self.is_behind |= self.events.back().is_none_or(|last| last.position < head);
    }
    /// A page of events that are all here: up to a bound, or as a follower of the log asks for what follows on an event that
    /// is here too. None: the file knows better.
    pub(super) fn page(&self, query: &Query) -> Option<Page> {
        if query.stream.is_some() || query.positions.is_some() || query.backward {
            return None;
        }
        let (first, last) = (self.events.front()?.position.0, self.events.back()?.position.0);
        // A follower comes again where this is not the end; who reads once must not miss what others have committed.
        let follows = query.anchored && query.until.is_none();
        let until = query.until.filter(|until| *until <= last).or(follows.then_some(last))?;
        let after = query.after.unwrap_or(0);
        let place = usize::try_from(after.checked_sub(first)? + 1).ok()?;
        let before = place.checked_sub(1).and_then(|place| self.events.get(place));
        if query.anchored && before.is_none() || after > until {
            return None;
        }
        let mut page = Page {
            before: before.map(|before| before.id),
            scanned: after,
            anchor: before.map(anchor).unwrap_or_default(),
            end: !follows || !self.is_behind,
            ..Page::default()
        };
        for event in self.events.range(place..).take_while(|event| event.position.0 <= until) {
            if page.events.len() == query.limit {
                page.end = false;
                break;
            }
            (page.scanned, page.anchor) = (event.position.0, anchor(event));
            if query.wants(event) {
                page.events.push(event.clone());
            }
        }
        // Nothing, though there may be something.
        (page.end || page.scanned > after).then_some(page)
    }
}

fn anchor(event: &Recorded) -> Anchor {
    Anchor {
        position: event.position,
        event: Some(event.id),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::{NewEvent, Version};

    fn event(position: i64, bytes: usize) -> Recorded {
        let new = NewEvent {
            id: Uuid::from_u128(position as u128),
            topic: (position % 2 == 0).then(|| "news".into()),
            ..NewEvent::new("noted", vec![0; bytes])
        };
        new.recorded("s".into(), Position(position), Version(position), Timestamp::UNIX_EPOCH)
    }
    fn after(position: i64) -> Query {
        Query {
            after: Some(position),
            anchored: true,
            limit: 500,
            ..Query::default()
        }
    }
    fn positions(page: &Page) -> Vec<i64> {
        page.events.iter().map(|event| event.position.0).collect()
    }
    fn tail(positions: impl IntoIterator<Item = i64>) -> Tail {
        let mut tail = Tail::default();
        tail.push(positions.into_iter().map(|position| event(position, 1)));
        tail
    }

    #[test]
    fn who_is_at_one_of_its_events_is_given_those_that_follow() {
        let tail = tail(5..10);
        let page = tail.page(&after(6)).unwrap();
        assert_eq!(positions(&page), [7, 8, 9]);
        assert_eq!((page.scanned, page.end), (9, true));
        assert_eq!(page.before, Some(Uuid::from_u128(6)));
        assert_eq!(page.anchor, anchor(&event(9, 1)));
        let nothing = tail.page(&after(9)).unwrap();
        assert_eq!((nothing.events.len(), nothing.scanned, nothing.end), (0, 9, true));
        for elsewhere in [0, 4, 10, 11] {
            assert!(tail.page(&after(elsewhere)).is_none(), "{elsewhere} is not known here");
        }
    }

    #[test]
    fn a_page_is_as_long_as_was_asked_and_filtered_as_was_asked() {
        let tail = tail(1..10);
        let page = tail.page(&Query { limit: 3, ..after(2) }).unwrap();
        assert_eq!((positions(&page), page.scanned, page.end), (vec![3, 4, 5], 5, false));
        let query = Query {
            published: true,
            limit: 2,
            ..after(1)
        };
        let page = tail.page(&query).unwrap();
        assert_eq!((positions(&page), page.scanned, page.end), (vec![2, 4], 4, false));
        let none = tail.page(&Query {
            names: vec!["other".to_owned()],
            ..after(1)
        });
        let none = none.unwrap();
        assert_eq!((none.events.len(), none.scanned, none.end), (0, 9, true));
    }

    #[test]
    fn up_to_a_bound_it_is_known_to_anybody() {
        let mut tail = tail(5..10);
        tail.fall_behind();
        let until = |after, until| Query {
            after: Some(after),
            until: Some(until),
            ..Query::default()
        };
        let page = tail.page(&until(4, 8)).unwrap();
        assert_eq!((positions(&page), page.scanned, page.end), (vec![5, 6, 7, 8], 8, true));
        assert_eq!(page.anchor, anchor(&event(8, 1)));
        assert_eq!(positions(&tail.page(&until(8, 9)).unwrap()), [9]);
        assert!(tail.page(&until(9, 9)).unwrap().events.is_empty());
        for (after, bound) in [(3, 8), (8, 10), (9, 8), (0, 0)] {
            assert!(tail.page(&until(after, bound)).is_none(), "{after} to {bound}");
        }
        let open = Query {
            anchored: false,
            ..after(6)
        };
        assert!(tail.page(&open).is_none(), "others may have committed");
    }

    #[test]
    fn a_hole_makes_it_forget_what_was_before() {
        let mut tail = tail(1..4);
        tail.push([event(5, 1), event(6, 1)]);
        assert!(tail.page(&after(3)).is_none());
        assert_eq!(positions(&tail.page(&after(5)).unwrap()), [6]);
        tail.push([event(6, 1)]);
        assert!(
            tail.page(&after(5)).is_none(),
            "the log has lost its end, and has another one"
        );
    }

    #[test]
    fn it_is_no_end_where_others_may_have_committed() {
        let mut tail = tail(1..4);
        tail.has_grown(Position(3));
        assert!(tail.page(&after(3)).unwrap().end);
        tail.has_grown(Position(4));
        assert!(!tail.page(&after(2)).unwrap().end);
        assert!(tail.page(&after(3)).is_none());
        tail.push([event(4, 1)]);
        assert!(
            tail.page(&after(3)).unwrap().end,
            "it was this one that it had grown by"
        );
        tail.fall_behind();
        assert!(tail.page(&after(4)).is_none());
    }

    #[test]
    fn it_is_bounded() {
        let mut tail = tail(1..5_000);
        assert_eq!(tail.events.len(), EVENTS);
        tail.push((5_000..5_010).map(|position| event(position, BYTES / 4)));
        assert_eq!((tail.events.len(), tail.bytes), (4, BYTES));
        tail.push([event(5_010, 2 * BYTES)]);
        assert_eq!((tail.events.len(), tail.bytes), (1, 2 * BYTES));
    }
}
