//! What can happen in the world, and to whose process.

use paxos::{GroupId, Index, Message, NodeId, ReadLog};
use protocol::item::ItemReply;
use protocol::split::SplitReport;

use crate::client::Call;
use crate::orders::Order;

/// Something that happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    Deliver {
        from: NodeId,
        to: NodeId,
        group: GroupId,
        incarnation: u64,
        message: Box<Message>,
    },
    Tick {
        node: NodeId,
        birth: u64,
        group: GroupId,
    },
    Synced {
        node: NodeId,
        life: u64,
    },
    LogRead {
        node: NodeId,
        birth: u64,
        group: GroupId,
        read: ReadLog,
    },
    FlushDue {
        node: NodeId,
        birth: u64,
        group: GroupId,
    },
    Flushed {
        node: NodeId,
        birth: u64,
        group: GroupId,
        epoch: u64,
    },
    Copy {
        node: NodeId,
        birth: u64,
        group: GroupId,
    },
    /// A replica takes a step of a split.
    SplitWork {
        node: NodeId,
        birth: u64,
        group: GroupId,
    },
    /// A leader hears how far a replica is with a split.
    SplitReported {
        node: NodeId,
        report: Box<SplitReport>,
    },
    /// A split's child begins.
    Begin {
        node: NodeId,
        life: u64,
        group: GroupId,
        campaigns: bool,
    },
    ClientWakes {
        client: usize,
    },
    Request {
        node: NodeId,
        call: Box<Call>,
    },
    /// Evaluate what came in.
    Inbox {
        node: NodeId,
        birth: u64,
        group: GroupId,
    },
    Order {
        node: NodeId,
        order: Box<Order>,
    },
    /// The data of a replica that was told to go, is deleted.
    Deleted {
        node: NodeId,
        life: u64,
        group: GroupId,
    },
    /// A node says that it lives.
    Beat {
        node: NodeId,
    },
    /// A node hears that another one lives.
    Beaten {
        node: NodeId,
        from: NodeId,
    },
    /// A node's leaders look at their groups.
    Plan {
        node: NodeId,
    },
    /// The stand-in for healing looks at all groups.
    Care,
    /// The archiver looks at all groups.
    Archive,
    /// A node is told what of a group is archived.
    Archived {
        node: NodeId,
        group: GroupId,
        index: Index,
    },
    Reply {
        call: u64,
        reply: Box<ItemReply>,
    },
    TimedOut {
        client: usize,
        call: u64,
    },
    Fault,
    Ambush {
        node: NodeId,
        life: u64,
    },
    Restart {
        node: NodeId,
        life: u64,
    },
    Heal,
}

impl Event {
    /// The node whose process has to act; none: something else happens.
    pub(crate) fn process(&self) -> Option<NodeId> {
        match self {
            Event::Deliver { to, .. } => Some(*to),
            Event::Tick { node, .. }
            | Event::Synced { node, .. }
            | Event::LogRead { node, .. }
            | Event::FlushDue { node, .. }
            | Event::Flushed { node, .. }
            | Event::Copy { node, .. }
            | Event::Request { node, .. }
            | Event::Inbox { node, .. }
            | Event::Order { node, .. }
            | Event::Beat { node }
            | Event::Beaten { node, .. }
            | Event::Plan { node }
            | Event::SplitWork { node, .. }
            | Event::SplitReported { node, .. }
            | Event::Begin { node, .. }
            | Event::Archived { node, .. }
            | Event::Deleted { node, .. } => Some(*node),
            Event::ClientWakes { .. }
            | Event::Reply { .. }
            | Event::TimedOut { .. }
            | Event::Fault
            | Event::Ambush { .. }
            | Event::Restart { .. }
            | Event::Heal
            | Event::Archive
            | Event::Care => None,
        }
    }
}
