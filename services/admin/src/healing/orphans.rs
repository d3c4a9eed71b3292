//! Replicas that nobody wants any more: left over from a change that they missed, or of a table that is gone. Pure.

use std::collections::BTreeMap;

use paxos::{GroupId, NodeId};
use protocol::control::Order;
use protocol::health::LeaderlessReplica;

use super::{Directive, View};
use crate::records::FIRST_ID;

/// A replica that hears of no leader, and where it is.
pub(crate) type Leaderless = (NodeId, LeaderlessReplica);

/// What to tell their nodes. `recorded`: the partitions of the system table, read *after* the replicas reported, with whether they are
/// being dropped (a partition's record is there before its first replica, and goes after its last). `next_partition`: first number
/// that was never given out.
pub(crate) fn orphans(
    replicas: &[Leaderless],
    recorded: &BTreeMap<GroupId, bool>,
    next_partition: u64,
    view: &View,
) -> Vec<Directive> {
    let order = |(node, replica): &Leaderless| {
        let partition = replica.partition;
        let alive = recorded.get(&partition) == Some(&false) || partition.0 < FIRST_ID;
        let order = if !alive && partition.0 < next_partition {
            Order::DropReplica { partition }
        } else {
            let seen = view.partitions.get(partition)?;
            let info = &seen.info;
            let named = seen
                .replicas()
                .any(|m| m.member.is(*node, replica.incarnation));
            let newer = info.generation > replica.generation;
            if named || !newer || info.changing || !seen.fresh(view.now_ms) {
                return None;
            }
            Order::RetireReplica {
                partition,
                incarnation: replica.incarnation,
                generation: info.generation,
            }
        };
        Some(Directive {
            to: *node,
            partition,
            order,
        })
    };
    replicas.iter().filter_map(order).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partitions::Partitions;
    use crate::partitions::tests::{info, push};
    use crate::settings::HealingSettings;
    use crate::vitality::NodeViews;

    fn order(replica: (u64, u64, u64, u64), generation: u64, recorded: &[(u64, bool)]) -> String {
        let (node, partition, incarnation, of_generation) = replica;
        let mut partitions = Partitions::default();
        let mut known = info(20, &[(1, "az1"), (2, "az2"), (3, "az3")]);
        known.generation = generation;
        partitions.learn(push(vec![known]), 0);
        let (nodes, settings) = (NodeViews::new(), HealingSettings::default());
        let view = View {
            now_ms: 0,
            nodes: &nodes,
            partitions: &partitions,
            settings: &settings,
            free_bytes_min: 0,
        };
        let replica = LeaderlessReplica {
            partition: GroupId(partition),
            incarnation,
            generation: of_generation,
        };
        let recorded = recorded.iter().map(|&(id, drop)| (GroupId(id), drop));
        let found = orphans(&[(NodeId(node), replica)], &recorded.collect(), 30, &view);
        match found.as_slice() {
            [] => "nothing".to_owned(),
            [one] => format!("{:?}", one.order),
            more => panic!("{more:?}"),
        }
    }

    #[test]
    fn only_what_a_newer_configuration_does_not_name_is_retired() {
        let live = &[(20, false)];
        let retired = order((4, 20, 1, 2), 3, live);
        assert!(retired.starts_with("RetireReplica"), "{retired}");
        assert!(retired.contains("generation: 3"), "{retired}");
        assert_eq!(order((4, 20, 1, 3), 3, live), "nothing", "not newer");
        assert_eq!(order((3, 20, 1, 2), 3, live), "nothing", "it is a member");
        let former = order((3, 20, 7, 2), 3, live);
        assert!(
            former.starts_with("RetireReplica"),
            "another life: {former}"
        );
        assert_eq!(
            order((4, 21, 1, 1), 3, &[(21, false)]),
            "nothing",
            "no word"
        );
        assert_eq!(order((4, 1, 1, 1), 3, &[]), "nothing", "the system's own");
    }

    #[test]
    fn what_belongs_to_no_table_is_dropped() {
        for recorded in [&[][..], &[(21, true)]] {
            let dropped = order((4, 21, 1, 1), 3, recorded);
            assert!(dropped.starts_with("DropReplica"), "{dropped}");
        }
        assert_eq!(order((4, 30, 1, 1), 3, &[]), "nothing", "of a later time");
    }
}
