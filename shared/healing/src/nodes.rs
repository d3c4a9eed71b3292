//! The storage nodes as their heartbeats show them: a bounded table that every node keeps for itself. Decides nothing.

use std::collections::BTreeMap;

use paxos::{Millis, NodeId};
use protocol::health::Heartbeat;

/// Nodes remembered; of more, those that are silent for longest are forgotten.
const NODES_MAX: usize = 4_096;

/// A storage node as it last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Availability zone.
    pub zone: String,
    /// Identity of its disk.
    pub incarnation: u64,
    /// Ready to serve.
    pub ready: bool,
    /// Going away.
    pub draining: bool,
    /// Bytes free on its disk.
    pub free_bytes: u64,
    /// Replicas hosted.
    pub replicas: u64,
    /// When it last said so, by the local clock.
    pub heard: Millis,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Nodes(BTreeMap<NodeId, Node>);

impl Nodes {
    /// Takes in a heartbeat; those of other services are ignored.
    pub fn hear(&mut self, now: Millis, beat: &Heartbeat) {
        let Some(health) = beat.storage.as_ref().filter(|_| beat.service == "storage") else {
            return;
        };
        let id = NodeId(beat.instance);
        if self.0.len() >= NODES_MAX && !self.0.contains_key(&id) {
            let oldest = self.0.iter().min_by_key(|(_, node)| node.heard);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.0.remove(&oldest);
            }
        }
        let node = Node {
            zone: beat.zone.clone(),
            incarnation: beat.incarnation,
            ready: beat.ready,
            draining: beat.draining,
            free_bytes: health.free_bytes,
            replicas: health.replicas,
            heard: now,
        };
        self.0.insert(id, node);
    }

    /// Puts a node in, for tests and simulations.
    pub fn insert(&mut self, id: NodeId, node: Node) {
        self.0.insert(id, node);
    }

    /// What is known of a node.
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.0.get(&id)
    }

    /// All of them, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.0.iter().map(|(id, node)| (*id, node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::health::StorageHealth;

    fn beat(service: &str, instance: u64) -> Heartbeat {
        Heartbeat {
            service: service.to_owned(),
            instance,
            zone: "az1".to_owned(),
            incarnation: 7,
            http: String::new(),
            ready: true,
            draining: false,
            version: String::new(),
            storage: Some(StorageHealth::default()),
            ..Heartbeat::default()
        }
    }

    #[test]
    fn keeps_storage_nodes_only_and_no_more_than_it_may() {
        let mut nodes = Nodes::default();
        nodes.hear(Millis(1), &beat("router", 9));
        assert_eq!(nodes.iter().count(), 0);
        for id in 0..NODES_MAX as u64 + 5 {
            nodes.hear(Millis(10 + id), &beat("storage", id));
        }
        assert_eq!(nodes.iter().count(), NODES_MAX);
        assert!(nodes.get(NodeId(4)).is_none(), "silent for longest");
        assert!(nodes.get(NodeId(5)).is_some());
    }
}
