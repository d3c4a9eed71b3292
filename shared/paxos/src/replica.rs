//! One member of one replication group: its state, and the way of an input through it. The rules are in the modules by
//! role: `election`, `acceptor`, `leader`, `replication`, `follower`.

use crate::durability::Durability;
use crate::election::Candidate;
use crate::leader::Leader;
use crate::lease::{Holder, LeasePromise};
use crate::log::Log;
use crate::{
    Ballot, Body, Configuration, GroupId, Identity, Index, Input, Member, Message, Millis, NodeId,
    Outline, Output, PersistOp, Position, Refusal, Restored, Role, Standing, Timing,
};

/// What a replica does at the moment.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Part {
    Follower,
    Candidate(Box<Candidate>),
    Leader(Box<Leader>),
}

/// The leader that a follower last accepted something from.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Heard {
    pub node: NodeId,
    /// Its ballot.
    pub ballot: Ballot,
    /// Incarnation of the node, to address answers.
    pub incarnation: u64,
    /// Generation of its last append, echoed in acknowledgements.
    pub generation: u64,
    pub at: Millis,
    /// `Append::sent` of the newest append.
    pub sent: Millis,
    /// When it last said that it has a quorum.
    pub healthy_at: Option<Millis>,
    /// An acknowledgement is due once more is durable.
    pub ack_owed: bool,
    /// When the last acknowledgement went out.
    pub acked_at: Millis,
}

/// A candidate's `Fetch` that waits for a log read.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct FetchRead {
    pub to: NodeId,
    pub incarnation: u64,
    pub ballot: Ballot,
    pub from: Index,
}

/// A member of a replication group. Pure: no clock, no randomness, no I/O.
#[derive(Clone, Debug, Hash)]
pub struct Replica {
    pub(crate) me: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) identity: Identity,
    pub(crate) group: GroupId,
    pub(crate) timing: Timing,
    pub(crate) now: Millis,
    /// Highest ballot promised (perhaps not durable yet, see `durability`).
    pub(crate) promised: Ballot,
    pub(crate) log: Log,
    pub(crate) durability: Durability,
    /// The log agrees with the one of the leader of `promised` up to here.
    pub(crate) verified: Index,
    pub(crate) commit: Index,
    /// Handed out for applying.
    pub(crate) delivered: Index,
    /// Durable in the B-tree.
    pub(crate) flushed: Index,
    pub(crate) lease: LeasePromise,
    /// What it promised to other leaders before that, and still runs.
    pub(crate) earlier_lease: LeasePromise,
    pub(crate) part: Part,
    /// Leader of `promised`, if anything came from it.
    pub(crate) heard: Option<Heard>,
    /// Highest round seen anywhere.
    pub(crate) round_seen: u64,
    /// Numbers this node's attempts at leadership.
    pub(crate) attempt: u64,
    pub(crate) election_at: Millis,
    pub(crate) fetch_read: Option<FetchRead>,
    /// A copy of the B-tree is being pulled; nothing is delivered meanwhile.
    pub(crate) copying: bool,
    /// The B-tree is behind the floor of the log: a copy must be pulled as soon as a leader is known.
    pub(crate) copy_needed: bool,
    /// The next truncation may be as small as one entry, and need not wait for silent members.
    pub(crate) release_log: bool,
    /// To be persisted with the first step.
    founding: Option<PersistOp>,
    /// Certainly no longer in the group: nothing moves this replica any more.
    pub(crate) retired: bool,
    /// Messages of this step that promise durability.
    pub(crate) held: Vec<(NodeId, Message)>,
    pub(crate) standing: Standing,
    pub(crate) wake_at: Millis,
    pub(crate) faults: u64,
    #[cfg(feature = "mutations")]
    pub(crate) mutations: Vec<crate::Mutation>,
    /// Lease that a leader goes on using after a transfer, as a deliberate bug.
    #[cfg(feature = "mutations")]
    pub(crate) ghost_lease_until: Option<Millis>,
    /// What a member that has one variable for both takes for the ballot of its last entry, as a deliberate bug.
    #[cfg(feature = "mutations")]
    pub(crate) only_ballot: crate::Ballot,
}

impl Replica {
    /// A replica from what its disk holds.
    pub fn new(
        me: NodeId,
        group: GroupId,
        restored: Restored,
        timing: Timing,
        now: Millis,
    ) -> Replica {
        Self::from_disk(me, group, Vec::new(), restored, timing, now)
    }

    /// The same, where the first entries above the floor are known in outline only, `restored` has those that follow. For
    /// entries that are applied, or of a log replica: a node that starts need not read what it will never use into memory.
    pub fn from_disk(
        me: NodeId,
        group: GroupId,
        outlines: Vec<Outline>,
        restored: Restored,
        timing: Timing,
        now: Millis,
    ) -> Replica {
        let Restored {
            promised,
            floor,
            configuration,
            entries,
            mut applied,
            identity,
            ..
        } = restored;
        let mut log = Log::new(floor, configuration);
        let mut faults = 0;
        for outline in outlines {
            if !log.push_outline(outline) {
                faults += 1;
                break;
            }
        }
        for entry in entries {
            if !log.fits(&entry) {
                faults += 1;
                break;
            }
            log.push(entry);
        }
        if applied.index < floor.index && identity.role == Role::Log {
            // A log replica has no B-tree that could be behind.
            applied = floor;
        }
        // A B-tree whose position is not in the log is a copy whose log record was lost with the node.
        let in_log = match log.ballot_at(applied.index) {
            Some(ballot) => applied.ballot == ballot || applied.ballot == Ballot::default(),
            None => false,
        };
        let ahead = !in_log && applied.index > floor.index;
        let mut founding = restored
            .fresh
            .then(|| install(floor, log.configuration().clone(), identity));
        let mut copy_needed = !in_log;
        if let (true, Some(configuration)) = (ahead, restored.applied_configuration) {
            log = Log::new(applied, configuration.clone());
            founding = Some(install(applied, configuration, identity));
            copy_needed = false;
        }
        let durable = if founding.is_some() {
            0
        } else {
            log.last().index
        };
        // Whatever lease was promised before the restart is unknown: one full lease counts as outstanding. A lease is granted with an
        // acknowledgement, which leaves only when the ballot is durably promised: it is of none above that.
        let lease_ms = if restored.fresh { 0 } else { timing.lease_ms };
        let mut replica = Replica {
            me,
            incarnation: identity.incarnation,
            identity,
            group,
            now,
            promised,
            durability: Durability::new(durable, promised),
            verified: 0,
            commit: applied.index,
            delivered: applied.index,
            flushed: applied.index,
            lease: LeasePromise {
                holder: Holder::UpTo(promised),
                until: now.plus(lease_ms),
            },
            earlier_lease: LeasePromise::NONE,
            part: Part::Follower,
            heard: None,
            round_seen: promised.round,
            attempt: now.0,
            election_at: now,
            fetch_read: None,
            copying: false,
            copy_needed,
            release_log: false,
            founding,
            retired: false,
            held: Vec::new(),
            standing: Standing::Follower,
            wake_at: now,
            faults,
            timing,
            log,
            #[cfg(feature = "mutations")]
            mutations: Vec::new(),
            #[cfg(feature = "mutations")]
            ghost_lease_until: None,
            #[cfg(feature = "mutations")]
            only_ballot: Ballot::default(),
        };
        replica.rest(now);
        replica
    }

    /// Every leader that this member may have promised a lease to before it restarted is dead, and so is whoever led since: nobody waits for it.
    /// Only for whoever can prove that, right after the start: a mesh that is one process, and was one process.
    pub fn outlive_leaders(&mut self) {
        self.lease = LeasePromise::NONE;
    }

    /// Switches deliberate bugs on.
    #[cfg(feature = "mutations")]
    pub fn mutate(&mut self, mutations: &[crate::Mutation]) {
        self.mutations = mutations.to_vec();
        if self.mutated(crate::Mutation::ForgetLeaseOnRestart) {
            self.lease.until = Millis(0);
        }
        if self.mutated(crate::Mutation::EpochBeforeLog) {
            self.only_ballot = self.promised;
        }
    }

    /// Whether a deliberate bug is on.
    #[cfg(feature = "mutations")]
    pub(crate) fn mutated(&self, mutation: crate::Mutation) -> bool {
        self.mutations.contains(&mutation)
    }

    /// Lets something happen to the replica.
    pub fn step(&mut self, now: Millis, input: Input) -> Output {
        let mut out = Output::default();
        let now = now.max(self.now);
        self.now = now;
        if self.retired || (matches!(input, Input::Tick) && now < self.wake_at) {
            return out;
        }
        out.persist.extend(self.founding.take());
        match input {
            Input::Tick => {}
            Input::Message {
                from,
                incarnation,
                message,
            } => {
                self.on_message(from, incarnation, message, &mut out);
            }
            Input::Persisted(token) => {
                self.durability.persisted(token, &mut out.send);
                self.on_persisted(&mut out);
            }
            Input::Propose(commands) => out.proposed = Some(self.propose(commands, &mut out)),
            Input::LogRead { to, from, entries } => self.on_log_read(to, from, entries, &mut out),
            Input::CopyInstalled {
                applied,
                configuration,
            } => {
                self.on_copy_installed(applied, configuration, &mut out);
            }
            Input::CopyFailed => self.copying = false,
            Input::Flushed { index } => {
                self.flushed = self.flushed.max(index.min(self.delivered));
            }
            Input::Archived { index } => {
                if let Part::Leader(leader) = &mut self.part {
                    leader.archived = leader.archived.max(index);
                }
            }
            Input::TransferLeadership { to } => self.transfer(to),
            Input::Reconfigure {
                generation,
                members,
                learners,
            } => {
                let answer = self.reconfigure(generation, members, learners, &mut out);
                out.reconfigured = Some(answer);
            }
            Input::Campaign => {
                if matches!(self.part, Part::Follower) && !self.hears_healthy_leader(now) {
                    self.election_time(&mut out);
                }
            }
            Input::ReleaseLog => self.release_log = true,
            Input::StepDown => {
                self.follow_nobody(&mut out);
                self.rest(now);
            }
        }
        if now >= self.wake_at {
            self.on_time(&mut out);
        }
        self.settle(&mut out);
        out
    }

    /// When the next `Input::Tick` is due at the latest.
    pub fn wake_at(&self) -> Millis {
        self.wake_at
    }

    /// The configuration in force.
    pub fn configuration(&self) -> &Configuration {
        self.log.configuration()
    }

    /// What this replica is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// This replica's group.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Whether this replica is, or heard from, a leader within the last `ms` milliseconds.
    pub fn heard_from_leader_within(&self, now: Millis, ms: u64) -> bool {
        match &self.part {
            Part::Leader(leader) => leader.quorum_at.is_some_and(|at| now.since(at) <= ms),
            Part::Candidate(_) => false,
            Part::Follower => self.heard.is_some_and(|heard| now.since(heard.at) <= ms),
        }
    }

    fn on_persisted(&mut self, out: &mut Output) {
        match self.part {
            Part::Follower => self.follower_persisted(out),
            Part::Candidate(_) => self.check_candidate(out),
            Part::Leader(_) => {}
        }
    }

    fn on_message(&mut self, from: NodeId, incarnation: u64, message: Message, out: &mut Output) {
        let Message {
            to_incarnation,
            generation,
            body,
        } = message;
        // Addressed to, or sent by, a replica that is not (or no longer) in the group: moves nothing. A sender that this log
        // does not know may be speaking from a newer configuration; one that only asks may have been removed, and is told so.
        let newer =
            generation > self.log.configuration().generation || matches!(body, Body::Probe { .. });
        let stale = to_incarnation != self.incarnation
            || from == self.me
            || !(newer || self.log.knows_member(from, incarnation));
        #[cfg(feature = "mutations")]
        let stale = stale && !self.mutated(crate::Mutation::TrustStaleIncarnation);
        if stale {
            if let Body::Probe { attempt } = body {
                self.on_misdirected_probe(from, incarnation, attempt, out);
            }
            return;
        }
        match body {
            Body::Append(append) => self.on_append(from, incarnation, generation, append, out),
            Body::Ack(ack) => self.on_ack(from, incarnation, generation, ack),
            Body::Reject(reject) => self.on_reject(from, incarnation, generation, *reject, out),
            Body::Probe { attempt } => self.on_probe(from, incarnation, attempt, out),
            Body::ProbeReply {
                attempt,
                healthy,
                promised,
                removed,
            } => {
                if !self.learn_removal(removed, out) {
                    self.on_probe_reply(from, incarnation, attempt, healthy, promised, out);
                }
            }
            Body::Prepare { ballot } => self.on_prepare(from, incarnation, ballot, out),
            Body::Promise(promise) => self.on_promise(from, incarnation, *promise, out),
            Body::Refuse { promised } => self.on_refuse(promised, out),
            Body::Fetch {
                ballot,
                from: index,
            } => {
                self.on_fetch(from, incarnation, ballot, index, out);
            }
            Body::Fetched {
                ballot,
                from: index,
                entries,
            } => {
                self.on_fetched(from, incarnation, ballot, index, entries, out);
            }
            Body::CopyNeeded {
                ballot,
                floor,
                configuration,
            } => {
                self.on_copy_needed(from, ballot, floor, configuration, out);
            }
            Body::TimeoutNow { released } => self.on_timeout_now(released, out),
        }
    }

    /// Timers.
    fn on_time(&mut self, out: &mut Output) {
        match self.part {
            Part::Follower => self.election_time(out),
            Part::Candidate(_) => self.candidate_time(out),
            Part::Leader(_) => self.leader_time(out),
        }
    }

    /// Draws the consequences of whatever happened, and closes the step.
    fn settle(&mut self, out: &mut Output) {
        self.lead(out);
        self.deliver(out);
        self.truncate(out);
        let safe = match self.role() {
            Role::Storage => self.flushed.min(self.delivered),
            Role::Log => self.delivered,
        };
        let evictable = safe.min(self.durability.durable());
        self.log
            .forget_memory(evictable, self.timing.limits.memory_bytes_max);

        let held = std::mem::take(&mut self.held);
        if !out.persist.is_empty() {
            let end = self.log.last().index;
            out.token = Some(self.durability.begin(end, self.promised, held));
        } else if !held.is_empty() {
            out.send.extend(self.durability.hold(held));
        }
        let standing = match &self.part {
            Part::Follower => Standing::Follower,
            Part::Candidate(_) => Standing::Candidate,
            Part::Leader(_) => Standing::Leader {
                serving: self.can_propose(),
            },
        };
        if standing != self.standing {
            self.standing = standing;
            out.role_changed = Some(standing);
        }
        self.wake_at = match &self.part {
            Part::Follower => self.election_at,
            Part::Candidate(candidate) => candidate.deadline,
            Part::Leader(leader) => self.leader_wake_at(leader),
        };
    }

    /// Hands out what is committed and durable here.
    fn deliver(&mut self, out: &mut Output) {
        if self.copying || self.copy_needed {
            return;
        }
        let to = self.commit.min(self.durability.durable());
        while self.delivered < to {
            let Some(entry) = self.log.get(self.delivered + 1) else {
                let in_outline = self.log.memory_start().saturating_sub(1).min(to);
                if self.role() == Role::Log && in_outline > self.delivered {
                    // Nobody here applies it.
                    self.delivered = in_outline;
                    continue;
                }
                // Not in memory: cannot be, what is not delivered is never forgotten.
                self.faults += 1;
                return;
            };
            out.committed.push(entry.clone());
            self.delivered += 1;
        }
    }

    /// This replica's role, whatever the configuration says.
    pub(crate) fn role(&self) -> Role {
        self.identity.role
    }

    /// The greatest value that a quorum of the configuration in force has reached (`Configuration::quorum_value`).
    pub(crate) fn quorum_value<T: Ord + Copy + Default>(&self, value: impl Fn(&Member) -> T) -> T {
        #[cfg(feature = "mutations")]
        if let Some(wrong) = self.wrong_quorum_value(&value) {
            return wrong;
        }
        self.log.configuration().quorum_value(value)
    }

    /// Whether the members for which `has` holds are a quorum of the configuration in force.
    pub(crate) fn quorum(&self, has: impl Fn(&Member) -> bool) -> bool {
        self.quorum_value(has)
    }

    /// Raises the promise; never lowers it.
    pub(crate) fn promise(&mut self, ballot: Ballot, out: &mut Output) {
        if ballot > self.promised {
            #[cfg(feature = "mutations")]
            if self.mutated(crate::Mutation::SharedBallot) {
                self.only_ballot = self.promised;
            }
            self.promised = ballot;
            self.round_seen = self.round_seen.max(ballot.round);
            self.verified = 0;
            self.heard = None;
            out.persist.push(PersistOp::Promise(ballot));
        }
    }

    /// Stops leading and campaigning. Own proposals in flight are reported lost.
    pub(crate) fn follow_nobody(&mut self, out: &mut Output) {
        if let Part::Leader(leader) = &self.part {
            let first = self.delivered.max(leader.noop) + 1;
            if first <= self.log.last().index {
                out.lost = Some(first..=self.log.last().index);
            }
        }
        self.part = Part::Follower;
    }

    /// A message to a member as the configuration in force knows it.
    pub(crate) fn message(&self, to: NodeId, body: Body) -> Option<(NodeId, Message)> {
        let configuration = self.log.configuration();
        let to_incarnation = configuration.member(to)?.incarnation;
        Some((
            to,
            Message {
                to_incarnation,
                generation: configuration.generation,
                body,
            },
        ))
    }

    /// An answer to a sender, whatever the configuration says of it.
    pub(crate) fn answer(&self, to: NodeId, incarnation: u64, body: Body) -> (NodeId, Message) {
        let generation = self.log.configuration().generation;
        (
            to,
            Message {
                to_incarnation: incarnation,
                generation,
                body,
            },
        )
    }

    /// A proposal's refusal by a replica that does not lead.
    pub(crate) fn not_leader(&self) -> Refusal {
        Refusal::NotLeader(self.heard.map(|heard| heard.node))
    }
}

/// The record that a log starts at `position`.
pub(crate) fn install(
    position: Position,
    configuration: Configuration,
    identity: Identity,
) -> PersistOp {
    PersistOp::Install {
        index: position.index,
        ballot: position.ballot,
        configuration,
        identity,
    }
}
