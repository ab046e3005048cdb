//! What befalls the landscape, and in which order.

use std::time::Duration;

use rand::{Rng, rngs::SmallRng, seq::SliceRandom};

use super::member::Role;
use crate::number;

/// A named point, at how late a pass at most, and whose processes come by.
type Point = (&'static str, u32, &'static [Role]);

use Role::{Coordinator, Inventory, Order, Payment, Shipping};

const ALL: &[Role] = &[Order, Coordinator, Inventory, Payment, Shipping];
const COORDINATORS: &[Role] = &[Order, Coordinator];
const PARTICIPANTS: &[Role] = &[Inventory, Payment, Shipping];

/// Rare points have few passes in a run.
const POINTS: &[Point] = &[
    ("log.append.before", 40, COORDINATORS),
    ("log.append.after", 40, COORDINATORS),
    ("log.drain.before", 20, PARTICIPANTS),
    ("log.stage.before", 20, PARTICIPANTS),
    ("log.stage.after", 20, PARTICIPANTS),
    ("log.commit.before", 20, &[Order]),
    ("log.commit.after", 20, &[Order]),
    ("order.place.before", 20, &[Order]),
    ("order.place.after", 20, &[Order]),
    ("relay.publish.before", 20, ALL),
    ("relay.publish.after", 20, ALL),
    ("checkpoint.save.before", 8, ALL),
    ("checkpoint.save.after", 8, ALL),
    ("bus.note.before", 1, ALL),
    ("bus.note.after", 1, ALL),
    ("bus.publish.before", 20, ALL),
    ("bus.publish.after", 20, ALL),
    ("bus.settle.before", 20, ALL),
    ("bus.settle.after", 20, ALL),
    ("saga.append.before", 20, COORDINATORS),
    ("saga.append.after", 20, COORDINATORS),
    ("saga.settle.before", 20, COORDINATORS),
    ("saga.settle.after", 20, COORDINATORS),
    ("participant.effect.before", 20, PARTICIPANTS),
    ("participant.effect.after", 20, PARTICIPANTS),
    ("participant.undo.before", 3, &[Inventory, Payment]),
    ("participant.undo.after", 3, &[Inventory, Payment]),
    ("participant.commit.before", 20, PARTICIPANTS),
    ("participant.commit.after", 20, PARTICIPANTS),
    ("participant.settle.before", 20, PARTICIPANTS),
    ("participant.settle.after", 20, PARTICIPANTS),
    ("local.effect.before", 4, COORDINATORS),
    ("local.effect.after", 4, COORDINATORS),
    ("provider.call.before", 16, &[Payment]),
    ("provider.call.after", 16, &[Payment]),
];

/// One fault. Members and databases by their number in [`Place`](super::place::Place).
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// `kill -9` at the n-th pass of a point.
    Point {
        member: usize,
        point: &'static str,
        pass: u32,
    },
    /// `kill -9` from outside.
    Random { member: usize, after: Duration },
    /// SIGSTOP, and SIGCONT after more than a lease.
    Pause { member: usize },
    /// The server's processes are killed, and it is started again.
    Crash,
    /// The server is stopped in order, and started again.
    Stop,
    /// All connections to a database are ended.
    Cut { database: usize },
}

impl Fault {
    pub(super) fn kind(&self) -> &'static str {
        match *self {
            Self::Point { .. } => "kills at a point",
            Self::Random { .. } => "kills at random",
            Self::Pause { member } if Role::MEMBERS[member].is_coordinator() => "pauses of a coordinator",
            Self::Pause { .. } => "pauses of a service",
            Self::Crash => "crashes of the server",
            Self::Stop => "restarts of the server",
            Self::Cut { .. } => "cuts of a database's connections",
        }
    }
}

/// How many of each the environment asks for, mixed.
pub(super) fn schedule(dice: &mut SmallRng) -> Vec<Fault> {
    let kills = number("SAGAMILL_KILLS", || 40) as usize;
    let at_random = number("SAGAMILL_RANDOM", || 10);
    let pauses = number("SAGAMILL_PAUSES", || 3) as usize;
    let restarts = number("SAGAMILL_RESTARTS", || 2);
    let cuts = number("SAGAMILL_CUTS", || 10);
    let any = |dice: &mut SmallRng| dice.random_range(0..Role::MEMBERS.len());
    let mut faults: Vec<_> = (0..kills).map(|n| at_point(n, dice)).collect();
    faults.extend((0..at_random).map(|_| Fault::Random {
        member: any(dice),
        after: Duration::from_millis(dice.random_range(0..1_000)),
    }));
    // Every member in turn, from the last: coordinators come first.
    let last = Role::MEMBERS.len() - 1;
    faults.extend((0..pauses).map(|n| Fault::Pause {
        member: last - n % Role::MEMBERS.len(),
    }));
    faults.extend((0..restarts).map(|n| if n % 2 == 0 { Fault::Crash } else { Fault::Stop }));
    faults.extend((0..cuts).map(|_| Fault::Cut {
        database: dice.random_range(0..super::place::DATABASES.len()),
    }));
    faults.shuffle(dice);
    faults
}

/// Points in turn, and at each one its members in turn.
fn at_point(n: usize, dice: &mut SmallRng) -> Fault {
    let (point, most, roles) = POINTS[n % POINTS.len()];
    let members: Vec<usize> = (0..Role::MEMBERS.len())
        .filter(|member| roles.contains(&Role::MEMBERS[*member]))
        .collect();
    Fault::Point {
        member: members[(n / POINTS.len() + n) % members.len()],
        point,
        pass: dice.random_range(1..=most),
    }
}

/// What a schedule holds, in a line.
pub(super) fn counts(faults: &[Fault]) -> String {
    let mut kinds: Vec<&str> = faults.iter().map(Fault::kind).collect();
    kinds.sort_unstable();
    let counts = kinds
        .chunk_by(|one, other| one == other)
        .map(|of| format!("{} {}", of.len(), of[0]));
    counts.collect::<Vec<_>>().join(", ")
}
