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
    use super::super::model::{Admin, Mesh};
    use super::*;
    use crate::settings::HealingSettings;

    const NODES: [(u64, &str); 4] = [(1, "az1"), (2, "az2"), (3, "az3"), (4, "az3")];

    #[test]
    fn a_replacement_is_one_flow_however_often_it_is_ordered_and_knows_its_cause() {
        let mut mesh = Mesh::new(&NODES, 4, 7);
        let settings = HealingSettings {
            replace_after_ms: 20_000,
            ..HealingSettings::default()
        };
        let mut admin = Admin::new(&mesh, 1, settings);
        let (mut traces, mut orders) = (Traces::default(), BTreeMap::new());
        let mut ended = Vec::new();
        let cause = Flow::since("scrub", 1).context();
        for turn in 0..400 {
            if turn == 20 {
                mesh.nodes.get_mut(&3).unwrap().alive = false;
                let on_it = |info: &&protocol::directory::PartitionInfo| {
                    info.members.iter().any(|m| m.member.node == NodeId(3))
                };
                let mut infos = mesh.groups.values().map(|group| &group.info);
                let lost = infos.find(on_it).unwrap();
                traces.condemned(lost.partition, cause);
                traces.condemned(GroupId(9_999), TraceContext::default());
            }
            for (_, directive, outcome) in mesh.turn() {
                admin.answered(mesh.now_ms, &directive, &outcome);
            }
            admin.listen(&mesh);
            let directives = admin.plan(mesh.now_ms);
            ended.extend(traces.ended(&admin.repairs));
            for directive in directives {
                let part_of = traces.ordered(&directive, &admin.repairs, mesh.now_ms);
                let replaces = matches!(directive.order, Order::ReplaceReplica { .. });
                assert_eq!(part_of.is_some(), replaces);
                if replaces {
                    let known = *orders.entry(directive.partition).or_insert(part_of);
                    assert_eq!(part_of, known, "the same flow");
                }
                mesh.order(0, admin.epoch, directive);
            }
        }
        assert!(!orders.is_empty());
        assert_eq!(ended.len(), orders.len());
        assert!(traces.ordered.is_empty() && traces.causes.is_empty());
        let mut caused = 0;
        for (flow, result) in ended {
            assert_eq!(result, Ok(()));
            assert!(orders.values().any(|known| *known == flow.context()));
            let text = format!("{flow:?}");
            assert!(text.contains("replace replica") && text.contains("node dead"));
            caused += usize::from(text.contains(&cause.traceparent()));
        }
        assert_eq!(caused, 1);
    }
}
