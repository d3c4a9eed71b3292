//! What members say to each other. Owns shapes only. MessagePack maps with short names on the wire; a reader ignores
//! fields that it does not know.

use serde::{Deserialize, Serialize};

use crate::{Ballot, Configuration, Entry, Index, Millis, Position};

/// A message from one member to another. Group, sender and sender's incarnation travel beside it
/// (`protocol::replication::GroupMessage`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Incarnation of the receiver as the sender's configuration says; any other receiver ignores the message.
    #[serde(rename = "t")]
    pub to_incarnation: u64,
    /// Generation of the sender's configuration; in an acknowledgement the one of the message acknowledged.
    #[serde(rename = "g")]
    pub generation: u64,
    /// The message itself.
    #[serde(rename = "m")]
    pub body: Body,
}

/// The kinds of messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// "Do you hear a healthy leader?" Asked before a prepare; promises nothing.
    Probe {
        /// Number of the question, echoed.
        attempt: u64,
    },
    /// Answer to a probe.
    ProbeReply {
        /// Number of the question.
        attempt: u64,
        /// The sender hears, or is, a leader with a recent quorum.
        healthy: bool,
        /// Highest ballot that the sender promised.
        promised: Ballot,
        /// Generation of a committed configuration, known to the sender, that does not name the asker (any more).
        #[serde(default)]
        removed: Option<u64>,
    },
    /// Phase 1a.
    Prepare {
        /// The candidate's ballot.
        ballot: Ballot,
    },
    /// Phase 1b, sent once the promise is durable.
    Promise(Box<Promise>),
    /// The message that this answers had a ballot below the sender's promise.
    Refuse {
        /// What the sender promised.
        promised: Ballot,
    },
    /// Candidate → acceptor: send me your entries from here.
    Fetch {
        /// The candidate's ballot; answered only while it is the acceptor's promise.
        ballot: Ballot,
        /// First wanted index.
        from: Index,
    },
    /// Answer to `Fetch`: a bounded run of entries that starts at the wanted index.
    Fetched {
        /// The candidate's ballot.
        ballot: Ballot,
        /// First wanted index.
        from: Index,
        /// The entries; empty if they cannot be had.
        entries: Vec<Entry>,
    },
    /// Phase 2a and heartbeat in one.
    #[serde(rename = "A")]
    Append(Append),
    /// Phase 2b: the log agrees with the leader's up to `matched`, durably.
    #[serde(rename = "K")]
    Ack(Ack),
    /// The log does not hold the append's `prev`.
    Reject(Box<Reject>),
    /// Leader → follower: what you lack is no longer in the log. A storage replica pulls a copy of the B-tree; a log
    /// replica has none and starts behind the leader's floor.
    CopyNeeded {
        /// The leader's ballot.
        ballot: Ballot,
        /// The leader's floor.
        floor: Position,
        /// Configuration there.
        configuration: Configuration,
    },
    /// Leader → its chosen successor: campaign now; the lease of this ballot is released, for good.
    TimeoutNow {
        /// The ballot whose leader resigned.
        released: Ballot,
    },
}

/// What an acceptor tells a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Promise {
    /// The candidate's ballot, promised durably.
    pub ballot: Ballot,
    /// The acceptor's last entry.
    pub last: Position,
    /// Position up to which the acceptor's log is truncated.
    pub floor: Position,
    /// The acceptor's ballot history above its floor: position of the first entry of each ballot.
    pub history: Vec<Position>,
    /// How long the acceptor's lease promise still runs.
    pub lease_remaining_ms: u64,
    /// Whose lease that is; none = not known (the acceptor restarted).
    pub lease_holder: Option<Ballot>,
    /// That lease is of no greater ballot: after a restart, what the acceptor had promised by then. None: not known.
    #[serde(default)]
    pub lease_ballot_max: Option<Ballot>,
    /// How long promises to other leaders before that one still run.
    #[serde(default)]
    pub earlier_remaining_ms: u64,
    /// Whose leases those are; none = not known, or several.
    #[serde(default)]
    pub earlier_holder: Option<Ballot>,
    /// None of those is of a greater ballot. None: not known.
    #[serde(default)]
    pub earlier_ballot_max: Option<Ballot>,
    /// What the acceptor knows to be committed.
    pub commit: Index,
}

/// New entries for a follower, or a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Append {
    /// The leader's ballot.
    #[serde(rename = "b")]
    pub ballot: Ballot,
    /// The leader's clock at sending; echoed, it dates the lease.
    #[serde(rename = "s")]
    pub sent: Millis,
    /// Position that the entries follow.
    #[serde(rename = "v")]
    pub prev: Position,
    /// Consecutive entries behind `prev`; none in a heartbeat.
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Entry>,
    /// What the leader knows to be committed.
    #[serde(rename = "c")]
    pub commit: Index,
    /// Up to here every storage member's B-tree is durable: the log may be truncated.
    #[serde(rename = "f")]
    pub floor: Index,
    /// The leader has a recent quorum of acknowledgements.
    #[serde(rename = "h")]
    pub healthy: bool,
}

/// Acknowledgement of an `Append`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ack {
    /// The leader's ballot.
    #[serde(rename = "b")]
    pub ballot: Ballot,
    /// `Append::sent`.
    #[serde(rename = "s")]
    pub sent: Millis,
    /// The log agrees with the leader's up to here and is durable.
    #[serde(rename = "m")]
    pub matched: Index,
    /// The log agrees with the leader's up to here, in memory at least: need not be sent again.
    #[serde(rename = "r")]
    pub received: Index,
    /// Durable position of the B-tree.
    #[serde(rename = "f")]
    pub flushed: Index,
}

/// "Your `prev` is not in my log", with what the leader needs to find where the logs part.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reject {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// `Append::sent`: a rejection renews the lease like an acknowledgement.
    pub sent: Millis,
    /// `Append::prev`.
    pub prev: Position,
    /// The follower's last entry.
    pub last: Position,
    /// The follower's truncation floor.
    pub floor: Position,
    /// The follower's ballot history above its floor.
    pub history: Vec<Position>,
    /// Durable position of the B-tree.
    pub flushed: Index,
}
