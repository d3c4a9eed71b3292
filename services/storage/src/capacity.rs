//! What the node's hardware is rated for, in capacity units, and what is left of it here and at the other nodes. Owns the node's
//! two buckets, which all shards charge; refuses nothing (`group/admission.rs`).

use std::collections::{BTreeMap, BTreeSet};

use admission::NodeBucket;
use model::Units;
use model::capacity::Direction;
use parking_lot::RwLock;
use paxos::{Millis, NodeId};
use protocol::health::{Heartbeat, NodeRoom};

use crate::settings::Admission as Settings;

/// What a node said of its room counts for so long: three heartbeats.
const HEARD_MS_MAX: u64 = 3_000;

/// Capacity of a node.
pub(crate) struct NodeCapacity {
    read: NodeBucket,
    write: NodeBucket,
    /// Nodes that had no room for writes when they said so last, and when that was.
    full: RwLock<BTreeMap<NodeId, Millis>>,
}

impl NodeCapacity {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            read: NodeBucket::new(Units::new(settings.node_read_units)),
            write: NodeBucket::new(Units::new(settings.node_write_units)),
            full: RwLock::default(),
        }
    }

    fn bucket(&self, direction: Direction) -> &NodeBucket {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    /// Work that this node did.
    pub(crate) fn charge(&self, now: Millis, direction: Direction, cost: Units) {
        self.bucket(direction).charge(now.0, cost);
    }

    /// Whether this node has room for a burst.
    pub(crate) fn has_room(&self, now: Millis, direction: Direction) -> bool {
        self.bucket(direction).has_room(now.0)
    }

    /// What the heartbeat says.
    pub(crate) fn room(&self, now: Millis) -> NodeRoom {
        NodeRoom {
            read: self.read.available(now.0),
            write: self.write.available(now.0),
        }
    }

    /// Another node's heartbeat. A node that says nothing of its room (an older version) stands in nobody's way.
    pub(crate) fn hear(&self, now: Millis, heartbeat: &Heartbeat) {
        let Some(storage) = &heartbeat.storage else {
            return;
        };
        let node = NodeId(heartbeat.instance);
        let full = storage.room.is_some_and(|room| room.write.is_zero());
        if full {
            self.full.write().insert(node, now);
        } else if self.full.read().contains_key(&node) {
            self.full.write().remove(&node);
        }
    }

    /// The other nodes that have no room for writes. What a silent one said last does not count for ever.
    pub(crate) fn full_peers(&self, now: Millis) -> BTreeSet<NodeId> {
        let full = self.full.read();
        let counts = |heard: Millis| now.since(heard) <= HEARD_MS_MAX;
        full.iter()
            .filter(|(_, heard)| counts(**heard))
            .map(|(node, _)| *node)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::health::StorageHealth;

    fn heartbeat(node: u64, room: Option<NodeRoom>) -> Heartbeat {
        Heartbeat {
            service: "storage".to_owned(),
            instance: node,
            zone: "az1".to_owned(),
            incarnation: 1,
            http: String::new(),
            ready: true,
            draining: false,
            version: String::new(),
            storage: Some(StorageHealth {
                room,
                ..StorageHealth::default()
            }),
            ..Heartbeat::default()
        }
    }

    #[test]
    fn a_full_node_is_one_until_it_says_otherwise_or_falls_silent() {
        let node = NodeCapacity::new(&Settings::default());
        let full = NodeRoom::default();
        let free = NodeRoom {
            write: Units::HALF,
            ..full
        };
        let is_full = |ms: u64| node.full_peers(Millis(ms)).contains(&NodeId(2));
        node.hear(Millis(1000), &heartbeat(2, None));
        assert!(!is_full(1000), "it says nothing");
        node.hear(Millis(2000), &heartbeat(2, Some(full)));
        assert!(is_full(2000) && is_full(5000));
        assert!(!is_full(5001), "nobody heard of it for three seconds");
        node.hear(Millis(6000), &heartbeat(2, Some(full)));
        node.hear(Millis(6500), &heartbeat(2, Some(free)));
        assert!(!is_full(6500));
    }

    #[test]
    fn a_node_tells_what_is_left() {
        let node = NodeCapacity::new(&Settings {
            node_read_units: 100,
            node_write_units: 10,
            ..Settings::default()
        });
        let now = Millis(10_000);
        assert_eq!(node.room(now).read, Units::new(100));
        node.charge(now, Direction::Write, Units::new(10));
        assert_eq!(node.room(now).write, Units::ZERO);
        assert!(!node.has_room(now, Direction::Write) && node.has_room(now, Direction::Read));
    }
}
