//! `node.<id>.archive`: what archivers ask a node. Owns the way of a call to its shard and the pages of the status; reads no log.

use std::sync::Arc;

use mesh::Delivery;
use paxos::GroupId;
use protocol::archive::{ArchiveCall, ArchiveReply, LOGS_MAX};

use crate::inbox::Event;
use crate::log_reader::ArchiveRead;
use crate::node::Node;
use crate::orders::ArchiveCaller;

/// Takes a call; runs on a thread of the bus.
pub(crate) fn take_call(node: &Arc<Node>, delivery: Delivery) {
    let call = delivery.decode::<ArchiveCall>();
    let sender = delivery.sender.instance;
    let caller = ArchiveCaller(delivery.responder());
    let read = |partition: GroupId, read, caller| {
        node.inbox(partition)
            .event(Event::ArchiveRead(partition, read, caller));
    };
    match call {
        Ok(ArchiveCall::Status { after }) => caller.answer(&status(node, after)),
        Ok(ArchiveCall::Entries {
            partition,
            first,
            last,
        }) => {
            let wanted = ArchiveRead {
                first,
                last,
                digest_of: None,
            };
            read(partition, wanted, caller);
        }
        Ok(ArchiveCall::Digest {
            partition,
            table_uuid,
            first,
            last,
        }) => {
            let wanted = ArchiveRead {
                first,
                last,
                digest_of: Some(table_uuid),
            };
            read(partition, wanted, caller);
        }
        Ok(ArchiveCall::Archived { partition, index }) => {
            node.inbox(partition)
                .event(Event::Archived(partition, index, caller));
        }
        Err(error) => {
            tracing::warn!(%error, sender, "not an archiver's call");
            caller.unavailable(error.to_string());
        }
    }
}

/// A page of what the shards said last.
fn status(node: &Node, after: GroupId) -> ArchiveReply {
    let mut logs = node.led_logs(after, LOGS_MAX + 1);
    let more = logs.len() > LOGS_MAX;
    logs.truncate(LOGS_MAX);
    let next = logs.last().filter(|_| more).map(|log| log.partition);
    ArchiveReply::Status { logs, next }
}
