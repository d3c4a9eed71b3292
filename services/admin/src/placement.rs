//! Where new replicas go: three zones, the least loaded node in each, and the members of a table's partitions in turn first, so that
//! their first leaders spread. Pure.

use std::collections::BTreeMap;

use paxos::{Member, NodeId, Role};
use protocol::directory::PlacedMember;

use crate::cluster::StorageNode;

/// Replicas of a partition.
pub(crate) const REPLICAS: usize = 3;

/// Chooses the members of `count` partitions; none if three zones with a fit node each cannot be had.
pub(crate) fn place<'a>(
    nodes: impl Iterator<Item = &'a StorageNode>,
    count: usize,
    free_bytes_min: u64,
) -> Option<Vec<Vec<PlacedMember>>> {
    let mut zones: BTreeMap<&str, Vec<Candidate<'a>>> = BTreeMap::new();
    for node in nodes.filter(|n| fit(n, free_bytes_min)) {
        let candidate = Candidate {
            node,
            replicas: node.health.replicas,
        };
        zones.entry(node.zone.as_str()).or_default().push(candidate);
    }
    if zones.len() < REPLICAS {
        return None;
    }
    Some(
        (0..count)
            .map(|index| place_one(&mut zones, index))
            .collect(),
    )
}

struct Candidate<'a> {
    node: &'a StorageNode,
    replicas: u64,
}

impl Candidate<'_> {
    /// Smaller = better: fewer replicas first, then more free disk, then the lower number so that the choice is the same everywhere.
    fn order(&self) -> (u64, std::cmp::Reverse<u64>, NodeId) {
        (
            self.replicas,
            std::cmp::Reverse(self.node.health.free_bytes),
            self.node.node,
        )
    }
}

fn fit(node: &StorageNode, free_bytes_min: u64) -> bool {
    node.ready && !node.draining && node.health.free_bytes >= free_bytes_min
}

fn place_one(zones: &mut BTreeMap<&str, Vec<Candidate<'_>>>, index: usize) -> Vec<PlacedMember> {
    // The three zones whose best node is the least loaded.
    let mut best: Vec<_> = zones
        .iter()
        .filter_map(|(&zone, nodes)| {
            let (at, node) = nodes.iter().enumerate().min_by_key(|(_, c)| c.order())?;
            Some((node.order(), zone, at))
        })
        .collect();
    best.sort();
    best.truncate(REPLICAS);
    best.sort_by_key(|&(_, zone, _)| zone);
    let mut members = Vec::with_capacity(REPLICAS);
    for (_, zone, at) in best {
        let Some(chosen) = zones.get_mut(zone).and_then(|nodes| nodes.get_mut(at)) else {
            continue;
        };
        chosen.replicas += 1;
        let node = chosen.node;
        let member = Member {
            node: node.node,
            role: Role::Storage,
            incarnation: node.incarnation,
        };
        members.push(PlacedMember {
            member,
            zone: node.zone.clone(),
        });
    }
    members.rotate_left(index % REPLICAS);
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::cluster::tests::beat;

    fn cluster(nodes: &[(u64, &str, u64)]) -> Cluster {
        let mut cluster = Cluster::default();
        for &(node, zone, replicas) in nodes {
            let mut beat = beat("storage", node, zone, replicas);
            if let Some(health) = &mut beat.storage {
                health.free_bytes = 1 << 40;
            }
            cluster.heard(beat, 0);
        }
        cluster
    }

    fn nodes_of(members: &[PlacedMember]) -> Vec<u64> {
        members.iter().map(|m| m.member.node.0).collect()
    }

    #[test]
    fn three_zones_or_nothing() {
        let two = cluster(&[(1, "az1", 0), (2, "az2", 0), (3, "az2", 0)]);
        assert!(place(two.alive(0), 1, 0).is_none());
        let three = cluster(&[(1, "az1", 0), (2, "az2", 0), (3, "az3", 0)]);
        let placed = place(three.alive(0), 3, 0).unwrap();
        assert_eq!(nodes_of(&placed[0]), [1, 2, 3]);
        assert_eq!(nodes_of(&placed[1]), [2, 3, 1]);
        assert_eq!(nodes_of(&placed[2]), [3, 1, 2]);
    }

    #[test]
    fn load_spreads_within_a_zone_and_over_zones() {
        let cluster = cluster(&[
            (1, "az1", 5),
            (2, "az1", 0),
            (3, "az2", 0),
            (4, "az3", 0),
            (5, "az4", 9),
        ]);
        let placed = place(cluster.alive(0), 40, 0).unwrap();
        let mut counts = BTreeMap::new();
        for members in &placed {
            let zones: std::collections::BTreeSet<_> = members.iter().map(|m| &m.zone).collect();
            assert_eq!(zones.len(), 3);
            for node in nodes_of(members) {
                *counts.entry(node).or_insert(0u64) += 1;
            }
        }
        assert_eq!(counts.values().sum::<u64>(), 120);
        assert!(counts[&5] > 0, "the busy zone gets its share in the end");
        assert!(counts[&2] > counts[&1], "the emptier node gets more");
    }

    #[test]
    fn full_draining_and_unready_nodes_get_nothing() {
        let mut nodes: Vec<StorageNode> = cluster(&[(1, "az1", 0), (2, "az2", 0), (3, "az3", 0)])
            .alive(0)
            .cloned()
            .collect();
        assert!(place(nodes.iter(), 1, 1 << 41).is_none());
        nodes[0].draining = true;
        assert!(place(nodes.iter(), 1, 0).is_none());
        nodes[0].draining = false;
        nodes[2].ready = false;
        assert!(place(nodes.iter(), 1, 0).is_none());
        nodes[2].ready = true;
        assert!(place(nodes.iter(), 1, 0).is_some());
    }
}
