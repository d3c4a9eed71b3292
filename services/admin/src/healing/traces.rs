//! The traces of replacements, each from its first order until it is done or given up, and of losses of nodes; and what replacements and hand-overs come
//! about because of. Owns what is remembered for that; decides nothing, and may forget at any time.

use std::collections::BTreeMap;

use mesh::TraceContext;
use paxos::{GroupId, NodeId};
use protocol::control::Order;
use telemetry::traces::Flow;

use super::{Directive, Reason, Repairs};
use crate::vitality::NodeViews;

/// Partitions whose causes are remembered; of more, the earliest ones are forgotten.
const CAUSES_MAX: usize = 1_000;

/// A replacement that was ordered.
#[derive(Debug)]
struct Ordered {
    flow: Flow,
    reason: &'static str,
    replaced: NodeId,
    target: NodeId,
}

/// What was ordered and is not seen to have ended, and what brought it about.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    ordered: BTreeMap<GroupId, Ordered>,
    causes: BTreeMap<GroupId, TraceContext>,
    /// Nodes that are dead, and the traces of their loss.
    lost: BTreeMap<NodeId, TraceContext>,
    /// Nodes that are drained, and what wanted that.
    drained: BTreeMap<NodeId, TraceContext>,
}

impl Traces {
    /// The next replacement in this partition is because of this: of what found a replica to be damaged, or of an order.
    pub(crate) fn because(&mut self, partition: GroupId, cause: TraceContext) {
        if cause.is_some() {
            self.causes.insert(partition, cause);
        }
        while self.causes.len() > CAUSES_MAX {
            self.causes.pop_first();
        }
    }

    /// These nodes are being drained, because of this.
    pub(crate) fn drained(&mut self, drained: BTreeMap<NodeId, TraceContext>) {
        self.drained = drained;
    }

    /// The nodes as they are now: gives the flows of the losses that are new, each from when the node was heard last, and why it is taken for dead.
    pub(crate) fn lost(&mut self, nodes: &NodeViews, now_ns: u64) -> Vec<(Flow, String)> {
        let dead = |node: &NodeId| nodes.get(node).is_some_and(|n| n.dead());
        self.lost.retain(|node, _| dead(node));
        // What was drained may go.
        let lost = nodes.values().filter(|n| n.dead() && !n.draining);
        let new = lost.filter(|n| !self.lost.contains_key(&n.node));
        let new: Vec<_> = new
            .map(|node| {
                let heard_ns = now_ns.saturating_sub(node.silent_ms.saturating_mul(1_000_000));
                let flow = Flow::since("node lost", heard_ns)
                    .with("evenkeel.node", number(node.node))
                    .with("evenkeel.zone", node.zone.clone());
                let why = format!("not heard for {} ms", node.silent_ms);
                (node.node, flow, why)
            })
            .collect();
        (self.lost).extend(new.iter().map(|(node, flow, _)| (*node, flow.context())));
        new.into_iter().map(|(_, flow, why)| (flow, why)).collect()
    }

    /// What the replacement of a replica on this node, for this reason, comes about because of.
    fn cause(&self, reason: Option<Reason>, replaced: NodeId) -> TraceContext {
        let of = |causes: &BTreeMap<NodeId, TraceContext>| causes.get(&replaced).copied();
        let cause = match reason {
            Some(Reason::Dead) => of(&self.lost),
            Some(Reason::Draining) => of(&self.drained),
            _ => None,
        };
        cause.unwrap_or_default()
    }

    /// An order is about to be given: what it is part of, or comes about because of; none if that has no trace.
    pub(crate) fn ordered(
        &mut self,
        directive: &Directive,
        repairs: &Repairs,
        now_ns: u64,
    ) -> TraceContext {
        let (partition, replaced, target) = match directive.order {
            Order::ReplaceReplica {
                partition,
                replaced,
                target,
                ..
            } => (partition, replaced, target),
            Order::TransferLeadership { .. } => {
                let cause = self.drained.get(&directive.to);
                return cause.copied().unwrap_or_default();
            }
            _ => return TraceContext::default(),
        };
        let reason = repairs.reason(partition);
        let cause = self.cause(reason, replaced);
        let causes = &mut self.causes;
        let ordered = self.ordered.entry(partition).or_insert_with(|| {
            let cause = causes.remove(&partition).unwrap_or(cause);
            Ordered {
                flow: Flow::since("replace replica", now_ns)
                    .of_partition(partition.0)
                    .caused_by(cause),
                reason: reason.map(Reason::words).unwrap_or_default(),
                replaced,
                target,
            }
        });
        // Another one was tried.
        ordered.target = target;
        ordered.flow.context()
    }

    /// The flows of what ended with the last step of the repairs, and how.
    pub(crate) fn ended(&mut self, repairs: &Repairs) -> Vec<(Flow, Result<(), String>)> {
        let ended = repairs.ended().iter().filter_map(|(partition, done)| {
            let ordered = self.ordered.remove(partition)?;
            let flow = (ordered.flow)
                .with("evenkeel.replacement.reason", ordered.reason)
                .with("evenkeel.replacement.from_node", number(ordered.replaced))
                .with("evenkeel.replacement.to_node", number(ordered.target));
            let result = match done {
                true => Ok(()),
                false => Err("given up".to_owned()),
            };
            Some((flow, result))
        });
        ended.collect()
    }
}

fn number(node: NodeId) -> i64 {
    i64::try_from(node.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vitality::NodeView;
    use protocol::operate::Vitality;

    fn directive(partition: u64, target: u64) -> Directive {
        let partition = GroupId(partition);
        let order = Order::ReplaceReplica {
            partition,
            generation: 3,
            replaced: NodeId(1),
            target: NodeId(target),
        };
        Directive {
            to: NodeId(2),
            partition,
            order,
        }
    }

    #[test]
    fn a_replacement_is_one_flow_however_often_it_is_ordered_and_knows_its_cause() {
        let (mut traces, repairs) = (Traces::default(), Repairs::default());
        let cause = Flow::since("scrub", 1).context();
        traces.because(GroupId(7), cause);
        traces.because(GroupId(8), TraceContext::default());
        let part_of = traces.ordered(&directive(7, 4), &repairs, 10);
        assert!(part_of.is_some() && part_of.trace_id != cause.trace_id);
        assert_eq!(traces.ordered(&directive(7, 5), &repairs, 20), part_of);
        assert_ne!(traces.ordered(&directive(8, 4), &repairs, 20), part_of);
        let other = Directive {
            order: Order::Campaign {
                partition: GroupId(9),
            },
            ..directive(9, 4)
        };
        assert!(!traces.ordered(&other, &repairs, 20).is_some());
        let text = |id| format!("{:?}", traces.ordered[&GroupId(id)]);
        for part in [
            "replace replica",
            "start_ns: 10",
            "NodeId(5)",
            &cause.traceparent(),
        ] {
            assert!(text(7).contains(part), "{part} is not in {}", text(7));
        }
        assert!(!text(8).contains(&cause.traceparent()));
        assert_eq!((traces.ordered.len(), traces.causes.len()), (2, 0));
        // Nothing has ended.
        assert!(traces.ended(&repairs).is_empty());
    }

    #[test]
    fn a_loss_is_told_once_and_what_follows_from_it_or_from_a_drain_is_linked_to_it() {
        let node = |number: u64, vitality, silent_ms| NodeView {
            node: NodeId(number),
            zone: "az1".to_owned(),
            vitality,
            silent_ms,
            slow: false,
            draining: false,
            stopping: false,
            ready: true,
            alive_ms: 0,
            free_bytes: 0,
            used_bytes: 0,
            rated: Default::default(),
            pressed: false,
            candidates: Default::default(),
            former: Vec::new(),
            fenced: Default::default(),
            acknowledged_us: 0,
        };
        let views = |all: Vec<NodeView>| -> NodeViews {
            all.into_iter().map(|node| (node.node, node)).collect()
        };
        let (mut traces, now_ns) = (Traces::default(), 10_000_000_000);
        let drained_away = NodeView {
            draining: true,
            ..node(3, Vitality::Dead, 9_000)
        };
        let dead = views(vec![
            node(1, Vitality::Dead, 4_000),
            node(2, Vitality::Alive, 10),
            drained_away,
        ]);
        let lost = traces.lost(&dead, now_ns);
        let [(flow, why)] = &lost[..] else {
            panic!("{lost:?}");
        };
        assert_eq!(why, "not heard for 4000 ms");
        assert!(format!("{flow:?}").contains("start_ns: 6000000000"));
        assert!(traces.lost(&dead, now_ns).is_empty());
        let drain = Flow::since("order drain", 1).context();
        traces.drained(BTreeMap::from([(NodeId(2), drain)]));
        let none = TraceContext::default();
        for (reason, node, cause) in [
            (Reason::Dead, 1, flow.context()),
            (Reason::Draining, 2, drain),
            (Reason::Dead, 2, none),
            (Reason::Balance, 2, none),
            (Reason::Fenced, 1, none),
        ] {
            assert_eq!(
                traces.cause(Some(reason), NodeId(node)),
                cause,
                "{reason:?}"
            );
        }
        let hand_over = |from| Directive {
            to: NodeId(from),
            order: Order::TransferLeadership {
                partition: GroupId(7),
                to: NodeId(3),
            },
            ..directive(7, 3)
        };
        let repairs = Repairs::default();
        assert_eq!(traces.ordered(&hand_over(2), &repairs, 1), drain);
        assert_eq!(traces.ordered(&hand_over(1), &repairs, 1), none);
        // One that comes back can be lost again.
        let back = views(vec![node(1, Vitality::Alive, 0)]);
        assert!(traces.lost(&back, now_ns).is_empty());
        assert_eq!(traces.lost(&dead, now_ns).len(), 1);
    }
}
