//! The items of the system table. Owns their keys and their form: `pk`, a token that is drawn for every write (and
//! so tells whose write it was and whether there was another one since), and the record as JSON text. Never reads or writes them.

use std::collections::BTreeMap;

use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{ApiError, AttributeValue, EncodedKey, Item, KeyRange, TableDefinition, TableId};
use paxos::{GroupId, NodeId};
use protocol::directory::PlacedMember;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::backups::{Filling, PointInTime, Restored};

/// Name of the system table. Users can neither make nor see it.
pub(crate) const SYSTEM_TABLE: &str = "evenkeel.system";
/// First number of users' tables and partitions.
pub(crate) const FIRST_ID: u64 = 16;
/// The system table's only partition.
pub(crate) const SYSTEM_GROUP: GroupId = GroupId(1);

const TABLE: &str = "table#";
const PARTITION: &str = "partition#";
const NODE: &str = "node#";
/// Key of the admins' lease.
pub(crate) const LEASE: &str = "meta#lease";
/// Key of the counters.
pub(crate) const COUNTERS: &str = "meta#counters";

/// A table: its definition with the status that the API shows, and the numbers of its partitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableRecord {
    pub(crate) definition: TableDefinition,
    pub(crate) partitions: Vec<GroupId>,
    /// Splits that are under way, at most one a partition.
    #[serde(default)]
    pub(crate) splits: Vec<SplitRecord>,
    /// Point-in-time recovery, if it is switched on.
    #[serde(default)]
    pub(crate) point_in_time: Option<PointInTime>,
    /// Where its items came from, if it was restored.
    #[serde(default)]
    pub(crate) restored: Option<Restored>,
    /// While it is CREATING: how it gets its items.
    #[serde(default)]
    pub(crate) filling: Option<Filling>,
    /// While it is DELETING and had point-in-time recovery: number of its last backup, which is taken once nothing is written any more.
    #[serde(default)]
    pub(crate) last_backup: Option<String>,
    /// The request that gave it the throughput that it has, as a `traceparent`: splits for that are linked to it. Empty: it had that from the start, or the
    /// request has no trace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) throughput_traceparent: String,
}

impl Default for TableRecord {
    /// Nothing about a table that is to be named yet.
    fn default() -> Self {
        Self {
            definition: system_table(),
            partitions: Vec::new(),
            splits: Vec::new(),
            point_in_time: None,
            restored: None,
            filling: None,
            last_backup: None,
            throughput_traceparent: String::new(),
        }
    }
}

impl TableRecord {
    /// All partitions that may have replicas: those of the table, and the other side of each split.
    pub(crate) fn all_partitions(&self) -> Vec<GroupId> {
        let split = self.splits.iter().flat_map(|s| [s.parent, s.left, s.right]);
        let mut all: Vec<_> = self.partitions.iter().copied().chain(split).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The split of this partition.
    pub(crate) fn split_of(&self, parent: GroupId) -> Option<&SplitRecord> {
        self.splits.iter().find(|split| split.parent == parent)
    }
}

/// A split, recorded before it is ordered, so that whoever resumes it orders the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SplitRecord {
    pub(crate) parent: GroupId,
    /// First key of the right child.
    pub(crate) point: EncodedKey,
    pub(crate) left: GroupId,
    pub(crate) right: GroupId,
    pub(crate) cause: SplitCause,
    #[serde(default)]
    pub(crate) phase: SplitPhase,
    /// What wanted it, as a `traceparent`; empty: that has no trace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) traceparent: String,
}

/// Why a partition is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum SplitCause {
    /// The operator wants it.
    Operator,
    /// The table's throughput needs more partitions.
    Throughput,
    /// It is too large.
    Size,
    /// It is used too much.
    Consumption,
    /// Its leader is at it, for a reason that nobody recorded.
    Found,
}

impl SplitCause {
    /// In words for the operator.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Operator => "ordered by the operator",
            Self::Throughput => "for the table's throughput",
            Self::Size => "by size",
            Self::Consumption => "for consumption",
            Self::Found => "found under way",
        }
    }
}

/// How far a split is, as recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SplitPhase {
    /// The parent's leader is to carry it out.
    #[default]
    Ordered,
    /// The parent's leader is to give it up.
    Abandoning,
    /// The children stand in the parent's place; what is left of the parent is to be dropped.
    Settled,
}

/// A partition: made before its replicas, so that whoever resumes a creation orders the same ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartitionRecord {
    pub(crate) partition: GroupId,
    pub(crate) table: TableId,
    pub(crate) range: KeyRange,
    pub(crate) members: Vec<PlacedMember>,
    /// The table is gone, or the partition was split; the replicas on these members are still to be dropped.
    #[serde(default)]
    pub(crate) dropping: bool,
    /// The partition that it was split off from: dropped before it, since a replica of the parent may still bring forth one of it.
    #[serde(default)]
    pub(crate) parent: Option<GroupId>,
}

/// Disks that a node once had, kept at most.
const FORMER_MAX: usize = 32;

/// A storage node: what outlives its heartbeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    pub(crate) node: NodeId,
    pub(crate) zone: String,
    /// Identity of its disk.
    pub(crate) incarnation: u64,
    /// Its earlier disks: replicas on them are lost.
    #[serde(default)]
    pub(crate) former: Vec<u64>,
    /// The operator wants it empty.
    #[serde(default)]
    pub(crate) draining: bool,
    /// While it is drained: what wanted that, as a `traceparent`; empty: that has no trace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) traceparent: String,
}

impl NodeRecord {
    /// What is to be remembered of a node that reports; none if that is known.
    pub(crate) fn noted(
        known: Option<&NodeRecord>,
        node: NodeId,
        zone: &str,
        incarnation: u64,
    ) -> Option<NodeRecord> {
        let Some(known) = known else {
            return Some(NodeRecord {
                node,
                zone: zone.to_owned(),
                incarnation,
                former: Vec::new(),
                draining: false,
                traceparent: String::new(),
            });
        };
        if (known.zone.as_str(), known.incarnation) == (zone, incarnation) {
            return None;
        }
        let mut next = known.clone();
        next.zone = zone.to_owned();
        if known.incarnation != incarnation {
            next.former.push(known.incarnation);
            // A disk that comes back is no former one.
            next.former.retain(|&disk| disk != incarnation);
            let excess = next.former.len().saturating_sub(FORMER_MAX);
            next.former.drain(..excess);
            next.incarnation = incarnation;
        }
        Some(next)
    }
}

/// Numbers that were not given out yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) next_table: u64,
    pub(crate) next_partition: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            next_table: FIRST_ID,
            next_partition: FIRST_ID,
        }
    }
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored<T> {
    pub(crate) value: T,
    pub(crate) token: String,
}

pub(crate) fn table_key(name: &str) -> String {
    format!("{TABLE}{name}")
}
pub(crate) fn partition_key(partition: GroupId) -> String {
    format!("{PARTITION}{}", partition.0)
}
pub(crate) fn node_key(node: NodeId) -> String {
    format!("{NODE}{}", node.0)
}
/// Whether this is a node's key.
pub(crate) fn is_node(key: &str) -> bool {
    key.starts_with(NODE)
}
/// Name of the table whose record has this key.
pub(crate) fn table_name_of(key: &str) -> Option<&str> {
    key.strip_prefix(TABLE)
}
/// The partition whose record has this key.
pub(crate) fn partition_of(key: &str) -> Option<GroupId> {
    key.strip_prefix(PARTITION)?.parse().ok().map(GroupId)
}

/// The system table itself.
pub(crate) fn system_table() -> TableDefinition {
    TableDefinition {
        id: TableId(1),
        name: SYSTEM_TABLE.to_owned(),
        version: 1,
        keys: KeySchema {
            partition: KeyAttribute {
                name: "pk".to_owned(),
                kind: ScalarType::S,
            },
            sort: None,
        },
        billing: BillingMode::PayPerRequest,
        status: TableStatus::Active,
        created_ms: 0,
        uuid: String::new(),
        deletion_protection: true,
        table_class: None,
        tags: BTreeMap::new(),
        throughput_changes: Default::default(),
        on_demand_max: Default::default(),
        ..Default::default()
    }
}

/// The item of a record.
pub(crate) fn to_item<T: Serialize>(key: &str, value: &T, token: &str) -> Result<Item, ApiError> {
    let body = serde_json::to_string(value).map_err(|_| ApiError::internal())?;
    Ok(Item::from([
        ("pk".to_owned(), AttributeValue::S(key.to_owned())),
        ("token".to_owned(), AttributeValue::S(token.to_owned())),
        ("body".to_owned(), AttributeValue::S(body)),
    ]))
}

/// The record of an item; none if it is not of this form (a later version wrote it).
pub(crate) fn from_item<T: DeserializeOwned>(item: &Item) -> Option<Stored<T>> {
    let text = |name: &str| match item.get(name) {
        Some(AttributeValue::S(text)) => Some(text.as_str()),
        _ => None,
    };
    Some(Stored {
        value: serde_json::from_str(text("body")?).ok()?,
        token: text("token")?.to_owned(),
    })
}

/// The key of an item.
pub(crate) fn key_of(item: &Item) -> Option<&str> {
    match item.get("pk") {
        Some(AttributeValue::S(key)) => Some(key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_stored() {
        let record = TableRecord {
            definition: system_table(),
            partitions: vec![GroupId(16), GroupId(17)],
            splits: vec![SplitRecord {
                parent: GroupId(17),
                point: EncodedKey::from_static(b"\0\xff"),
                left: GroupId(18),
                right: GroupId(19),
                cause: SplitCause::Size,
                phase: SplitPhase::Settled,
                traceparent: String::new(),
            }],
            ..TableRecord::default()
        };
        let item = to_item(&table_key("music"), &record, "n").unwrap();
        assert_eq!(key_of(&item).and_then(table_name_of), Some("music"));
        let stored: Stored<TableRecord> = from_item(&item).unwrap();
        assert_eq!((stored.value, stored.token.as_str()), (record, "n"));
        assert_eq!(from_item::<Counters>(&item), None, "another kind of record");
    }

    #[test]
    fn a_node_with_another_disk_leaves_the_old_one_behind() {
        let first = NodeRecord::noted(None, NodeId(3), "az3", 7).unwrap();
        assert_eq!(NodeRecord::noted(Some(&first), NodeId(3), "az3", 7), None);
        let second = NodeRecord::noted(Some(&first), NodeId(3), "az3", 8).unwrap();
        assert_eq!((second.incarnation, &second.former[..]), (8, &[7][..]));
        let back = NodeRecord::noted(Some(&second), NodeId(3), "az3", 7).unwrap();
        assert_eq!((back.incarnation, &back.former[..]), (7, &[8][..]));
        let moved = NodeRecord::noted(Some(&first), NodeId(3), "az2", 7).unwrap();
        assert_eq!((moved.zone.as_str(), moved.former.len()), ("az2", 0));
    }

    #[test]
    fn a_partition_record_of_an_older_version_is_read() {
        let record = PartitionRecord {
            partition: GroupId(16),
            table: TableId(20),
            range: model::key::table_range(TableId(20)),
            members: Vec::new(),
            dropping: false,
            parent: None,
        };
        let mut json = serde_json::to_value(&record).unwrap();
        json.as_object_mut().unwrap().remove("dropping");
        json.as_object_mut().unwrap().remove("parent");
        let read: PartitionRecord = serde_json::from_value(json).unwrap();
        assert_eq!(read, record);
        assert_eq!(partition_of(&partition_key(GroupId(16))), Some(GroupId(16)));
    }
}
