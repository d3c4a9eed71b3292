//! The control plane: routers → admin (API calls), admin → storage nodes (orders).

use bytes::Bytes;
use model::policy::Verdict;
use model::{ApiError, EncodedKey, KeyRange, TableDefinition};
use paxos::{Configuration, GroupId, NodeId, Role};
use serde::{Deserialize, Serialize};

use crate::directory::PlacedMember;

/// A control-plane API call that the router authenticated, passed on as it came.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ApiCall {
    /// Operation, e.g. `CreateTable`.
    pub operation: String,
    /// JSON body.
    pub body: Bytes,
    /// Access key of the caller.
    pub principal: String,
    /// ARN of the caller; empty from a router that knows of no policies.
    #[serde(default)]
    pub caller_arn: String,
    /// What the caller's own policies say of this call; the table's are the admin's to look at.
    #[serde(default)]
    pub identity: Verdict,
}

/// The answer: JSON body or API error.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ApiReply {
    /// HTTP 200 with this JSON.
    Ok(Bytes),
    /// An API error.
    Error(ApiError),
}

/// An order with the authority behind it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrderCall {
    /// Epoch of the lease under which the admin speaks; a node refuses orders of an epoch below the greatest it has seen. 0: not an
    /// admin but a partition's leader (fenced by generation), or the founding of a mesh.
    #[serde(default)]
    pub epoch: u64,
    /// The order.
    pub order: Order,
}

/// What a storage node shall do. Idempotent; what concerns the members of a partition is fenced by its generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Create the replica of a new partition (empty; all first members get the same order).
    CreateReplica(Box<CreateReplica>),
    /// Drop the replica and its data: the table is deleted. Never sent while the table is live.
    DropReplica {
        /// The partition.
        partition: GroupId,
    },
    /// To one member of a partition that was just made: do not wait for the election timer. A hint, ignored where somebody leads.
    Campaign {
        /// The partition.
        partition: GroupId,
    },
    /// Make a replica for an existing partition: empty, to be filled by the leader once it is taken in. Answered with `Joined`. A
    /// fenced replica of the partition on this node, or one that this generation does not name, is dropped first.
    JoinReplica(Box<JoinReplica>),
    /// This replica is no longer in its group as of this generation: drop it. Refused if it knows of a newer one that names it.
    RetireReplica {
        /// The partition.
        partition: GroupId,
        /// Which replica.
        incarnation: u64,
        /// Generation of the configuration that does not name it.
        generation: u64,
    },
    /// This replica differs from the others: take it out of service for good. It is healed as any fenced replica.
    FenceReplica {
        /// The partition.
        partition: GroupId,
        /// Which replica.
        incarnation: u64,
        /// What was found, in words.
        why: String,
    },
    /// To the leader: bring a new storage replica to `target` and, once it is in step, let it take the place of the replica on
    /// `replaced` (a storage member, learner or log replica). Progress is seen in the pushed partition; the order is repeated until then.
    ReplaceReplica {
        /// The partition.
        partition: GroupId,
        /// Generation that this order is meant for.
        generation: u64,
        /// Who goes.
        replaced: NodeId,
        /// Node of the new replica.
        target: NodeId,
    },
    /// To the leader: hand leadership to this member.
    TransferLeadership {
        /// The partition.
        partition: GroupId,
        /// The successor, a storage member.
        to: NodeId,
    },
    /// To the leader: begin to split the partition in two (ADR 0006). `Done` once that is in the log, and also if it was before;
    /// progress is seen in the pushed partition.
    SplitPartition {
        /// The partition.
        partition: GroupId,
        /// Generation that this order is meant for.
        generation: u64,
        /// First key of the right child, inside of the partition's range.
        point: EncodedKey,
        /// Number of the child with the keys below: greater than the partition's, and never used before.
        left: GroupId,
        /// Number of the child with the others: greater than `left`.
        right: GroupId,
    },
    /// To the leader: give up a split that is not committed. `Refused` if it is, or is about to be.
    AbandonSplit {
        /// The partition.
        partition: GroupId,
        /// The split's left child.
        left: GroupId,
    },
    /// To the leader: a key that halves the bytes of the partition. Answered with `Middle`. Reads the whole B-tree, on a thread of
    /// its own.
    FindMiddle {
        /// The partition.
        partition: GroupId,
    },
    /// To the leader: replicate this newer definition of the partition's table.
    SetTable {
        /// The partition.
        partition: GroupId,
        /// The definition.
        table: Box<TableDefinition>,
    },
}

/// First state of a new partition's replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateReplica {
    /// The partition.
    pub partition: GroupId,
    /// Its table.
    pub table: TableDefinition,
    /// Its keys.
    pub range: KeyRange,
    /// Its first configuration (generation 1).
    pub configuration: Configuration,
    /// The members with their zones, for the directory.
    pub members: Vec<PlacedMember>,
}

/// What a joining replica starts from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinReplica {
    /// The partition.
    pub partition: GroupId,
    /// With a B-tree or without.
    pub role: Role,
    /// Its table.
    pub table: TableDefinition,
    /// Its keys.
    pub range: KeyRange,
    /// The configuration in force at the leader; does not name the new replica yet.
    pub configuration: Configuration,
    /// The members with their zones, for the directory.
    pub members: Vec<PlacedMember>,
}

/// Answer to an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum OrderReply {
    /// Done (or had been done before).
    Done,
    /// The replica is there and waits to be taken in.
    Joined {
        /// Its incarnation, drawn when it was made.
        incarnation: u64,
    },
    /// Two halves of about the same size meet before this key; none: there is no such key (fewer than two items).
    Middle(Option<EncodedKey>),
    /// Not the leader of that partition.
    NotLeader,
    /// The order is older than what the node knows: the generation, or the epoch, that counts now.
    Stale(u64),
    /// Refused, and why.
    Refused(String),
}

/// `ApiCall::operation` of a router that wants the transactions' ledger to be made. No client can ask for it.
pub const MAKE_LEDGER: &str = "MakeTransactionLedger";
