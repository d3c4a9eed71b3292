//! Elections, from the candidate's side: probe, prepare, adoption of the best log. A candidate prepares only if a quorum
//! answered its probe and nobody who answered hears a healthy leader; it leads only once its own log, durably, is the best
//! of a quorum of promises.

use crate::lease::{Holder, LeasePromise, Outstanding};
use crate::replica::Part;
use crate::{Ballot, Body, Entry, Index, Millis, NodeId, Output, Position, Promise, Replica, Role};

/// An attempt at leadership.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Candidate {
    pub phase: Phase,
    /// The attempt ends unless it gets on before.
    pub deadline: Millis,
    /// Ballot whose leader handed over to this node.
    pub released: Option<Ballot>,
    /// Promises of members (and this replica's own), with the node's incarnation and the time of receipt.
    promises: Vec<Received>,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Received {
    node: NodeId,
    incarnation: u64,
    at: Millis,
    promise: Promise,
}

/// How far an attempt is.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Phase {
    /// Asking whether a leader is needed; these answered that they hear none.
    Probe {
        attempt: u64,
        silent: Vec<(NodeId, u64)>,
    },
    /// Waiting for promises.
    Prepare,
    /// Fetching the log that ends at `goal` from `source`, `next` first; then waiting until it is durable.
    Adopt {
        source: NodeId,
        goal: Position,
        next: Index,
    },
}

impl Replica {
    /// Waits anew for a leader: sets the election timer.
    pub(crate) fn rest(&mut self, now: Millis) {
        let seed = [
            self.me.0,
            self.group.0,
            self.promised.round,
            self.promised.node.0,
            self.attempt,
        ];
        let jitter = mix(&seed) % (self.timing.election_jitter_ms + 1);
        self.election_at = now.plus(self.timing.election_ms + jitter);
    }

    /// Whether this replica could lead at all.
    fn electable(&self) -> bool {
        let votes = self.log.configuration().votes(self.me, self.incarnation);
        self.role() == Role::Storage && votes && !self.copying && !self.copy_needed
    }

    /// Whether a healthy leader is, or is heard by, this replica.
    pub(crate) fn hears_healthy_leader(&self, now: Millis) -> bool {
        match &self.part {
            Part::Leader(leader) => self.leader_healthy(leader, now),
            Part::Candidate(candidate) if !matches!(candidate.phase, Phase::Probe { .. }) => false,
            _ => {
                let at = self.heard.and_then(|heard| heard.healthy_at);
                at.is_some_and(|at| now.since(at) < self.timing.election_ms)
            }
        }
    }

    /// The follower's timer ran out: nobody leads, as far as it can tell.
    pub(crate) fn election_time(&mut self, out: &mut Output) {
        self.attempt += 1;
        self.rest(self.now);
        if !self.electable() {
            // Whoever cannot lead may still have been removed, and would never hear of it.
            if matches!(self.part, Part::Follower) {
                let attempt = self.attempt;
                self.broadcast(&Body::Probe { attempt }, out);
            }
            return;
        }
        self.part = Part::Candidate(Box::new(Candidate {
            phase: Phase::Probe {
                attempt: self.attempt,
                silent: Vec::new(),
            },
            deadline: self.now.plus(self.timing.candidate_ms),
            released: None,
            promises: Vec::new(),
        }));
        let attempt = self.attempt;
        self.broadcast(&Body::Probe { attempt }, out);
        self.check_candidate(out);
    }

    /// An attempt ran out of time.
    pub(crate) fn candidate_time(&mut self, out: &mut Output) {
        self.give_up(out);
    }

    /// Ends the attempt; the next one comes after the election timer.
    fn give_up(&mut self, out: &mut Output) {
        self.follow_nobody(out);
        self.attempt += 1;
        self.rest(self.now);
    }

    pub(crate) fn on_probe_reply(
        &mut self,
        from: NodeId,
        incarnation: u64,
        attempt: u64,
        healthy: bool,
        promised: Ballot,
        out: &mut Output,
    ) {
        // A ballot that this replica had not heard of: another candidate is at work, or has just won.
        let overtaken = promised.round > self.round_seen;
        self.round_seen = self.round_seen.max(promised.round);
        let Part::Candidate(candidate) = &mut self.part else {
            return;
        };
        let Phase::Probe {
            attempt: own,
            silent,
        } = &mut candidate.phase
        else {
            return;
        };
        if *own != attempt {
            return;
        }
        if healthy || overtaken {
            // A leader works; that this replica does not hear it is no reason to disturb everybody else. Neither is a ballot to be
            // outbid that has only begun: in a new group all members campaign at once.
            self.give_up(out);
            return;
        }
        if !silent.contains(&(from, incarnation)) {
            silent.push((from, incarnation));
        }
        self.check_candidate(out);
    }

    pub(crate) fn on_timeout_now(&mut self, released: Ballot, out: &mut Output) {
        let follows = matches!(self.part, Part::Follower) && released == self.promised;
        if follows && released.node != self.me && self.electable() {
            self.attempt += 1;
            self.prepare(Some(released), out);
        }
    }

    /// Takes a new ballot and asks for promises.
    fn prepare(&mut self, released: Option<Ballot>, out: &mut Output) {
        let round = self.promised.round.max(self.round_seen).saturating_add(1);
        let ballot = Ballot {
            round,
            node: self.me,
        };
        let now = self.now;
        self.promise(ballot, out);
        let own = Received {
            node: self.me,
            incarnation: self.incarnation,
            at: now,
            promise: self.promise_of(ballot),
        };
        self.part = Part::Candidate(Box::new(Candidate {
            phase: Phase::Prepare,
            deadline: now.plus(self.timing.candidate_ms),
            released,
            promises: vec![own],
        }));
        // Held until the own promise is durable: a node that restarts never campaigns twice in one ballot.
        let mut prepares = Output::default();
        self.broadcast(&Body::Prepare { ballot }, &mut prepares);
        self.held.append(&mut prepares.send);
    }

    /// To everybody else with a vote.
    fn broadcast(&self, body: &Body, out: &mut Output) {
        let voters = self.log.configuration().voters();
        let others = voters.filter(|voter| voter.node != self.me);
        let messages = others.map(|voter| self.answer(voter.node, voter.incarnation, body.clone()));
        out.send.extend(messages);
    }

    pub(crate) fn on_promise(
        &mut self,
        from: NodeId,
        incarnation: u64,
        promise: Promise,
        out: &mut Output,
    ) {
        let late = promise.ballot != self.promised;
        #[cfg(feature = "mutations")]
        let late = late && !self.mutated(crate::Mutation::LatePromise);
        if late || promise.ballot.node != self.me {
            // Of an earlier attempt: what its sender promised and had then says nothing about now.
            return;
        }
        match &mut self.part {
            Part::Candidate(candidate)
                if matches!(candidate.phase, Phase::Prepare)
                    && candidate
                        .promises
                        .iter()
                        .all(|received| received.node != from) =>
            {
                let at = self.now;
                candidate.promises.push(Received {
                    node: from,
                    incarnation,
                    at,
                    promise,
                });
                self.check_candidate(out);
            }
            Part::Leader(leader) => leader.outstanding.resigned(from),
            _ => {}
        }
    }

    /// Somebody promised a higher ballot: whatever this replica does in a lower one is over.
    pub(crate) fn on_refuse(&mut self, promised: Ballot, out: &mut Output) {
        self.round_seen = self.round_seen.max(promised.round);
        if promised <= self.promised {
            return;
        }
        match &self.part {
            Part::Leader(_) => {
                self.follow_nobody(out);
                self.rest(self.now);
            }
            Part::Candidate(c) if !matches!(c.phase, Phase::Probe { .. }) => self.give_up(out),
            _ => {}
        }
    }

    /// Takes the next step of an attempt that is now possible.
    pub(crate) fn check_candidate(&mut self, out: &mut Output) {
        let Part::Candidate(candidate) = &self.part else {
            return;
        };
        match &candidate.phase {
            Phase::Probe { silent, .. } => {
                let (me, own) = (self.me, self.incarnation);
                let answered = self.quorum(|m| {
                    (m.node == me && m.incarnation == own)
                        || silent.contains(&(m.node, m.incarnation))
                });
                if answered {
                    self.prepare(None, out);
                }
            }
            Phase::Prepare => {
                let own_durable = self.durability.promised() >= self.promised;
                let promised = self.quorum(|m| {
                    (m.node != self.me || own_durable)
                        && candidate
                            .promises
                            .iter()
                            .any(|r| r.node == m.node && r.incarnation == m.incarnation)
                });
                if promised {
                    self.adopt(out);
                }
            }
            Phase::Adopt { goal, .. } => {
                let durable = self.durability.durable() >= goal.index;
                if self.log.last() == *goal && durable && own_promise_durable(self) {
                    self.check_adopted(out);
                }
            }
        }
    }

    /// The best log of those who promised is here. It may hold a configuration that this replica did not know when it asked: then a
    /// quorum of *that* one must have promised, too, or entries that only its members have would be lost.
    fn check_adopted(&mut self, out: &mut Output) {
        let Part::Candidate(candidate) = &self.part else {
            return;
        };
        let promises = &candidate.promises;
        let promised = |node, incarnation| {
            let by = |r: &Received| (r.node, r.incarnation) == (node, incarnation);
            promises.iter().any(by)
        };
        let quorum = self.quorum(|m| promised(m.node, m.incarnation));
        #[cfg(feature = "mutations")]
        let quorum = quorum || self.mutated(crate::Mutation::SkipAdoptedQuorum);
        let votes = self.log.configuration().votes(self.me, self.incarnation);
        #[cfg(feature = "mutations")]
        let votes = votes || self.mutated(crate::Mutation::LeadAsLearner);
        if !votes {
            // What it adopted made it a learner, or dropped it: those who vote have that configuration on a quorum, or need not know it.
            self.give_up(out);
            return;
        }
        if quorum {
            self.win(out);
            return;
        }
        let missing: Vec<(NodeId, u64)> = self
            .log
            .configuration()
            .voters()
            .filter(|m| m.node != self.me && !promised(m.node, m.incarnation))
            .map(|m| (m.node, m.incarnation))
            .collect();
        if let Part::Candidate(candidate) = &mut self.part {
            candidate.phase = Phase::Prepare;
            candidate.deadline = self.now.plus(self.timing.candidate_ms);
        }
        let ballot = self.promised;
        for (node, incarnation) in missing {
            out.send
                .push(self.answer(node, incarnation, Body::Prepare { ballot }));
        }
    }

    /// A quorum promised: takes over the best log among them.
    fn adopt(&mut self, out: &mut Output) {
        #[cfg(feature = "mutations")]
        let skip = self.mutated(crate::Mutation::SkipAdoption);
        let Part::Candidate(candidate) = &mut self.part else {
            return;
        };
        let best = candidate
            .promises
            .iter()
            .max_by_key(|r| (r.promise.last, r.node == self.me));
        let Some(best) = best else { return };
        let own = self.log.last();
        #[cfg(not(feature = "mutations"))]
        let goal = best.promise.last;
        #[cfg(feature = "mutations")]
        let goal = crate::mutations::real_last(&best.promise);
        let same = goal == own;
        #[cfg(feature = "mutations")]
        let same = same || skip;
        if same {
            candidate.phase = Phase::Adopt {
                source: self.me,
                goal: own,
                next: own.index + 1,
            };
            self.check_candidate(out);
            return;
        }
        let Received {
            node: source,
            promise,
            ..
        } = best;
        let source = *source;
        match self
            .log
            .common(promise.floor, &promise.history, promise.last)
        {
            Some(common) if common >= self.commit => {
                candidate.deadline = self.now.plus(self.timing.candidate_ms);
                candidate.phase = Phase::Adopt {
                    source,
                    goal,
                    next: common + 1,
                };
                let fetch = Body::Fetch {
                    ballot: self.promised,
                    from: common + 1,
                };
                out.send.extend(self.message(source, fetch));
            }
            Some(_) => {
                // It differs below what is committed here: a broken log somewhere.
                self.faults += 1;
                self.give_up(out);
            }
            None => {
                // What is missing is truncated there. A copy can be had from any storage member.
                let role = self.log.configuration().member(source).map(|m| m.role);
                if role == Some(Role::Storage) {
                    self.copying = true;
                    out.copy_wanted = Some(source);
                } else {
                    self.copy_needed = true;
                }
                self.give_up(out);
            }
        }
    }

    pub(crate) fn on_fetched(
        &mut self,
        from: NodeId,
        incarnation: u64,
        ballot: Ballot,
        index: Index,
        entries: Vec<Entry>,
        out: &mut Output,
    ) {
        let Part::Candidate(candidate) = &self.part else {
            return;
        };
        let Phase::Adopt { source, goal, next } = candidate.phase else {
            return;
        };
        let member = self.log.configuration().contains(from, incarnation);
        if ballot != self.promised || from != source || index != next || !member {
            return;
        }
        let consecutive = entries
            .iter()
            .zip(next..)
            .all(|(entry, i)| entry.index == i);
        let end = entries.last().map(Entry::position);
        let within = end.is_some_and(|end| end.index <= goal.index && end.ballot <= goal.ballot);
        if !consecutive || !within || self.replace_from(next, entries, out).is_none() {
            // Cannot be had there any more, or nonsense.
            self.give_up(out);
            return;
        }
        let reached = self.log.last();
        if reached.index == goal.index && reached != goal {
            self.faults += 1;
            self.give_up(out);
            return;
        }
        let deadline = self.now.plus(self.timing.candidate_ms);
        if let Part::Candidate(candidate) = &mut self.part {
            candidate.deadline = deadline;
            candidate.phase = Phase::Adopt {
                source,
                goal,
                next: reached.index + 1,
            };
        }
        if reached.index < goal.index {
            let fetch = Body::Fetch {
                ballot,
                from: reached.index + 1,
            };
            out.send.extend(self.message(source, fetch));
        }
    }

    /// Leads: the own log is durable and the best of a quorum.
    fn win(&mut self, out: &mut Output) {
        let Part::Candidate(candidate) = std::mem::replace(&mut self.part, Part::Follower) else {
            return;
        };
        let Candidate {
            released, promises, ..
        } = *candidate;
        let mut outstanding = Outstanding::new(released);
        #[cfg(feature = "mutations")]
        {
            outstanding.unchecked = self.mutated(crate::Mutation::ReleaseUnknownLease);
        }
        let mut heard = Vec::with_capacity(promises.len());
        for Received {
            node, at, promise, ..
        } in promises
        {
            outstanding.resigned(node);
            outstanding.reported(LeasePromise {
                holder: Holder::named(promise.lease_holder, promise.lease_ballot_max),
                until: at.plus(promise.lease_remaining_ms),
            });
            outstanding.reported(LeasePromise {
                holder: Holder::named(promise.earlier_holder, promise.earlier_ballot_max),
                until: at.plus(promise.earlier_remaining_ms),
            });
            self.commit = self.commit.max(promise.commit.min(self.log.last().index));
            heard.push((node, at));
        }
        self.start_leading(outstanding, &heard, out);
    }
}

/// Whether the replica's own promise is durable.
fn own_promise_durable(replica: &Replica) -> bool {
    replica.durability.promised() >= replica.promised
}

/// A hash of a few numbers (splitmix64), for jitter that differs between nodes and attempts.
fn mix(numbers: &[u64]) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in numbers {
        state = (state ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    state
}
