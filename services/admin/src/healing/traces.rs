//! The traces of replacements: each from its first order until it is done or given up. Owns what is remembered for that; decides nothing, and may
//! forget at any time.

use std::collections::BTreeMap;

use mesh::TraceContext;
use paxos::{GroupId, NodeId};
use protocol::control::Order;
use telemetry::traces::Flow;

use super::{Directive, Repairs};

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
}

impl Traces {
    /// Something found a replica of this partition to be damaged: what is done about that is because of it.
    pub(crate) fn condemned(&mut self, partition: GroupId, cause: TraceContext) {
        if cause.is_some() {
            self.causes.insert(partition, cause);
        }
        while self.causes.len() > CAUSES_MAX {
            self.causes.pop_first();
        }
    }

    /// An order is about to be given: what it is part of; none if it is not a replacement.
    pub(crate) fn ordered(
        &mut self,
        directive: &Directive,
        repairs: &Repairs,
        now_ns: u64,
    ) -> TraceContext {
        let Order::ReplaceReplica {
            partition,
            replaced,
            target,
            ..
        } = directive.order
        else {
            return TraceContext::default();
        };
        let causes = &mut self.causes;
        let ordered = self.ordered.entry(partition).or_insert_with(|| {
            let cause = causes.remove(&partition).unwrap_or_default();
            Ordered {
                flow: Flow::since("replace replica", now_ns)
                    .of_partition(partition.0)
                    .caused_by(cause),
                reason: repairs.reason(partition).unwrap_or_default(),
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
        let node = |node: NodeId| i64::try_from(node.0).unwrap_or(i64::MAX);
        let ended = repairs.ended().iter().filter_map(|(partition, done)| {
            let ordered = self.ordered.remove(partition)?;
            let flow = (ordered.flow)
                .with("evenkeel.replacement.reason", ordered.reason)
                .with("evenkeel.replacement.from_node", node(ordered.replaced))
                .with("evenkeel.replacement.to_node", node(ordered.target));
            let result = match done {
                true => Ok(()),
                false => Err("given up".to_owned()),
            };
            Some((flow, result))
        });
        ended.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        traces.condemned(GroupId(7), cause);
        traces.condemned(GroupId(8), TraceContext::default());
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
}
