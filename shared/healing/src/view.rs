//! What a planner looks at. Owns what can be said from one look; remembers nothing.

use paxos::{Configuration, FollowerStatus, GroupId, Member, Millis, NodeId};
use protocol::directory::PlacedMember;

use crate::{Nodes, Settings};

/// A group as its leader sees it, and the nodes around it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The leader's node …
    pub me: NodeId,
    /// … and the incarnation of its replica.
    pub incarnation: u64,
    /// The configuration in force.
    pub configuration: &'a Configuration,
    /// It is committed, and not joint (`Replica::configuration_settled`).
    pub settled: bool,
    /// `Replica::followers`.
    pub followers: &'a [FollowerStatus],
    /// The nodes.
    pub nodes: &'a Nodes,
    /// Zones as they are stored with the partition, for nodes that were never heard of.
    pub placed: &'a [PlacedMember],
}

impl View<'_> {
    pub(crate) fn is_me(&self, member: &Member) -> bool {
        member.is(self.me, self.incarnation)
    }

    pub(crate) fn follower(&self, member: &Member) -> Option<&FollowerStatus> {
        let mut followers = self.followers.iter();
        followers.find(|f| f.member.is(member.node, member.incarnation))
    }

    /// Zone of a node; empty if nobody ever said.
    pub(crate) fn zone(&self, node: NodeId) -> &str {
        let said = self.nodes.get(node).map(|n| n.zone.as_str());
        let stored = || {
            let mut placed = self.placed.iter();
            let placed = placed.find(|p| p.member.node == node);
            placed.map(|p| p.zone.as_str())
        };
        said.or_else(stored).unwrap_or_default()
    }

    /// Whether a node may be given a replica now.
    pub(crate) fn takes_replicas(&self, node: NodeId, now: Millis, settings: &Settings) -> bool {
        self.nodes.get(node).is_some_and(|n| {
            n.ready
                && !n.draining
                && now.since(n.heard) < settings.node_silent_ms
                && n.free_bytes >= settings.free_bytes_min
        })
    }

    /// Where a log replica in the place of `missing` should be: a node without a replica of the group, in the zone of the missing
    /// one if there is any, else in the zone with the fewest members; spread over these nodes by group.
    pub(crate) fn log_node(
        &self,
        group: GroupId,
        missing: &Member,
        now: Millis,
        settings: &Settings,
        excluded: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        let zone = self.zone(missing.node);
        let staying = self.configuration.members.iter();
        let zones: Vec<&str> = staying
            .filter(|m| *m != missing)
            .map(|m| self.zone(m.node))
            .collect();
        let free = |node: NodeId| {
            let hosts = self.configuration.all().any(|m| m.node == node);
            !hosts && !excluded(node) && self.takes_replicas(node, now, settings)
        };
        let candidates = self.nodes.iter().filter(|(node, _)| free(*node));
        let rank = |(id, node): &(NodeId, &crate::Node)| {
            let members = zones.iter().filter(|z| **z == node.zone).count();
            (node.zone != zone, members, spread(group, *id))
        };
        candidates.min_by_key(rank).map(|(id, _)| id)
    }
}

/// A hash of group and node (splitmix64): each group has its own order of the nodes.
fn spread(group: GroupId, node: NodeId) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in [group.0, node.0] {
        state = (state ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    state
}
