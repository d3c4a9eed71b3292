//! Evens the number of replicas over the nodes, so that a node that joins gets its share. Slow: a few at a time, and only while nothing
//! is wrong anywhere. Pure.

use std::collections::{BTreeMap, BTreeSet};

use paxos::{GroupId, NodeId, Role};

use super::View;
use super::diagnosis::{Ailment, Reason, copies};
use super::pressure::Loads;
use crate::partitions::Seen;

/// Differences below this are left alone: replicas …
const DIFFERENCE_MIN: u64 = 3;
/// … or this share of the fuller node's, percent.
const DIFFERENCE_PERCENT: u64 = 20;
/// Fullest and emptiest nodes that are looked at.
const LOOKED_AT: usize = 4;
/// A node must be up for so long before others' replicas are moved to it, milliseconds.
const UP_MS: u64 = 60_000;

/// Replicas to move, `max` at most; where to is the target's choice, which takes the emptiest fit node.
pub(super) fn moves(
    view: &View,
    load: &BTreeMap<NodeId, u64>,
    max: usize,
) -> Vec<(GroupId, Ailment)> {
    let of = |node: NodeId| load.get(&node).copied().unwrap_or(0);
    let mut nodes: Vec<_> = view
        .nodes
        .values()
        .filter(|n| n.takes_replicas(view.free_bytes_min) && n.alive_ms >= UP_MS)
        .collect();
    nodes.sort_by_key(|n| (of(n.node), n.node));
    let loads = Loads::of(view);
    for full in nodes.iter().rev().take(LOOKED_AT) {
        for empty in nodes.iter().take(LOOKED_AT) {
            let needed = DIFFERENCE_MIN.max(of(full.node) * DIFFERENCE_PERCENT / 100);
            if of(full.node).saturating_sub(of(empty.node)) < needed {
                break;
            }
            let fits = |seen: &Seen| {
                let others = seen.info.members.iter();
                let others = others.filter(|m| m.member.node != full.node);
                let zones: BTreeSet<&str> = others.map(|m| m.zone.as_str()).collect();
                !seen.on(empty.node)
                    && !zones.contains(empty.zone.as_str())
                    && loads.may_hold(empty, seen, view)
            };
            let found: Vec<_> = view
                .partitions
                .iter()
                .filter_map(|(id, seen)| Some((id, seen, movable(seen, full.node, view)?)))
                .filter(|(_, seen, _)| fits(seen))
                .map(|(id, _, ailment)| (id, ailment))
                .take(max)
                .collect();
            if !found.is_empty() {
                return found;
            }
        }
    }
    Vec::new()
}

/// The replica on `node`, if it may be moved: not the leader's, and nothing else is going on.
fn movable(seen: &Seen, node: NodeId, view: &View) -> Option<Ailment> {
    let info = &seen.info;
    let member = info
        .members
        .iter()
        .find(|m| m.member.node == node && m.member.role == Role::Storage)?;
    let copies = copies(seen, view);
    let calm = seen.fresh(view.now_ms)
        && !info.changing
        && info.learners.is_empty()
        // Whoever takes a replica away has its children made anew.
        && info.split.is_none()
        && info.leader.is_some_and(|leader| leader != node)
        && copies == info.members.len();
    calm.then_some(Ailment {
        replaced: node,
        incarnation: member.member.incarnation,
        reason: Reason::Balance,
        copies,
        joining: None,
    })
}
