//! The traces of splits: when each was first seen, when its children took over, when it ended. Pure; decides nothing, and may forget at any time.

use std::collections::BTreeMap;

use mesh::TraceContext;
use paxos::GroupId;
use telemetry::traces::{Flow, split_context};

use crate::records::{SplitPhase, SplitRecord, TableRecord};

/// Splits watched at a time; more are not traced.
const WATCHED_MAX: usize = 10_000;

/// A split that is under way.
#[derive(Debug)]
struct Seen {
    flow: Flow,
    /// When it was first seen, and when it was settled, Unix nanoseconds; 0 = not yet.
    seen_ns: u64,
    settled_ns: u64,
}

impl Seen {
    fn new(split: &SplitRecord, table: &str, now_ns: u64) -> Self {
        let child = |child: GroupId| i64::try_from(child.0).unwrap_or(i64::MAX);
        let context = split_context(split.parent.0, split.left.0, split.right.0);
        let flow = Flow::known_as(context, "split", now_ns)
            .of_partition(split.parent.0)
            .with("db.collection.name", table.to_owned())
            .with("evenkeel.split.cause", split.cause.words())
            .with("evenkeel.split.left", child(split.left))
            .with("evenkeel.split.right", child(split.right))
            .caused_by(TraceContext::new(&split.traceparent));
        Self {
            flow,
            seen_ns: now_ns,
            settled_ns: 0,
        }
    }
}

/// What was seen of the splits that are under way, by their left children.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: BTreeMap<GroupId, Seen>,
}

impl Watch {
    /// A table's splits as they are.
    pub(crate) fn seen(&mut self, record: &TableRecord, now_ns: u64) {
        for split in &record.splits {
            if self.seen.len() >= WATCHED_MAX && !self.seen.contains_key(&split.left) {
                continue;
            }
            let table = &record.definition.name;
            let seen =
                (self.seen.entry(split.left)).or_insert_with(|| Seen::new(split, table, now_ns));
            if split.phase == SplitPhase::Settled && seen.settled_ns == 0 {
                seen.settled_ns = now_ns;
            }
        }
    }

    /// For what is done about the split with this left child; none: it is not traced.
    pub(crate) fn context(&self, left: GroupId) -> TraceContext {
        let seen = self.seen.get(&left);
        seen.map(|seen| seen.flow.context()).unwrap_or_default()
    }

    /// A table's record was written: gives the flows of the splits that ended with that, and how.
    pub(crate) fn changed(
        &mut self,
        before: &TableRecord,
        after: &TableRecord,
        now_ns: u64,
    ) -> Vec<(Flow, Result<(), String>)> {
        let gone = |split: &&SplitRecord| !after.splits.iter().any(|s| s.left == split.left);
        let ended = before.splits.iter().filter(gone);
        let ended = ended.filter_map(|split| Some((split, self.seen.remove(&split.left)?)));
        let flow = |(split, seen): (&SplitRecord, Seen)| {
            let settled_ns = match seen.settled_ns {
                0 => now_ns,
                settled_ns => settled_ns,
            };
            let flow = (seen.flow)
                .step("fill the children", (seen.seen_ns, settled_ns))
                .step("children catch up", (settled_ns, now_ns));
            let result = match split.phase {
                SplitPhase::Settled => Ok(()),
                SplitPhase::Ordered | SplitPhase::Abandoning => Err("abandoned".to_owned()),
            };
            (flow, result)
        };
        let flows = ended.map(flow).collect();
        self.seen(after, now_ns);
        flows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::SplitCause;

    fn split(parent: u64, phase: SplitPhase) -> SplitRecord {
        SplitRecord {
            parent: GroupId(parent),
            point: Default::default(),
            left: GroupId(10 * parent),
            right: GroupId(10 * parent + 1),
            cause: SplitCause::Operator,
            phase,
            traceparent: String::new(),
        }
    }

    fn table_with_splits(splits: Vec<SplitRecord>) -> TableRecord {
        TableRecord {
            splits,
            ..TableRecord::default()
        }
    }

    #[test]
    fn a_split_that_ends_is_a_flow_and_one_that_was_abandoned_an_error() {
        let ordered = table_with_splits(vec![
            split(1, SplitPhase::Ordered),
            split(2, SplitPhase::Abandoning),
        ]);
        let settled = table_with_splits(vec![split(1, SplitPhase::Settled)]);
        let (mut watch, none) = (Watch::default(), table_with_splits(Vec::new()));
        watch.seen(&ordered, 5);
        let ended = watch.changed(&ordered, &settled, 7);
        let [(flow, result)] = &ended[..] else {
            panic!("{ended:?}");
        };
        assert_eq!(result, &Err("abandoned".to_owned()));
        assert!(format!("{flow:?}").contains("start_ns: 5"));
        let ended = watch.changed(&settled, &none, 9);
        let [(flow, result)] = &ended[..] else {
            panic!("{ended:?}");
        };
        let text = format!("{flow:?}");
        for part in ["split", "start_ns: 5", "fill the children", "end_ns: 7"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(result, &Ok(()));
        assert!(watch.changed(&settled, &none, 10).is_empty());
    }

    #[test]
    fn a_split_is_linked_to_the_order_for_it_and_gives_its_context_to_what_is_done_about_it() {
        let order = Flow::since("order split", 1).context();
        let ordered = SplitRecord {
            traceparent: order.traceparent(),
            ..split(1, SplitPhase::Ordered)
        };
        let before = table_with_splits(vec![ordered, split(2, SplitPhase::Ordered)]);
        let mut watch = Watch::default();
        assert!(!watch.context(GroupId(10)).is_some());
        watch.seen(&before, 5);
        let context = watch.context(GroupId(10));
        assert!(context.is_some() && context != watch.context(GroupId(20)));
        // As its children's replicas know it, and an admin that takes over.
        assert_eq!(context, split_context(1, 10, 11));
        let ended = watch.changed(&before, &table_with_splits(Vec::new()), 7);
        let texts: Vec<String> = ended.iter().map(|(flow, _)| format!("{flow:?}")).collect();
        assert_eq!(ended[0].0.context(), context);
        assert!(texts[0].contains(&order.traceparent()));
        assert!(!texts[1].contains(&order.traceparent()));
    }
}
