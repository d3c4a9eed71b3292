//! Founding of an empty mesh: the first replicas of the system table's partition. Owns when and where, once in a mesh's life.

use model::TableDefinition;
use model::key::table_range;
use paxos::{Configuration, GroupId};
use protocol::control::{CreateReplica, Order};
use protocol::directory::PlacedMember;
use sha2::{Digest, Sha256};

use crate::cluster::Cluster;
use crate::placement;
use crate::records::{SYSTEM_GROUP, system_table};

/// The orders that found the mesh, if it may be founded now: one node in each of three zones.
pub(crate) fn founding(
    cluster: &Cluster,
    me: u64,
    after_ms: u64,
    now_ms: u64,
) -> Option<Vec<(paxos::NodeId, Order)>> {
    if !cluster.may_found(me, after_ms, now_ms) {
        return None;
    }
    let members = placement::place(cluster.alive(now_ms), 1, 0)?.pop()?;
    let table = founded_table(&members);
    let order = create_replica(SYSTEM_GROUP, table.clone(), table_range(table.id), &members);
    Some(
        members
            .iter()
            .map(|m| (m.member.node, order.clone()))
            .collect(),
    )
}

/// The system table of the mesh whose first members these are. Its uuid follows from the identities of their disks, which are drawn: no two
/// meshes share it (archives of several may lie side by side), and a founding that is repeated gives the same one.
pub(crate) fn founded_table(members: &[PlacedMember]) -> TableDefinition {
    let mut disks: Vec<(u64, u64)> = members
        .iter()
        .map(|m| (m.member.node.0, m.member.incarnation))
        .collect();
    disks.sort_unstable();
    let mut digest = Sha256::new();
    for (node, incarnation) in disks {
        digest.update(node.to_be_bytes());
        digest.update(incarnation.to_be_bytes());
    }
    let drawn = digest.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&drawn[..16]);
    TableDefinition {
        uuid: uuid::Builder::from_random_bytes(bytes)
            .into_uuid()
            .to_string(),
        ..system_table()
    }
}

/// The order that makes the replicas of a new partition.
pub(crate) fn create_replica(
    partition: GroupId,
    table: TableDefinition,
    range: model::KeyRange,
    members: &[PlacedMember],
) -> Order {
    let configuration = Configuration::founding(members.iter().map(|m| m.member).collect());
    Order::CreateReplica(Box::new(CreateReplica {
        partition,
        table,
        range,
        configuration,
        members: members.to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::beat;

    #[test]
    fn orders_three_replicas_of_the_system_partition() {
        let mut cluster = Cluster::default();
        for node in 1..=4 {
            cluster.heard(beat("storage", node, &format!("az{node}"), 0), 0);
        }
        let orders = founding(&cluster, 1, 0, 0).unwrap();
        assert_eq!(orders.len(), 3);
        for (node, order) in &orders {
            let Order::CreateReplica(order) = order else {
                panic!("{order:?}")
            };
            assert_eq!(order.partition, SYSTEM_GROUP);
            assert!(order.configuration.members.iter().any(|m| m.node == *node));
            assert_eq!(order.configuration.generation, 1);
            assert_eq!(order.table, founded_table(&order.members));
            let mut other = order.members.clone();
            other.reverse();
            assert_eq!(founded_table(&other), order.table, "in whatever order");
            other[0].member.incarnation += 1;
            assert_ne!(founded_table(&other).uuid, order.table.uuid, "another disk");
        }
        assert!(founding(&cluster, 1, 10, 5).is_none());
    }
}
