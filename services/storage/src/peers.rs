//! What a shard hears of the other nodes: when last, and how fast they acknowledge. Owns the numbers; they cost two additions a
//! message, and no clock.

use std::collections::HashMap;

use paxos::{Millis, NodeId};

/// Peers of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers(HashMap<NodeId, Peer>);

/// Bounds of the classes of acknowledgement times, milliseconds; the last class has none.
const CLASSES_MS: [u64; 12] = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/// One of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peer {
    pub(crate) heard: Millis,
    /// Acknowledgements by class.
    counts: [u32; CLASSES_MS.len()],
}

impl Peers {
    /// A message came; with how long ago what it acknowledges was sent, milliseconds.
    pub(crate) fn heard(&mut self, node: NodeId, now: Millis, acknowledged_ms: Option<u64>) {
        let peer = self.0.entry(node).or_default();
        peer.heard = now;
        if let Some(ms) = acknowledged_ms {
            let class = CLASSES_MS.partition_point(|bound| *bound < ms);
            let class = class.min(CLASSES_MS.len() - 1);
            peer.counts[class] = peer.counts[class].saturating_add(1);
        }
    }

    /// What was heard since the last call.
    pub(crate) fn take(&mut self) -> Self {
        let taken = self.clone();
        for peer in self.0.values_mut() {
            peer.counts = Default::default();
        }
        taken
    }

    /// Together with those of another shard.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (node, peer) in &other.0 {
            let own = self.0.entry(*node).or_default();
            own.heard = own.heard.max(peer.heard);
            for (own, other) in own.counts.iter_mut().zip(peer.counts) {
                *own = own.saturating_add(other);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.0.iter().map(|(node, peer)| (*node, peer))
    }
}

impl Peer {
    /// Median time to an acknowledgement, microseconds, as the middle of its class; 0 = none was measured.
    pub(crate) fn acknowledged_us(&self) -> u64 {
        let total: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        let mut seen = 0;
        for (class, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if total > 0 && seen * 2 >= total {
                let from = class.checked_sub(1).map_or(0, |below| CLASSES_MS[below]);
                return (from * 1_000 + CLASSES_MS[class] * 1_000).max(1_000) / 2;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_all_shards() {
        let (mut one, mut two) = (Peers::default(), Peers::default());
        let node = NodeId(2);
        one.heard(node, Millis(5), None);
        assert_eq!(one.0[&node].acknowledged_us(), 0, "nothing was measured");
        for ms in [0, 0, 30] {
            one.heard(node, Millis(6), Some(ms));
        }
        for ms in [30, 31, 5_000] {
            two.heard(node, Millis(9), Some(ms));
        }
        let mut all = one.take();
        all.merge(&two.take());
        assert_eq!(all.0[&node].heard, Millis(9));
        assert_eq!(
            all.0[&node].acknowledged_us(),
            24_000,
            "between 16 and 32 ms"
        );
        assert_eq!(one.take().0[&node].acknowledged_us(), 0, "counted once");
    }
}
