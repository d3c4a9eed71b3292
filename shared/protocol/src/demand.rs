//! What followers serve by themselves, as told to their leaders: eventual reads. A leader sees only what is asked of itself, but decides
//! on the whole partition's behalf what the directory hears of its consumption, and where a split would halve it.

use bytes::Bytes;
use model::Units;
use paxos::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

/// Partitions that one message tells of.
pub const GROUPS_MAX: usize = 256;

/// A node → the node of leaders that its replicas follow, one way, once a second, only if something was asked here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemandReport {
    /// The reporting node.
    pub node: NodeId,
    /// At most [`GROUPS_MAX`].
    pub groups: Vec<FollowerDemand>,
}

/// What was asked of one follower since its last report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerDemand {
    /// The partition.
    pub partition: GroupId,
    /// Read units that it served.
    pub served: Units,
    /// Read units that it refused because it had none left.
    pub refused: Units,
    /// A sample of the keys, each with the consumption that it stands for, in millionths of what a partition may consume in a second.
    pub keys: Vec<(Bytes, u64)>,
}
