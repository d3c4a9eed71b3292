//! What a member does for another one's candidature: answers probes, promises, hands out its log. It promises a higher
//! ballot at once, lease or not; the lease is reported, and the new leader waits for it.

use crate::replica::FetchRead;
use crate::{Ballot, Body, Entry, Index, NodeId, Output, Promise, ReadLog, Replica};

impl Replica {
    pub(crate) fn on_probe(
        &mut self,
        from: NodeId,
        incarnation: u64,
        attempt: u64,
        out: &mut Output,
    ) {
        let healthy = self.hears_healthy_leader(self.now);
        let reply = Body::ProbeReply {
            attempt,
            healthy,
            promised: self.promised,
            removed: self.removed_at(from, incarnation),
        };
        out.send.push(self.answer(from, incarnation, reply));
    }

    /// A probe meant for an earlier replica on this node. If the asker was removed, everybody that it knows may be gone like that
    /// one, and nobody else would ever tell it. What is committed is true whoever says it.
    pub(crate) fn on_misdirected_probe(
        &mut self,
        from: NodeId,
        incarnation: u64,
        attempt: u64,
        out: &mut Output,
    ) {
        let removed = self.removed_at(from, incarnation);
        if removed.is_none() || from == self.me {
            return;
        }
        let reply = Body::ProbeReply {
            attempt,
            healthy: false,
            promised: Ballot::default(),
            removed,
        };
        out.send.push(self.answer(from, incarnation, reply));
    }

    pub(crate) fn on_prepare(
        &mut self,
        from: NodeId,
        incarnation: u64,
        ballot: Ballot,
        out: &mut Output,
    ) {
        if ballot < self.promised {
            let refuse = Body::Refuse {
                promised: self.promised,
            };
            out.send.push(self.answer(from, incarnation, refuse));
            return;
        }
        if ballot == self.promised || ballot.node != from {
            return;
        }
        // From here on this replica neither leads nor accepts in a lower ballot; the lease it granted is only reported.
        self.follow_nobody(out);
        self.promise(ballot, out);
        self.rest(self.now);
        let promise = Body::Promise(Box::new(self.promise_of(ballot)));
        let answer = self.answer(from, incarnation, promise);
        #[cfg(feature = "mutations")]
        if self.mutated(crate::Mutation::PromiseBeforeFsync) {
            out.send.push(answer);
            return;
        }
        self.held.push(answer);
    }

    /// What a candidate needs to know of this member.
    pub(crate) fn promise_of(&self, ballot: Ballot) -> Promise {
        let last = self.log.last();
        #[cfg(feature = "mutations")]
        let last = self.with_only_ballot(last);
        Promise {
            ballot,
            last,
            floor: self.log.floor(),
            history: self.log.history().to_vec(),
            lease_remaining_ms: self.lease.until.since(self.now),
            lease_holder: self.lease.holder.ballot(),
            lease_ballot_max: self.lease.holder.ballot_max(),
            earlier_remaining_ms: self.earlier_lease.until.since(self.now),
            earlier_holder: self.earlier_lease.holder.ballot(),
            earlier_ballot_max: self.earlier_lease.holder.ballot_max(),
            commit: self.commit,
        }
    }

    /// A candidate asks for the rest of this log. It is frozen while the candidate's ballot is the promise, until the
    /// candidate leads.
    pub(crate) fn on_fetch(
        &mut self,
        from: NodeId,
        incarnation: u64,
        ballot: Ballot,
        index: Index,
        out: &mut Output,
    ) {
        if ballot != self.promised || ballot.node != from {
            return;
        }
        let max_bytes = self.timing.limits.append_bytes_max;
        if let Some(entries) = self.log.slice(index, max_bytes) {
            self.send_fetched(from, incarnation, index, entries);
        } else if index > self.log.floor().index && index <= self.log.last().index {
            self.fetch_read = Some(FetchRead {
                to: from,
                incarnation,
                ballot,
                from: index,
            });
            out.read_log.push(ReadLog {
                to: from,
                from: index,
                max_bytes,
            });
        } else {
            self.send_fetched(from, incarnation, index, Vec::new());
        }
    }

    /// The log read for a fetch is there.
    pub(crate) fn fetch_was_read(&mut self, to: NodeId, from: Index, mut entries: Vec<Entry>) {
        let Some(read) = self
            .fetch_read
            .filter(|read| read.to == to && read.from == from)
        else {
            return;
        };
        self.fetch_read = None;
        if read.ballot == self.promised {
            self.retain_valid(from, &mut entries);
            self.send_fetched(to, read.incarnation, from, entries);
        }
    }

    /// Cuts what was read from the log at the first entry that is not this log's.
    pub(crate) fn retain_valid(&self, from: Index, entries: &mut Vec<Entry>) {
        let valid = entries
            .iter()
            .zip(from..)
            .take_while(|(entry, index)| entry.index == *index && self.log.has(entry.position()))
            .count();
        entries.truncate(valid);
    }

    fn send_fetched(&mut self, to: NodeId, incarnation: u64, from: Index, entries: Vec<Entry>) {
        let fetched = Body::Fetched {
            ballot: self.promised,
            from,
            entries,
        };
        let answer = self.answer(to, incarnation, fetched);
        // Behind the promise, should that still be under way.
        self.held.push(answer);
    }
}
