//! The follower's rules: accept only at the promised ballot, truncate only where the leader's log differs and never
//! below what is committed, acknowledge only what is durable, pull a copy when the log cannot help.

use crate::lease::{Holder, LeasePromise};
use crate::log::Log;
use crate::replica::{Heard, Part, install};
use crate::{
    Ack, Append, Ballot, Body, Configuration, Entry, Index, Message, Millis, NodeId, Output,
    PersistOp, Position, Reject, Replica, Role,
};

impl Replica {
    pub(crate) fn on_append(
        &mut self,
        from: NodeId,
        incarnation: u64,
        generation: u64,
        append: Append,
        out: &mut Output,
    ) {
        let below = append.ballot < self.promised;
        #[cfg(feature = "mutations")]
        let below = below && !self.mutated(crate::Mutation::AcceptBelowPromise);
        if below {
            let refuse = Body::Refuse {
                promised: self.promised,
            };
            out.send.push(self.answer(from, incarnation, refuse));
            return;
        }
        if append.ballot.node == self.me || append.ballot.node != from {
            self.faults += 1;
            return;
        }
        if append.ballot > self.promised || !matches!(self.part, Part::Follower) {
            self.follow_nobody(out);
            self.promise(append.ballot, out);
        }
        self.note_leader(from, incarnation, generation, &append);
        if self.copy_needed && !self.copying {
            self.copying = true;
            out.copy_wanted = Some(from);
        }
        if !self.agrees(append.prev) {
            self.reject(append.sent, append.prev);
            return;
        }
        let (prev, sent) = (append.prev, append.sent);
        let (commit, floor) = (append.commit, append.floor);
        let Some(end) = self.accept(prev, append.ballot, append.entries, out) else {
            self.faults += 1;
            return;
        };
        self.verified = self.verified.max(end);
        self.commit = self.commit.max(commit.min(self.verified));
        self.raise_floor(floor, out);
        self.acknowledge(sent, out);
    }

    /// The leader of the promised ballot spoke: it gets the lease, counted from now.
    fn note_leader(&mut self, from: NodeId, incarnation: u64, generation: u64, append: &Append) {
        let now = self.now;
        // A node that leads again gave its lower ballots up. Anybody else may still serve under what was promised before.
        let other = self.lease.holder.ballot().map(|holder| holder.node) != Some(from);
        #[cfg(feature = "mutations")]
        let other = other && !self.mutated(crate::Mutation::ForgetEarlierLease);
        if other {
            self.earlier_lease = self.earlier_lease.and(self.lease, now);
        }
        self.lease = LeasePromise {
            holder: Holder::Known(append.ballot),
            until: now.plus(self.timing.lease_ms),
        };
        let before = self.heard;
        let generation = before.map_or(generation, |b| b.generation.max(generation));
        self.heard = Some(Heard {
            node: from,
            ballot: append.ballot,
            incarnation,
            generation,
            at: now,
            sent: before.map_or(append.sent, |b| b.sent.max(append.sent)),
            healthy_at: if append.healthy {
                Some(now)
            } else {
                before.and_then(|b| b.healthy_at)
            },
            ack_owed: before.is_some_and(|b| b.ack_owed),
            acked_at: before.map_or(Millis(0), |b| b.acked_at),
        });
        self.rest(now);
    }

    /// Whether this log agrees with the leader's at `prev`. What is below the floor is committed, hence in both.
    fn agrees(&self, prev: Position) -> bool {
        prev.index < self.log.floor().index || self.log.has(prev)
    }

    /// Takes entries that follow `prev`. Returns the index up to which the logs now agree; none if the message breaks
    /// the protocol (nothing is changed then).
    fn accept(
        &mut self,
        prev: Position,
        ballot: Ballot,
        entries: Vec<Entry>,
        out: &mut Output,
    ) -> Option<Index> {
        let mut before = prev;
        for entry in &entries {
            let fits = entry.index == before.index + 1
                && entry.ballot >= before.ballot
                && entry.ballot <= ballot;
            if !fits {
                return None;
            }
            before = entry.position();
        }
        let floor = self.log.floor().index;
        let known = entries
            .iter()
            .take_while(|entry| entry.index <= floor || self.log.has(entry.position()))
            .count();
        let mut new = entries;
        if known > 0 {
            new.drain(..known);
        }
        if let Some(first) = new.first().map(|entry| entry.index) {
            self.replace_from(first, new, out)?;
        }
        Some(before.index)
    }

    /// Replaces the log from `first` on. None, with nothing changed, if the entries do not follow there or if committed
    /// entries would be cut off.
    pub(crate) fn replace_from(
        &mut self,
        first: Index,
        entries: Vec<Entry>,
        out: &mut Output,
    ) -> Option<()> {
        let mut before = self.log.position_at(first.checked_sub(1)?)?;
        for entry in &entries {
            if entry.index != before.index + 1 || entry.ballot < before.ballot {
                return None;
            }
            before = entry.position();
        }
        if first <= self.log.last().index {
            if first <= self.commit || !self.log.truncate_from(first) {
                return None;
            }
            self.durability.truncated_from(first);
            self.verified = self.verified.min(first - 1);
            out.persist.push(PersistOp::TruncateFrom(first));
        }
        for entry in &entries {
            self.log.push(entry.clone());
        }
        out.persist.push(PersistOp::Append(entries));
        Some(())
    }

    /// Acknowledges at once if everything the leader sent is durable, or if the lease needs it.
    fn acknowledge(&mut self, sent: Millis, out: &mut Output) {
        let Some(heard) = &self.heard else { return };
        let durable = self.durability.promised() >= self.promised;
        let complete = self.verified <= self.durability.durable();
        #[cfg(feature = "mutations")]
        let complete = complete || self.mutated(crate::Mutation::AckBeforeFsync);
        let renew = self.now.since(heard.acked_at) >= self.timing.heartbeat_ms / 2;
        if durable && (complete || renew) {
            self.send_ack(sent, out);
        }
        if let Some(heard) = &mut self.heard {
            heard.ack_owed = !(durable && complete);
        }
    }

    fn send_ack(&mut self, sent: Millis, out: &mut Output) {
        let matched = self.verified.min(self.durability.durable());
        #[cfg(feature = "mutations")]
        let matched = match self.mutated(crate::Mutation::AckBeforeFsync) {
            true => self.verified,
            false => matched,
        };
        let now = self.now;
        let Some(heard) = &mut self.heard else { return };
        heard.acked_at = now;
        let body = Body::Ack(Ack {
            ballot: heard.ballot,
            sent,
            matched,
            received: self.verified,
            flushed: self.flushed,
        });
        let (to_incarnation, generation) = (heard.incarnation, heard.generation);
        out.send.push((
            heard.node,
            Message {
                to_incarnation,
                generation,
                body,
            },
        ));
    }

    /// More is durable: tell the leader that waits for it.
    pub(crate) fn follower_persisted(&mut self, out: &mut Output) {
        let Some(heard) = self.heard.filter(|heard| heard.ack_owed) else {
            return;
        };
        if self.durability.promised() >= self.promised {
            self.send_ack(heard.sent, out);
            let complete = self.verified <= self.durability.durable();
            if let Some(heard) = &mut self.heard {
                heard.ack_owed = !complete;
            }
        }
    }

    fn reject(&mut self, sent: Millis, prev: Position) {
        let Some(heard) = self.heard else { return };
        let body = Body::Reject(Box::new(Reject {
            ballot: heard.ballot,
            sent,
            prev,
            last: self.log.last(),
            floor: self.log.floor(),
            history: self.log.history().to_vec(),
            flushed: self.flushed,
        }));
        let (to_incarnation, generation) = (heard.incarnation, heard.generation);
        // It renews the lease and names the log's end: both only once they are durable.
        self.held.push((
            heard.node,
            Message {
                to_incarnation,
                generation,
                body,
            },
        ));
    }

    /// Truncates the log up to `floor`, as far as this replica itself can spare it, in steps.
    pub(crate) fn raise_floor(&mut self, floor: Index, out: &mut Output) {
        let spare = match self.role() {
            Role::Storage => self.flushed.min(self.delivered),
            Role::Log => self.delivered,
        };
        let to = floor.min(spare).min(self.durability.durable());
        let step = match self.release_log {
            true => 1,
            false => self.timing.limits.floor_step_entries.max(1),
        };
        if self.copying || self.copy_needed || to < self.log.floor().index + step {
            return;
        }
        let configuration = self.log.configuration_at(to).clone();
        self.release_log = false;
        self.log.raise_floor(to);
        let ballot = self.log.floor().ballot;
        out.persist.push(PersistOp::Floor {
            index: to,
            ballot,
            configuration,
        });
        out.truncate_floor = Some(to);
    }

    /// The leader cannot help from its log.
    pub(crate) fn on_copy_needed(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        floor: Position,
        configuration: Configuration,
        out: &mut Output,
    ) {
        let follows = matches!(self.part, Part::Follower) && ballot == self.promised;
        if !follows || self.heard.is_none() || self.copying {
            return;
        }
        match self.role() {
            Role::Storage => {
                self.copying = true;
                out.copy_wanted = Some(from);
            }
            Role::Log if floor.index > self.commit => {
                self.on_copy_installed(floor, configuration, out);
            }
            Role::Log => {}
        }
    }

    /// The B-tree now is a copy that stands at `applied`. The log is kept if it holds that position, else it starts
    /// anew behind it: a log that differs at a committed position holds nothing committed from there on.
    pub(crate) fn on_copy_installed(
        &mut self,
        applied: Position,
        configuration: Configuration,
        out: &mut Output,
    ) {
        self.copying = false;
        self.copy_needed = false;
        self.delivered = applied.index;
        self.flushed = applied.index;
        let at_hand = self.role() == Role::Log || self.log.memory_start() <= applied.index + 1;
        if self.log.has(applied) && at_hand {
            self.commit = self.commit.max(applied.index);
            return;
        }
        if applied.index < self.log.floor().index || self.log.has(applied) {
            // The entries that follow it are no longer at hand, and what was acknowledged must stay: pull a newer one.
            self.copy_needed = true;
            return;
        }
        self.follow_nobody(out);
        self.log = Log::new(applied, configuration.clone());
        self.durability.truncated_from(0);
        self.commit = applied.index;
        self.verified = 0;
        out.persist
            .push(install(applied, configuration, self.identity));
        out.truncate_floor = Some(applied.index);
    }
}
