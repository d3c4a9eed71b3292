//! Who is in the group, and what a quorum is. The only place with quorum arithmetic.

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// WAL and B-tree: can lead and serve reads.
    Storage,
    /// Recent WAL only: an acceptor, never leads, never serves.
    Log,
}

/// A member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Its node.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
    /// Identity of the replica: the node's disk for a founding member, drawn anew for each replica that joins later. So a
    /// replica that was dropped, or whose disk is gone, is never mistaken for one that comes after it.
    pub incarnation: u64,
}

impl Member {
    /// Whether this is that very replica.
    pub fn is(&self, node: NodeId, incarnation: u64) -> bool {
        (self.node, self.incarnation) == (node, incarnation)
    }
}

/// Who is in the group. While `joint` is set, every decision needs a quorum of both member lists. Learners get the log and
/// have no vote: a replica that is being filled, or one that fell silent and may come back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Configuration {
    /// Grows by one with every change.
    pub generation: u64,
    /// The members.
    pub members: Vec<Member>,
    /// The previous members, while a change is under way.
    #[serde(default)]
    pub joint: Option<Vec<Member>>,
    /// Replicas without a vote. One may stand on a voter's node, with another incarnation: the voter's disk is gone, then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<Member>,
}

impl Configuration {
    /// The greatest value that a majority of *every* active member list has reached. All quorums are computed here:
    /// a set of votes is the case `T = bool`. With an empty list nothing is ever reached.
    pub fn quorum_value<T: Ord + Copy + Default>(&self, value: impl Fn(&Member) -> T) -> T {
        let of_members = majority_value(&self.members, &value);
        match &self.joint {
            None => of_members,
            Some(joint) => of_members.min(majority_value(joint, &value)),
        }
    }

    /// Whether the members for which `has` holds are a quorum.
    pub fn quorum(&self, has: impl Fn(&Member) -> bool) -> bool {
        self.quorum_value(has)
    }

    /// The first configuration of a group.
    pub fn founding(members: Vec<Member>) -> Configuration {
        Configuration {
            generation: 1,
            members,
            ..Configuration::default()
        }
    }

    /// Everybody who gets the log, once a node: learners, then members, then those that are about to leave.
    pub fn all(&self) -> impl Iterator<Item = &Member> {
        let not_in = |m: &Member, list: &[Member]| list.iter().all(|n| n.node != m.node);
        let members = self
            .members
            .iter()
            .filter(move |m| not_in(m, &self.learners));
        let old = self
            .joint
            .iter()
            .flatten()
            .filter(move |m| not_in(m, &self.learners) && not_in(m, &self.members));
        self.learners.iter().chain(members).chain(old)
    }

    /// Everybody with a vote, once a node (as the new list has it).
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        let old = self.joint.iter().flatten();
        let old = old.filter(|m| self.members.iter().all(|n| n.node != m.node));
        self.members.iter().chain(old)
    }

    /// The replica on this node, if there is one.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.all().find(|member| member.node == node)
    }

    /// Whether this very replica, with this incarnation, is a learner or in an active list.
    pub fn contains(&self, node: NodeId, incarnation: u64) -> bool {
        self.learners.iter().any(|m| m.is(node, incarnation)) || self.votes(node, incarnation)
    }

    /// Whether this very replica, with this incarnation, is in an active member list.
    pub fn votes(&self, node: NodeId, incarnation: u64) -> bool {
        let old = self.joint.iter().flatten();
        self.members
            .iter()
            .chain(old)
            .any(|m| m.is(node, incarnation))
    }
}

/// The greatest value that more than half of the list has reached. Quadratic, without allocation: lists have three to
/// five members.
fn majority_value<T: Ord + Copy + Default>(list: &[Member], value: &impl Fn(&Member) -> T) -> T {
    let needed = list.len() / 2 + 1;
    let reached = |v: T| list.iter().filter(|m| value(m) >= v).count() >= needed;
    list.iter()
        .map(value)
        .filter(|v| reached(*v))
        .max()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(nodes: &[u64]) -> Vec<Member> {
        let member = |n: &u64| Member {
            node: NodeId(*n),
            role: Role::Storage,
            incarnation: 1,
        };
        nodes.iter().map(member).collect()
    }

    fn configuration(new: &[u64], old: Option<&[u64]>) -> Configuration {
        Configuration {
            generation: 1,
            members: members(new),
            joint: old.map(members),
            learners: Vec::new(),
        }
    }

    #[test]
    fn a_majority_decides() {
        let three = configuration(&[1, 2, 3], None);
        assert!(!three.quorum(|m| m.node.0 == 1));
        assert!(three.quorum(|m| m.node.0 != 1));
        assert_eq!(three.quorum_value(|m| m.node.0 * 10), 20);
        let four = configuration(&[1, 2, 3, 4], None);
        assert!(!four.quorum(|m| m.node.0 <= 2));
        assert_eq!(four.quorum_value(|m| m.node.0), 2);
    }

    #[test]
    fn joint_needs_a_majority_of_both_lists() {
        let joint = configuration(&[1, 2, 4], Some(&[1, 2, 3]));
        assert!(
            !joint.quorum(|m| [1, 3].contains(&m.node.0)),
            "old majority alone"
        );
        assert!(
            !joint.quorum(|m| [1, 4].contains(&m.node.0)),
            "new majority alone"
        );
        assert!(joint.quorum(|m| [1, 3, 4].contains(&m.node.0)));
        assert!(joint.quorum(|m| [1, 2].contains(&m.node.0)));
        // Three of the four nodes of the union are not enough by themselves.
        let apart = configuration(&[4, 5, 6], Some(&[1, 2, 3]));
        assert!(!apart.quorum(|m| [1, 2, 3, 4].contains(&m.node.0)));
    }

    #[test]
    fn nothing_is_reached_without_members() {
        assert!(!Configuration::default().quorum(|_| true));
        assert!(!configuration(&[1], Some(&[])).quorum(|_| true));
    }

    #[test]
    fn a_replaced_disk_is_another_member() {
        let mut joint = configuration(&[1, 2, 3], Some(&[1, 2, 3]));
        joint.members[2].incarnation = 2;
        assert!(joint.contains(NodeId(3), 1) && joint.contains(NodeId(3), 2));
        assert_eq!(joint.member(NodeId(3)).map(|m| m.incarnation), Some(2));
        assert_eq!(joint.all().count(), 3);
    }
}
