//! Whether this node works near what it is rated for, or its disk fills up, and which of the partitions that it leads weigh most. The
//! heartbeat says so; what is done about it is the admin's business.

use std::collections::{BTreeMap, BTreeSet};

use model::Units;
use parking_lot::Mutex;
use paxos::{GroupId, Millis};
use protocol::directory::PartitionInfo;
use protocol::health::{Candidate, NodeRoom};

/// Candidates of each kind (the most used, the largest) that a heartbeat names.
const NAMED_MAX: usize = 16;
/// What was pushed counts for so long, in pushes: a leader that lost office pushes no more.
const PUSHES: u64 = 3;

/// What this node leads, as of the last pushes.
#[derive(Debug, Default)]
pub(crate) struct Led {
    partitions: Mutex<BTreeMap<GroupId, (Millis, Candidate)>>,
}

impl Led {
    /// A shard pushes these.
    pub(crate) fn note(&self, now: Millis, pushed: &[PartitionInfo]) {
        let mut partitions = self.partitions.lock();
        for info in pushed {
            let candidate = Candidate {
                partition: info.partition,
                bytes: info.bytes,
                read_units_s: info.read_units_s,
                write_units_s: info.write_units_s,
            };
            partitions.insert(info.partition, (now, candidate));
        }
    }

    /// The most used and the largest ones.
    pub(crate) fn candidates(&self, now: Millis, push_every_ms: u64) -> Vec<Candidate> {
        let mut partitions = self.partitions.lock();
        partitions.retain(|_, (at, _)| now.since(*at) <= PUSHES * push_every_ms);
        let mut all: Vec<&Candidate> = partitions.values().map(|(_, c)| c).collect();
        let units = |c: &Candidate| c.read_units_s.saturating_add(c.write_units_s);
        all.sort_by_key(|c| std::cmp::Reverse(units(c)));
        let mut named: Vec<&Candidate> = all.iter().copied().take(NAMED_MAX).collect();
        let used: BTreeSet<GroupId> = named.iter().map(|c| c.partition).collect();
        all.sort_by_key(|c| std::cmp::Reverse(c.bytes));
        let largest = all.into_iter().filter(|c| !used.contains(&c.partition));
        named.extend(largest.take(NAMED_MAX));
        named.into_iter().cloned().collect()
    }
}

/// Whether a node is under pressure: of what it is rated for, or of its disk, more than `permille` is used. What it is not rated for
/// (0) is no limit.
pub(crate) fn pressed(
    room: NodeRoom,
    rated: NodeRoom,
    used_bytes: u64,
    free_bytes: u64,
    permille: u64,
) -> bool {
    let left = 1_000u64.saturating_sub(permille);
    let short = |room: Units, rated: Units| !rated.is_zero() && room < rated.share(left, 1_000);
    let disk = u128::from(used_bytes) + u128::from(free_bytes);
    short(room.read, rated.read)
        || short(room.write, rated.write)
        || u128::from(used_bytes) * 1_000 > disk * u128::from(permille)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(read: u64, write: u64) -> NodeRoom {
        NodeRoom {
            read: Units::new(read),
            write: Units::new(write),
        }
    }

    #[test]
    fn a_node_is_pressed_by_reads_writes_or_bytes() {
        let rated = room(1_000, 100);
        assert!(!pressed(room(250, 25), rated, 75, 25, 750));
        assert!(pressed(room(249, 100), rated, 0, 1, 750));
        assert!(pressed(room(1_000, 24), rated, 0, 1, 750));
        assert!(pressed(room(1_000, 100), rated, 76, 24, 750));
        assert!(!pressed(room(0, 0), room(0, 0), 0, 0, 750), "not rated");
    }

    #[test]
    fn the_most_used_and_the_largest_are_named_while_they_are_led() {
        let led = Led::default();
        let info = |id: u64, units: u64, bytes: u64| PartitionInfo {
            partition: GroupId(id),
            write_units_s: Units::new(units),
            bytes,
            ..PartitionInfo::default()
        };
        let many: Vec<_> = (0..100).map(|id| info(id, id, 1_000 - id)).collect();
        led.note(Millis(0), &many);
        let named = led.candidates(Millis(1_000), 500);
        assert_eq!(named.len(), 2 * NAMED_MAX);
        assert_eq!(named[0].partition, GroupId(99));
        assert!(
            named.iter().any(|c| c.partition == GroupId(0)),
            "the largest"
        );
        led.note(Millis(1_400), &[info(5, 0, 0)]);
        let named = led.candidates(Millis(1_600), 500);
        assert_eq!(named.len(), 1, "the others are led by somebody else now");
    }
}
