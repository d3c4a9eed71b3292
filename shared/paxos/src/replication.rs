//! What a leader sends and what it makes of the answers: pipelined appends, heartbeats, retransmission, catch-up from
//! the tail in memory, from the WAL, or by full copy.

use crate::leader::Leader;
use crate::progress::{Progress, Stage};
use crate::replica::Part;
use crate::{
    Ack, Append, Body, Entry, Index, Message, Millis, NodeId, Output, Position, ReadLog, Reject,
    Replica,
};

impl Replica {
    /// Follows a change of the configuration: new members get a progress, removed ones lose theirs.
    pub(crate) fn sync_members(&self, leader: &mut Leader) {
        let configuration = self.log.configuration();
        if configuration.generation == leader.generation {
            return;
        }
        leader.generation = configuration.generation;
        leader.progress.retain(|p| {
            configuration
                .all()
                .any(|m| m.node == p.node && m.incarnation == p.incarnation)
        });
        for member in configuration.all() {
            let known = leader.progress.iter_mut().find(|p| p.node == member.node);
            match known {
                Some(progress) => progress.role = member.role,
                None if member.node == self.me => {}
                None => {
                    let next = self.log.last().index + 1;
                    let progress = Progress::new(member, leader.generation, next, None);
                    leader.progress.push(progress);
                }
            }
        }
    }

    /// Sends every follower what it lacks and may have now.
    pub(crate) fn replicate(&self, leader: &mut Leader, out: &mut Output) {
        let mut followers = std::mem::take(&mut leader.progress);
        for progress in &mut followers {
            let timing = &self.timing;
            let lost_at = progress.lost_at(timing.retransmit_ms, timing.log_read_ms);
            if lost_at.is_some_and(|at| self.now >= at) {
                progress.check_lost(self.now);
            }
            self.pump(leader, progress, out);
            if self.now >= self.speak_at(progress) {
                self.heartbeat(leader, progress, out);
            }
        }
        leader.progress = followers;
    }

    /// Fills a follower's window.
    fn pump(&self, leader: &Leader, progress: &mut Progress, out: &mut Output) {
        let limits = &self.timing.limits;
        while progress.next <= self.log.last().index
            && progress.has_room(self.now, self.timing.lease_ms, limits)
        {
            let from = progress.next;
            let Some(prev) = from.checked_sub(1).and_then(|i| self.log.position_at(i)) else {
                self.ask_to_copy(leader, progress, out);
                return;
            };
            match self.log.slice(from, limits.append_bytes_max) {
                Some(entries) => self.send_entries(leader, progress, prev, entries, out),
                None => {
                    let max_bytes = limits.append_bytes_max;
                    out.read_log.push(ReadLog {
                        to: progress.node,
                        from,
                        max_bytes,
                    });
                    let since = self.now;
                    progress.stage = Stage::Read { from, since };
                }
            }
        }
    }

    fn send_entries(
        &self,
        leader: &Leader,
        progress: &mut Progress,
        prev: Position,
        entries: Vec<Entry>,
        out: &mut Output,
    ) {
        let bytes = entries.iter().map(Entry::bytes).sum();
        let last = prev.index + entries.len() as Index;
        progress.sent(last, bytes, self.now);
        self.send_append(leader, progress, prev, entries, out);
    }

    /// When something has to be sent to a follower again: soon while it does not know of a commit, so that eventual reads follow,
    /// else with the heartbeats of the node's other groups.
    pub(crate) fn speak_at(&self, progress: &Progress) -> Millis {
        let Some(sent) = progress.last_sent else {
            return self.now;
        };
        let notice_ms = self.timing.commit_notice_ms;
        if progress.commit_sent < self.commit && notice_ms < self.timing.heartbeat_ms {
            return sent.plus(notice_ms);
        }
        self.timing.heartbeat_after(sent)
    }

    fn heartbeat(&self, leader: &Leader, progress: &mut Progress, out: &mut Output) {
        let index = match progress.stage {
            Stage::Probe { from, .. } => from.saturating_sub(1),
            Stage::Stream | Stage::Read { .. } => progress.confirmed(),
            Stage::Copy => self.log.last().index,
        };
        let prev = self.log.position_at(index).unwrap_or(self.log.floor());
        self.send_append(leader, progress, prev, Vec::new(), out);
    }

    fn send_append(
        &self,
        leader: &Leader,
        progress: &mut Progress,
        prev: Position,
        entries: Vec<Entry>,
        out: &mut Output,
    ) {
        progress.last_sent = Some(self.now);
        progress.commit_sent = self.commit;
        let append = Append {
            ballot: leader.ballot,
            sent: self.now,
            prev,
            entries,
            commit: self.commit,
            floor: leader.floor,
            healthy: self.leader_healthy(leader, self.now),
        };
        out.send
            .push(self.to_follower(leader, progress, Body::Append(append)));
    }

    fn to_follower(&self, leader: &Leader, progress: &Progress, body: Body) -> (NodeId, Message) {
        let to_incarnation = progress.incarnation;
        (
            progress.node,
            Message {
                to_incarnation,
                generation: leader.generation,
                body,
            },
        )
    }

    /// The log no longer has what the follower needs.
    fn ask_to_copy(&self, leader: &Leader, progress: &mut Progress, out: &mut Output) {
        progress.needs_copy();
        let (ballot, floor) = (leader.ballot, self.log.floor());
        let configuration = self.log.configuration_at(floor.index).clone();
        let body = Body::CopyNeeded {
            ballot,
            floor,
            configuration,
        };
        out.send.push(self.to_follower(leader, progress, body));
    }

    /// The follower that an answer in this leader's ballot comes from, unless it is stale: of another disk, or to a
    /// message from before this member was (again) taken in. Notes the sign of life and the renewed lease.
    fn answered(
        leader: &mut Leader,
        now: Millis,
        (from, incarnation, generation): (NodeId, u64, u64),
        (sent, flushed): (Millis, Index),
    ) -> Option<&mut Progress> {
        let progress = leader.progress.iter_mut().find(|p| p.node == from)?;
        if progress.incarnation != incarnation || generation < progress.since_generation {
            return None;
        }
        progress.acked_sent = progress.acked_sent.max(Some(sent.min(now)));
        progress.heard = Some(now);
        progress.flushed = progress.flushed.max(flushed);
        Some(progress)
    }

    pub(crate) fn on_ack(&mut self, from: NodeId, incarnation: u64, generation: u64, ack: Ack) {
        let last = self.log.last().index;
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        if ack.ballot != leader.ballot {
            return;
        }
        if ack.matched > last || ack.received > last {
            self.faults += 1;
            return;
        }
        let source = (from, incarnation, generation);
        let sent = ack.sent;
        #[cfg(feature = "mutations")]
        let sent = match self.mutations.contains(&crate::Mutation::LeaseFromReceipt) {
            true => self.now,
            false => sent,
        };
        let progress = Self::answered(leader, self.now, source, (sent, ack.flushed));
        if let Some(progress) = progress {
            progress.acknowledged(ack.matched, ack.received, ack.sent);
        }
    }

    pub(crate) fn on_reject(
        &mut self,
        from: NodeId,
        incarnation: u64,
        generation: u64,
        reject: Reject,
        out: &mut Output,
    ) {
        let part = std::mem::replace(&mut self.part, Part::Follower);
        let Part::Leader(mut leader) = part else {
            self.part = part;
            return;
        };
        if reject.ballot == leader.ballot {
            let source = (from, incarnation, generation);
            let told = (reject.sent, reject.flushed);
            if Self::answered(&mut leader, self.now, source, told).is_some() {
                self.find_common(&mut leader, from, &reject, out);
            }
        }
        self.part = Part::Leader(leader);
    }

    /// Finds where the follower's log parts from this one, and goes on there.
    fn find_common(&self, leader: &mut Leader, from: NodeId, reject: &Reject, out: &mut Output) {
        let mut followers = std::mem::take(&mut leader.progress);
        if let Some(progress) = followers.iter_mut().find(|p| p.node == from) {
            let stale = match progress.stage {
                Stage::Probe { from: next, .. } => reject.prev.index + 1 != next,
                Stage::Stream | Stage::Read { .. } => reject.prev.index <= progress.matched,
                Stage::Copy => false,
            };
            let common = self.log.common(reject.floor, &reject.history, reject.last);
            match common.map(|common| common.max(progress.matched)) {
                _ if stale => {}
                Some(common) if common >= self.log.floor().index => progress.restart(common + 1),
                _ => self.ask_to_copy(leader, progress, out),
            }
        }
        leader.progress = followers;
    }

    /// `Input::LogRead`.
    pub(crate) fn on_log_read(
        &mut self,
        to: NodeId,
        from: Index,
        mut entries: Vec<Entry>,
        out: &mut Output,
    ) {
        let part = std::mem::replace(&mut self.part, Part::Follower);
        let Part::Leader(mut leader) = part else {
            self.part = part;
            self.fetch_was_read(to, from, entries);
            return;
        };
        self.retain_valid(from, &mut entries);
        let mut followers = std::mem::take(&mut leader.progress);
        if let Some(progress) = followers.iter_mut().find(|p| p.node == to) {
            let asked = matches!(progress.stage, Stage::Read { from: of, .. } if of == from);
            let gone = entries.is_empty();
            // Acknowledgements may have come in the meantime.
            let known = progress.next.saturating_sub(from) as usize;
            entries.drain(..known.min(entries.len()));
            let prev = progress.next.checked_sub(1);
            match prev.and_then(|index| self.log.position_at(index)) {
                _ if !asked => {}
                Some(_) if gone => self.ask_to_copy(&leader, progress, out),
                Some(prev) => {
                    progress.stage = Stage::Stream;
                    if !entries.is_empty() {
                        self.send_entries(&leader, progress, prev, entries, out);
                    }
                }
                None => self.ask_to_copy(&leader, progress, out),
            }
        }
        leader.progress = followers;
        self.part = Part::Leader(leader);
    }
}
