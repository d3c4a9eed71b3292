//! The traces of splits: when each was first seen, when its children took over, when it ended. Pure; decides nothing, and may forget at any time.

use std::collections::BTreeMap;

use paxos::GroupId;
use telemetry::traces::Flow;

use crate::records::{SplitPhase, SplitRecord, TableRecord};

/// Splits watched at a time; more are not traced.
const WATCHED_MAX: usize = 10_000;

/// What was seen of the splits that are under way: by their left children, when they were first seen and when they were settled, Unix nanoseconds; 0 = not
/// yet.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: BTreeMap<GroupId, (u64, u64)>,
}

impl Watch {
    /// A table's splits as they are.
    pub(crate) fn seen(&mut self, record: &TableRecord, now_ns: u64) {
        for split in &record.splits {
            if self.seen.len() >= WATCHED_MAX && !self.seen.contains_key(&split.left) {
                continue;
            }
            let (_, settled_ns) = self.seen.entry(split.left).or_insert((now_ns, 0));
            if split.phase == SplitPhase::Settled && *settled_ns == 0 {
                *settled_ns = now_ns;
            }
        }
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
        let flow = |(split, (seen_ns, settled_ns)): (&SplitRecord, (u64, u64))| {
            let settled_ns = if settled_ns == 0 { now_ns } else { settled_ns };
            let child = |child: GroupId| i64::try_from(child.0).unwrap_or(i64::MAX);
            let flow = Flow::since("split", seen_ns)
                .of_partition(split.parent.0)
                .with("db.collection.name", before.definition.name.clone())
                .with("evenkeel.split.cause", split.cause.words())
                .with("evenkeel.split.left", child(split.left))
                .with("evenkeel.split.right", child(split.right))
                .step("fill the children", (seen_ns, settled_ns))
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
}
