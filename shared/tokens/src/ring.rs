//! Which instance of a service looks after which table (GAC) or partition (archivers): rendezvous hashing over the instances that were heard lately. When one comes or goes, only its own
//! tables move.

use std::collections::BTreeMap;

use model::TableId;

/// An instance not heard for so long is gone, milliseconds: three heartbeats and a half.
const SILENT_MS: u64 = 3_500;
/// Instances kept; the bound is for a runaway of restarts.
const INSTANCES_MAX: usize = 256;

/// The instances.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    heard_ms: BTreeMap<u64, u64>,
}

impl Ring {
    /// A heartbeat came.
    pub fn heard(&mut self, now_ms: u64, instance: u64) {
        if self.heard_ms.len() < INSTANCES_MAX || self.heard_ms.contains_key(&instance) {
            self.heard_ms.insert(instance, now_ms);
        }
    }

    /// An instance says good-bye.
    pub fn left(&mut self, instance: u64) {
        self.heard_ms.remove(&instance);
    }

    /// Forgets who was silent for too long.
    pub fn expire(&mut self, now_ms: u64) {
        self.heard_ms
            .retain(|_, heard_ms| now_ms.saturating_sub(*heard_ms) < SILENT_MS);
    }

    /// Instances in the order of their numbers.
    pub fn instances(&self) -> impl Iterator<Item = u64> {
        self.heard_ms.keys().copied()
    }

    /// The instance that looks after `table`; none while there is no instance.
    pub fn of(&self, table: TableId) -> Option<u64> {
        self.of_number(table.0)
    }

    /// The instance that looks after whatever has this number (an archiver's partition); none while there is no instance.
    pub fn of_number(&self, number: u64) -> Option<u64> {
        self.instances()
            .max_by_key(|&instance| (weight(instance, number), instance))
    }
}

/// A mixed hash (the finaliser of SplitMix64): all that is asked of it is that all routers get the same one, today and with the next version.
fn weight(instance: u64, number: u64) -> u64 {
    let mut mixed = instance
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(number);
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb)] {
        mixed = (mixed ^ (mixed >> shift)).wrapping_mul(factor);
    }
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(instances: &[u64]) -> Ring {
        let mut ring = Ring::default();
        for &instance in instances {
            ring.heard(0, instance);
        }
        ring
    }

    #[test]
    fn tables_are_spread_and_only_those_of_a_lost_instance_move() {
        let (all, less) = (ring(&[1, 2, 3]), ring(&[1, 3]));
        let mut counts = BTreeMap::new();
        for table in (16..3_016).map(TableId) {
            let owner = all.of(table).unwrap();
            *counts.entry(owner).or_insert(0) += 1;
            if owner != 2 {
                assert_eq!(less.of(table), Some(owner));
            }
        }
        assert!(
            counts.values().all(|count| (850..1_150).contains(count)),
            "{counts:?}"
        );
        assert_eq!(ring(&[]).of(TableId(16)), None);
    }

    #[test]
    fn the_silent_are_forgotten() {
        let mut ring = ring(&[1, 2]);
        ring.heard(3_000, 2);
        ring.expire(3_499);
        assert_eq!(ring.instances().count(), 2);
        ring.expire(3_500);
        assert_eq!(ring.instances().collect::<Vec<_>>(), [2]);
        ring.left(2);
        assert_eq!(ring.of(TableId(16)), None);
    }
}
