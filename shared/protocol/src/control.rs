//! The control plane: routers → admin (API calls), admin → storage nodes (orders).

use bytes::Bytes;
use model::{ApiError, KeyRange, TableDefinition};
use paxos::{Configuration, GroupId};
use serde::{Deserialize, Serialize};

use crate::directory::PlacedMember;

/// A control-plane API call that the router authenticated, passed on as it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApiCall {
    /// Operation, e.g. `CreateTable`.
    pub operation: String,
    /// JSON body.
    pub body: Bytes,
    /// Access key of the caller.
    pub principal: String,
}

/// The answer: JSON body or API error.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ApiReply {
    /// HTTP 200 with this JSON.
    Ok(Bytes),
    /// An API error.
    Error(ApiError),
}

/// What a storage node shall do. Idempotent; fenced by generation.
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

/// Answer to an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum OrderReply {
    /// Done (or had been done before).
    Done,
    /// Not the leader of that partition.
    NotLeader,
    /// Refused, and why.
    Refused(String),
}
