//! Replicas in a canonical form, for the model checker: two that will behave alike must be equal. Compiled to nothing without the
//! feature `model`. Owns the abstraction from counters and timers; changes nothing that decides about safety.

use crate::lease::LeasePromise;
use crate::replica::Part;
use crate::{Millis, Replica};

/// A moment that never comes.
const NEVER: Millis = Millis(u64::MAX);

impl Replica {
    /// Takes out what differs between replicas that behave alike, given that elections start by `Input::Campaign` and end by
    /// `Input::StepDown` only (never by time, nor because somebody hears a healthy leader), that probes are answered at once, that windows and queues never fill, that nothing is sent
    /// again for want of an answer, and that `Token`s of batches under way are counted anew from 1 by the caller, too.
    pub fn canonical(&mut self) {
        self.attempt = 0;
        self.election_at = NEVER;
        for lease in [&mut self.lease, &mut self.earlier_lease] {
            if lease.until <= self.now {
                *lease = LeasePromise::NONE;
            }
        }
        if let Some(heard) = &mut self.heard {
            heard.at = Millis(0);
            heard.healthy_at = None;
            heard.acked_at = Millis(0);
        }
        self.durability.renumber();
        match &mut self.part {
            Part::Follower => self.wake_at = NEVER,
            Part::Candidate(candidate) => {
                candidate.deadline = NEVER;
                self.wake_at = NEVER;
            }
            Part::Leader(leader) => {
                leader.forget_traffic();
                leader.outstanding.forget_expired(self.now);
            }
        }
        // The next step brings its own, later time.
        self.now = Millis(0);
    }

    /// For models in which clocks are arbitrary: by the next step, the lease that this replica promised is over.
    pub fn outwait_lease(&mut self) {
        self.lease = LeasePromise::NONE;
        self.earlier_lease = LeasePromise::NONE;
    }
}
