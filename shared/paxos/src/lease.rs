//! Leases: what a member promised to its leader, and what a new leader must wait for. Never persisted: a member that
//! restarted reports one full lease as outstanding.

use crate::{Ballot, Millis, NodeId};

/// Whose lease a promise is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Holder {
    /// The leader of this ballot.
    Known(Ballot),
    /// Leaders of ballots up to this one: several, or the member restarted and had promised no more.
    UpTo(Ballot),
    /// Not known: a member of an earlier version restarted.
    Unknown,
}

impl Holder {
    /// As a promise names it.
    pub fn named(holder: Option<Ballot>, ballot_max: Option<Ballot>) -> Holder {
        match (holder, ballot_max) {
            (Some(holder), _) => Holder::Known(holder),
            (None, Some(max)) => Holder::UpTo(max),
            (None, None) => Holder::Unknown,
        }
    }

    /// The ballot, if it is one.
    pub fn ballot(self) -> Option<Ballot> {
        match self {
            Holder::Known(ballot) => Some(ballot),
            Holder::UpTo(_) | Holder::Unknown => None,
        }
    }

    /// No lease meant here is of a greater ballot.
    pub fn ballot_max(self) -> Option<Ballot> {
        match self {
            Holder::Known(ballot) | Holder::UpTo(ballot) => Some(ballot),
            Holder::Unknown => None,
        }
    }

    fn and(self, other: Holder) -> Holder {
        if self == other {
            return self;
        }
        match (self.ballot_max(), other.ballot_max()) {
            (Some(a), Some(b)) => Holder::UpTo(a.max(b)),
            _ => Holder::Unknown,
        }
    }
}

/// What this member promised: not to help anybody else *serve* before `until`. (It may promise a higher ballot at once.)
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct LeasePromise {
    pub holder: Holder,
    pub until: Millis,
}

impl LeasePromise {
    /// Nothing is promised to anybody.
    pub const NONE: LeasePromise = LeasePromise {
        holder: Holder::UpTo(Ballot {
            round: 0,
            node: NodeId(0),
        }),
        until: Millis(0),
    };

    /// Stands for both promises, as far as they still run.
    pub fn and(self, other: LeasePromise, now: Millis) -> LeasePromise {
        if other.until <= now {
            return self;
        }
        if self.until <= now {
            return other;
        }
        LeasePromise {
            holder: self.holder.and(other.holder),
            until: self.until.max(other.until),
        }
    }
}

/// Leases that members reported to a candidate. It may serve once all have run out or were released.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Outstanding {
    leases: Vec<LeasePromise>,
    /// Nodes that promised the candidate's higher ballot, and therefore lead in no lower one any more.
    resigned: Vec<NodeId>,
    /// Ballot whose leader handed over. It served, so it had waited for every lease of a lower ballot, and none of those can be
    /// renewed: no leader up to this ballot ever serves again.
    released: Option<Ballot>,
    /// A released ballot ends every lease of unknown holder, as a deliberate bug.
    #[cfg(feature = "mutations")]
    pub unchecked: bool,
}

impl Outstanding {
    /// With the leases up to the ballot `released` (if any) known to be given up.
    pub fn new(released: Option<Ballot>) -> Outstanding {
        Outstanding {
            released,
            ..Outstanding::default()
        }
    }

    /// `node` promised the candidate's ballot.
    pub fn resigned(&mut self, node: NodeId) {
        if !self.resigned.contains(&node) {
            self.resigned.push(node);
        }
    }

    /// A member reported a lease.
    pub fn reported(&mut self, lease: LeasePromise) {
        self.leases.push(lease);
    }

    /// Forgets leases that are over.
    #[cfg(feature = "model")]
    pub fn forget_expired(&mut self, now: Millis) {
        self.leases.retain(|lease| lease.until > now);
        self.leases.sort_by_key(|lease| (lease.holder, lease.until));
        self.resigned.sort_unstable();
    }

    /// When the last lease runs out that nobody gave up.
    pub fn until(&self) -> Millis {
        let released = |holder: Holder| {
            let up_to = holder.ballot_max();
            #[cfg(feature = "mutations")]
            let up_to = match self.unchecked && holder.ballot().is_none() {
                true => self.released,
                false => up_to,
            };
            self.released.is_some() && up_to.is_some() && up_to <= self.released
        };
        let resigned = |ballot: Ballot| self.resigned.contains(&ballot.node);
        let held = |lease: &&LeasePromise| {
            !released(lease.holder) && !lease.holder.ballot().is_some_and(resigned)
        };
        self.leases
            .iter()
            .filter(held)
            .map(|lease| lease.until)
            .max()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: Holder, until: u64) -> LeasePromise {
        LeasePromise {
            holder,
            until: Millis(until),
        }
    }

    fn known(ballot: (u64, u64)) -> Holder {
        Holder::Known(ballot.into())
    }

    fn up_to(ballot: (u64, u64)) -> Holder {
        Holder::UpTo(ballot.into())
    }

    #[test]
    fn waits_for_the_longest_lease_that_nobody_gave_up() {
        let mut outstanding = Outstanding::new(None);
        assert_eq!(outstanding.until(), Millis(0));
        outstanding.reported(lease(known((3, 1)), 50));
        outstanding.reported(lease(up_to((3, 1)), 30));
        outstanding.reported(lease(Holder::Unknown, 20));
        assert_eq!(outstanding.until(), Millis(50));
        outstanding.resigned(NodeId(2));
        assert_eq!(outstanding.until(), Millis(50), "another node resigned");
        outstanding.resigned(NodeId(1));
        assert_eq!(
            outstanding.until(),
            Millis(30),
            "who resigned may be one of several holders"
        );
    }

    #[test]
    fn two_promises_in_one_run_as_long_as_the_longer_and_are_released_together_or_not_at_all() {
        let (a, b) = (lease(known((3, 1)), 50), lease(known((4, 2)), 60));
        let held = |promise: LeasePromise| (promise.holder, promise.until.0);
        assert_eq!(held(a.and(b, Millis(10))), (up_to((4, 2)), 60));
        assert_eq!(held(b.and(a, Millis(10))), (up_to((4, 2)), 60));
        assert_eq!(held(b.and(a, Millis(55))), held(b), "the other one is over");
        assert_eq!(held(a.and(b, Millis(55))), held(b));
        let longer = lease(a.holder, 70);
        assert_eq!(held(a.and(longer, Millis(10))), held(longer));
        assert_eq!(held(LeasePromise::NONE.and(a, Millis(10))), held(a));
        let unknown = lease(Holder::Unknown, 20);
        assert_eq!(held(a.and(unknown, Millis(10))), (Holder::Unknown, 50));
    }

    #[test]
    fn a_transfer_releases_every_lease_up_to_its_ballot_and_no_other() {
        let released = [known((3, 1)), known((2, 2)), up_to((3, 1)), up_to((1, 3))];
        let held = [
            known((3, 2)),
            known((4, 1)),
            up_to((3, 2)),
            up_to((4, 1)),
            Holder::Unknown,
        ];
        for (holders, until) in [(&released[..], 0), (&held[..], 50)] {
            for holder in holders {
                let mut outstanding = Outstanding::new(Some((3, 1).into()));
                outstanding.reported(lease(*holder, 50));
                assert_eq!(outstanding.until(), Millis(until), "{holder:?}");
            }
        }
        let mut outstanding = Outstanding::new(None);
        outstanding.reported(LeasePromise {
            until: Millis(50),
            ..LeasePromise::NONE
        });
        assert_eq!(outstanding.until(), Millis(50), "nobody handed over");
    }
}
