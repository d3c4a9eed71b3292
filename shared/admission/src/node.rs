//! The bucket of a node, for one direction: what its hardware is rated for, shared by all its shards.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::Units;

const SECOND_NS: u64 = 1_000_000_000;
const MS_NS: u64 = 1_000_000;

/// Says whether the node has room for bursts. Refuses nothing: what partitions are allocated is charged even when the bucket is
/// empty. Holds and owes at most one second of its rate, so it tells of the last second only. One atomic number: shards never wait
/// for each other.
#[derive(Debug)]
pub struct NodeBucket {
    /// Units a second; 0 = there is always room.
    rate: Units,
    /// Until when the rate is spent, nanoseconds on the clock of `now_ms`, one second ahead so that it is never negative. What lies
    /// behind now is the balance, what lies ahead the debt.
    spent_until_ns: AtomicU64,
}

impl NodeBucket {
    /// A full bucket.
    pub fn new(rate: Units) -> Self {
        Self {
            rate,
            spent_until_ns: AtomicU64::new(0),
        }
    }

    /// Charges `cost`.
    pub fn charge(&self, now_ms: u64, cost: Units) {
        if self.rate.is_zero() || cost.is_zero() {
            return;
        }
        let now_ns = clock_ns(now_ms);
        let cost_ns = u128::from(cost.thousandths()) * u128::from(SECOND_NS)
            / u128::from(self.rate.thousandths());
        let cost_ns = u64::try_from(cost_ns).unwrap_or(u64::MAX);
        let _ = self.spent_until_ns.fetch_update(Relaxed, Relaxed, |spent| {
            let floor = now_ns - SECOND_NS;
            let after = spent.max(floor).saturating_add(cost_ns);
            Some(after.min(now_ns.saturating_add(SECOND_NS)))
        });
    }

    /// What it holds; nothing when it owes. The largest amount when it has no rate.
    pub fn available(&self, now_ms: u64) -> Units {
        if self.rate.is_zero() {
            return Units::MAX;
        }
        let now_ns = clock_ns(now_ms);
        let left_ns = now_ns
            .saturating_sub(self.spent_until_ns.load(Relaxed))
            .min(SECOND_NS);
        self.rate.share(left_ns, SECOND_NS)
    }

    /// Whether there is room for a burst.
    pub fn has_room(&self, now_ms: u64) -> bool {
        !self.available(now_ms).is_zero()
    }
}

fn clock_ns(now_ms: u64) -> u64 {
    now_ms.saturating_mul(MS_NS).saturating_add(SECOND_NS)
}
