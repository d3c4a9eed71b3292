//! The bucket of a partition, for one direction: what it is allocated, and what it did not use lately.

use model::Units;

use crate::TokenBucket;

/// What a partition may spend in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionLimits {
    /// Units a second that no partition exceeds, not in a burst either.
    pub cap: Units,
    /// Units a second that it gets whatever else its node does; at most the cap.
    pub allocated: Units,
    /// For how many seconds of the allocated rate what is not used is kept.
    pub burst_s: u64,
}

impl PartitionLimits {
    /// For a partition of a table with `table_rate` (none: on demand): all of the table's rate may fall on one partition, up to
    /// the cap. A tenth more, so that the table's own limit is the one that refuses.
    pub fn new(cap: Units, table_rate: Option<Units>, burst_s: u64) -> Self {
        let wanted = table_rate.map_or(cap, |rate| rate.share(11, 10));
        Self {
            cap,
            allocated: wanted.min(cap),
            burst_s,
        }
    }

    fn burst(&self) -> Units {
        self.allocated.saturating_mul(self.burst_s)
    }
}

/// From what a request was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The allocated rate.
    Allocated,
    /// What was not used before.
    Burst,
}

/// Two token buckets below a cap. Each is one second deep, the burst `burst_s`; the burst starts empty and fills with what the
/// full allocated bucket cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionBucket {
    limits: PartitionLimits,
    cap: TokenBucket,
    allocated: TokenBucket,
    burst: TokenBucket,
}

impl PartitionBucket {
    /// Full, without a burst.
    pub fn new(limits: PartitionLimits, now_ms: u64) -> Self {
        Self {
            limits,
            cap: TokenBucket::full(limits.cap, limits.cap, now_ms),
            allocated: TokenBucket::full(limits.allocated, limits.allocated, now_ms),
            burst: TokenBucket::new(Units::ZERO, limits.burst(), Units::ZERO, now_ms),
        }
    }

    /// Takes other limits over from `now_ms` on.
    pub fn resize(&mut self, limits: PartitionLimits, now_ms: u64) {
        if limits == self.limits {
            return;
        }
        self.fill(now_ms);
        self.limits = limits;
        self.cap.resize(limits.cap, limits.cap, now_ms);
        self.allocated
            .resize(limits.allocated, limits.allocated, now_ms);
        self.burst.resize(Units::ZERO, limits.burst(), now_ms);
    }

    /// Admits a request that surely costs `sure` and charges that, or refuses it and charges nothing. `room`: whether the node
    /// (for writes: and the nodes of the other members) has room for a burst; asked only where it decides.
    pub fn take(&mut self, now_ms: u64, sure: Units, room: impl FnOnce() -> bool) -> Option<Grant> {
        self.fill(now_ms);
        if !self.cap.covers(sure) {
            return None;
        }
        let grant = if self.allocated.covers(sure) {
            Grant::Allocated
        } else if self.burst.covers(sure) && room() {
            Grant::Burst
        } else {
            return None;
        };
        self.settle(grant, Units::ZERO, sure);
        Some(grant)
    }

    /// Corrects the charge of an admitted request from `sure` to what it really cost.
    pub fn settle(&mut self, grant: Grant, sure: Units, cost: Units) {
        self.cap.settle(sure, cost);
        match grant {
            Grant::Allocated => self.allocated.settle(sure, cost),
            Grant::Burst => self.burst.settle(sure, cost),
        }
    }

    fn fill(&mut self, now_ms: u64) {
        self.cap.fill(now_ms);
        let unused = self.allocated.fill(now_ms);
        self.burst.give_millionths(unused);
    }
}
