//! Where a replica is built anew. Pure.

use std::collections::{BTreeMap, BTreeSet};

use paxos::{NodeId, Role};

use super::View;
use super::diagnosis::{Ailment, Reason, bad};
use crate::partitions::Seen;
use crate::vitality::{NodeView, SETTLE_MS};

/// What limits the choice.
pub(crate) struct Choice<'a> {
    /// Storage replicas by node, with those that are ordered.
    pub(crate) load: &'a BTreeMap<NodeId, u64>,
    /// Replacements under way by target.
    pub(crate) incoming: &'a BTreeMap<NodeId, usize>,
    /// Nodes that refused this partition lately.
    pub(crate) avoid: &'a [NodeId],
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Node(NodeId),
    /// There are fit nodes, and they have enough to do.
    Busy,
    /// There is none; in words for the operator.
    None(&'static str),
}

/// The best node for a new replica: another zone than those that stay have, enough room, the fewest replicas.
pub(crate) fn choose(seen: &Seen, ailment: &Ailment, view: &View, choice: &Choice) -> Target {
    if let Some(joining) = ailment.joining {
        return Target::Node(joining);
    }
    let stays: BTreeSet<NodeId> = seen
        .replicas()
        .filter(|m| m.member.role == Role::Storage && m.member.node != ailment.replaced)
        .filter(|m| bad(m, seen, view).is_none_or(|reason| reason == Reason::Draining))
        .map(|m| m.member.node)
        .collect();
    let zones: BTreeSet<&str> = seen
        .replicas()
        .filter(|m| stays.contains(&m.member.node))
        .map(|m| m.zone.as_str())
        .collect();
    let elsewhere = |n: &&NodeView| !zones.contains(n.zone.as_str());
    let mut tiers: BTreeMap<u8, Vec<&NodeView>> = BTreeMap::new();
    for node in view.nodes.values() {
        if let Some(tier) = tier(node, seen, ailment, view) {
            let tier = tier + if elsewhere(&node) { 0 } else { CROWDED };
            tiers.entry(tier).or_default().push(node);
        }
    }
    // Two in one zone only if it is about to stay so: while a lost zone may come back, two copies and the log wait for it.
    let zone_may_come_back = view
        .nodes
        .values()
        .filter(elsewhere)
        .filter(|n| !n.draining)
        .any(|n| n.silent_ms < view.settings.zone_lost_after_ms);
    let mut fit = false;
    for (tier, nodes) in tiers {
        if tier >= CROWDED && (zone_may_come_back || ailment.reason.is_move()) {
            break;
        }
        let wanted = nodes
            .iter()
            .filter(|n| !choice.avoid.contains(&n.node))
            .collect::<Vec<_>>();
        fit |= !wanted.is_empty();
        let per_target_max = view.settings.replacements_per_target_max;
        let best = wanted
            .into_iter()
            .filter(|n| choice.incoming.get(&n.node).copied().unwrap_or(0) < per_target_max)
            .min_by_key(|n| {
                let load = choice.load.get(&n.node).copied().unwrap_or(0);
                (load, std::cmp::Reverse(n.free_bytes), n.node)
            });
        if let Some(best) = best {
            return Target::Node(best.node);
        }
        if fit {
            return Target::Busy;
        }
    }
    Target::None("no node in another zone is alive, has room and is not being drained")
}

/// Added for a node in a zone that has a replica already.
const CROWDED: u8 = 10;

/// How welcome a node is, zones apart: smaller is better; none if it can't be.
fn tier(node: &NodeView, seen: &Seen, ailment: &Ailment, view: &View) -> Option<u8> {
    if !node.takes_replicas(view.free_bytes_min) {
        return None;
    }
    if node.node == ailment.replaced {
        // The same node heals itself: a new disk is as good as any, one that corrupted a replica is not.
        return match ailment.reason {
            Reason::DiskLost => Some(0),
            Reason::Fenced => Some(1),
            _ => None,
        };
    }
    if seen
        .info
        .learners
        .iter()
        .any(|m| m.member.node == node.node)
    {
        return None;
    }
    match seen
        .info
        .members
        .iter()
        .find(|m| m.member.node == node.node)
    {
        // The leader moves or ends its log replica first.
        Some(member) if member.member.role == Role::Log => Some(2),
        Some(_) => None,
        // One that has only just come up may go down again.
        None if node.alive_ms < SETTLE_MS => Some(1),
        None => Some(0),
    }
}
