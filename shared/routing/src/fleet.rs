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
    /// In the asker's zone.
    near: bool,
}

/// The fleet.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    zone: String,
    nodes: BTreeMap<u64, Node>,
}

impl Fleet {
    /// A fleet of which nothing is known, seen from `zone`.
    pub(crate) fn new(zone: String) -> Self {
        Self {
            zone,
            nodes: BTreeMap::new(),
        }
    }

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
            near: beat.zone == self.zone,
        };
        self.nodes.insert(beat.instance, node).is_none()
    }

    /// `instance` did not answer: not asked again until it is heard from.
    pub(crate) fn failed(&mut self, instance: u64) {
        self.nodes.remove(&instance);
    }

    /// One node to ask: ready ones first, then those in the own zone. `draw` is a random number.
    pub(crate) fn one(&self, now_ms: u64, draw: u64) -> Option<u64> {
        let nodes = self.candidates(now_ms);
        let near: Vec<u64> = self.near(&nodes, true);
        pick(if near.is_empty() { &nodes } else { &near }, draw)
    }

    /// Two different nodes to ask (or the only one): ready ones first; one in the own zone and one elsewhere, so that neither a
    /// slow link to other zones nor the own zone's trouble holds an answer up. `draw` is a random number.
    pub(crate) fn two(&self, now_ms: u64, draw: u64) -> Vec<u64> {
        let nodes = self.candidates(now_ms);
        let first = self.one(now_ms, draw);
        let others: Vec<u64> = nodes.into_iter().filter(|n| Some(*n) != first).collect();
        let far = self.near(&others, false);
        let second = pick(if far.is_empty() { &others } else { &far }, draw >> 32);
        first.into_iter().chain(second).collect()
    }

    /// Ready nodes, or all if none is.
    fn candidates(&self, now_ms: u64) -> Vec<u64> {
        let ready: Vec<u64> = self.live(now_ms, true).collect();
        match ready.is_empty() {
            true => self.live(now_ms, false).collect(),
            false => ready,
        }
    }

    fn near(&self, nodes: &[u64], near: bool) -> Vec<u64> {
        let is = |n: &u64| self.nodes.get(n).is_some_and(|node| node.near == near);
        nodes.iter().copied().filter(is).collect()
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

fn pick(nodes: &[u64], draw: u64) -> Option<u64> {
    let count = nodes.len() as u64;
    (count > 0).then(|| nodes[(draw % count) as usize])
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
            ..Heartbeat::default()
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
    fn one_in_the_own_zone_and_one_elsewhere() {
        let mut fleet = Fleet::new("az2".into());
        for (instance, zone) in [(1, "az1"), (2, "az2"), (3, "az3"), (4, "az2"), (5, "az1")] {
            let beat = Heartbeat {
                zone: zone.into(),
                ..beat("memds", instance, true)
            };
            fleet.heard(&beat, 0);
        }
        let mut seconds = std::collections::BTreeSet::new();
        for draw in (0..2_000u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
            assert!([2, 4].contains(&fleet.one(0, draw).unwrap()));
            let two = fleet.two(0, draw);
            assert!([2, 4].contains(&two[0]) && [1, 3, 5].contains(&two[1]));
            seconds.insert(two[1]);
        }
        assert_eq!(seconds.len(), 3, "the load is spread");
        for gone in [1, 3, 5] {
            fleet.failed(gone);
        }
        let mut two = fleet.two(0, 1);
        two.sort_unstable();
        assert_eq!(two, [2, 4], "the own zone alone");
        for gone in [2, 4] {
            fleet.failed(gone);
        }
        fleet.heard(&beat("memds", 9, true), 0);
        assert_eq!(fleet.two(0, 1), [9], "another zone alone");
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
