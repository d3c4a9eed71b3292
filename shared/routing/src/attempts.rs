//! Which node to try next for one item request, and how long to wait before the next round. Pure: random numbers are inputs.

use std::time::Duration;

use paxos::{NodeId, Role};
use protocol::directory::PartitionInfo;

/// First pause between rounds; doubled with every round.
const PAUSE_MS_MIN: u64 = 8;
/// Longest pause: short against the two seconds that a group needs to elect a new leader.
const PAUSE_MS_MAX: u64 = 200;

/// Who may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The leader: writes and strong reads.
    Leader,
    /// Any storage replica, the caller's own zone first.
    Nearest,
}

/// The tries of one request.
#[derive(Debug)]
pub(crate) struct Attempts {
    need: Need,
    /// Nodes tried in this round, with the leader that they were tried as, if so.
    tried: Vec<NodeId>,
    rounds: u32,
}

impl Attempts {
    pub(crate) fn new(need: Need) -> Self {
        Self {
            need,
            tried: Vec::new(),
            rounds: 0,
        }
    }

    /// The next node to try; none when every member was tried in this round: pause, then ask again. Nodes that are `leaving` come last
    /// where there is a choice.
    pub(crate) fn next(
        &mut self,
        info: &PartitionInfo,
        zone: &str,
        leaving: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        let node = match self.need {
            Need::Leader => self.next_leader(info),
            Need::Nearest => self.next_nearest(info, zone, leaving),
        }?;
        self.tried.push(node);
        Some(node)
    }

    /// A node said that another one leads; it is worth a second try in the same round (once: the bound on
    /// rounds of rumours is the number of members).
    pub(crate) fn hinted(&mut self, leader: NodeId, members: usize) {
        if self.tried.len() < 2 * members.max(1) {
            self.tried.retain(|&node| node != leader);
        }
    }

    /// Ends the round; says how long to pause (half of it is jitter). `draw` is a random number.
    pub(crate) fn pause(&mut self, draw: u64) -> Duration {
        let full = (PAUSE_MS_MIN << self.rounds.min(10)).min(PAUSE_MS_MAX);
        self.rounds = self.rounds.saturating_add(1);
        self.tried.clear();
        Duration::from_millis(full / 2 + draw % (full / 2 + 1))
    }

    fn next_leader(&self, info: &PartitionInfo) -> Option<NodeId> {
        info.leader
            .filter(|leader| !self.tried.contains(leader))
            .or_else(|| self.untried(info).next().map(|(node, _)| node))
    }

    fn next_nearest(
        &self,
        info: &PartitionInfo,
        zone: &str,
        leaving: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        let staying = || self.untried(info).filter(|(node, _)| !leaving(*node));
        let near = staying().find(|(_, its_zone)| *its_zone == zone);
        near.map(|(node, _)| node)
            .or_else(|| self.next_leader(info).filter(|leader| !leaving(*leader)))
            .or_else(|| staying().next().map(|(node, _)| node))
            .or_else(|| self.next_leader(info))
    }

    fn untried<'a>(&'a self, info: &'a PartitionInfo) -> impl Iterator<Item = (NodeId, &'a str)> {
        info.members
            .iter()
            .filter(|m| m.member.role == Role::Storage && !self.tried.contains(&m.member.node))
            .map(|m| (m.member.node, m.zone.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::partition;

    fn stays(_: NodeId) -> bool {
        false
    }

    #[test]
    fn eventual_reads_leave_a_node_that_goes_away_for_last() {
        let mut info = partition(7, 20, b"a", b"", 1);
        info.leader = Some(NodeId(1));
        for (leaving, expected) in [(3, [1, 2, 3]), (1, [3, 2, 1]), (2, [3, 1, 2])] {
            let mut attempts = Attempts::new(Need::Nearest);
            let leaves = |node| node == NodeId(leaving);
            let round = std::iter::from_fn(|| attempts.next(&info, "az3", leaves));
            assert_eq!(round.collect::<Vec<_>>(), expected.map(NodeId), "{leaving}");
        }
        let mut attempts = Attempts::new(Need::Leader);
        let leader = attempts.next(&info, "az3", |node| node == NodeId(1));
        assert_eq!(
            leader,
            Some(NodeId(1)),
            "it serves until it has handed over"
        );
    }

    #[test]
    fn leader_first_then_each_member_once_a_round() {
        let mut info = partition(7, 20, b"a", b"", 1);
        info.leader = Some(NodeId(2));
        let mut attempts = Attempts::new(Need::Leader);
        let mut round =
            || std::iter::from_fn(|| attempts.next(&info, "az3", stays)).collect::<Vec<_>>();
        assert_eq!(round(), [NodeId(2), NodeId(1), NodeId(3)]);
        attempts.pause(0);
        assert_eq!(attempts.next(&info, "az3", stays), Some(NodeId(2)));
    }

    #[test]
    fn eventual_reads_start_in_their_own_zone() {
        let info = partition(7, 20, b"a", b"", 1);
        let mut attempts = Attempts::new(Need::Nearest);
        assert_eq!(attempts.next(&info, "az3", stays), Some(NodeId(3)));
        assert_eq!(attempts.next(&info, "az3", stays), Some(NodeId(1)));
        assert_eq!(
            Attempts::new(Need::Nearest).next(&info, "elsewhere", stays),
            Some(NodeId(1))
        );
    }

    #[test]
    fn log_replicas_are_never_asked() {
        let mut info = partition(7, 20, b"a", b"", 1);
        info.leader = None;
        info.members[0].member.role = Role::Log;
        let mut attempts = Attempts::new(Need::Leader);
        assert_eq!(attempts.next(&info, "az1", stays), Some(NodeId(2)));
        assert_eq!(attempts.next(&info, "az1", stays), Some(NodeId(3)));
        assert_eq!(attempts.next(&info, "az1", stays), None);
    }

    #[test]
    fn a_hint_reopens_a_node_but_not_for_ever() {
        let info = partition(7, 20, b"a", b"", 1);
        let mut attempts = Attempts::new(Need::Leader);
        let mut tries = 0;
        while let Some(node) = attempts.next(&info, "az1", stays) {
            tries += 1;
            attempts.hinted(node, 3);
            attempts.tried.push(NodeId(99));
            assert!(tries < 20, "hints in a circle end");
        }
        assert!(tries >= 3);
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut attempts = Attempts::new(Need::Leader);
        let pauses: Vec<u64> = (0..40)
            .map(|_| attempts.pause(u64::MAX).as_millis() as u64)
            .collect();
        assert!(pauses[0] <= PAUSE_MS_MIN);
        assert!(pauses.iter().all(|&p| p <= PAUSE_MS_MAX));
    }
}
