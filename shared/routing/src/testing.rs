//! Small tables and partitions for the tests of this crate.

use bytes::Bytes;
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{KeyRange, TableDefinition, TableId};
use paxos::{Ballot, GroupId, Member, NodeId, Role};
use protocol::directory::{PartitionInfo, PlacedMember};

pub(crate) fn table(id: u64, name: &str, version: u64) -> TableDefinition {
    TableDefinition {
        id: TableId(id),
        name: name.into(),
        version,
        keys: KeySchema {
            partition: KeyAttribute {
                name: "pk".into(),
                kind: ScalarType::S,
            },
            sort: None,
        },
        billing: BillingMode::PayPerRequest,
        status: TableStatus::Active,
        created_ms: 0,
        uuid: String::new(),
        deletion_protection: false,
        table_class: None,
        tags: Default::default(),
        throughput_changes: Default::default(),
        on_demand_max: Default::default(),
        ..Default::default()
    }
}

/// A partition on nodes 1, 2 and 3 in `az1`, `az2` and `az3`, led by node 1.
pub(crate) fn partition(
    id: u64,
    table: u64,
    start: &[u8],
    end: &[u8],
    round: u64,
) -> PartitionInfo {
    let member = |node| PlacedMember {
        member: Member {
            node: NodeId(node),
            role: Role::Storage,
            incarnation: 1,
        },
        zone: format!("az{node}"),
    };
    PartitionInfo {
        partition: GroupId(id),
        table: TableId(table),
        range: KeyRange {
            start: Bytes::copy_from_slice(start),
            end: Bytes::copy_from_slice(end),
        },
        generation: 1,
        ballot: Ballot {
            round,
            node: NodeId(1),
        },
        leader: Some(NodeId(1)),
        members: (1..=3).map(member).collect(),
        learners: Vec::new(),
        progress: Vec::new(),
        changing: false,
        table_version: 1,
        items: 0,
        bytes: 0,
        ..PartitionInfo::default()
    }
}
