//! Where leaders are: a like share in each zone, even over the nodes, none on slow or draining nodes. A few hand-overs at a time. Pure.

use std::collections::BTreeMap;

use paxos::{GroupId, NodeId, Role};
use protocol::control::Order;

use super::pressure::Loads;
use super::{Directive, Repairs, View};
use crate::partitions::Seen;
use crate::vitality::SETTLE_MS;

/// Time between two rounds, milliseconds: a push tells of a hand-over within one.
const ROUND_MS: u64 = 1_000;
/// A partition that was handed over is left alone for so long, milliseconds.
const COOLDOWN_MS: u64 = 60_000;
/// The same where the leader must go.
const URGENT_COOLDOWN_MS: u64 = 10_000;
/// A hand-over must make the spread better by so much (see `gain`): hysteresis.
const GAIN_MIN: i64 = 2;

/// The planner.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    handed_ms: BTreeMap<GroupId, u64>,
    next_ms: u64,
}

/// Leaders by node and by zone.
struct Counts<'a> {
    nodes: BTreeMap<NodeId, i64>,
    zones: BTreeMap<&'a str, i64>,
}

impl<'a> Counts<'a> {
    fn new(view: &View<'a>) -> Self {
        let mut counts = Self {
            nodes: BTreeMap::new(),
            zones: BTreeMap::new(),
        };
        for (node, leaders) in view.partitions.leaders(view.now_ms) {
            counts.add(view, node, i64::try_from(leaders).unwrap_or(i64::MAX));
        }
        counts
    }

    fn add(&mut self, view: &View<'a>, node: NodeId, leaders: i64) {
        *self.nodes.entry(node).or_insert(0) += leaders;
        if let Some(view) = view.nodes.get(&node) {
            *self.zones.entry(view.zone.as_str()).or_insert(0) += leaders;
        }
    }

    fn of(&self, view: &View, node: NodeId) -> (i64, i64) {
        let zone = view.nodes.get(&node).map_or("", |n| n.zone.as_str());
        (
            self.nodes.get(&node).copied().unwrap_or(0),
            self.zones.get(zone).copied().unwrap_or(0),
        )
    }

    /// How much better the spread gets: half of what the sum of the squares of all counts loses. Each hand-over with a positive gain
    /// makes that sum smaller, so they come to an end.
    fn gain(&self, view: &View, from: NodeId, to: NodeId) -> i64 {
        let (from_node, from_zone) = self.of(view, from);
        let (to_node, to_zone) = self.of(view, to);
        let same_zone =
            view.nodes.get(&from).map(|n| &n.zone) == view.nodes.get(&to).map(|n| &n.zone);
        let zones = if same_zone {
            0
        } else {
            from_zone - to_zone - 1
        };
        from_node - to_node - 1 + zones
    }
}

impl Leaders {
    /// What is to be ordered now.
    pub(crate) fn step(&mut self, view: &View, repairs: &Repairs) -> Vec<Directive> {
        if view.now_ms < self.next_ms || view.blind() {
            return Vec::new();
        }
        self.next_ms = view.now_ms + ROUND_MS;
        self.handed_ms
            .retain(|_, at_ms| view.now_ms.saturating_sub(*at_ms) < COOLDOWN_MS);
        let mut counts = Counts::new(view);
        let total: i64 = counts.nodes.values().sum();
        let nodes = view.nodes.values().filter(|n| n.takes_leaders()).count();
        let mean = total / i64::try_from(nodes.max(1)).unwrap_or(i64::MAX);
        let gain_min = GAIN_MIN.max(mean / 10);
        let loads = Loads::of(view);
        let mut orders = Vec::new();
        for urgent in [true, false] {
            for (partition, seen) in view.partitions.iter() {
                if orders.len() >= view.settings.transfers_max {
                    return orders;
                }
                let Some(from) = self.leader(partition, seen, view, repairs, urgent) else {
                    continue;
                };
                // What only makes the spread better puts no node under pressure.
                let settled = |to: &NodeId| {
                    let node = view.nodes.get(to);
                    urgent
                        || node.is_some_and(|n| {
                            n.alive_ms >= SETTLE_MS && loads.may_lead(n, seen, view)
                        })
                };
                let best = successors(seen, from, view)
                    .filter(settled)
                    .map(|to| (counts.gain(view, from, to), to))
                    .max_by_key(|&(gain, to)| (gain, std::cmp::Reverse(to)));
                if let Some((gain, to)) = best
                    && (urgent || gain >= gain_min)
                {
                    counts.add(view, from, -1);
                    counts.add(view, to, 1);
                    self.handed_ms.insert(partition, view.now_ms);
                    orders.push(Directive {
                        to: from,
                        partition,
                        order: Order::TransferLeadership { partition, to },
                    });
                }
            }
        }
        orders
    }

    /// The leader, if the partition may be handed over now. `urgent`: only those that must be; else only the others.
    fn leader(
        &self,
        partition: GroupId,
        seen: &Seen,
        view: &View,
        repairs: &Repairs,
        urgent: bool,
    ) -> Option<NodeId> {
        let leader = seen.info.leader?;
        let node = view.nodes.get(&leader)?;
        let cooldown_ms = if urgent {
            URGENT_COOLDOWN_MS
        } else {
            COOLDOWN_MS
        };
        let rested = self
            .handed_ms
            .get(&partition)
            .is_none_or(|at_ms| view.now_ms.saturating_sub(*at_ms) >= cooldown_ms);
        let calm = seen.fresh(view.now_ms) && !seen.info.changing && !repairs.touches(partition);
        let split = seen.ended() || seen.info.split.is_some() && !urgent;
        let wanted = (node.slow || node.draining) == urgent && !node.dead();
        (rested && calm && wanted && !split).then_some(leader)
    }
}

/// Who could lead instead: storage members in step on nodes that take leaders.
pub(super) fn successors<'a>(
    seen: &'a Seen,
    leader: NodeId,
    view: &'a View<'a>,
) -> impl Iterator<Item = NodeId> + 'a {
    let in_step = |member: &paxos::Member| {
        let progress = &seen.info.progress;
        progress.is_empty()
            || progress
                .iter()
                .any(|p| member.is(p.node, p.incarnation) && p.in_step)
    };
    seen.info
        .members
        .iter()
        .map(|m| &m.member)
        .filter(move |m| m.role == Role::Storage && m.node != leader)
        .filter(|m| view.nodes.get(&m.node).is_some_and(|n| n.takes_leaders()))
        .filter(move |m| in_step(m))
        .map(|m| m.node)
}
