//! The other memds nodes as their heartbeats show them. Owns who can be asked, and whose turn it is.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Peers that were heard of within this time are asked.
const FRESH: Duration = Duration::from_secs(3);

/// The other memds nodes.
#[derive(Clone, Default)]
pub(crate) struct Peers(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// When each was heard of last, and whether it was ready.
    peers: BTreeMap<u64, (Instant, bool)>,
    /// Whose turn it was last.
    last: u64,
}

impl Peers {
    /// A peer's heartbeat came in.
    pub(crate) fn seen(&self, instance: u64, ready: bool) {
        let now = Instant::now();
        let mut known = self.0.lock();
        known.peers.insert(instance, (now, ready));
        known.forget_silent(now);
    }

    /// A peer said good-bye.
    pub(crate) fn gone(&self, instance: u64) {
        self.0.lock().peers.remove(&instance);
    }

    /// Those that can give a whole map.
    pub(crate) fn ready(&self) -> Vec<u64> {
        let mut known = self.0.lock();
        known.forget_silent(Instant::now());
        let ready = known.peers.iter().filter(|(_, (_, ready))| *ready);
        ready.map(|(instance, _)| *instance).collect()
    }

    /// Each in turn, ready or not.
    pub(crate) fn next(&self) -> Option<u64> {
        let mut known = self.0.lock();
        known.forget_silent(Instant::now());
        let behind = (Bound::Excluded(known.last), Bound::Unbounded);
        let mut in_turn = known.peers.range(behind).chain(known.peers.iter());
        let next = *in_turn.next()?.0;
        known.last = next;
        Some(next)
    }
}

impl Known {
    fn forget_silent(&mut self, now: Instant) {
        self.peers
            .retain(|_, (seen, _)| now.saturating_duration_since(*seen) < FRESH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_turn() {
        let peers = Peers::default();
        assert_eq!(peers.next(), None);
        peers.seen(7, false);
        peers.seen(3, true);
        peers.seen(5, true);
        let turns: Vec<_> = (0..6).filter_map(|_| peers.next()).collect();
        assert_eq!(turns, [3, 5, 7, 3, 5, 7]);
        assert_eq!(peers.ready(), [3, 5]);
        peers.gone(5);
        assert_eq!((peers.next(), peers.next()), (Some(3), Some(7)));
    }
}
