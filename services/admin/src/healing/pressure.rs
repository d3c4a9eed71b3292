//! Takes load off nodes that work near what they are rated for, or whose disk fills up, before their tenants are throttled: hands leaders over
//! and moves replicas. One step a node at a time, each of which makes the worse of the two nodes better by a margin; so it comes to an end.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use model::Units;
use paxos::{GroupId, NodeId, Role};
use protocol::control::Order;

use super::leaders::successors;
use super::{Directive, Reason, Repairs, View};
use crate::partitions::Seen;
use crate::vitality::NodeView;

/// A step must make the node that is relieved better by so much, thousandths of what it is rated for …
const STEP_MIN: u64 = 5;
/// … and leave the other one better than that was by so much: what moved has no reason to come back.
const MARGIN: u64 = 50;
/// A partition that was moved is left alone for so long, milliseconds: its load must be seen where it is now.
const COOLDOWN_MS: u64 = 120_000;
/// Between two steps that touch one node, milliseconds: rates are means over some seconds, and pushes are seconds apart.
const STEP_MS: u64 = 15_000;
/// A node takes nothing that would bring it above this share of the threshold, thousandths: it would be the next one.
const TAKES_BELOW: u64 = 900;

/// What one node does: units a second, in thousandths, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    reads: u64,
    writes: u64,
    bytes: u64,
}

impl Load {
    fn plus(self, more: Load) -> Load {
        Load {
            reads: self.reads.saturating_add(more.reads),
            writes: self.writes.saturating_add(more.writes),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }

    fn minus(self, less: Load) -> Load {
        Load {
            reads: self.reads.saturating_sub(less.reads),
            writes: self.writes.saturating_sub(less.writes),
            bytes: self.bytes.saturating_sub(less.bytes),
        }
    }

    /// The most used of what the node has, thousandths.
    fn share(self, node: &NodeView) -> u64 {
        let of = |used: u64, rated: Units| {
            let rated = rated.thousandths();
            match rated {
                0 => 0,
                rated => (u128::from(used) * 1_000 / u128::from(rated)) as u64,
            }
        };
        let disk = u128::from(node.used_bytes) + u128::from(node.free_bytes);
        let disk = (u128::from(self.bytes) * 1_000).checked_div(disk);
        of(self.reads, node.rated.read)
            .max(of(self.writes, node.rated.write))
            .max(disk.unwrap_or(0) as u64)
    }
}

/// What all nodes do, by what the leaders say of their partitions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loads {
    nodes: BTreeMap<NodeId, Load>,
}

impl Loads {
    pub(crate) fn of(view: &View) -> Self {
        let mut loads = Self::default();
        for node in view.nodes.values() {
            let bytes = node.used_bytes;
            loads.add(
                node.node,
                Load {
                    bytes,
                    ..Load::default()
                },
            );
        }
        for (_, seen) in view.partitions.iter() {
            if let Some(leader) = seen.info.leader {
                loads.add(leader, led(seen));
            }
            let held = Load {
                bytes: 0,
                ..held(seen)
            };
            for node in seen
                .replicas()
                .map(|m| m.member.node)
                .collect::<BTreeSet<_>>()
            {
                loads.add(node, held);
            }
        }
        loads
    }

    fn add(&mut self, node: NodeId, load: Load) {
        let known = self.nodes.entry(node).or_default();
        *known = known.plus(load);
    }

    fn node(&self, node: NodeId) -> Load {
        self.nodes.get(&node).copied().unwrap_or_default()
    }

    /// How much of what it is rated for a node does, thousandths.
    fn share(&self, node: &NodeView) -> u64 {
        self.node(node.node).share(node)
    }

    /// Whether a node could lead this partition, too, without coming under pressure.
    pub(crate) fn may_lead(&self, node: &NodeView, seen: &Seen, view: &View) -> bool {
        self.fits(node, led(seen), view)
    }

    /// Whether a node could hold a replica of this partition, too.
    pub(crate) fn may_hold(&self, node: &NodeView, seen: &Seen, view: &View) -> bool {
        self.fits(node, held(seen), view)
    }

    /// What does not grow is no obstacle.
    fn fits(&self, node: &NodeView, more: Load, view: &View) -> bool {
        let limit = view.settings.pressed_permille * TAKES_BELOW / 1_000;
        let after = self.node(node.node).plus(more);
        let growing = Load {
            reads: if more.reads > 0 { after.reads } else { 0 },
            writes: if more.writes > 0 { after.writes } else { 0 },
            bytes: if more.bytes > 0 { after.bytes } else { 0 },
        };
        growing.share(node) <= limit
    }

    fn shift(&mut self, from: NodeId, to: NodeId, load: Load) {
        let left = self.node(from).minus(load);
        self.nodes.insert(from, left);
        self.add(to, load);
    }
}

/// What its leader does for a partition, beside holding it.
fn led(seen: &Seen) -> Load {
    Load {
        reads: seen.info.read_units_s.thousandths(),
        ..Load::default()
    }
}

/// What each of its replicas does.
fn held(seen: &Seen) -> Load {
    Load {
        writes: seen.info.write_units_s.thousandths(),
        bytes: seen.info.bytes,
        ..Load::default()
    }
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Relief {
    /// Hand its leadership over.
    Leader {
        partition: GroupId,
        from: NodeId,
        to: NodeId,
    },
    /// Build the replica on `from` anew on `to`.
    Replica {
        partition: GroupId,
        from: NodeId,
        to: NodeId,
    },
}

/// The planner.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// Since when a node reports that it is under pressure.
    since: BTreeMap<NodeId, u64>,
    moved: BTreeMap<GroupId, u64>,
    touched: BTreeMap<NodeId, u64>,
}

impl Pressure {
    /// What is to be done now.
    fn step(&mut self, view: &View, repairs: &Repairs) -> Vec<Relief> {
        let now_ms = view.now_ms;
        let recent = |at_ms: u64, ms: u64| now_ms.saturating_sub(at_ms) < ms;
        self.moved.retain(|_, at_ms| recent(*at_ms, COOLDOWN_MS));
        self.touched.retain(|_, at_ms| recent(*at_ms, STEP_MS));
        let known = std::mem::take(&mut self.since);
        for node in view.nodes.values().filter(|n| n.alive() && n.pressed) {
            let since_ms = known.get(&node.node).copied().unwrap_or(now_ms);
            self.since.insert(node.node, since_ms);
        }
        if view.blind() {
            return Vec::new();
        }
        let mut loads = Loads::of(view);
        let pressed_after_ms = view.settings.pressed_after_ms;
        let mut pressed: Vec<&NodeView> = self
            .since
            .iter()
            .filter(|(_, since_ms)| now_ms.saturating_sub(**since_ms) >= pressed_after_ms)
            .filter_map(|(node, _)| view.nodes.get(node))
            .collect();
        pressed.sort_by_key(|node| (std::cmp::Reverse(loads.share(node)), node.node));
        let mut steps = Vec::new();
        for node in pressed {
            let Some(best) = self.best(node, &loads, view, repairs) else {
                continue;
            };
            let (partition, from, to) = match best {
                Relief::Leader {
                    partition,
                    from,
                    to,
                }
                | Relief::Replica {
                    partition,
                    from,
                    to,
                } => (partition, from, to),
            };
            let Some(seen) = view.partitions.get(partition) else {
                continue;
            };
            let load = match best {
                Relief::Leader { .. } => led(seen),
                Relief::Replica { .. } => held(seen),
            };
            loads.shift(from, to, load);
            self.moved.insert(partition, now_ms);
            self.touched.insert(from, now_ms);
            self.touched.insert(to, now_ms);
            steps.push(best);
        }
        steps
    }

    /// Nodes that are under pressure.
    pub(crate) fn pressed(&self) -> usize {
        self.since.len()
    }

    /// The step that leaves the worse of the two nodes best off; hand-overs before moves, which cost a copy.
    fn best(
        &self,
        from: &NodeView,
        loads: &Loads,
        view: &View,
        repairs: &Repairs,
    ) -> Option<Relief> {
        let before = loads.share(from);
        if self.touched.contains_key(&from.node) {
            return None;
        }
        let free = |node: &&NodeView| !self.touched.contains_key(&node.node);
        let mut best: Option<(u64, Relief)> = None;
        let mut offer = |to: &NodeView, load: Load, step: Relief| {
            let left = loads.node(from.node).minus(load).share(from);
            let taken = loads.node(to.node).plus(load).share(to);
            let better = left + STEP_MIN <= before && taken + MARGIN <= before;
            let after = left.max(taken);
            if better && best.as_ref().is_none_or(|known| (after, step) < *known) {
                best = Some((after, step));
            }
        };
        for (partition, seen) in view.partitions.iter() {
            let calm = seen.fresh(view.now_ms)
                && !seen.info.changing
                && seen.info.learners.is_empty()
                && seen.info.split.is_none()
                && !self.moved.contains_key(&partition)
                && !repairs.touches(partition);
            let Some(leader) = seen.info.leader.filter(|_| calm) else {
                continue;
            };
            if leader == from.node && from.candidates.contains(&partition) {
                let heirs = successors(seen, leader, view);
                for to in heirs.filter_map(|to| view.nodes.get(&to)).filter(free) {
                    let step = Relief::Leader {
                        partition,
                        from: from.node,
                        to: to.node,
                    };
                    offer(to, led(seen), step);
                }
            }
            let holds = seen.info.members.iter();
            let mut holds = holds.filter(|m| m.member.role == Role::Storage);
            if leader == from.node || !holds.any(|m| m.member.node == from.node) {
                continue;
            }
            let others = seen.replicas().filter(|m| m.member.node != from.node);
            let zones: BTreeSet<&str> = others.map(|m| m.zone.as_str()).collect();
            let fit = |to: &&NodeView| {
                to.takes_replicas(view.free_bytes_min)
                    && !seen.on(to.node)
                    && !zones.contains(to.zone.as_str())
            };
            for to in view.nodes.values().filter(free).filter(fit) {
                let step = Relief::Replica {
                    partition,
                    from: from.node,
                    to: to.node,
                };
                offer(to, held(seen), step);
            }
        }
        best.map(|(_, step)| step)
    }
}

/// Takes load off nodes that are under pressure: orders for the hand-overs; the moves go to the repairs, which bound them.
pub(crate) fn relieve(
    pressure: &mut Pressure,
    repairs: &mut Repairs,
    view: &View,
) -> Vec<Directive> {
    let mut orders = Vec::new();
    for step in pressure.step(view, repairs) {
        match step {
            Relief::Leader {
                partition,
                from,
                to,
            } => {
                tracing::info!(
                    partition = partition.0,
                    from = from.0,
                    to = to.0,
                    "a node under pressure hands a partition over"
                );
                orders.push(Directive {
                    to: from,
                    partition,
                    order: Order::TransferLeadership { partition, to },
                });
            }
            Relief::Replica {
                partition,
                from,
                to,
            } => {
                let moved = repairs.replace(partition, from, to, Reason::Pressure, view);
                if let Err(why) = moved {
                    tracing::info!(partition = partition.0, why, "a replica stays where it is");
                }
            }
        }
    }
    orders
}
