//! Replication messages on their way out of a shard: gathered while a turn lasts, then one frame for each node. Owns the two forms
//! (batches, or single messages to nodes that read no batches); never looks into a message.

use std::collections::BTreeMap;

use bytes::Bytes;
use paxos::{GroupId, Message, NodeId};
use protocol::batch::BatchWriter;
use protocol::replication::{GroupMessage, ReplicationFrame};
use protocol::subjects;

use crate::node::Node;

/// A batch beyond this leaves before the turn ends: with one more append it still fits into a bus message without being cut.
const BATCH_BYTES_MAX: usize = 192 << 10;
/// Memory that an empty batch keeps.
const BATCH_BYTES_KEPT: usize = 64 << 10;

/// The way to one node.
struct Lane {
    subject: String,
    batch: BatchWriter,
}

/// What a shard's groups say to other nodes in a turn.
#[derive(Default)]
pub(crate) struct Outgoing {
    lanes: BTreeMap<NodeId, Lane>,
}

impl Outgoing {
    /// Adds a message of a group's replica with this incarnation. Loss is the replication core's business.
    pub(crate) fn push(
        &mut self,
        node: &Node,
        group: GroupId,
        incarnation: u64,
        to: NodeId,
        message: Message,
    ) {
        let lane = self.lanes.entry(to).or_insert_with(|| Lane {
            subject: subjects::node_replication(to),
            batch: BatchWriter::default(),
        });
        if !node.reads_batches(to) {
            let message = GroupMessage::new(group, node.id, incarnation, message);
            return cast(node, &lane.subject, &message, 1);
        }
        if let Err(error) = lane.batch.push(node.id, group, incarnation, message) {
            node.metrics.unsent_messages.inc();
            tracing::error!(
                group = group.0,
                to = to.0,
                error,
                "replication message not sent"
            );
        }
        if lane.batch.bytes().len() > BATCH_BYTES_MAX {
            lane.send(node);
        }
    }

    /// Sends what was gathered.
    pub(crate) fn send_all(&mut self, node: &Node) {
        for lane in self.lanes.values_mut() {
            lane.send(node);
        }
    }
}

impl Lane {
    fn send(&mut self, node: &Node) {
        let messages = self.batch.messages();
        if messages == 0 {
            return;
        }
        let batch = Bytes::copy_from_slice(self.batch.bytes());
        let frame = ReplicationFrame::of_batch(node.id, batch);
        cast(node, &self.subject, &frame, messages);
        self.batch.clear(BATCH_BYTES_KEPT);
    }
}

fn cast(node: &Node, subject: &str, frame: &impl serde::Serialize, messages: usize) {
    if let Err(error) = node.mesh.cast(subject, frame) {
        node.metrics.unsent_messages.inc_by(messages as u64);
        tracing::debug!(subject, messages, %error, "replication messages not sent");
    }
}
