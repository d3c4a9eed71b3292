//! Who is in the group, and how that changes: one change at a time, through the log, with other voters through a joint
//! configuration that the leader completes by itself. Owns the rules for changes; quorums are `configuration`'s, and which
//! change is wanted is decided elsewhere.

use std::collections::BTreeSet;

use crate::leader::{Leader, Transfer};
use crate::progress::Stage;
use crate::replica::Part;
use crate::{
    Configuration, FollowerStatus, Member, NodeId, Output, Payload, ReconfigureRefusal, Replica,
    Role,
};

/// Voters of a group at most: more would only make every write wait for more.
const MEMBERS_MAX: usize = 7;
/// Learners of a group at most: each is sent the whole log.
const LEARNERS_MAX: usize = 4;

impl Replica {
    /// `Input::Reconfigure`.
    pub(crate) fn reconfigure(
        &mut self,
        generation: u64,
        members: Vec<Member>,
        learners: Vec<Member>,
        out: &mut Output,
    ) -> Result<u64, ReconfigureRefusal> {
        let Part::Leader(leader) = &self.part else {
            let heard = self.heard.map(|heard| heard.node);
            return Err(ReconfigureRefusal::NotLeader(heard));
        };
        // Only a leader past its own first entry and all earlier leases: no older leader's lease, and no entry that an older
        // configuration could still commit, survives into the new one.
        let able = self.can_propose();
        #[cfg(feature = "mutations")]
        let able = able || self.mutated(crate::Mutation::ChangeBeforeOwnCommit);
        if !able {
            return Err(ReconfigureRefusal::NotServing);
        }
        let current = self.log.configuration();
        if generation != current.generation {
            return Err(ReconfigureRefusal::Stale(current.generation));
        }
        let settled = self.configuration_settled();
        #[cfg(feature = "mutations")]
        let settled = settled || self.mutated(crate::Mutation::TwoChanges);
        if !settled {
            return Err(ReconfigureRefusal::UnderWay);
        }
        check(&members, &learners)?;
        let another_role = |m: &&Member| {
            let mut known = current.all().chain(&current.members);
            known.any(|k| k.is(m.node, m.incarnation) && k.role != m.role)
        };
        if members.iter().chain(&learners).any(|m| another_role(&m)) {
            return Err(ReconfigureRefusal::Invalid(
                "a replica never changes its role",
            ));
        }
        // Of two replicas on one node, the one that had the vote is the one whose disk is gone: as a learner it would stand
        // in the way of the other.
        let succeeded = |l: &Member| {
            let other = |m: &Member| m.node == l.node && m.incarnation != l.incarnation;
            current.members.contains(l) && members.iter().any(other)
        };
        if learners.iter().any(succeeded) {
            let why = "a learner has been succeeded on its own node";
            return Err(ReconfigureRefusal::Invalid(why));
        }
        let in_step = |m: &Member| {
            let learner = current.learners.contains(m);
            learner && self.in_step(leader, m)
        };
        let newcomer = |m: &&Member| {
            let known = current.members.contains(m) || m.is(self.me, self.incarnation);
            m.role == Role::Storage && !known && !in_step(m)
        };
        if let Some(member) = members.iter().find(newcomer) {
            return Err(ReconfigureRefusal::NotInStep(member.node));
        }
        let same_voters = as_set(&members) == as_set(&current.members);
        if same_voters && as_set(&learners) == as_set(&current.learners) {
            return Ok(generation);
        }
        let joint = (!same_voters).then(|| current.members.clone());
        let next = Configuration {
            generation: generation + 1,
            members,
            joint,
            learners,
        };
        self.append_own(vec![Payload::Config(next)], out);
        Ok(generation + 1)
    }

    /// Whether the configuration in force is committed, and no change is half-way.
    pub fn configuration_settled(&self) -> bool {
        self.log.configured_at() <= self.commit && self.log.configuration().joint.is_none()
    }

    /// The leader's part of a change: once the joint configuration is committed, the new one alone is put in force; once that is
    /// committed, a leader that is not in it hands over.
    pub(crate) fn complete_change(&mut self, leader: &mut Leader, out: &mut Output) {
        let committed = self.log.configured_at() <= self.commit;
        #[cfg(feature = "mutations")]
        let committed = committed || self.mutated(crate::Mutation::LeaveJointEarly);
        if !committed || leader.transfer.is_some() {
            return;
        }
        let current = self.log.configuration();
        if current.joint.is_some() {
            let established = self.established(leader, self.now);
            #[cfg(feature = "mutations")]
            let established = established || self.mutated(crate::Mutation::ChangeBeforeOwnCommit);
            if established {
                let next = Configuration {
                    generation: current.generation + 1,
                    joint: None,
                    ..current.clone()
                };
                self.append_own(vec![Payload::Config(next)], out);
                self.sync_members(leader);
            }
            return;
        }
        if current.votes(self.me, self.incarnation) {
            return;
        }
        let members = current.members.iter();
        let successor = members
            .filter(|m| m.role == Role::Storage)
            .filter_map(|m| leader.progress.iter().find(|p| m.is(p.node, p.incarnation)))
            .max_by_key(|p| p.matched);
        if let Some(successor) = successor {
            leader.transfer = Some(Transfer {
                to: successor.node,
                deadline: self.now.plus(self.timing.transfer_ms),
            });
        }
    }

    /// Generation of a committed configuration that does not name this replica, if that is what is in force here.
    pub(crate) fn removed_at(&self, node: NodeId, incarnation: u64) -> Option<u64> {
        let current = self.log.configuration();
        let settled = self.configuration_settled();
        #[cfg(feature = "mutations")]
        let settled = settled || self.mutated(crate::Mutation::RetireUncommitted);
        let out = settled && !current.contains(node, incarnation);
        // Without any entry of its own, this replica cannot tell.
        (out && self.log.configured_at() > 0).then_some(current.generation)
    }

    /// Whether a committed configuration of this generation that does not name this replica ends it: it knows of none that came later and
    /// does. One of the same generation that is not committed here is another leader's, and has lost: a generation is committed once.
    pub fn is_ended_by(&self, generation: u64) -> bool {
        let current = self.log.configuration();
        let named = current.contains(self.me, self.incarnation);
        let lost = generation == current.generation && self.log.configured_at() > self.commit;
        generation > self.identity.generation && (!named || generation > current.generation || lost)
    }

    /// A peer says that a committed configuration of this generation does not name this replica. True: it is so, and all is over.
    pub(crate) fn learn_removal(&mut self, removed: Option<u64>, out: &mut Output) -> bool {
        if !removed.is_some_and(|generation| self.is_ended_by(generation)) {
            return false;
        }
        self.follow_nobody(out);
        self.retired = true;
        out.retired = true;
        true
    }

    /// Whether a follower has nearly all of the log, durably.
    fn in_step(&self, leader: &Leader, member: &Member) -> bool {
        let near = self.timing.limits.in_step_entries_max;
        let mut followers = leader.progress.iter();
        followers.any(|p| {
            member.is(p.node, p.incarnation)
                && p.stage == Stage::Stream
                && p.matched.saturating_add(near) >= self.log.last().index
                && p.heard
                    .is_some_and(|at| self.now.since(at) < self.timing.lease_ms)
        })
    }

    /// What a leader knows of the others, in the configuration's order; empty for anyone else.
    pub fn followers(&self) -> Vec<FollowerStatus> {
        let Part::Leader(leader) = &self.part else {
            return Vec::new();
        };
        let configuration = self.log.configuration();
        let status = |member: &Member| {
            let mut known = leader.progress.iter();
            let progress = known.find(|p| member.is(p.node, p.incarnation))?;
            Some(FollowerStatus {
                member: *member,
                learner: !configuration.votes(member.node, member.incarnation),
                matched: progress.matched,
                flushed: progress.flushed,
                heard: progress.heard,
                in_step: self.in_step(leader, member),
                copying: progress.stage == Stage::Copy,
            })
        };
        configuration.all().filter_map(status).collect()
    }
}

fn as_set(members: &[Member]) -> BTreeSet<Member> {
    members.iter().copied().collect()
}

/// Whether these lists could be a configuration at all.
fn check(members: &[Member], learners: &[Member]) -> Result<(), ReconfigureRefusal> {
    let one_a_node = |list: &[Member]| {
        let nodes: BTreeSet<NodeId> = list.iter().map(|m| m.node).collect();
        nodes.len() == list.len()
    };
    let wrong = if !members.iter().any(|m| m.role == Role::Storage) {
        "a group needs a storage member"
    } else if members.len() > MEMBERS_MAX || learners.len() > LEARNERS_MAX {
        "too many replicas"
    } else if !one_a_node(members) || !one_a_node(learners) {
        "two replicas on one node"
    } else if learners.iter().any(|l| {
        members
            .iter()
            .any(|m| m.is(l.node, l.incarnation) || (m.node == l.node && m.role == Role::Log))
    }) {
        "a learner is a member, too"
    } else {
        return Ok(());
    };
    Err(ReconfigureRefusal::Invalid(wrong))
}
