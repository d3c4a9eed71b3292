//! Replicas that a scrub found to differ from the others: orders their nodes to fence them, unless too little would be left. What follows is
//! the healing of any fenced replica.

use std::sync::Arc;

use paxos::{GroupId, NodeId};
use protocol::control::Order;
use protocol::operate::Answer;

use crate::driver::{Admin, Outcome};
use crate::healing::{View, healthy};
use crate::partitions::Seen;

/// Storage copies with which nothing is wrong that must be left.
const COPIES_MIN: usize = 2;

/// Whether the replica may be taken out of service now, and if not, why.
fn allowed(seen: &Seen, (node, incarnation): (NodeId, u64), view: &View) -> Result<(), String> {
    let of = |m: &&protocol::directory::PlacedMember| m.member.is(node, incarnation);
    if !seen.replicas().any(|member| of(&member)) {
        return Err(format!("node {} has no such replica any more", node.0));
    }
    let others = seen.info.members.iter().filter(|member| !of(member));
    let left = others.filter(|member| healthy(member, seen, view)).count();
    if left < COPIES_MIN {
        return Err(format!(
            "{left} other healthy copies would be left, {COPIES_MIN} are needed: heal those first"
        ));
    }
    Ok(())
}

/// `Condemn`.
pub(crate) async fn condemn(
    admin: &Arc<Admin>,
    partition: GroupId,
    replica: (NodeId, u64),
    why: String,
) -> Answer {
    let allowed = admin.with_plan(|_, view| match view.partitions.get(partition) {
        Some(seen) => allowed(seen, replica, view),
        None => Err(format!("partition {} is not known", partition.0)),
    });
    let (node, incarnation) = replica;
    if let Err(refusal) = allowed {
        tracing::error!(
            partition = partition.0,
            node = node.0,
            why,
            refusal,
            "a replica differs from the others, and is not fenced"
        );
        return Answer::Refused(refusal);
    }
    tracing::error!(
        partition = partition.0,
        node = node.0,
        why,
        "a replica differs from the others: it is to be fenced"
    );
    let order = Order::FenceReplica {
        partition,
        incarnation,
        why,
    };
    match admin.order(node, &order).await {
        Outcome::Done => {
            let cause = telemetry::traces::current();
            admin.with_plan(|plan, _| plan.traces.because(partition, cause));
            Answer::Done(format!(
                "node {} has fenced its replica of partition {}",
                node.0, partition.0
            ))
        }
        Outcome::Refused(why) => Answer::Refused(format!("node {} refuses: {why}", node.0)),
        Outcome::NotLeader | Outcome::Silent => {
            Answer::Refused(format!("node {} does not answer", node.0))
        }
        Outcome::Stale(_) | Outcome::Unauthorised => {
            Answer::Refused("another admin gives the orders now: try again".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partitions::Partitions;
    use crate::partitions::tests::{info, push};
    use crate::settings::HealingSettings;
    use crate::vitality::NodeViews;

    const NODES: [(u64, &str); 3] = [(1, "az1"), (2, "az2"), (3, "az3")];

    fn may(members: &[(u64, &str)], replica: (NodeId, u64)) -> Result<(), String> {
        let mut partitions = Partitions::default();
        partitions.learn(push(vec![info(20, members)]), 100);
        let nodes = NodeViews::new();
        let view = View {
            now_ms: 100,
            nodes: &nodes,
            partitions: &partitions,
            settings: &HealingSettings::default(),
            free_bytes_min: 0,
        };
        allowed(partitions.get(GroupId(20)).unwrap(), replica, &view)
    }

    #[test]
    fn two_healthy_copies_must_be_left() {
        assert_eq!(may(&NODES, (NodeId(2), 1)), Ok(()));
        let why = may(&NODES[..2], (NodeId(2), 1)).unwrap_err();
        assert!(why.contains("1 other healthy copies"), "{why}");
    }

    #[test]
    fn a_replica_that_is_not_there_any_more_is_nobody() {
        for replica in [(NodeId(2), 7), (NodeId(4), 1)] {
            let why = may(&NODES, replica).unwrap_err();
            assert!(why.contains("no such replica"), "{why}");
        }
    }
}
