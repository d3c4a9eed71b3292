//! Founding of an empty mesh: the first replicas of the system table's partition. Owns when and where, once in a mesh's life.

use model::key::table_range;
use paxos::{Configuration, GroupId};
use protocol::control::{CreateReplica, Order};

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
    let table = system_table();
    let order = create_replica(SYSTEM_GROUP, table.clone(), table_range(table.id), &members);
    Some(
        members
            .iter()
            .map(|m| (m.member.node, order.clone()))
            .collect(),
    )
}

/// The order that makes the replicas of a new partition.
pub(crate) fn create_replica(
    partition: GroupId,
    table: model::TableDefinition,
    range: model::KeyRange,
    members: &[protocol::directory::PlacedMember],
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
        }
        assert!(founding(&cluster, 1, 10, 5).is_none());
    }
}
