//! Leases: what a member promised to its leader, and what a new leader must wait for. Never persisted: a member that
//! restarted reports one full lease as outstanding.

use crate::{Ballot, Millis, NodeId};

/// What this member promised: not to help anybody else *serve* before `until`. (It may promise a higher ballot at once.)
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct LeasePromise {
    /// Whose lease; none = not known, the member restarted.
    pub holder: Option<Ballot>,
    pub until: Millis,
}

impl LeasePromise {
    /// Nothing is promised to anybody.
    pub const NONE: LeasePromise = LeasePromise {
        holder: None,
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
            holder: self.holder.filter(|_| self.holder == other.holder),
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
    /// Ballot whose leader handed over.
    released: Option<Ballot>,
}

impl Outstanding {
    /// With the lease of `released` (if any) known to be given up.
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
        let held = |lease: &&LeasePromise| match lease.holder {
            None => true,
            Some(holder) => Some(holder) != self.released && !self.resigned.contains(&holder.node),
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

    fn lease(holder: Option<(u64, u64)>, until: u64) -> LeasePromise {
        LeasePromise {
            holder: holder.map(Ballot::from),
            until: Millis(until),
        }
    }

    #[test]
    fn waits_for_the_longest_lease_that_nobody_gave_up() {
        let mut outstanding = Outstanding::new(None);
        assert_eq!(outstanding.until(), Millis(0));
        outstanding.reported(lease(Some((3, 1)), 50));
        outstanding.reported(lease(None, 30));
        assert_eq!(outstanding.until(), Millis(50));
        outstanding.resigned(NodeId(2));
        assert_eq!(outstanding.until(), Millis(50), "another node resigned");
        outstanding.resigned(NodeId(1));
        assert_eq!(
            outstanding.until(),
            Millis(30),
            "a lease of unknown holder is never released"
        );
    }

    #[test]
    fn two_promises_in_one_run_as_long_as_the_longer_and_are_released_together_or_not_at_all() {
        let (a, b) = (lease(Some((3, 1)), 50), lease(Some((4, 2)), 60));
        let held = |promise: LeasePromise| (promise.holder, promise.until.0);
        assert_eq!(held(a.and(b, Millis(10))), (None, 60));
        assert_eq!(held(b.and(a, Millis(55))), held(b), "the other one is over");
        assert_eq!(held(a.and(b, Millis(55))), held(b));
        let longer = lease(a.holder.map(Into::into), 70);
        assert_eq!(held(a.and(longer, Millis(10))), held(longer));
        assert_eq!(held(LeasePromise::NONE.and(a, Millis(10))), held(a));
    }

    #[test]
    fn a_transfer_releases_exactly_one_ballot() {
        let mut outstanding = Outstanding::new(Some((3, 1).into()));
        outstanding.reported(lease(Some((3, 1)), 50));
        outstanding.reported(lease(Some((2, 1)), 20));
        assert_eq!(outstanding.until(), Millis(20));
    }
}
