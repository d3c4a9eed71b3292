//! The leader's rules: what is committed, when it may serve, when it must stop.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::lease::Outstanding;
use crate::progress::Progress;
use crate::replica::Part;
use crate::{
    Ballot, Body, Entry, Index, Millis, NodeId, Output, Payload, PersistOp, Refusal, Replica, Role,
};

/// A leader's state.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Leader {
    pub ballot: Ballot,
    /// The first entry of this ballot; with it everything before is committed.
    pub noop: Index,
    pub progress: Vec<Progress>,
    /// Generation of the configuration that `progress` stands for.
    pub generation: u64,
    /// Leases of earlier leaders.
    pub outstanding: Outstanding,
    /// A quorum acknowledged messages that were sent at this moment or later.
    pub quorum_at: Option<Millis>,
    pub elected_at: Millis,
    /// Proposals not delivered yet: last index and bytes of each batch.
    pending: VecDeque<(Index, u64)>,
    pending_bytes: u64,
    /// When the log last got ahead, or had nothing to get ahead with.
    progressed_at: Millis,
    progressed_to: Index,
    pub transfer: Option<Transfer>,
    /// Up to here the log may go: every storage member's B-tree is durable, and the log is archived where it has to be.
    pub floor: Index,
    /// What this leader was told to be archived.
    pub archived: Index,
}

#[cfg(feature = "model")]
impl Leader {
    /// Forgets what only limits and timers ask for.
    pub fn forget_traffic(&mut self) {
        self.pending.clear();
        self.pending_bytes = 0;
        self.progressed_to = 0;
        self.progressed_at = Millis(0);
        self.elected_at = Millis(0);
        for progress in &mut self.progress {
            progress.forget_traffic();
        }
    }
}

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Transfer {
    pub to: NodeId,
    pub deadline: Millis,
}

impl Replica {
    /// Starts to lead in the promised ballot.
    pub(crate) fn start_leading(
        &mut self,
        outstanding: Outstanding,
        heard: &[(NodeId, Millis)],
        out: &mut Output,
    ) {
        let ballot = self.promised;
        let noop = self.log.last().index + 1;
        let configuration = self.log.configuration();
        let generation = configuration.generation;
        let progress = configuration
            .all()
            .filter(|member| member.node != self.me)
            .map(|member| {
                let heard = heard.iter().find(|(node, _)| *node == member.node);
                Progress::new(member, generation, noop, heard.map(|(_, at)| *at))
            })
            .collect();
        self.heard = None;
        self.part = Part::Leader(Box::new(Leader {
            ballot,
            noop,
            progress,
            generation,
            outstanding,
            quorum_at: None,
            elected_at: self.now,
            pending: VecDeque::new(),
            pending_bytes: 0,
            progressed_at: self.now,
            progressed_to: self.delivered,
            transfer: None,
            floor: 0,
            archived: 0,
        }));
        self.append_own(vec![Payload::Noop], out);
    }

    /// Puts own entries behind the log and on the way to the disk. Returns index and bytes of the batch's end.
    pub(crate) fn append_own(&mut self, payloads: Vec<Payload>, out: &mut Output) -> (Index, u64) {
        let ballot = self.promised;
        let mut entries = Vec::with_capacity(payloads.len());
        let mut bytes = 0;
        for (payload, index) in payloads.into_iter().zip(self.log.last().index + 1..) {
            let entry = Entry {
                index,
                ballot,
                payload,
            };
            bytes += entry.bytes();
            self.log.push(entry.clone());
            entries.push(entry);
        }
        out.persist.push(PersistOp::Append(entries));
        (self.log.last().index, bytes)
    }

    /// `Input::Propose`.
    pub(crate) fn propose(
        &mut self,
        commands: Vec<Bytes>,
        out: &mut Output,
    ) -> Result<Index, Refusal> {
        if !matches!(self.part, Part::Leader(_)) {
            return Err(self.not_leader());
        }
        if !self.can_propose() {
            return Err(Refusal::NotServing);
        }
        let first = self.log.last().index + 1;
        if commands.is_empty() {
            return Ok(first);
        }
        let limits = &self.timing.limits;
        let count = self.log.last().index - self.delivered + commands.len() as u64;
        if let Part::Leader(leader) = &self.part
            && (count > limits.pending_proposals_max
                || leader.pending_bytes >= limits.pending_bytes_max)
        {
            return Err(Refusal::Overloaded);
        }
        let payloads = commands.into_iter().map(Payload::Command).collect();
        let batch = self.append_own(payloads, out);
        if let Part::Leader(leader) = &mut self.part {
            leader.pending.push_back(batch);
            leader.pending_bytes += batch.1;
        }
        Ok(first)
    }

    /// Whether this leader is past its own first entry and all earlier leases.
    pub(crate) fn established(&self, leader: &Leader, now: Millis) -> bool {
        let waited = now >= leader.outstanding.until();
        #[cfg(feature = "mutations")]
        let waited = waited || self.mutated(crate::Mutation::ServeBeforeLease);
        self.delivered >= leader.noop && waited
    }

    /// Until when this leader may rely on its lease: counted from the sending of what a quorum acknowledged.
    pub(crate) fn lease_until(&self) -> Option<Millis> {
        let Part::Leader(leader) = &self.part else {
            return None;
        };
        let belief = self.timing.lease_belief_ms();
        #[cfg(feature = "mutations")]
        let belief = match self.mutated(crate::Mutation::NoLeaseMargin) {
            true => self.timing.lease_ms,
            false => belief,
        };
        leader.quorum_at.map(|at| at.plus(belief))
    }

    /// Whether this replica may answer strong reads from its applied state at this moment.
    pub fn can_serve_reads(&self, now: Millis) -> bool {
        #[cfg(feature = "mutations")]
        if self.ghost_lease_until.is_some_and(|until| now < until) {
            return true;
        }
        let Part::Leader(leader) = &self.part else {
            return false;
        };
        self.established(leader, now) && self.lease_until().is_some_and(|until| now < until)
    }

    /// Whether proposals are taken now.
    pub(crate) fn can_propose(&self) -> bool {
        let Part::Leader(leader) = &self.part else {
            return false;
        };
        leader.transfer.is_none() && self.can_serve_reads(self.now)
    }

    /// Whether this leader heard from a quorum recently.
    pub(crate) fn leader_healthy(&self, leader: &Leader, now: Millis) -> bool {
        leader
            .quorum_at
            .is_some_and(|at| now.since(at) < self.timing.lease_ms)
    }

    /// `Input::TransferLeadership`.
    pub(crate) fn transfer(&mut self, to: NodeId) {
        let deadline = self.now.plus(self.timing.transfer_ms);
        let members = &self.log.configuration().members;
        let member = members
            .iter()
            .find(|m| m.node == to && m.role == Role::Storage);
        let Some(member) = member.copied().filter(|_| self.can_propose()) else {
            return;
        };
        // A learner on the member's node is not the member, and could not take over.
        if let Part::Leader(leader) = &mut self.part
            && leader
                .progress
                .iter()
                .any(|p| member.is(p.node, p.incarnation))
        {
            leader.transfer = Some(Transfer { to, deadline });
        }
    }

    /// The leader's part of every step: quorum, commit, transfer, what to send.
    pub(crate) fn lead(&mut self, out: &mut Output) {
        let part = std::mem::replace(&mut self.part, Part::Follower);
        let Part::Leader(mut leader) = part else {
            self.part = part;
            return;
        };
        self.sync_members(&mut leader);
        self.count(&mut leader);
        self.complete_change(&mut leader, out);
        self.spare(&mut leader);
        while leader
            .pending
            .front()
            .is_some_and(|(last, _)| *last <= self.delivered)
        {
            leader.pending_bytes -= leader.pending.pop_front().map_or(0, |(_, bytes)| bytes);
        }
        if self.hand_over(&mut leader, out) {
            self.follow_nobody(out);
            self.rest(self.now);
            return;
        }
        self.replicate(&mut leader, out);
        self.part = Part::Leader(leader);
    }

    /// Counts acknowledgements: the lease, and what is committed.
    fn count(&mut self, leader: &mut Leader) {
        let (me, own, now) = (self.me, self.incarnation, self.now);
        let of = |node: NodeId, incarnation: u64| {
            leader
                .progress
                .iter()
                .find(|p| p.node == node && p.incarnation == incarnation)
        };
        let quorum_at = self.quorum_value(|m| match (m.node, m.incarnation) == (me, own) {
            true => Some(now),
            false => of(m.node, m.incarnation).and_then(|p| p.acked_sent),
        });
        let durable = self.durability.durable();
        #[cfg(feature = "mutations")]
        let durable = match self.mutated(crate::Mutation::CountUnsynced) {
            true => self.log.last().index,
            false => durable,
        };
        let held = |p: &Progress| p.matched;
        #[cfg(feature = "mutations")]
        let held = |p: &Progress| match self.mutated(crate::Mutation::CountReceived) {
            true => p.confirmed(),
            false => held(p),
        };
        let matched = self.quorum_value(|m| match (m.node, m.incarnation) == (me, own) {
            true => durable,
            false => of(m.node, m.incarnation).map_or(0, held),
        });
        leader.quorum_at = leader.quorum_at.max(quorum_at);
        // Only an entry of the own ballot is committed by counting; it commits everything before it.
        let own_ballot = self.log.ballot_at(matched) == Some(leader.ballot);
        #[cfg(feature = "mutations")]
        let own_ballot = own_ballot || self.mutated(crate::Mutation::CountOldBallot);
        if matched > self.commit && own_ballot {
            self.commit = matched;
        }
        if self.delivered > leader.progressed_to || self.delivered == self.log.last().index {
            leader.progressed_to = self.delivered;
            leader.progressed_at = now;
        }
    }

    /// Finds out up to where the log may be truncated: what every storage member has in its B-tree, and the archive holds.
    fn spare(&self, leader: &mut Leader) {
        let crowded = self.release_log || self.log.bytes() > self.timing.limits.log_bytes_max;
        let mut floor = self.flushed;
        for progress in &leader.progress {
            let at = progress
                .heard
                .unwrap_or(leader.elected_at)
                .max(leader.elected_at);
            let silent = self.now.since(at) > self.timing.member_silent_ms;
            if crowded && silent {
                continue;
            }
            floor = floor.min(match progress.role {
                Role::Storage => progress.flushed,
                Role::Log => progress.matched,
            });
        }
        let bounded = self.timing.limits.archive;
        #[cfg(feature = "mutations")]
        let bounded = bounded && !self.mutated(crate::Mutation::TruncateUnarchived);
        if bounded {
            floor = floor.min(leader.archived);
        }
        leader.floor = leader.floor.max(floor);
    }

    /// Own truncation.
    pub(crate) fn truncate(&mut self, out: &mut Output) {
        if let Part::Leader(leader) = &self.part {
            let floor = leader.floor;
            self.raise_floor(floor, out);
        }
    }

    /// Drives a transfer. True: the lease is released and the successor told; leading is over, for good in this ballot.
    fn hand_over(&mut self, leader: &mut Leader, out: &mut Output) -> bool {
        let Some(transfer) = leader.transfer else {
            return false;
        };
        if self.now >= transfer.deadline {
            leader.transfer = None;
            return false;
        }
        let last = self.log.last().index;
        let target = leader.progress.iter().find(|p| p.node == transfer.to);
        // The successor takes the release for the word of a leader that served: one that had waited for all leases before its own.
        let ready = target.is_some_and(|p| p.matched == last)
            && self.delivered == last
            && self.established(leader, self.now);
        if !ready {
            return false;
        }
        #[cfg(feature = "mutations")]
        if self.mutated(crate::Mutation::LeaseOutlivesTransfer) {
            let belief = self.timing.lease_belief_ms();
            self.ghost_lease_until = leader.quorum_at.map(|at| at.plus(belief));
        }
        let released = leader.ballot;
        out.send
            .extend(self.message(transfer.to, Body::TimeoutNow { released }));
        true
    }

    /// The leader's timers, as far as they end its leadership. What is to be sent is found in `replicate`.
    pub(crate) fn leader_time(&mut self, out: &mut Output) {
        let Part::Leader(leader) = &self.part else {
            return;
        };
        let heard = leader.quorum_at.unwrap_or_default().max(leader.elected_at);
        let deserted = self.now.since(heard) >= self.timing.leader_patience_ms;
        let stalled = self.now.since(leader.progressed_at) >= self.timing.leader_stall_ms;
        let alone = leader.progress.is_empty();
        if (deserted && !alone) || (stalled && self.delivered < self.log.last().index) {
            self.follow_nobody(out);
            self.rest(self.now);
        }
    }

    /// When the leader has to be woken.
    pub(crate) fn leader_wake_at(&self, leader: &Leader) -> Millis {
        let timing = &self.timing;
        let heard = leader.quorum_at.unwrap_or_default().max(leader.elected_at);
        let mut wake = heard.plus(timing.leader_patience_ms);
        let mut at = |when: Millis| {
            if when > self.now {
                wake = wake.min(when);
            }
        };
        at(leader.outstanding.until());
        at(self.lease_until().unwrap_or_default());
        if self.delivered < self.log.last().index {
            at(leader.progressed_at.plus(timing.leader_stall_ms));
        }
        if let Some(transfer) = leader.transfer {
            at(transfer.deadline);
        }
        for progress in &leader.progress {
            at(self.speak_at(progress));
            at(progress
                .lost_at(timing.retransmit_ms, timing.log_read_ms)
                .unwrap_or_default());
        }
        wake.max(self.now.plus(1))
    }
}
