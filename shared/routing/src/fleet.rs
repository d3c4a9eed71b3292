//! The memds fleet as its heartbeats show it. Pure: time is an input. Owns who is alive and whom to ask; a node that did not
//! answer counts as gone until it is heard from again.

use std::collections::BTreeMap;

use protocol::health::Heartbeat;

/// A memds node not heard from for so long is not asked any more, in milliseconds: three heartbeats and a half.
const SILENT_MS: u64 = 3_500;
/// Nodes kept; a fleet is far smaller, the bound is for a runaway of restarts.
const NODES_MAX: usize = 1_024;

#[derive(Clone, Copy, Debug)]
struct Node {
    heard_ms: u64,
    ready: bool,
}

/// The fleet.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    nodes: BTreeMap<u64, Node>,
}

impl Fleet {
    /// Takes in a heartbeat. Says whether it is from a memds node that was not known before.
    pub(crate) fn heard(&mut self, beat: &Heartbeat, now_ms: u64) -> bool {
        if beat.service != "memds" {
            return false;
        }
        if beat.draining {
            self.nodes.remove(&beat.instance);
            return false;
        }
        if self.nodes.len() >= NODES_MAX {
            self.nodes
                .retain(|_, node| now_ms.saturating_sub(node.heard_ms) < SILENT_MS);
        }
        let node = Node {
            heard_ms: now_ms,
            ready: beat.ready,
        };
        self.nodes.insert(beat.instance, node).is_none()
    }

    /// `instance` did not answer: not asked again until it is heard from.
    pub(crate) fn failed(&mut self, instance: u64) {
        self.nodes.remove(&instance);
    }

    /// One node to ask; ready ones first. `draw` is a random number.
    pub(crate) fn one(&self, now_ms: u64, draw: u64) -> Option<u64> {
        let candidates = || self.live(now_ms, true);
        let ready = candidates().count() as u64;
        if ready > 0 {
            return candidates().nth((draw % ready) as usize);
        }
        let all = self.live(now_ms, false).count() as u64;
        if all == 0 {
            return None;
        }
        self.live(now_ms, false).nth((draw % all) as usize)
    }

    /// Two different nodes to ask (or the only one); ready ones first. `draw` is a random number.
    pub(crate) fn two(&self, now_ms: u64, draw: u64) -> Vec<u64> {
        let mut nodes: Vec<u64> = self.live(now_ms, true).collect();
        if nodes.is_empty() {
            nodes = self.live(now_ms, false).collect();
        }
        if nodes.len() > 2 {
            let first = (draw % nodes.len() as u64) as usize;
            let step = 1 + ((draw >> 32) % (nodes.len() as u64 - 1)) as usize;
            nodes = vec![nodes[first], nodes[(first + step) % nodes.len()]];
        }
        nodes
    }

    /// How many ready nodes are alive.
    pub(crate) fn ready(&self, now_ms: u64) -> usize {
        self.live(now_ms, true).count()
    }

    /// Every ready node that is alive.
    pub(crate) fn all_ready(&self, now_ms: u64) -> Vec<u64> {
        self.live(now_ms, true).collect()
    }

    /// Whether `instance` is known and was heard from lately.
    pub(crate) fn alive(&self, instance: u64, now_ms: u64) -> bool {
        let node = self.nodes.get(&instance);
        node.is_some_and(|n| now_ms.saturating_sub(n.heard_ms) < SILENT_MS)
    }

    fn live(&self, now_ms: u64, ready_only: bool) -> impl Iterator<Item = u64> {
        self.nodes
            .iter()
            .filter(move |(_, n)| {
                now_ms.saturating_sub(n.heard_ms) < SILENT_MS && (n.ready || !ready_only)
            })
            .map(|(&instance, _)| instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(service: &str, instance: u64, ready: bool) -> Heartbeat {
        Heartbeat {
            service: service.into(),
            instance,
            zone: "az1".into(),
            incarnation: 1,
            http: String::new(),
            ready,
            draining: false,
            version: String::new(),
            storage: None,
        }
    }

    #[test]
    fn asks_ready_nodes_first_and_two_different_ones() {
        let mut fleet = Fleet::default();
        assert_eq!(fleet.one(0, 5), None);
        assert!(fleet.heard(&beat("memds", 1, false), 0));
        assert!(!fleet.heard(&beat("storage", 9, true), 0));
        assert_eq!(fleet.one(0, 5), Some(1), "better than nobody");
        for instance in 2..6 {
            fleet.heard(&beat("memds", instance, true), 0);
        }
        for draw in 0..200u64 {
            let draw = draw.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            assert_ne!(fleet.one(0, draw), Some(1));
            let two = fleet.two(0, draw);
            assert_eq!(two.len(), 2);
            assert_ne!(two[0], two[1]);
            assert!(!two.contains(&1));
        }
        assert_eq!(fleet.ready(0), 4);
    }

    #[test]
    fn silent_failed_and_draining_nodes_are_not_asked() {
        let mut fleet = Fleet::default();
        fleet.heard(&beat("memds", 1, true), 0);
        fleet.heard(&beat("memds", 2, true), 3_000);
        assert_eq!(fleet.all_ready(4_000), vec![2]);
        assert!(!fleet.alive(1, 4_000));
        fleet.failed(2);
        assert_eq!(fleet.one(4_000, 1), None);
        fleet.heard(&beat("memds", 2, true), 4_000);
        assert!(fleet.alive(2, 4_000));
        fleet.heard(&beat("memds", 2, false), 4_000);
        assert_eq!(fleet.ready(4_000), 0);
        fleet.heard(
            &Heartbeat {
                draining: true,
                ..beat("memds", 2, true)
            },
            4_100,
        );
        assert_eq!(fleet.one(4_100, 1), None);
    }
}
