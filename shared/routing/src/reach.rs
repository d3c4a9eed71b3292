//! Which storage nodes can be reached, as their heartbeats and unanswered calls show it, and by which detour. Pure: time is an input. Never
//! says that a node is dead: it may be the way to it that is cut.

use std::collections::BTreeMap;

use paxos::NodeId;
use protocol::health::Heartbeat;

/// A storage node whose heartbeats stay out for so long cannot be reached, in milliseconds: two were lost.
const SILENT_MS: u64 = 2_500;
/// After a call without an answer the direct way is not taken for so long; doubled with each further one, until one is answered.
const DOUBT_MS_MIN: u64 = 2_000;
const DOUBT_MS_MAX: u64 = 16_000;
/// Nodes kept; the bound is for a runaway of node numbers.
const NODES_MAX: usize = 4_096;

#[derive(Clone, Debug)]
struct Node {
    zone: String,
    heard_ms: u64,
    leaving: bool,
    /// Calls without an answer in a row, and until when they count.
    doubts: u32,
    doubted_until_ms: u64,
}

/// The storage nodes.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    zone: String,
    nodes: BTreeMap<NodeId, Node>,
}

impl Reach {
    /// Nothing is known, seen from `zone`.
    pub(crate) fn new(zone: String) -> Self {
        Self {
            zone,
            nodes: BTreeMap::new(),
        }
    }

    /// Takes in a heartbeat of any service.
    pub(crate) fn heard(&mut self, beat: &Heartbeat, now_ms: u64) {
        let id = NodeId(beat.instance);
        if beat.service != "storage"
            || (self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&id))
        {
            return;
        }
        let before = self.nodes.get(&id);
        let node = Node {
            zone: beat.zone.clone(),
            heard_ms: now_ms,
            leaving: beat.draining,
            doubts: before.map_or(0, |node| node.doubts),
            doubted_until_ms: before.map_or(0, |node| node.doubted_until_ms),
        };
        self.nodes.insert(id, node);
    }

    /// A call that went there directly got no answer in its time.
    pub(crate) fn unanswered(&mut self, id: NodeId, now_ms: u64) {
        if let Some(node) = self.nodes.get_mut(&id)
            && node.doubted_until_ms <= now_ms
        {
            let doubt_ms = (DOUBT_MS_MIN << node.doubts.min(10)).min(DOUBT_MS_MAX);
            node.doubts = node.doubts.saturating_add(1);
            node.doubted_until_ms = now_ms + doubt_ms;
        }
    }

    /// Whether an answer from there would be news.
    pub(crate) fn doubted(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.doubts > 0)
    }

    /// A call that went there directly was answered.
    pub(crate) fn answered(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            (node.doubts, node.doubted_until_ms) = (0, 0);
        }
    }

    /// It says that it is going away: whoever has a choice asks another one.
    pub(crate) fn leaving(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.leaving)
    }

    /// It was heard of, and is no more.
    pub(crate) fn silent(&self, id: NodeId, now_ms: u64) -> bool {
        let node = self.nodes.get(&id);
        node.is_some_and(|node| now_ms.saturating_sub(node.heard_ms) >= SILENT_MS)
    }

    /// The node that shall pass calls for `id` on; none: go there directly, because nothing speaks against it, or no other way is better.
    /// A node in a third zone, since a cut lies between zones. `draw` is a random number.
    pub(crate) fn detour(&self, id: NodeId, now_ms: u64, draw: u64) -> Option<NodeId> {
        let target = self.nodes.get(&id)?;
        if !self.silent(id, now_ms) && target.doubted_until_ms <= now_ms {
            return None;
        }
        let third = |node: &Node| node.zone != self.zone && node.zone != target.zone;
        let reachable = |id: &NodeId, node: &Node| {
            !self.silent(*id, now_ms) && node.doubted_until_ms <= now_ms && !node.leaving
        };
        let able = self
            .nodes
            .iter()
            .filter(|(id, node)| third(node) && reachable(id, node));
        let able: Vec<NodeId> = able.map(|(id, _)| *id).collect();
        let at = draw.checked_rem(able.len() as u64)?;
        able.get(at as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(node: u64, draining: bool) -> Heartbeat {
        Heartbeat {
            service: "storage".to_owned(),
            instance: node,
            zone: format!("az{node}"),
            incarnation: 1,
            http: String::new(),
            ready: !draining,
            draining,
            version: String::new(),
            ..Heartbeat::default()
        }
    }

    /// Seen from az1; nodes 1 to 3 were heard of at 0.
    fn reach() -> Reach {
        let mut reach = Reach::new("az1".to_owned());
        for node in 1..=3 {
            reach.heard(&beat(node, false), 0);
        }
        reach
    }

    #[test]
    fn a_silent_node_is_reached_through_a_third_zone() {
        let mut reach = reach();
        assert_eq!(reach.detour(NodeId(2), SILENT_MS - 1, 0), None);
        reach.heard(&beat(1, false), SILENT_MS);
        reach.heard(&beat(3, false), SILENT_MS);
        assert!(reach.silent(NodeId(2), SILENT_MS));
        for draw in [0, 1, u64::MAX] {
            assert_eq!(reach.detour(NodeId(2), SILENT_MS, draw), Some(NodeId(3)));
        }
        reach.heard(&beat(2, false), SILENT_MS);
        assert_eq!(reach.detour(NodeId(2), SILENT_MS, 0), None);
    }

    #[test]
    fn where_no_third_zone_can_be_reached_the_way_is_direct() {
        let mut reach = reach();
        assert_eq!(
            reach.detour(NodeId(2), SILENT_MS, 0),
            None,
            "all are silent"
        );
        reach.heard(&beat(3, true), SILENT_MS);
        assert_eq!(reach.detour(NodeId(2), SILENT_MS, 0), None, "it goes away");
        assert_eq!(
            reach.detour(NodeId(9), SILENT_MS, 0),
            None,
            "never heard of"
        );
        assert!(!reach.silent(NodeId(9), SILENT_MS));
    }

    #[test]
    fn calls_without_an_answer_are_doubted_longer_each_time_until_one_is_answered() {
        let mut reach = reach();
        let mut now_ms = 0;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            reach.unanswered(NodeId(2), now_ms);
            // Of the same moment: counts once.
            reach.unanswered(NodeId(2), now_ms);
            let until = now_ms;
            while reach.detour(NodeId(2), now_ms, 0).is_some() {
                now_ms += 1_000;
                for node in 1..=3 {
                    reach.heard(&beat(node, false), now_ms);
                }
            }
            pauses.push(now_ms - until);
        }
        assert_eq!(pauses, [2_000, 4_000, 8_000, 16_000, 16_000, 16_000]);
        assert!(reach.doubted(NodeId(2)));
        reach.answered(NodeId(2));
        assert!(!reach.doubted(NodeId(2)));
        reach.unanswered(NodeId(2), now_ms);
        assert!(reach.detour(NodeId(2), now_ms + 1_999, 0).is_some());
        assert_eq!(reach.detour(NodeId(2), now_ms + 2_000, 0), None);
    }

    #[test]
    fn a_node_that_goes_away_says_so_and_may_come_back() {
        let mut reach = reach();
        reach.heard(&beat(2, true), 100);
        assert!(reach.leaving(NodeId(2)) && !reach.leaving(NodeId(1)));
        reach.heard(&beat(2, false), 200);
        assert!(!reach.leaving(NodeId(2)));
    }
}
