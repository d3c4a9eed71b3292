//! What goes into a replica and what comes out of it: the contract with the shell.

use std::ops::RangeInclusive;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Ballot, Configuration, Entry, Index, Member, Message, Millis, NodeId, Outline, Position, Role,
    Token,
};

/// What a replica is for its whole life: stored with its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// `Member::incarnation`.
    pub incarnation: u64,
    /// Whether it has a B-tree. Never changes: another role is another replica.
    pub role: Role,
    /// Generation of the group's configuration when the replica was made. What older ones say of it means nothing.
    pub generation: u64,
}

/// What a replica had on its disk when its node started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Highest ballot promised.
    pub promised: Ballot,
    /// Up to here the log is truncated (default: nothing is).
    pub floor: Position,
    /// Configuration at the floor. Later ones are found in `entries`.
    pub configuration: Configuration,
    /// All entries above the floor, consecutive.
    pub entries: Vec<Entry>,
    /// Durable position of the B-tree: index and ballot of the last entry applied and flushed.
    pub applied: Position,
    /// Configuration stored with the B-tree. Needed only if the node died between installing a copy of the B-tree and
    /// the log record that says so.
    pub applied_configuration: Option<Configuration>,
    /// The replica is being made and has nothing on disk yet: its first step persists its founding.
    pub fresh: bool,
    /// What this replica is.
    pub identity: Identity,
}

impl Restored {
    /// Splits off the outlines of the entries that are applied, as far as the applied position is in the log: only then is
    /// their content of no more use. A log replica applies nothing: of its entries all are known in outline.
    pub fn outlined(mut self) -> (Vec<Outline>, Restored) {
        if self.identity.role == Role::Log {
            let entries = std::mem::take(&mut self.entries);
            return (Outline::of(&entries), self);
        }
        let at = self.applied;
        let known = self.entries.iter().any(|entry| entry.position() == at);
        if !known {
            return (Vec::new(), self);
        }
        let above = self
            .entries
            .partition_point(|entry| entry.index <= at.index);
        let entries = self.entries.split_off(above);
        let outlines = Outline::of(&self.entries);
        self.entries = entries;
        (outlines, self)
    }

    /// State of a replica that is being made: a first member of a new group, or one that joins a group which has this
    /// configuration at the moment (and need not name it yet). The first step persists `PersistOp::Install`.
    pub fn founding(identity: Identity, configuration: Configuration) -> Restored {
        Restored {
            promised: Ballot::default(),
            floor: Position::default(),
            configuration,
            entries: Vec::new(),
            applied: Position::default(),
            applied_configuration: None,
            fresh: true,
            identity,
        }
    }
}

/// What happens to a replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed. Needed at `Replica::wake_at`; more often does no harm and costs O(1).
    Tick,
    /// A message of another member arrived.
    Message {
        /// Its sender.
        from: NodeId,
        /// Incarnation of the sender.
        incarnation: u64,
        /// The message.
        message: Message,
    },
    /// The batch of this token, and with it all earlier ones, is durable.
    Persisted(Token),
    /// Commands to be put in the log, in this order, all or none. Answered in `Output::proposed`.
    Propose(Vec<Bytes>),
    /// Answer to `Output::read_log`.
    LogRead {
        /// As asked.
        to: NodeId,
        /// As asked.
        from: Index,
        /// Consecutive entries that start at `from`; empty = no longer to be had.
        entries: Vec<Entry>,
    },
    /// A copy of the B-tree was pulled, installed and synced; it replaces this replica's state machine.
    CopyInstalled {
        /// Position that the copy stands for.
        applied: Position,
        /// Configuration at that position.
        configuration: Configuration,
    },
    /// The copy asked for by `Output::copy_wanted` could not be had. The old B-tree is unharmed.
    CopyFailed,
    /// The B-tree is durable up to here.
    Flushed {
        /// Position.
        index: Index,
    },
    /// The log is archived up to and including this index: told to the leader, who may truncate that far (`Limits::archive`). May come late,
    /// repeated and out of order; anybody else ignores it, and a new leader knows of nothing that is archived until it is told.
    Archived {
        /// Position.
        index: Index,
    },
    /// Hand leadership to this member. Ignored unless this is the serving leader and `to` a storage member.
    TransferLeadership {
        /// The successor.
        to: NodeId,
    },
    /// Change who is in the group. Answered in `Output::reconfigured`. With other voters than before, the change goes through a joint
    /// configuration, which the leader completes by itself once it is committed.
    Reconfigure {
        /// Generation of the configuration that this change is meant for; any other one in force refuses it.
        generation: u64,
        /// The new voters.
        members: Vec<Member>,
        /// The new learners.
        learners: Vec<Member>,
    },
    /// Do not wait for the election timer: a group that was just made has no leader that could be disturbed. Ignored by a
    /// replica that leads, campaigns, or hears a healthy leader; the probe of the peers comes first as always.
    Campaign,
    /// The entries of this group keep too much of the node's shared log on disk: truncate at the next occasion, in however small a
    /// step, and without regard for members that are silent for long.
    ReleaseLog,
    /// Give up leadership or candidature.
    StepDown,
}

/// What the shell has to do, in any order, except: `persist` batches of one replica reach the log in the order of their
/// tokens, and `committed` is applied before the next question to `Replica::can_serve_reads`.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Make durable, in this order, then answer `Input::Persisted` with `token`.
    pub persist: Vec<PersistOp>,
    /// Set if and only if `persist` is not empty.
    pub token: Option<Token>,
    /// Send now. (Messages that promise durability stay inside until it is there.)
    pub send: Vec<(NodeId, Message)>,
    /// Answer to `Input::Propose`: index of the first command, the others follow it.
    pub proposed: Option<Result<Index, Refusal>>,
    /// Answer to `Input::Reconfigure`: generation of the configuration that is in force now.
    pub reconfigured: Option<Result<u64, ReconfigureRefusal>>,
    /// Newly committed entries to apply, consecutive, durable here.
    pub committed: Vec<Entry>,
    /// Read the log, answer with `Input::LogRead`.
    pub read_log: Vec<ReadLog>,
    /// Pull a copy of the B-tree from this node; answer with `CopyInstalled` or `CopyFailed`. Apply nothing meanwhile.
    pub copy_wanted: Option<NodeId>,
    /// The log up to and including this index is no longer needed.
    pub truncate_floor: Option<Index>,
    /// The standing of this replica changed.
    pub role_changed: Option<Standing>,
    /// These proposals of this replica may or may not become committed: answer "unknown".
    pub lost: Option<RangeInclusive<Index>>,
    /// This replica is certainly no longer in the group: stop it and drop what it has. Set once.
    pub retired: bool,
}

/// What to make durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PersistOp {
    /// The promised ballot; it only ever rises.
    #[serde(rename = "p")]
    Promise(Ballot),
    /// Forget all entries from this index on.
    #[serde(rename = "t")]
    TruncateFrom(Index),
    /// Entries behind the last one.
    #[serde(rename = "a")]
    Append(Vec<Entry>),
    /// The log is empty and starts behind this position: founding, or a copy of the B-tree was installed.
    #[serde(rename = "i")]
    Install {
        /// Position.
        index: Index,
        /// Ballot of the entry there.
        ballot: Ballot,
        /// Configuration there.
        configuration: Configuration,
        /// What the replica is.
        identity: Identity,
    },
    /// Entries up to this position are no longer needed; later ones stay.
    #[serde(rename = "f")]
    Floor {
        /// Position.
        index: Index,
        /// Ballot of the entry there.
        ballot: Ballot,
        /// Configuration there.
        configuration: Configuration,
    },
}

/// A wish to read the own log; only entries that are durable and committed are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLog {
    /// For whom; to be repeated in the answer.
    pub to: NodeId,
    /// First index wanted.
    pub from: Index,
    /// Stop once so many bytes are read; at least one entry.
    pub max_bytes: u64,
}

/// Why a proposal was not taken. It certainly was not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This replica does not lead; this one does, if known.
    NotLeader(Option<NodeId>),
    /// It leads but does not serve (yet, or any more): waiting for leases, quorum lost, handing over.
    NotServing,
    /// Too many proposals or bytes are not committed yet.
    Overloaded,
}

/// Why a change of the members was not taken. It certainly was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconfigureRefusal {
    /// This replica does not lead; this one does, if known.
    NotLeader(Option<NodeId>),
    /// It leads but does not serve (yet, or any more).
    NotServing,
    /// Meant for another generation; this one is in force.
    Stale(u64),
    /// An earlier change is not committed yet.
    UnderWay,
    /// A new storage member must first be a learner that is in step with the log.
    NotInStep(NodeId),
    /// The lists make no sense, and why.
    Invalid(&'static str),
}

/// What a leader knows of another replica of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// Who it is.
    pub member: Member,
    /// It has no vote.
    pub learner: bool,
    /// Durable and equal to the leader's log up to here.
    pub matched: Index,
    /// Durable B-tree position.
    pub flushed: Index,
    /// When anything last arrived from it; none: nothing did since this leader was elected or the replica taken in.
    pub heard: Option<Millis>,
    /// It has nearly all of the log, durably, and could be a voter.
    pub in_step: bool,
    /// It was told to pull a full copy, and is not done.
    pub copying: bool,
}

/// What a replica is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It follows, or nobody leads.
    Follower,
    /// It tries to become the leader.
    Candidate,
    /// It leads.
    Leader {
        /// It takes proposals. (Reads ask `Replica::can_serve_reads`.)
        serving: bool,
    },
}
