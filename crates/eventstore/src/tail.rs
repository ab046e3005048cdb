//! The newest events of a log, as this process has committed or read them: who follows the log is given them from here, and
//! asks the database for what he has missed alone.

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
pub(crate) struct Tail {
    /// What stands before the first of them, whose id may be unknown. None: nothing is known of the log.
    base: Option<Anchor>,
    events: VecDeque<Recorded>,
    bytes: usize,
    /// How often it was told that the log has grown by what is not here, and how much of that is settled.
    told: u64,
    settled: u64,
}

impl Tail {
    /// Takes events in that have just been committed, in order. Where they do not follow on the last one, somebody else has
    /// committed in between, or the log has lost its end: what was before them is forgotten.
    pub(crate) fn push(&mut self, events: impl IntoIterator<Item = Recorded>) {
        for event in events {
            let before = event.position.0 - 1;
            if self.last().is_none_or(|last| last.position.0 != before) {
                self.begin(Anchor {
                    position: Position(before),
                    event: None,
                });
            }
            // Positions are dense: nobody has committed between the event before and this one.
            self.settle(self.told);
            self.bytes += event.event.len();
            self.events.push_back(event);
            while self.events.len() > EVENTS || self.bytes > BYTES && self.events.len() > 1 {
                let Some(oldest) = self.events.pop_front() else { break };
                self.bytes -= oldest.event.len();
                self.base = Some(anchor(&oldest));
            }
        }
    }
    /// The log may have grown by others' commits.
    pub(crate) fn fall_behind(&mut self) {
        self.told += 1;
    }
    /// The log's last event is at this position: it has grown, or lost its end.
    pub(crate) fn has_come_to(&mut self, head: Position) {
        if self.last().is_none_or(|last| last.position != head) {
            self.fall_behind();
        }
    }
    fn is_behind(&self) -> bool {
        self.told != self.settled
    }
    /// What it had been told when this number was asked for is here.
    fn settle(&mut self, told: u64) {
        self.settled = told;
    }
    /// Forgets its events, and begins after this one.
    fn begin(&mut self, at: Anchor) {
        self.events.clear();
        (self.base, self.bytes) = (Some(at), 0);
    }
    /// The last event that is known.
    fn last(&self) -> Option<Anchor> {
        self.events.back().map(anchor).or(self.base)
    }
    /// What stands at a position, where it is here.
    fn at(&self, position: i64) -> Option<Anchor> {
        let place = usize::try_from(position.checked_sub(self.base?.position.0)?).ok()?;
        match place.checked_sub(1) {
            None => self.base,
            Some(place) => self.events.get(place).map(anchor),
        }
    }
    /// Whether this event is here, at its place.
    fn holds(&self, at: Anchor) -> bool {
        let is_known = at.event.is_some() || at.position.0 == 0;
        is_known && self.at(at.position.0) == Some(at)
    }
    /// A page of events that are all here: up to a bound, or as a follower of the log asks for what follows on an event that
    /// is here too. None: the database knows better.
    pub(crate) fn page(&self, query: &Query) -> Option<Page> {
        if query.stream.is_some() || query.positions.is_some() || query.backward {
            return None;
        }
        let last = self.last()?.position.0;
        // A follower comes again where this is not the end; who reads once must not miss what others have committed.
        let follows = query.anchored.is_some() && query.until.is_none();
        let until = query.until.filter(|until| *until <= last).or(follows.then_some(last))?;
        let after = query.after.unwrap_or(0);
        let before = self.at(after)?;
        if query.anchored.is_some_and(|anchor| !self.holds(anchor)) || after > until {
            return None;
        }
        let mut page = Page {
            before: before.event,
            scanned: after,
            anchor: before,
            end: !follows || !self.is_behind(),
            ..Page::default()
        };
        let place = usize::try_from(after - self.base?.position.0).ok()?;
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

/// Where what is committed is not known until it is read.
#[cfg(feature = "postgres")]
impl Tail {
    /// What it has been told so far.
    pub(crate) fn told(&self) -> u64 {
        self.told
    }
    /// A page, where nothing was told that is not settled: who looks then may find another history.
    pub(crate) fn settled_page(&self, query: &Query) -> Option<Page> {
        self.page(query).filter(|_| !self.is_behind())
    }
    /// The event to read on from, for a follower who is at one that is here.
    pub(crate) fn read_on(&self, follower: Anchor) -> Option<Anchor> {
        self.last().filter(|_| self.is_behind() && self.holds(follower))
    }
    /// Takes a page in that was read on from an event, after it had been told so much. Where another event stands in that
    /// one's place now, the log has lost its end: all is forgotten.
    pub(crate) fn extend(&mut self, from: Anchor, page: Page, told: u64) {
        if self.last() != Some(from) {
            return;
        }
        if from.position.0 > 0 && page.before != from.event {
            *self = Self {
                told: self.told,
                ..Self::default()
            };
            return;
        }
        let settled = if page.end { told } else { self.settled };
        self.push(page.events);
        self.settle(settled);
    }
    /// A follower has come to the log's end, when it had been told so much: it goes on from there, where it does not know that
    /// place yet.
    pub(crate) fn follow(&mut self, end: Anchor, told: u64) {
        if !self.holds(end) {
            self.begin(end);
            self.settle(told);
        }
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
            anchored: Some(Anchor {
                position: Position(position),
                event: Some(Uuid::from_u128(position as u128)),
            }),
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
            anchored: None,
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
        tail.has_come_to(Position(3));
        assert!(tail.page(&after(3)).unwrap().end);
        tail.has_come_to(Position(4));
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

    #[cfg(feature = "postgres")]
    mod reading_on {
        use super::*;

        fn at(position: i64) -> Anchor {
            after(position).anchored.unwrap()
        }
        fn page(before: i64, positions: impl IntoIterator<Item = i64>, end: bool) -> Page {
            Page {
                before: at(before).event,
                events: positions.into_iter().map(|position| event(position, 1)).collect(),
                end,
                ..Page::default()
            }
        }
        /// At an end that a follower has come to.
        fn following(end: i64) -> Tail {
            let mut tail = Tail::default();
            tail.follow(at(end), tail.told());
            tail
        }

        #[test]
        fn a_follower_at_the_end_has_all_until_it_is_told_of_more() {
            let mut tail = following(7);
            let nothing = tail.page(&after(7)).unwrap();
            assert_eq!((nothing.events.len(), nothing.end, nothing.anchor), (0, true, at(7)));
            assert_eq!(tail.read_on(at(7)), None, "there is nothing to read");
            tail.has_come_to(Position(9));
            assert!(tail.page(&after(7)).is_none());
            assert!(tail.settled_page(&after(7)).is_none());
            assert_eq!(tail.read_on(at(7)), Some(at(7)));
            assert_eq!(tail.read_on(at(6)), None, "what follows on that is not here");
        }

        #[test]
        fn what_one_has_read_is_handed_to_all() {
            let mut tail = following(7);
            tail.has_come_to(Position(9));
            tail.extend(at(7), page(7, 8..10, true), tail.told());
            for place in 7..10 {
                let page = tail.page(&after(place)).unwrap();
                assert_eq!((positions(&page), page.end), ((place + 1..10).collect(), true));
            }
            assert_eq!(tail.read_on(at(8)), None);
        }

        #[test]
        fn what_it_is_told_of_during_a_reading_is_read_later() {
            let mut tail = following(7);
            tail.has_come_to(Position(8));
            let told = tail.told();
            tail.has_come_to(Position(9));
            tail.extend(at(7), page(7, [8], true), told);
            let page = tail.page(&after(7)).unwrap();
            assert_eq!((positions(&page), page.end), (vec![8], false));
            assert!(tail.settled_page(&after(7)).is_none(), "8 may be lost by now");
            assert_eq!(tail.read_on(at(8)), Some(at(8)));
        }

        #[test]
        fn a_page_that_is_not_the_end_leaves_it_behind() {
            let mut tail = following(7);
            tail.has_come_to(Position(20));
            tail.extend(at(7), page(7, 8..10, false), tail.told());
            assert!(!tail.page(&after(7)).unwrap().end);
            assert_eq!(tail.read_on(at(7)), Some(at(9)));
        }

        #[test]
        fn a_log_that_has_lost_its_end_is_for_the_database_to_tell() {
            let mut tail = following(7);
            tail.has_come_to(Position(5));
            assert!(tail.page(&after(7)).is_none(), "it is shorter");
            let lost = Page {
                end: true,
                ..Page::default()
            };
            tail.extend(at(7), lost, tail.told());
            assert!(tail.page(&after(7)).is_none());
            assert_eq!(tail.read_on(at(7)), None, "nothing is known any more");

            let mut tail = following(7);
            tail.has_come_to(Position(8));
            tail.extend(at(7), page(6, [8], true), tail.told());
            assert!(tail.page(&after(7)).is_none(), "another event stands in its place");
        }

        #[test]
        fn who_has_another_event_at_a_place_is_given_nothing() {
            let mut tail = following(7);
            tail.has_come_to(Position(9));
            tail.extend(at(7), page(7, 8..10, true), tail.told());
            let other = Anchor {
                position: Position(8),
                event: at(1).event,
            };
            let query = Query {
                anchored: Some(other),
                ..after(8)
            };
            assert!(tail.page(&query).is_none());
            assert_eq!(tail.read_on(other), None);
            tail.follow(other, tail.told());
            assert!(tail.page(&after(8)).is_none(), "the other one was read later");
            assert!(tail.page(&query).unwrap().end);
        }

        #[test]
        fn the_beginning_of_a_log_is_a_place_to_read_on_from() {
            let mut tail = Tail::default();
            tail.follow(Anchor::default(), tail.told());
            tail.has_come_to(Position(2));
            let start = Query {
                anchored: Some(Anchor::default()),
                ..after(0)
            };
            assert!(tail.page(&start).is_none());
            assert_eq!(tail.read_on(Anchor::default()), Some(Anchor::default()));
            tail.extend(
                Anchor::default(),
                Page {
                    before: None,
                    ..page(0, 1..3, true)
                },
                tail.told(),
            );
            assert_eq!(positions(&tail.page(&start).unwrap()), [1, 2]);
        }
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
